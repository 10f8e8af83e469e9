"""Features in bulk: the fold of many keys over columns, as the log keeps them.

What a state and its features are is said by `retrodict.state`, one event at a time.
Here the same is computed for a whole log at once by the compiled fold of
`retrodict.kernel`; keys and definitions that it cannot carry go through the plain fold.
Either way the bits are those of the plain fold.
"""

import ctypes
import sys
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retrodict import codec, kernel
from retrodict.envelope import StampedEvent
from retrodict.expressions import COMPARISONS, Number, Program, finite
from retrodict.features import FeatureSet
from retrodict.leaves import is_integral
from retrodict.state import OUTCOMES, Fold, KeyState, Outcome
from retrodict.upcasting import newest
from retrodict.windows import Entry, check_of, identity_of

Doubles = NDArray[np.float64]

_PLACES: Final = {outcome: place for place, outcome in enumerate(OUTCOMES)}
_EXACT: Final = 2.0**53


@dataclass(frozen=True, eq=False)
class EventColumns:
    """Events of many keys, by key, those of a key in order of position.

    Attributes
    ----------
    keys
        Shape (n_keys,).
    key_start
        Place of the first event of each key, and of the end, shape (n_keys + 1,).
    time_us, identity, check, late
        See `retrodict.windows.Entry`, shape (n,).
    values
        The definition's columns, NaN for null, each of shape (n,).
    """

    keys: Sequence[str]
    key_start: NDArray[np.int64]
    time_us: NDArray[np.int64]
    identity: NDArray[np.uint64]
    check: NDArray[np.uint16]
    late: NDArray[np.bool_]
    values: tuple[Doubles, ...]

    @classmethod
    def of(
        cls, definition: FeatureSet, by_key: Mapping[str, Sequence[StampedEvent]]
    ) -> "EventColumns":
        """Return the columns of events by key, each key's in order of position."""
        events = [event for known in by_key.values() for event in known]
        contract = definition.event.contract()
        rows = [definition.values_of(newest(e, contract).data) for e in events]
        columns = zip(*rows, strict=True) if rows else ((),) * len(definition.columns)
        return cls(
            keys=tuple(by_key),
            key_start=np.cumsum([0, *map(len, by_key.values())], dtype=np.int64),
            time_us=np.array([e.time_us for e in events], np.int64),
            identity=np.array([identity_of(e.source, e.id) for e in events], np.uint64),
            check=np.array([check_of(e.digest) for e in events], np.uint16),
            late=np.array([e.late for e in events], np.bool_),
            values=tuple(np.array(column, np.float64) for column in columns),
        )

    def entries(self, places: slice) -> list[Entry]:
        """Return events as a state holds them."""
        values = [_nullable(column[places]) for column in self.values]
        rows = zip(*values, strict=True) if values else ((),) * len(self.late[places])
        stamps = (self.time_us, self.identity, self.check)
        times, identities, checks = (array[places].tolist() for array in stamps)
        return list(map(Entry, times, identities, checks, rows))


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows asked for at moments of their own, by key.

    Attributes
    ----------
    start
        Place of the first row of each key, and of the end, shape (n_keys + 1,).
    time_us
        Event time of each row, shape (m,).
    known
        How many events of its key were known then, ascending in a key, shape (m,).
    """

    start: NDArray[np.int64]
    time_us: NDArray[np.int64]
    known: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BulkFold:
    """What became of every event, and the features that were asked for.

    Attributes
    ----------
    outcome
        Places in `OUTCOMES`, shape (n,).
    served
        Whether features are served with the event, shape (n,).
    features
        By name, as served with each event, NaN where null or not served, shape (n,).
    asked
        By name, of the rows that were asked for, NaN for null, shape (m,).
    """

    outcome: NDArray[np.int8]
    served: NDArray[np.bool_]
    features: dict[str, Doubles]
    asked: dict[str, Doubles]


def fold(
    definition: FeatureSet,
    columns: EventColumns,
    *,
    wanted: NDArray[np.bool_] | None = None,
    asked: Asked | None = None,
) -> BulkFold:
    """Fold the events of many keys.

    Parameters
    ----------
    wanted
        Events whose features, as served with them, are asked for, shape (n,); none by
        default.
    asked
        Rows at any time and any state of knowledge.

    Raises
    ------
    MemoryError
        The columns of one key do not fit.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> columns = EventColumns.of(Sensor, {})
    >>> fold(Sensor, columns).outcome.shape
    (0,)
    """
    run = Run(definition, columns, wanted, asked)
    for key in run.compiled():
        run.plain(key)
    return run.finish()


class Run:
    """One fold: its results while they are written.

    Attributes
    ----------
    outcome, served
        See `BulkFold`.
    order
        Places of the events of each key that were applied, by time, from the key's
        first place on, shape (n,), where the last row is wanted; of keys that
        `compiled` carried.
    applied, held_from
        How many they are, and the first of them that the state still holds, shape
        (n_keys,).
    last_row
        Leaves at the newest event of each key, shape (n_leaves, n_keys), or none.
    """

    def __init__(
        self,
        definition: FeatureSet,
        columns: EventColumns,
        wanted: NDArray[np.bool_] | None = None,
        asked: Asked | None = None,
        *,
        is_last_wanted: bool = False,
    ) -> None:
        self.definition = definition
        self.columns = columns
        self.wanted = wanted
        self.asked = asked
        events = len(columns.time_us)
        rows = len(asked.time_us) if asked else 0
        leaves = len(definition.program.leaves)
        self.outcome = np.zeros(events, np.int8)
        self.served = np.zeros(events, np.bool_)
        self.row = np.empty((leaves, events if wanted is not None else 0))
        self.asked_row = np.empty((leaves, rows))
        keys = len(columns.keys)
        self.last_row = np.empty((leaves, keys if is_last_wanted else 0))
        self.order = np.empty(events if is_last_wanted else 0, np.int32)
        self.applied, self.held_from = np.zeros((2, keys), np.int64)

    def finish(self) -> BulkFold:
        """Return what was found, once every key is folded."""
        program = self.definition.program
        return BulkFold(
            self.outcome,
            self.served,
            run_program(program, self.row) if self.wanted is not None else {},
            run_program(program, self.asked_row) if self.asked else {},
        )

    def compiled(self) -> Sequence[int]:
        """Run the compiled fold, and return the keys that it cannot carry.

        Raises
        ------
        MemoryError
            The columns of one key do not fit.
        """
        definition, columns, asked = self.definition, self.columns, self.asked
        keys, events = len(columns.keys), len(columns.time_us)
        library, plan = kernel.library(), kernel.plan_of(definition)
        if library is None or plan is None:
            return range(keys)
        is_beyond = np.zeros(keys, np.uint8)
        inputs: list[NDArray[Any]] = [
            np.ascontiguousarray(columns.key_start, np.int64),
            np.ascontiguousarray(columns.time_us, np.int64),
            np.ascontiguousarray(columns.identity, np.uint64),
            np.ascontiguousarray(columns.check, np.uint16),
            np.ascontiguousarray(columns.late, np.uint8),
        ]
        values = [np.ascontiguousarray(v, np.float64) for v in columns.values]
        wanted = None
        if self.wanted is not None:
            wanted = np.ascontiguousarray(self.wanted, np.uint8)
        rows: list[NDArray[np.int64] | None] = [None, None, None]
        if asked is not None:
            rows = [
                np.ascontiguousarray(a, np.int64)
                for a in (asked.start, asked.time_us, asked.known)
            ]
        document = kernel.FoldStruct(
            keys=keys,
            columns=len(values),
            leaves=len(plan.leaves),
            views=len(plan.views),
            value=kernel.addresses([v.ctypes.data for v in values]),
            leaf=plan.leaves,
            view=plan.views,
            kept_us=definition.kept_us,
            reach_us=definition.reach_us,
            depth=definition.depth,
            most_entries=_most_entries(definition),
            events=events,
            asked=self.asked_row.shape[1],
            **dict(zip(_INPUTS, [_address(a) for a in inputs], strict=True)),
            wanted=_address(wanted),
            **dict(zip(_ASKED, [_address(a) for a in rows], strict=True)),
            outcome=_address(self.outcome),
            served=_address(self.served),
            row=_address(self.row),
            asked_row=_address(self.asked_row),
            last_row=_address(self.last_row) if self.last_row.size else None,
            order=_address(self.order) if self.order.size else None,
            applied=_address(self.applied),
            held_from=_address(self.held_from),
            is_beyond=_address(is_beyond),
        )
        if library.retrodict_fold(ctypes.byref(document)):
            raise MemoryError(f"{events} events of {keys} keys do not fit in memory")
        return np.flatnonzero(is_beyond).tolist()

    def plain(self, key: int) -> Fold:
        """Fold one key event by event, and return what it grew to."""
        columns, definition = self.columns, self.definition
        first, end = columns.key_start[key : key + 2].tolist()
        fold, everything = Fold(KeyState(definition)), list[Entry]()
        asks = self._asks(key)
        self.row[:, first:end] = np.nan
        for place, entry in enumerate(columns.entries(slice(first, end)), first):
            asks = self._answer(asks, place - first, everything)
            late = bool(columns.late[place])
            outcome = fold.take(entry, is_late=late, is_known=False)
            self.outcome[place] = _PLACES[outcome]
            self.served[place] = False
            if outcome is not Outcome.APPLIED:
                continue
            insort(everything, entry)
            if self.wanted is not None and self.wanted[place]:
                found = fold.served_leaves(entry)
                if found is not None:
                    self.served[place] = True
                    self.row[:, place] = _doubles(found)
        self._answer(asks, sys.maxsize, everything)
        return fold

    def _asks(self, key: int) -> list[int]:
        if self.asked is None:
            return []
        return list(range(*self.asked.start[key : key + 2].tolist()))

    def _answer(self, asks: list[int], known: int, entries: list[Entry]) -> list[int]:
        """Answer the rows that know no more than so many events."""
        asked = self.asked
        while asked is not None and asks and asked.known[asks[0]] <= known:
            time_us = int(asked.time_us[asks[0]])
            found = self.definition.leaves_at(entries, time_us)
            self.asked_row[:, asks[0]] = _doubles(found)
            asks = asks[1:]
        return asks


_INPUTS: Final = ("key_start", "time_us", "identity", "check", "late")
_ASKED: Final = ("asked_start", "asked_us", "asked_known")


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _doubles(values: Sequence[Number | None]) -> list[float]:
    return [np.nan if value is None else float(value) for value in values]


def _nullable(column: Doubles) -> list[float | None]:
    return [None if isnan(value) else value for value in column.tolist()]


def _most_entries(definition: FeatureSet) -> int:
    """Return how many entries fit into a state whatever its panes hold."""
    room = definition.state_limit_bytes - codec.HEAD_BYTES
    for grid, keeping in definition.grids.items():
        reach = keeping.reach + definition.reach_us // grid.every_us + 3
        room -= keeping.most_bytes() * (reach + definition.kept_us // grid.every_us)
    return max(0, room // codec.entry_bytes(len(definition.columns)))


def run_program(program: Program, leaves: Doubles) -> dict[str, Doubles]:
    """Return every named expression over columns of leaves.

    Parameters
    ----------
    leaves
        NaN for null, shape (n_leaves, n).

    Returns
    -------
    dict
        By name, NaN for null, shape (n,): the doubles of `Program.run`.
    """
    whole = [is_integral(leaf) for leaf in program.leaves]
    whole += [isinstance(value, int) for value in program.constants]
    known: list[Any] = [*leaves, *map(float, program.constants)]
    is_exact = all(float(value) == value for value in program.constants)
    with np.errstate(all="ignore"):
        for operator, left, right in program.steps:
            found = _apply(operator, known[left], known[right], leaves.shape[1])
            is_whole = whole[left] and whole[right] and operator != "/"
            whole.append(is_whole or operator in COMPARISONS)
            if is_whole and np.any(np.abs(found) >= _EXACT):
                is_exact = False
            known.append(found)
    if not is_exact:
        return _by_rows(program, leaves, whole)
    count = leaves.shape[1]
    return {
        name: np.broadcast_to(np.asarray(known[place], np.float64), (count,))
        for name, place in program.names.items()
    }


def _apply(operator: str, left: Any, right: Any, count: int) -> Doubles:
    left = np.broadcast_to(np.asarray(left, np.float64), (count,))
    right = np.broadcast_to(np.asarray(right, np.float64), (count,))
    if operator in COMPARISONS:
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater}
        found = compare.get(operator, np.greater_equal)(left, right)
        return np.where(np.isnan(left) | np.isnan(right), np.nan, found)
    if operator == "/":
        result = np.where(right == 0, np.nan, left / right)
    else:
        apply = {"+": np.add, "-": np.subtract, "*": np.multiply}[operator]
        result = apply(left, right)
    return np.where(np.isfinite(result), result + 0.0, np.nan)


def _by_rows(
    program: Program, leaves: Doubles, whole: Sequence[bool]
) -> dict[str, Doubles]:
    """Return the same with Python's numbers, where doubles do not hold them."""
    found: dict[str, Doubles] = {
        name: np.full(leaves.shape[1], np.nan) for name in program.names
    }
    for place, row in enumerate(leaves.T.tolist()):
        numbers = [
            None if isnan(v) else int(v) if is_whole else finite(v)
            for v, is_whole in zip(row, whole, strict=False)
        ]
        for name, value in program.run(numbers).items():
            found[name][place] = np.nan if value is None else float(value)
    return found
