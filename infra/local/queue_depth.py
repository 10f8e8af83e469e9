"""``AWS/SQS`` ``ApproximateNumberOfMessagesVisible``: what every queue holds.

SQS reports a queue's depth every minute. Here each change is noted, and the values of
the minutes are made when they are asked for: each what the queue held at the minute's
end. So a message that waits for a week costs nothing, and keeps its alarm ringing until
it is taken, or dropped at the end of the queue's retention. SQS reports nothing of a
queue that was idle for six hours; here an empty queue goes on having depth 0.

moto counts messages and tells nobody; the methods wrapped are those that change a
queue. Counting takes as long as there are messages, so it is done once an instant.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moto.sqs.models import Queue, SQSBackend, sqs_backends

from infra.local.clock import Clock
from infra.local.mending import mend, original
from infra.local.metrics import Metrics, Name, Value
from infra.local.metrics_api import floor
from infra.local.template import ACCOUNT

_METRIC: Final = "ApproximateNumberOfMessagesVisible"
_MINUTE: Final = timedelta(minutes=1)
_A_LITTLE: Final = timedelta(milliseconds=1)
_CHANGES: Final = (
    "receive_message",
    "delete_message",
    "change_message_visibility",
    "purge_queue",
)


class QueueDepths:
    """The depths of all queues of a region, as metrics.

    Parameters
    ----------
    clock
        When minutes end and messages become visible again.
    metrics
        Where the depths are shown.
    region
        Region of the queues.
    """

    def __init__(self, clock: Clock, metrics: Metrics, region: str) -> None:
        self._clock = clock
        self._metrics = metrics
        self._region = region
        self._lock = threading.Lock()
        self._depths: dict[str, _Depth] = {}
        self._planned: set[tuple[str, datetime]] = set()

    def start(self) -> None:
        """Note every change from now on."""
        for name in _CHANGES:
            mend(SQSBackend, name, self._noting(original(SQSBackend, name)))
        add = original(Queue, "add_message")

        def add_message(queue: Queue, message: Any) -> None:
            add(queue, message)
            self._plan(str(queue.name), self._clock.now())

        mend(Queue, "add_message", add_message)

    def _noting(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(backend: SQSBackend, queue_name: str, *args: Any, **kw: Any) -> Any:
            answer = change(backend, queue_name, *args, **kw)
            self._plan(queue_name, self._clock.now())
            return answer

        return changed

    def _plan(self, name: str, due: datetime) -> None:
        """Count at `due`, however often it is asked for."""
        with self._lock:
            if (name, due) in self._planned:
                return
            self._planned.add((name, due))

        def count() -> None:
            with self._lock:
                self._planned.discard((name, due))
            queue = sqs_backends[ACCOUNT][self._region].queues.get(name)
            if queue is not None:
                self._count(queue)

        self._clock.call_at(due, count, is_periodic=True)

    def _count(self, queue: Queue) -> None:
        now, name = self._clock.now(), str(queue.name)
        now_ms = now.timestamp() * 1000
        kept_ms = int(queue.message_retention_period) * 1000  # type: ignore[attr-defined]
        depth, coming = 0, []
        for message in list(queue._messages):  # noqa: SLF001 - moto shows a count only
            ends_ms = (message.sent_timestamp or 0) + kept_ms
            shown_ms = max(message.visible_at, message.delayed_until)
            if ends_ms <= now_ms:
                continue
            # moto shows a message again once its time is over, not when it is reached
            depth += shown_ms < now_ms
            coming.append(ends_ms if shown_ms < now_ms else min(ends_ms, shown_ms + 1))
        if coming:
            self._plan(name, datetime.fromtimestamp(min(coming) / 1000, UTC))
        with self._lock:
            known = self._depths.get(name)
            if known is None:
                known = self._depths[name] = _Depth(self._clock.now)
                self._metrics.follow(_name(name), known)
        if known.note(now, depth):
            self._metrics.changed(_name(name), now)


class _Depth:
    """How many messages a queue held since when."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._times: list[datetime] = []
        self._depths: list[int] = []

    def note(self, time: datetime, depth: int) -> bool:
        """Take the depth at `time`; False if nothing changed."""
        with self._lock:
            if self._depths and self._depths[-1] == depth:
                return False
            self._times.append(time)
            self._depths.append(depth)
            return True

    def latest(self) -> float | None:
        with self._lock:
            return float(self._depths[-1]) if self._depths else None

    def last_time(self) -> datetime | None:
        return None if self.latest() is None else self._now()

    def between(self, start: datetime, end: datetime) -> list[Value]:
        with self._lock:
            if not self._times:
                return []
            minute = max(floor(start, 60), floor(self._times[0], 60))
            if minute < start:
                minute += _MINUTE
            found = []
            end = min(end, floor(self._now(), 60))
            while minute < end:
                place = bisect_right(self._times, minute + _MINUTE - _A_LITTLE) - 1
                parts = ((float(self._depths[place]), 1.0),)
                found.append(Value.of(minute, parts, "Count"))
                minute += _MINUTE
            return found


def _name(queue: str) -> Name:
    return "AWS/SQS", _METRIC, frozenset({("QueueName", queue)})
