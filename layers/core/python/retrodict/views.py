"""Views: what a leaf reads of the events and panes of one key.

Leaves that read the same share one view, so a window is looked at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from retrodict.contracts import FieldRef
from retrodict.errors import FeatureDefinitionError
from retrodict.expressions import OPERATIONS, Expression, Number
from retrodict.leaves import (
    BOUNDED,
    LAGGED,
    Calendar,
    Category,
    Column,
    Decayed,
    Elapsed,
    Statistic,
)
from retrodict.panes import NOTHING, Grid, Keeping, Panes, Summary
from retrodict.windows import Entry, Held, LastEvents, LastPanes, Paned, SameSlot


@dataclass(frozen=True, slots=True)
class ValuesView:
    """A column over the events of a window, in order; `nulls` keeps the empty ones."""

    window: Held
    column: int
    nulls: bool

    def read(
        self,
        entries: Sequence[Entry],
        end: int,
        time_us: int,
        panes: Panes,  # noqa: ARG002 - views are read alike
    ) -> list[float | None]:
        """Return the values of the window that ends before the place `end`."""
        column = self.column
        start = self.window.start(entries, end, time_us)
        found = [entry.values[column] for entry in entries[start:end]]
        if self.nulls or None not in found:
            return found
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class AgedView:
    """A column over the events of a window, and the age of each, microseconds."""

    window: Held
    column: int

    def read(
        self,
        entries: Sequence[Entry],
        end: int,
        time_us: int,
        panes: Panes,  # noqa: ARG002 - views are read alike
    ) -> tuple[list[float], list[int]]:
        """Return values and ages of the window that ends before the place `end`."""
        start = self.window.start(entries, end, time_us)
        values, ages = [], []
        for entry in entries[start:end]:
            value = entry.values[self.column]
            if value is not None:
                values.append(value)
                ages.append(time_us - entry.time_us)
        return values, ages


@dataclass(frozen=True, slots=True)
class PanesView:
    """A column over the events of some panes: those sealed, and those still held."""

    window: Paned
    column: int
    keeping: Keeping

    @property
    def grid(self) -> Grid:
        """Where the sealed ones are kept."""
        return Grid(self.window.every_us, self.column)

    def read(
        self, entries: Sequence[Entry], end: int, time_us: int, panes: Panes
    ) -> Summary:
        """Return the summary of the window that ends before the place `end`."""
        indexes = self.window.panes(time_us)
        parts = []
        sealed = panes.over(indexes, self.grid)
        if sealed is not None:
            parts.append(sealed)
        if end and entries[0].time_us < (indexes[-1] + 1) * self.window.every_us:
            held = self._held(entries, end, indexes)
            if held:
                parts.append(
                    Summary.of(
                        held, squares=self.keeping.squares, bounds=self.keeping.bounds
                    )
                )
        if sum(part.moments.n for part in parts) < self.window.at_least:
            return NOTHING
        return Summary.merge(parts) if len(parts) > 1 else parts[0]

    def _held(self, entries: Sequence[Entry], end: int, indexes: range) -> list[float]:
        every_us, column, found = self.window.every_us, self.column, []
        several = [indexes] if indexes.step == 1 else [range(i, i + 1) for i in indexes]
        for panes in several:
            start = bisect_left(entries, panes[0] * every_us, 0, end, key=_time)
            stop = bisect_left(
                entries, (panes[-1] + 1) * every_us, start, end, key=_time
            )
            found += [entry.values[column] for entry in entries[start:stop]]
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class TimesView:
    """The times of the current event and the one before it, microseconds."""

    def read(
        self,
        entries: Sequence[Entry],
        end: int,
        time_us: int,  # noqa: ARG002 - views are read alike
        panes: Panes,  # noqa: ARG002
    ) -> list[int]:
        """Return the times of the two events before the place `end`."""
        return [entry.time_us for entry in entries[max(0, end - 2) : end]]


View = ValuesView | AgedView | PanesView | TimesView


def _time(entry: Entry) -> int:
    return entry.time_us


def reading(
    leaf: Expression, columns: Sequence[Column]
) -> tuple[View, Callable[[Any], Number | None]]:
    """Return what of a key's events `leaf` reads, and what it makes of that.

    Raises
    ------
    FeatureDefinitionError
        It is no leaf.
    """
    if isinstance(leaf, Elapsed):
        return TimesView(), _elapsed
    if isinstance(leaf, Calendar):
        return TimesView(), partial(_part, part=Calendar.PARTS[leaf.part])
    if isinstance(leaf, FieldRef | Category):
        return ValuesView(LastEvents(1), place_of(leaf, columns), nulls=True), _newest
    if not isinstance(leaf, Statistic):
        raise FeatureDefinitionError(f"cannot evaluate {leaf!r}")
    return _over_window(leaf, columns)


def _over_window(
    leaf: Statistic, columns: Sequence[Column]
) -> tuple[View, Callable[[Any], Number | None]]:
    column, window = place_of(leaf.field, columns), leaf.window
    if isinstance(window, LastPanes | SameSlot):
        return PanesView(window, column, keeping(leaf)), leaf.summarise
    if isinstance(leaf, Decayed):
        return AgedView(window, column), partial(_aged, leaf=leaf)
    if leaf.name in LAGGED and isinstance(window, LastEvents):
        view = ValuesView(window, column, nulls=True)
        apply = OPERATIONS[LAGGED[leaf.name]]
        return view, partial(_lagged, events=window.count, apply=apply)
    return ValuesView(window, column, nulls=False), leaf.compute


def place_of(column: Column, columns: Sequence[Column]) -> int:
    """Return the place of a column of the same meaning."""
    return [one.describe() for one in columns].index(column.describe())


def keeping(statistic: Statistic) -> Keeping:
    """Return what the panes under a statistic must keep."""
    window = statistic.window
    if not isinstance(window, LastPanes | SameSlot):
        raise FeatureDefinitionError(f"{statistic.describe()} has no panes")
    return Keeping(
        window.reach,
        squares=statistic.name == "std",
        bounds=statistic.name in BOUNDED,
    )


def _newest(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _aged(found: tuple[list[float], list[int]], leaf: Decayed) -> Number | None:
    return leaf.compute_aged(*found)


def _lagged(
    values: Sequence[float | None],
    events: int,
    apply: Callable[[Number, Number], Number | None],
) -> Number | None:
    if len(values) < events:
        return None
    newest, oldest = values[-1], values[0]
    return None if newest is None or oldest is None else apply(newest, oldest)


def _elapsed(times_us: Sequence[int]) -> float | None:
    if len(times_us) < 2:  # noqa: PLR2004 - between two events
        return None
    return (times_us[1] - times_us[0]) / 1_000_000


def _part(times_us: Sequence[int], part: Callable[[int], int]) -> int | None:
    return part(times_us[-1]) if times_us else None
