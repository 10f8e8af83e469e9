"""The CDK runs on a Node.js that is still supported, whatever the machine has."""

import os
import subprocess
from pathlib import Path

import pytest

from infra.node import OLDEST_SUPPORTED_MAJOR, choose_node


def machine_with_node(
    folder: Path, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make the machine's only Node.js answer `version`."""
    if version is not None:
        node = folder / "node"
        node.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
        node.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("JSII_NODE", "")
    monkeypatch.delenv("JSII_NODE")


@pytest.mark.parametrize("version", ["v20.20.2", "not a version", None])
def test_an_old_or_missing_node_is_replaced_by_the_one_that_is_locked(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with_node(tmp_path, version, monkeypatch)

    choose_node()

    answer = subprocess.run(
        [os.environ["JSII_NODE"], "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(answer.stdout[1:].split(".")[0]) >= OLDEST_SUPPORTED_MAJOR


def test_a_recent_node_of_the_machine_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with_node(tmp_path, "v22.0.0", monkeypatch)

    choose_node()

    assert "JSII_NODE" not in os.environ


def test_a_node_that_somebody_chose_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with_node(tmp_path, "v18.0.0", monkeypatch)
    monkeypatch.setenv("JSII_NODE", "/somewhere/node")

    choose_node()

    assert os.environ["JSII_NODE"] == "/somewhere/node"
