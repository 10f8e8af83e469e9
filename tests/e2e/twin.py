"""A twin of the template that ships, driven through the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("retrodict")


def run(
    *arguments: str, cwd: Path, expect: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Run `retrodict` and insist on its exit code."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == expect, f"{arguments}: {done.stdout}{done.stderr}"
    return done


def ask(*arguments: str, cwd: Path, expect: int = 0) -> Any:
    """Run `retrodict … --json` and return what it prints."""
    return json.loads(run(*arguments, "--json", cwd=cwd, expect=expect).stdout)


@contextmanager
def running(cwd: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Start a twin in `cwd`, yield its state and outputs, and stop it."""
    state = ask("up", "--detach", "--port", "0", *options, cwd=cwd)
    try:
        yield {**state, **ask("status", cwd=cwd)}
    finally:
        run("down", cwd=cwd)


def client(service: str, twin: dict[str, Any]) -> Any:
    """Return a boto3 client of the twin."""
    return boto3.client(
        service,
        endpoint_url=twin["endpoint_url"],
        region_name=twin["region"],
        aws_access_key_id="twin",
        aws_secret_access_key="twin",
    )
