"""What the README tells a new user to type works as it stands, in its order."""

import doctest
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_commands_work_as_written(tmp_path: Path) -> None:
    for entry in ROOT.iterdir():
        if entry.name not in {".git", ".retrodict", "cdk.out"}:
            (tmp_path / entry.name).symlink_to(entry)
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "sent 4 records" in done.stdout
    assert "1 of them in quarantine" in done.stdout
    assert "twin stopped" in done.stdout


def test_the_session_in_the_readme_runs() -> None:
    outcome = doctest.testfile(str(README), module_relative=False)

    assert outcome.attempted > 0
    assert outcome.failed == 0
