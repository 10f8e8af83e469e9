"""Metrics that really arrive: values clients put, log lines, and AWS's own counts.

Everything measured is kept here, by metric and in order of time, and nowhere else:
`metrics_api` answers CloudWatch's calls from it and `alarms` looks at it. moto's own
list is left empty, since it is searched whole at every question.

A value is kept as it was put; statistics are made when they are asked for. Values are
never thrown away, nor rolled up to longer periods as CloudWatch does after 15 days.
"""

import math
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from infra.local.clock import machine_now
from infra.local.emf import declared_metrics

OLDEST: Final = timedelta(days=14)
NEWEST: Final = timedelta(hours=2)

Name = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, metric and dimensions."""


@dataclass(frozen=True, slots=True)
class Value:
    """What was put at one instant: one or several values, or their statistics.

    Attributes
    ----------
    total, count, least, greatest
        Their sum, number, minimum and maximum.
    parts
        Each value and how often it was put, empty if only the statistics are known.
    """

    time: datetime
    total: float
    count: float
    least: float
    greatest: float
    unit: str = "None"
    parts: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(
        cls, time: datetime, parts: Sequence[tuple[float, float]], unit: str
    ) -> "Value":
        """Return values, each with how often it was put."""
        return cls(
            time,
            math.fsum(value * count for value, count in parts),
            math.fsum(count for _, count in parts),
            min(value for value, _ in parts),
            max(value for value, _ in parts),
            unit,
            tuple(parts),
        )


class Level(Protocol):
    """A metric that has a value at every minute, such as the depth of a queue.

    One that may end, such as what a mapping polls, has values until then.
    """

    def between(self, start: datetime, end: datetime) -> list[Value]:
        """Return the values in ``[start, end)``, oldest first."""

    def latest(self) -> float | None:
        """Return what it stands at, None if no value comes."""

    def last_time(self) -> datetime | None:
        """Return the time of its newest value, None if it never had one."""


class Metrics:
    """Everything that is measured in the twin.

    Parameters
    ----------
    now
        Returns the twin's time, for values without one.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._values: dict[Name, list[Value]] = {}
        self._levels: dict[Name, Level] = {}
        self._listeners: list[Callable[[Name, datetime], None]] = []
        self._count = 0
        self._out_of_time = 0

    def listen(self, listener: Callable[[Name, datetime], None]) -> None:
        """Call `listener` with metric and time of every value that is put."""
        self._listeners.append(listener)

    def put(  # noqa: PLR0913, PLR0917 - what a value is
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        value: float,
        unit: str = "None",
        time: datetime | None = None,
    ) -> None:
        """Put one value, by default at the twin's time."""
        self.put_all(namespace, [(name, dimensions, value, unit)], time)

    def put_all(
        self,
        namespace: str,
        values: Iterable[tuple[str, Mapping[str, str], float, str]],
        time: datetime | None = None,
    ) -> None:
        """Put several values of one instant, each with name, dimensions and unit."""
        instant = time or self._now()
        for name, dimensions, value, unit in values:
            full = (namespace, name, frozenset(dimensions.items()))
            self.add(full, Value.of(instant, ((value, 1.0),), unit))

    def add(self, name: Name, value: Value) -> None:
        """Put a value as it is."""
        with self._lock:
            kept = self._values.setdefault(name, [])
            if kept and value.time < kept[-1].time:
                insort(kept, value, key=_time)
            else:
                kept.append(value)
            self._count += 1
        self.changed(name, value.time)

    def follow(self, name: Name, level: Level) -> None:
        """Ask `level` for a metric's values from now on."""
        with self._lock:
            self._levels[name] = level

    def changed(self, name: Name, time: datetime) -> None:
        """Tell whoever listens that a metric has another value at `time`."""
        for listener in self._listeners:
            listener(name, time)

    def between(self, name: Name, start: datetime, end: datetime) -> list[Value]:
        """Return the values in ``[start, end)``, oldest first."""
        with self._lock:
            level = self._levels.get(name)
            values = self._values.get(name, [])
            low = bisect_left(values, start, key=_time)
            found = values[low : bisect_left(values, end, lo=low, key=_time)]
        return level.between(start, end) if level is not None else found

    def level(self, name: Name) -> float | None:
        """Return what a metric stands at that has a value at every minute, or None."""
        with self._lock:
            level = self._levels.get(name)
        return level.latest() if level is not None else None

    def names(self) -> list[Name]:
        """Return every metric that ever had a value."""
        with self._lock:
            levels = [
                n for n, kept in self._levels.items() if kept.last_time() is not None
            ]
            return [*self._values, *levels]

    def last_time(self, name: Name) -> datetime | None:
        """Return the time of a metric's newest value, None if it has none."""
        with self._lock:
            values = self._values.get(name)
            if values:
                return values[-1].time
            level = self._levels.get(name)
        return level.last_time() if level is not None else None

    def read_lines(
        self, written: bytes, *, ran: tuple[datetime, datetime] | None = None
    ) -> None:
        """Put what lines in the embedded metric format declare.

        Parameters
        ----------
        written
            Whole lines.
        ran
            From when to when, on the machine's clock, the program ran, where that is
            not the twin's clock: what it took from its clock is the twin's now.

        Notes
        -----
        A value more than two weeks old or two hours ahead becomes no metric, as in
        CloudWatch; `status` counts them.
        """
        for declared in declared_metrics(written):
            now = self._now()
            time = declared.time
            if ran is not None and ran[0] <= time <= ran[1]:
                time = now
            if not now - OLDEST <= time <= now + NEWEST:
                self._out_of_time += len(declared.values)
                continue
            dimensions = frozenset(declared.dimensions.items())
            parts = tuple((value, 1.0) for value in declared.values)
            self.add(
                (declared.namespace, declared.name, dimensions),
                Value.of(time, parts, declared.unit),
            )

    def status(self) -> dict[str, int]:
        """Return how many metrics and values there are, and how many were refused."""
        with self._lock:
            return {
                "metrics": len(self._values) + len(self._levels),
                "values": self._count,
                "out_of_time": self._out_of_time,
            }


