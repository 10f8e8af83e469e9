"""Panes: what a state keeps of the events that it holds no more, pane by pane.

An event that fell behind the horizon of its key can neither be joined by another at
its time nor be taken back, so sums and bounds are all its pane needs. They are exact:
a pane that was sealed in parts, with raw events beside it, has the one sum of all its
events.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final, NamedTuple, Protocol, Self

from retrodict.statistics import Moments

_STAMP_BYTES: Final = 24
_SUM_BYTES: Final = 290
"""What the exact sum of any finite doubles may take; that of squares twice as much."""
_BOUNDS_BYTES: Final = 32


class Bounds(NamedTuple):
    """The least, the greatest, the earliest and the latest of some values."""

    low: float
    high: float
    first: float
    last: float


class Summary(NamedTuple):
    """What statistics need to know of some values, in the order of events.

    Attributes
    ----------
    bounds
        None where they are not kept, or there are no values.
    """

    moments: Moments
    bounds: Bounds | None = None

    @classmethod
    def of(cls, values: Sequence[float], *, squares: bool, bounds: bool) -> Self:
        """Summarise finite doubles in the order of events, shape (n,)."""
        found = None
        if bounds and values:
            found = Bounds(min(values), max(values), values[0], values[-1])
        return cls(Moments.of(values, squares=squares), found)

    @classmethod
    def merge(cls, several: Sequence[Self]) -> Self:
        """Summarise all the values together; those of each come after those before."""
        known = [s.bounds for s in several if s.bounds is not None]
        found = None
        if known:
            found = Bounds(
                min(b.low for b in known),
                max(b.high for b in known),
                known[0].first,
                known[-1].last,
            )
        return cls(Moments.merge(s.moments for s in several), found)


NOTHING: Final = Summary(Moments(0, 0, 0, 0))
"""The summary of no values."""


class Grid(NamedTuple):
    """Panes of one column and one length, aligned to the epoch.

    Attributes
    ----------
    column
        Place of the column in the feature set's order.
    """

    every_us: int
    column: int


class Keeping(NamedTuple):
    """What the panes of a grid keep, and how many of them.

    Attributes
    ----------
    reach
        How many panes before the newest a feature may read.
    squares, bounds
        Whether the sum of squares and the `Bounds` are kept beside count and sum.
    """

    reach: int
    squares: bool = False
    bounds: bool = False

    def with_(self, other: "Keeping") -> "Keeping":
        """Return what serves both."""
        return Keeping(
            max(self.reach, other.reach),
            self.squares or other.squares,
            self.bounds or other.bounds,
        )

    def most_bytes(self) -> int:
        """Return what one pane takes at most, encoded."""
        sums = _SUM_BYTES * (3 if self.squares else 1)
        return _STAMP_BYTES + sums + _BOUNDS_BYTES * self.bounds


class Pane(NamedTuple):
    """One column over the sealed events of one pane.

    Attributes
    ----------
    ordinal
        Panes of this length since the epoch.
    """

    grid: Grid
    ordinal: int
    summary: Summary


class Sealable(Protocol):
    """What can be sealed: values at a time; `retrodict.windows.Entry` is one."""

    @property
    def time_us(self) -> int:
        """When it happened, microseconds."""

    @property
    def values(self) -> tuple[float | None, ...]:
        """The columns that the feature set reads."""


class Panes:
    """The panes of one key, while events are sealed into them and features read them.

    Events must be sealed in their order, as a horizon passes them.

    Parameters
    ----------
    kept
        Panes of a state, in order.
    grids
        What is kept.

    Attributes
    ----------
    most_bytes
        What the panes take at most, encoded, whatever they hold.

    Examples
    --------
    >>> from retrodict.windows import HOUR_US, Entry
    >>> hours = Grid(HOUR_US, 0)
    >>> panes = Panes((), {hours: Keeping(reach=24)})
    >>> panes.seal(Entry(7 * HOUR_US, 1, 0, (20.5,)))
    True
    >>> panes.seal(Entry(7 * HOUR_US + 5, 2, 0, (21.0,)))
    False
    >>> panes.over(range(6, 8), hours).moments
    Moments(n=2, total=83, squares=None, scale=1)
    """

    def __init__(self, kept: Iterable[Pane], grids: Mapping[Grid, Keeping]) -> None:
        self._grids = grids
        self._kept: dict[Grid, dict[int, Summary]] = {g: {} for g in sorted(grids)}
        for grid, index, summary in kept:
            self._kept[grid][index] = summary
        self._start_us = self._end_us = 0
        self._waiting: list[tuple[float | None, ...]] = []
        self._over: dict[tuple[range, Grid], Summary | None] = {}
        self._bytes: int | None = None
        self._changed()

    def seal(self, event: Sealable) -> bool:
        """Add an event to its panes, and return whether one of them is new.

        The events that have all their panes in common are summed together, later.
        """
        is_new = not self._start_us <= event.time_us < self._end_us
        if is_new:
            self._sum()
            lengths = {grid.every_us for grid in self._grids}
            starts = [event.time_us // every * every for every in lengths]
            ends = [(event.time_us // every + 1) * every for every in lengths]
            self._start_us, self._end_us = max(starts), min(ends)
        self._waiting.append(event.values)
        return is_new

    def over(self, indexes: range, grid: Grid) -> Summary | None:
        """Return the summary of the sealed events of some panes, if there are any."""
        if self._waiting and self._start_us // grid.every_us in indexes:
            self._sum()
        at = (indexes, grid)
        if at not in self._over:
            kept = self._kept[grid]
            found = [kept[index] for index in indexes if index in kept]
            self._over[at] = Summary.merge(found) if found else None
        return self._over[at]

    def forget(self, newest_us: int, reach_us: int) -> None:
        """Drop what no feature reads any more.

        Parameters
        ----------
        newest_us
            Time of the newest event.
        reach_us
            How far behind it an event may still lie that features are served with.
        """
        self._sum()
        for grid, kept in self._kept.items():
            oldest = (newest_us - reach_us) // grid.every_us - self._grids[grid].reach
            old = list(takewhile(oldest.__gt__, kept))
            for index in old:
                del kept[index]
            if old:
                self._over.clear()
                self._changed()

    def kept(self) -> tuple[Pane, ...]:
        """Return every pane, in order."""
        self._sum()
        return tuple(
            Pane(grid, index, summary)
            for grid, kept in self._kept.items()
            for index, summary in kept.items()
        )

    def size_bytes(self) -> int:
        """Return an upper bound of what these panes take, encoded."""
        self._sum()
        if self._bytes is None:
            self._bytes = sum(
                _STAMP_BYTES
                + (_BOUNDS_BYTES if s.bounds else 0)
                + (s.moments.total.bit_length() + (s.moments.squares or 0).bit_length())
                // 8
                for kept in self._kept.values()
                for s in kept.values()
            )
        return self._bytes

    def size_with(self, events: Iterable[Sealable]) -> int:
        """Return an upper bound of what they take once `events` are sealed too."""
        times = [event.time_us for event in events]
        return self.size_bytes() + sum(
            len({time // grid.every_us for time in times}) * keeping.most_bytes()
            for grid, keeping in self._grids.items()
        )

    def _sum(self) -> None:
        if not self._waiting:
            return
        for grid, keeping in self._grids.items():
            values = [v for row in self._waiting if (v := row[grid.column]) is not None]
            if not values:
                continue
            index = self._start_us // grid.every_us
            found = Summary.of(values, squares=keeping.squares, bounds=keeping.bounds)
            kept = self._kept[grid]
            before = kept.get(index)
            kept[index] = Summary.merge((before, found)) if before else found
            self._join(grid, index, found)
        self._waiting.clear()
        self._changed()

    def _join(self, grid: Grid, index: int, found: Summary) -> None:
        """Add what was sealed to what was already read over panes that hold it."""
        for (indexes, own), before in self._over.items():
            if own == grid and index in indexes:
                self._over[indexes, own] = (
                    Summary.merge((before, found)) if before else found
                )

    def _changed(self) -> None:
        self.most_bytes = sum(
            (len(self._kept[grid]) + 1) * keeping.most_bytes()
            for grid, keeping in self._grids.items()
        )
        self._bytes = None
