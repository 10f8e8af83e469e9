"""A second pipeline is a copied folder: nothing else changes, and both deploy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PARTS = (
    "app.py", "cdk.json", "cli", "events", "functions", "infra", "layers",
    "step_functions",
)  # fmt: skip
FIRST, SECOND = "sensor_anomaly", "hall_anomaly"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Copy the project, and in it the first pipeline's folder under another name."""
    ignored = shutil.ignore_patterns("__pycache__")
    trees = ROOT / "layers/dependencies"
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source,
                tmp_path / name,
                ignore=lambda folder, names: {
                    *ignored(folder, names),
                    *({"python"} if Path(folder).parent == trees else set()),
                },
            )
        else:
            shutil.copy(source, tmp_path / name)
    pipelines = tmp_path / "layers/pipelines/python/pipelines"
    shutil.copytree(pipelines / FIRST, pipelines / SECOND)
    for file in (pipelines / SECOND).rglob("*.py"):
        text = file.read_text().replace(FIRST, SECOND)
        file.write_text(text.replace("sensor.reading", "hall.reading"))
    return tmp_path


def command(repository: Path, *arguments: str) -> Any:
    """Run the command line of the copied project."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    layers = [f"layers/{name}/python" for name in ("core", "adapters", "pipelines")]
    environment["PYTHONPATH"] = os.pathsep.join(
        str(repository / part) for part in (".", *layers)
    )
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *arguments],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def test_a_copied_pipeline_deploys_beside_the_first(repository: Path) -> None:
    rows = repository / "rows.csv"
    rows.write_text("time,value\n2026-01-05T10:00:00Z,20.5\n2026-01-05T10:01:00Z,21\n")
    command(repository, "up", "--detach", "--port", "0", "--json")
    try:
        for pipeline in (FIRST, SECOND):
            sent = command(
                repository, "send", str(rows), "--pipeline", pipeline,
                "--set", "sensor_id=office", "--json",
            )  # fmt: skip
            assert (sent["sent"], sent["quarantined"]) == (2, 0)

        found = {
            pipeline: command(
                repository, "features", pipeline, "--entity", "office", "--json"
            )
            for pipeline in (FIRST, SECOND)
        }
        rebuilt = command(repository, "rebuild", "online", "--verify", "--json")
        outputs = command(repository, "status", "--json")["outputs"]
    finally:
        command(repository, "down", "--json")

    assert found[FIRST]["features"] == found[SECOND]["features"]
    assert found[FIRST]["features"]["count_10m"] == 2
    assert rebuilt["items"] == rebuilt["equal"] == 2
    assert {"hall-anomaly", "sensor-anomaly"} <= {
        value.removeprefix("retrodict-dev-") for value in outputs.values()
    }
