"""``AWS/Lambda`` ``PolledEventCount``: what a mapping read, minute by minute.

Lambda polls a stream some times a second, reports 0 where nothing was new, and reports
nothing at all while a mapping is disabled or gone. So it is silence that tells that
nobody reads. Here the minutes' values are made when they are asked for: a mapping that
polls in vain for a month costs nothing.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from infra.local.metrics import Metrics, Name, Value
from infra.local.metrics_api import floor

_MINUTE: Final = timedelta(minutes=1)


class PolledEvents:
    """What one mapping read while it was enabled, as a metric.

    Parameters
    ----------
    mapping
        Id of the mapping.
    metrics
        Where the counts are shown.
    now
        Returns the twin's time.
    """

    def __init__(
        self, mapping: str, metrics: Metrics, now: Callable[[], datetime]
    ) -> None:
        dimensions = frozenset({("EventSourceMappingUUID", mapping)})
        self._name: Name = ("AWS/Lambda", "PolledEventCount", dimensions)
        self._metrics = metrics
        self._now = now
        self._lock = threading.Lock()
        self._switched_on: list[datetime] = []
        self._switched_off: list[datetime] = []
        self._counts: Counter[datetime] = Counter()
        metrics.follow(self._name, self)

    @property
    def _is_on(self) -> bool:
        return len(self._switched_on) > len(self._switched_off)

    def switch(self, *, is_on: bool) -> None:
        """Begin to poll, or end."""
        now = self._now()
        with self._lock:
            if is_on is self._is_on:
                return
            (self._switched_on if is_on else self._switched_off).append(now)
        self._metrics.changed(self._name, now)

    def add(self, count: int) -> None:
        """Count events that were read now."""
        now = self._now()
        with self._lock:
            self._counts[floor(now, 60)] += count
        self._metrics.changed(self._name, now)

    def latest(self) -> float | None:
        """Return 0 while it polls, None else."""
        with self._lock:
            return 0.0 if self._is_on else None

    def last_time(self) -> datetime | None:
        """Return when it polled last, None if it never did."""
        with self._lock:
            if self._is_on:
                return self._now()
            return self._switched_off[-1] if self._switched_off else None

    def between(self, start: datetime, end: datetime) -> list[Value]:
        """Return the count of each whole minute in which it polled, oldest first."""
        with self._lock:
            if not self._switched_on:
                return []
            minute = max(floor(start, 60), floor(self._switched_on[0], 60))
            if minute < start:
                minute += _MINUTE
            end = min(end, floor(self._now(), 60))
            found = []
            while minute < end:
                if self._polled_in(minute):
                    parts = ((float(self._counts[minute]), 1.0),)
                    found.append(Value.of(minute, parts, "Count"))
                minute += _MINUTE
            return found

    def _polled_in(self, minute: datetime) -> bool:
        """Return whether it was on at any instant of a minute."""
        place = bisect_left(self._switched_on, minute + _MINUTE) - 1
        if place < 0:
            return False
        is_last = place == len(self._switched_off)
        return is_last or self._switched_off[place] > minute
