"""The twin as a process: one state file, one port, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import psutil

from tests.contract.twin.assembly import (
    ROLE,
    function,
    ref,
    resource,
    write_assembly,
)

ROOT = Path(__file__).parents[3]
CODE = {"code": {"handler.py": "def lambda_handler(event, context):\n    return 1\n"}}


def daemon(tmp_path: Path, resources: dict[str, Any]) -> "subprocess.Popen[str]":
    template = {
        "Resources": resources,
        "Outputs": {"Name": {"Value": ref(next(reversed(resources)))}},
    }
    assembly = write_assembly(tmp_path / "cdk.out", {"App": template}, CODE)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "infra.local.daemon",
            *("--assembly", str(assembly)),
            *("--env", "dev"),
            *("--port", "0"),
            *("--state-file", str(tmp_path / "state" / "twin.json")),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_daemon_says_where_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state_file = tmp_path / "state" / "twin.json"
    process = daemon(tmp_path, {"Role": ROLE, "Function": function("code")})
    while not state_file.exists() and process.poll() is None:
        time.sleep(0.05)

    state = json.loads(state_file.read_text())
    client = boto3.client(
        "lambda",
        endpoint_url=state["endpoint_url"],
        region_name=state["region"],
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    answer = client.invoke(FunctionName=state["outputs"]["Name"])
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=20)

    assert state["pid"] == process.pid
    assert state["environment"] == "dev"
    assert state["real_time"] is False
    assert state["started_seconds"] > 0
    assert answer["Payload"].read() == b"1"
    assert len(children) == 1
    assert (process.returncode, errors) == (0, "")
    assert not state_file.exists()
    assert not any(child.is_running() for child in children)


def test_a_refused_template_is_one_sentence_and_exit_code_two(tmp_path: Path) -> None:
    process = daemon(tmp_path, {"Vpc": resource("AWS::EC2::VPC")})

    _, errors = process.communicate(timeout=30)

    assert process.returncode == 2
    assert errors.startswith("App/Vpc (AWS::EC2::VPC): the local twin does not")
    assert errors.count("\n") == 1
    assert not (tmp_path / "state" / "twin.json").exists()
