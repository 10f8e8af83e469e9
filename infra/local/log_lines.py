"""What functions and programs print, in CloudWatch Logs.

Lines are taken as they come and handed to moto only when somebody reads logs, for moto
makes an object of every line. Of a log stream the newest lines are kept; all of them
stand in the log file that the twin's status names.
"""

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from moto.logs.models import LogsBackend, logs_backends

from infra.local.mending import mend, original
from infra.local.template import ACCOUNT

MOST_LINES: Final = 10_000  # of one log stream
_MOST_BYTES: Final = 4 * 1024 * 1024  # of one log stream, while nobody reads
_READERS: Final = (
    "describe_log_groups",
    "describe_log_streams",
    "filter_log_events",
    "get_log_events",
    "start_query",
)


class LogLines:
    """The log streams of everything that runs in the twin.

    Parameters
    ----------
    region
        Region of the log groups.
    now
        Returns the twin's time, which every line gets.
    """

    def __init__(self, region: str, now: Callable[[], datetime]) -> None:
        self._region = region
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], _Written] = {}

    def start(self) -> None:
        """Show lines to whoever reads logs from now on."""
        for name in _READERS:
            mend(LogsBackend, name, self._reading(original(LogsBackend, name)))

    def add(self, group: str, stream: str, written: bytes) -> None:
        """Take whole lines of a log stream."""
        if written:
            with self._lock:
                waiting = self._waiting.setdefault((group, stream), _Written())
                waiting.add(self._now(), written)

    def _reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def after_writing(backend: LogsBackend, *args: Any, **kw: Any) -> Any:
            if backend.region_name == self._region:
                self._write()
            return read(backend, *args, **kw)

        return after_writing

    def _write(self) -> None:
        """Hand everything that waits to moto."""
        backend = logs_backends[ACCOUNT][self._region]
        with self._lock:
            for (group, stream), written in self._waiting.items():
                if group not in backend.groups:
                    backend.create_log_group(group, {})
                streams = backend.groups[group].streams
                if stream not in streams:
                    backend.create_log_stream(group, stream)
                streams[stream].put_log_events(written.events())
                del streams[stream].events[:-MOST_LINES]
            self._waiting.clear()


class _Written:
    """What was printed to one stream since it was last read, bounded."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[datetime, bytes]] = deque()
        self._size = 0

    def add(self, time: datetime, written: bytes) -> None:
        self._chunks.append((time, written))
        self._size += len(written)
        while self._size > _MOST_BYTES and len(self._chunks) > 1:
            self._size -= len(self._chunks.popleft()[1])

    def events(self) -> list[dict[str, Any]]:
        return [
            {"timestamp": int(time.timestamp() * 1000), "message": line}
            for time, written in self._chunks
            for line in written.decode(errors="replace").splitlines()
        ][-MOST_LINES:]
