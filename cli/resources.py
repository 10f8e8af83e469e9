"""How much memory a twin with all its processes holds, at its peak."""

import os
import threading
from types import TracebackType
from typing import Final, Self

import psutil

EVERY_S: Final = 0.5


class Peak:
    """Watches this process and a twin's family until it is closed.

    Attributes
    ----------
    mib
        Greatest sum of resident sets since the last `reset`, MiB.
    """

    def __init__(self, pid: int) -> None:
        self._roots = [psutil.Process(pid), psutil.Process(os.getpid())]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mib = 0.0
        self.overall_mib = 0.0

    def reset(self) -> None:
        """Begin a new peak."""
        self.mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            now = sum(_resident_bytes(root) for root in self._roots) / 2**20
            self.mib = max(self.mib, now)
            self.overall_mib = max(self.overall_mib, now)


def _resident_bytes(root: psutil.Process) -> int:
    """Return what a process and its descendants hold; one that just ended holds 0."""
    total = 0
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    own = {os.getpid()}
    for process in family:
        if process.pid in own and process is not root:
            continue
        try:
            total += int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total
