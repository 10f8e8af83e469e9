"""Panes: what a state keeps of the events that it holds no more, hour by hour.

An event that fell behind the horizon of its key can neither be joined by another at
its time nor be taken back, so sums are all its hour needs. They are exact: an hour
that was sealed in parts, with raw events beside it, has the one sum of all its events.
"""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Final, NamedTuple, Protocol

from retrodict.statistics import Moments

HOUR_US: Final = 3_600_000_000
DAY_HOURS: Final = 24

_STAMP_BYTES: Final = 24
_SUM_BYTES: Final = 290
"""What the exact sum of any finite doubles may take; that of squares twice as much."""


class Pane(NamedTuple):
    """One field over the sealed events of one hour.

    Attributes
    ----------
    column
        Place of the field in the feature set's order.
    hour
        Hours since the epoch.
    """

    column: int
    hour: int
    moments: Moments


class Sealable(Protocol):
    """What can be sealed: values at a time; `retrodict.features.Entry` is one."""

    @property
    def time_us(self) -> int:
        """When it happened, microseconds."""

    @property
    def values(self) -> tuple[float | None, ...]:
        """The fields that the feature set reads."""


class Panes:
    """The panes of one key, while events are sealed into them and features read them.

    Hours must be sealed in their order, as a horizon passes them.

    Parameters
    ----------
    kept
        Panes of a state, in order.
    columns
        The fields that panes are kept of, and whether their squares are.

    Attributes
    ----------
    most_bytes
        What the panes take at most, encoded, whatever they hold.

    Examples
    --------
    >>> panes = Panes((), {0: False})
    >>> from retrodict.features import Entry
    >>> panes.seal(Entry(7 * HOUR_US, "s", "1", "", (20.5,)))
    True
    >>> panes.seal(Entry(7 * HOUR_US + 5, "s", "2", "", (21.0,)))
    False
    >>> panes.over(range(6, 8), 0)
    Moments(n=2, total=83, squares=None, scale=1)
    """

    def __init__(self, kept: Iterable[Pane], columns: Mapping[int, bool]) -> None:
        self._columns = columns
        self._hour_bytes = (_STAMP_BYTES + _SUM_BYTES) * len(columns)
        self._hour_bytes += 2 * _SUM_BYTES * sum(columns.values())
        self._kept: dict[int, dict[int, Moments]] = {c: {} for c in sorted(columns)}
        for column, hour, moments in kept:
            self._kept[column][hour] = moments
        self._hour = self._start_us = self._end_us = 0
        self._waiting: list[tuple[float | None, ...]] = []
        self._over: dict[tuple[range, int], Moments | None] = {}
        self._bytes: int | None = None
        self._changed()

    def seal(self, event: Sealable) -> bool:
        """Add an event to its hour, and return whether that is another than before.

        The events of one hour are summed together, later.
        """
        is_new_hour = not self._start_us <= event.time_us < self._end_us
        if is_new_hour:
            self._sum()
            self._hour = event.time_us // HOUR_US
            self._start_us = self._hour * HOUR_US
            self._end_us = self._start_us + HOUR_US
        self._waiting.append(event.values)
        return is_new_hour

    def over(self, hours: range, column: int) -> Moments | None:
        """Return the moments of a field over the sealed events of `hours`, if any."""
        if self._hour in hours:
            self._sum()
        at = (hours, column)
        if at not in self._over:
            kept = self._kept[column]
            found = [kept[hour] for hour in hours if hour in kept]
            self._over[at] = Moments.merge(found) if found else None
        return self._over[at]

    def forget(self, oldest_hour: int) -> None:
        """Drop the hours before `oldest_hour`."""
        self._sum()
        for kept in self._kept.values():
            old = list(takewhile(oldest_hour.__gt__, kept))
            for hour in old:
                del kept[hour]
            if old:
                self._changed()

    def kept(self) -> tuple[Pane, ...]:
        """Return every pane, in order."""
        self._sum()
        return tuple(
            Pane(column, hour, moments)
            for column, kept in self._kept.items()
            for hour, moments in kept.items()
        )

    def size_bytes(self) -> int:
        """Return an upper bound of what these panes take, encoded."""
        self._sum()
        if self._bytes is None:
            self._bytes = sum(
                _STAMP_BYTES
                + (m.total.bit_length() + (m.squares or 0).bit_length()) // 8
                for kept in self._kept.values()
                for m in kept.values()
            )
        return self._bytes

    def _sum(self) -> None:
        if not self._waiting:
            return
        for column, squares in self._columns.items():
            values = [v for row in self._waiting if (v := row[column]) is not None]
            if not values:
                continue
            kept = self._kept[column]
            found, before = Moments.of(values, squares=squares), kept.get(self._hour)
            kept[self._hour] = Moments.merge((before, found)) if before else found
        self._waiting.clear()
        self._changed()

    def _changed(self) -> None:
        hours = max((len(kept) for kept in self._kept.values()), default=0) + 1
        self.most_bytes = hours * self._hour_bytes
        self._bytes = None
        self._over.clear()
