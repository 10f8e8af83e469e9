"""The library is replaced as a whole, so who has loaded it is not disturbed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import build_kernel


def test_a_library_that_is_loaded_keeps_its_bytes_when_another_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("-o") + 1]).write_bytes(b"new")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", compiled)
    path = tmp_path / "fold.so"
    path.write_bytes(b"old")

    with path.open("rb") as loaded:
        assert build_kernel.build(path, "x86_64-linux-gnu.2.28")

        assert loaded.read() == b"old"
    assert path.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [path.with_suffix(".built-from"), path]
    assert not build_kernel.build(path, "x86_64-linux-gnu.2.28")
