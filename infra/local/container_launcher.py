"""Run a program of a container on the twin's driven time; a child process.

``python container_launcher.py CLOCK_FILE PROGRAM [ARGUMENT ...]``: from the first line
of PROGRAM on, ``time.time``, ``datetime.now`` and what builds on them answer with the
nanoseconds since the epoch that stand in CLOCK_FILE, eight bytes in the machine's order
which the twin overwrites at every move of its clock. Each question reads the file's
memory, so a request that arrives after a move never sees the time before it.
Monotonic clocks stay the machine's: sockets, locks and sleeps time out as always.

The file is started by its path, outside the package, with the interpreter's packages
only: it imports nothing of the twin.
"""

import mmap
import runpy
import sys
from pathlib import Path

# time-machine would import pytest for its plugin, a third of a second at every start.
sys.modules["pytest"] = None  # type: ignore[assignment]
import time_machine  # noqa: E402

del sys.modules["pytest"]


class _Follower(time_machine.Traveller):
    """Answers with the twin's instant."""

    def __init__(self, clock_file: Path) -> None:
        super().__init__(0, None, tick=False)
        with clock_file.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._nanoseconds = memoryview(self._map).cast("q")

    def time_ns(self) -> int:
        return int(self._nanoseconds[0])


def follow(clock_file: Path) -> None:
    """Let this process take its time from `clock_file` from now on."""
    follower = _Follower(clock_file)
    time_machine.travel(0.0, tick=False).start()
    time_machine.traveller_stack[-1] = follower


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
    program = sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")
