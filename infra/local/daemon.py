"""Run the twin as a process of its own.

``python -m infra.local.daemon --assembly cdk.out --env dev --port 4566
--state-file .retrodict/twin.json`` starts the twin and, once everything of the template
exists, writes the state file: ``endpoint_url``, ``pid``, ``environment``, ``region``,
``real_time``, ``outputs`` and ``started_seconds``. SIGTERM and SIGINT stop it with all
its processes and remove the file. What the twin refuses is a sentence and exit code 2.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_BEGAN = time.perf_counter()

from infra.local.errors import TwinError  # noqa: E402 - the start is timed with imports
from infra.local.twin import Twin  # noqa: E402

_REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes, and return the exit code."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        twin = Twin.start(
            options.assembly,
            options.env,
            real_time=options.real_time,
            port=options.port,
            start_at=options.start_at,
        )
    except (TwinError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    try:
        _write(
            options.state_file,
            {
                "endpoint_url": twin.endpoint_url,
                "pid": os.getpid(),
                "environment": options.env,
                "region": twin.region,
                "real_time": options.real_time,
                "outputs": twin.outputs(),
                "started_seconds": round(time.perf_counter() - _BEGAN, 3),
            },
        )
        stop.wait()
    finally:
        options.state_file.unlink(missing_ok=True)
        twin.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.daemon", description="Run the local twin."
    )
    parser.add_argument("--assembly", type=Path, default=Path("cdk.out"))
    parser.add_argument("--env", default="dev")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--real-time", action="store_true")
    parser.add_argument("--start-at", type=_instant, default=None)
    parser.add_argument("--state-file", type=Path, required=True)
    return parser


def _instant(text: str) -> datetime:
    """Read an instant; without a zone it is UTC."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _write(path: Path, state: dict[str, object]) -> None:
    """Write the file whole: whoever waits for it never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(state, indent=2))
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
