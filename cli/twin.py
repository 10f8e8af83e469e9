"""`up`, `down`, `status`: the twin's life."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from cli.options import json_option
from cli.output import emit, pairs, table_of
from cli.target import STATE_FILE, TargetError, ask_twin, twin_state
from infra.settings import DEPENDENCIES_KEY, ONLY_KEY

START_S: Final = 120
LOG_FILE: Final = STATE_FILE.with_name("twin.log")
ROOT: Final = Path(__file__).parents[1]


def _synthesise(environment: str) -> None:
    """Write ``cdk.out`` from the app that ships, of one environment.

    The arm64 packages of the dependency layers stay out: the twin runs this
    machine's own, of the same versions.
    """
    run = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={
            **os.environ,
            "CDK_VALIDATION": "false",
            "CDK_CONTEXT_JSON": json.dumps(
                {DEPENDENCIES_KEY: "locks", ONLY_KEY: environment}
            ),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise TargetError(f"the CDK app does not synthesise:\n{run.stderr[-2000:]}")


def start(
    environment: str,
    *,
    real_time: bool = False,
    port: int = 0,
    start_at: datetime | None = None,
) -> tuple[dict[str, Any], "subprocess.Popen[bytes]"]:
    """Synthesise the app, start a twin of it, and return what it says of itself.

    Parameters
    ----------
    start_at
        First instant of the driven clock; the machine's now if None.

    Raises
    ------
    TargetError
        One is up already, or it did not start.
    """
    state = twin_state()
    if state is not None:
        raise TargetError(
            f"a twin is already up at {state['endpoint_url']}: stop it with "
            "`retrodict down`"
        )
    began = time.monotonic()
    _synthesise(environment)
    STATE_FILE.parent.mkdir(exist_ok=True)
    STATE_FILE.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "infra.local.daemon",
        "--assembly",
        str(ROOT / "cdk.out"),
        "--env",
        environment,
        "--port",
        str(port),
        "--state-file",
        str(STATE_FILE.resolve()),
    ]
    if real_time:
        command.append("--real-time")
    if start_at is not None:
        command += ["--start-at", start_at.isoformat()]
    with LOG_FILE.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    state = _wait_for(process, began)
    state["seconds"] = round(time.monotonic() - began, 1)
    return state, process


@click.command()
@click.option("--detach", is_flag=True, help="Return once the twin is up.")
@click.option(
    "--real-time",
    is_flag=True,
    help="Follow the machine's clock instead of the driven one.",
)
@click.option(
    "--start-at",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]),
    help="First instant of the driven clock, UTC; default: now.",
)
@click.option(
    "--port", default=4566, show_default=True, help="Port on 127.0.0.1; 0: any."
)
@click.option(
    "--env",
    "environment",
    default="dev",
    show_default=True,
    help="Environment of the template to run.",
)
@json_option
def up(  # noqa: PLR0913 - one argument an option
    *,
    detach: bool,
    real_time: bool,
    start_at: datetime | None,
    port: int,
    environment: str,
    as_json: bool,
) -> None:
    """Start the twin: the synthesised template, running on this machine.

    \b
    Examples
      retrodict up --detach
      retrodict up --detach --real-time --port 4600
      retrodict up --detach --start-at 2013-07-04
      aws --endpoint-url http://127.0.0.1:4566 kinesis list-streams
    """
    if real_time and start_at is not None:
        raise click.UsageError("--start-at is for the driven clock, not --real-time")
    state, process = start(
        environment,
        real_time=real_time,
        port=port,
        start_at=start_at and start_at.replace(tzinfo=UTC),
    )
    emit(
        state,
        as_json=as_json,
        table=f"twin of {state['environment']} up at {state['endpoint_url']} after "
        f"{state['seconds']} s ({'real time' if real_time else 'driven clock'})",
    )
    if not detach:
        try:
            process.wait()
        except KeyboardInterrupt:
            stop(process.pid)


def _wait_for(process: "subprocess.Popen[bytes]", began: float) -> dict[str, Any]:
    while time.monotonic() - began < START_S:
        if STATE_FILE.exists():
            found: dict[str, Any] = json.loads(STATE_FILE.read_text())
            return found
        if process.poll() is not None:
            tail = LOG_FILE.read_text().strip().splitlines()[-3:]
            raise TargetError("the twin did not start: " + " / ".join(tail))
        time.sleep(0.1)
    stop(process.pid)
    raise TargetError(f"the twin was not up after {START_S} s; see {LOG_FILE}")


def stop(pid: int) -> None:
    """End a twin with all its processes.

    Raises
    ------
    TargetError
        It was still there after 30 s.
    """
    os.kill(pid, signal.SIGTERM)
    for _ in range(300):
        try:
            os.kill(pid, 0)
            os.waitpid(pid, os.WNOHANG)
        except ProcessLookupError:
            return
        except ChildProcessError:
            pass
        time.sleep(0.1)
    raise TargetError(f"the twin (process {pid}) did not stop within 30 s")


@click.command()
@json_option
def down(*, as_json: bool) -> None:
    """Stop the twin; what it held in memory is gone.

    \b
    Example
      retrodict down
    """
    state = twin_state()
    if state is None:
        raise TargetError("no twin is running here: nothing to stop")
    stop(state["pid"])
    STATE_FILE.unlink(missing_ok=True)
    emit({"stopped": state["endpoint_url"]}, as_json=as_json, table="twin stopped")


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show the twin: its functions, how far its mappings are, and its names.

    \b
    Example
      retrodict status --json
    """
    state = twin_state()
    if state is None:
        raise TargetError(
            "no twin is running here: start one with `retrodict up --detach`"
        )
    found = ask_twin(state["endpoint_url"], "status")
    if as_json:
        emit({**state, **found}, as_json=True)
        return
    emit(
        None,
        as_json=False,
        table=pairs(
            {
                "endpoint": state["endpoint_url"],
                "environment": state["environment"],
                "region": found["region"],
                "clock": found["clock"]["now"],
                **found["outputs"],
            }
        ),
    )
    for title in ("functions", "mappings"):
        listed = [{"name": name, **row} for name, row in found[title].items()]
        columns = [c for c in listed[0] if c != "log"] if listed else []
        emit(
            None,
            as_json=False,
            table=table_of(
                columns,
                [[row.get(c) for c in columns] for row in listed],
                title=title,
            ),
        )