def ran_for(seconds: float) -> tuple[datetime, datetime]:
    """Return from when to when a program ran that ends now, on the machine's clock."""
    now = machine_now()
    # metrics are stamped in whole milliseconds
    return now - timedelta(seconds=seconds + 0.01), now + timedelta(seconds=0.01)


def statistic_of(values: Sequence[Value], statistic: str) -> float | None:
    """Return a statistic of values, None if it cannot be known.

    Parameters
    ----------
    values
        One or more.
    statistic
        Average, Sum, Minimum, Maximum, SampleCount, or a percentile: p0 to p100, the
        least value that at least so many per cent are not above. CloudWatch
        interpolates between values that are close, so its answer may differ a little.

    Raises
    ------
    ValueError
        If that is no such statistic.

    Examples
    --------
    >>> values = [Value.of(datetime(2030, 1, 1), [(n, 1.0)], "None") for n in (1, 2, 9)]
    >>> statistic_of(values, "Average"), statistic_of(values, "p90")
    (4.0, 9)
    """
    match statistic:
        case "Sum":
            return math.fsum(value.total for value in values)
        case "SampleCount":
            return math.fsum(value.count for value in values)
        case "Average":
            count = math.fsum(value.count for value in values)
            return math.fsum(value.total for value in values) / count
        case "Minimum":
            return min(value.least for value in values)
        case "Maximum":
            return max(value.greatest for value in values)
    return _percentile(values, percent_of(statistic))


def percent_of(statistic: str) -> float:
    """Return the per cent of a percentile's name.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> percent_of("p99.9")
    99.9
    """
    try:
        percent = float(statistic.removeprefix("p"))
    except ValueError:
        percent = -1.0
    if not (statistic.startswith("p") and 0 <= percent <= 100):  # noqa: PLR2004
        raise ValueError(f"{statistic!r} is no statistic that the local twin makes")
    return percent


def _percentile(values: Sequence[Value], percent: float) -> float | None:
    parts: list[tuple[float, float]] = []
    for value in values:
        if value.parts:
            parts += value.parts
        elif value.least == value.greatest:
            parts.append((value.least, value.count))
        else:
            return None
    parts.sort()
    wanted = math.fsum(count for _, count in parts) * percent / 100
    passed = 0.0
    for found, count in parts:
        passed += count
        if passed >= wanted:
            return found
    return parts[-1][0]


def _time(value: Value) -> datetime:
    return value.time
