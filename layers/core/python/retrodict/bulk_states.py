"""The online store in bulk: the item of every key, from the columns of its events.

What an item holds is said by `retrodict.state` and `retrodict.online`, one event at a
time. Here every key is judged by the compiled fold, and its item written from what the
fold leaves: the events it holds as columns, the panes of those it dropped. The bytes
are those of the plain fold; what the compiled fold cannot carry goes through it.
"""

from collections import Counter
from collections.abc import Callable
from math import isnan

import numpy as np
from numpy.typing import NDArray

from retrodict import codec
from retrodict.arrow_events import KnownEvents
from retrodict.bulk import EventColumns, Run
from retrodict.expressions import finite
from retrodict.features import FeatureSet
from retrodict.leaves import is_integral
from retrodict.online import features_json, item_of
from retrodict.panes import Grid, Keeping, Pane, Summary
from retrodict.ports import OnlineItem
from retrodict.state import OUTCOMES, KeyState, Outcome

_SEVEN_BITS = 0x7F
_CONTINUE = 0x80


def items_of(
    definition: FeatureSet, known: KnownEvents, entity: Callable[[str], str]
) -> tuple[list[OnlineItem], Counter[str]]:
    """Fold the events of many keys: the item of each, and the outcomes of the events.

    Parameters
    ----------
    entity
        Partition key of the item of an entity key.

    Returns
    -------
    tuple
        The items in the order of their keys, without those of keys that had no event
        applied; and how often each outcome came.

    Raises
    ------
    ValueError
        The events were read without their positions.
    """
    run = Run(definition, known.columns, is_last_wanted=True)
    plain = {*run.compiled()}
    write = _Items(definition, known, run)
    items = []
    for place, key in enumerate(known.columns.keys):
        item = (write.plain if place in plain else write.compiled)(place, entity(key))
        if item is not None:
            items.append(item)
    counts = np.bincount(run.outcome, minlength=len(OUTCOMES)).tolist()
    told = zip(OUTCOMES, counts, strict=True)
    return items, Counter({one.value: count for one, count in told if count})


class _Items:
    """What writes the items of one fold."""

    def __init__(self, definition: FeatureSet, known: KnownEvents, run: Run) -> None:
        if known.position is None:
            raise ValueError("an item tells a position: read the events with theirs")
        self._definition = definition
        self._positions = known.position
        self._columns = known.columns
        self._run = run
        self._integral = [is_integral(leaf) for leaf in definition.program.leaves]

    def plain(self, key: int, entity: str) -> OnlineItem | None:
        fold = self._run.plain(key)
        if not fold.entries:
            return None
        first, end = self._columns.key_start[key : key + 2].tolist()
        is_applied = self._run.outcome[first:end] == OUTCOMES.index(Outcome.APPLIED)
        position = self._position(first + int(np.flatnonzero(is_applied)[-1]))
        entries, panes = tuple(fold.entries), fold.kept_panes()
        state = KeyState(self._definition, position, entries, panes)
        return item_of(entity, state, 1)

    def compiled(self, key: int, entity: str) -> OnlineItem | None:
        definition, columns, run = self._definition, self._columns, self._run
        applied, held_from = int(run.applied[key]), int(run.held_from[key])
        if not applied:
            return None
        first = int(columns.key_start[key])
        order = run.order[first : first + applied]
        position = self._position(int(order.max()))
        time_us = int(columns.time_us[order[-1]])
        held = order[held_from:]
        return OnlineItem(
            entity=entity,
            version=1,
            definition=definition.digest,
            position=position,
            time_us=time_us,
            features=self._features(key),
            state=codec.assemble(
                definition.digest,
                position,
                len(definition.columns),
                len(held),
                _entries(columns, held),
                self._panes(order[:held_from], time_us),
            ),
        )

    def _position(self, place: int) -> str:
        text: str = self._positions[place].as_py()
        return text

    def _features(self, key: int) -> str:
        leaves = [
            None if isnan(v) else int(v) if integral else finite(v)
            for v, integral in zip(
                self._run.last_row[:, key].tolist(), self._integral, strict=True
            )
        ]
        return features_json(self._definition.program.run(leaves))

    def _panes(self, dropped: NDArray[np.int32], newest_us: int) -> list[Pane]:
        """Return the panes of the events that the state holds no more, in order."""
        definition = self._definition
        if not definition.grids or not len(dropped):
            return []
        times = self._columns.time_us[dropped]
        found: list[Pane] = []
        for grid, keeping in definition.grids.items():
            oldest = (newest_us - definition.reach_us) // grid.every_us - keeping.reach
            start = np.searchsorted(times, oldest * grid.every_us)
            values = self._columns.values[grid.column][dropped[start:]]
            present = ~np.isnan(values)
            ordinals = times[start:][present] // grid.every_us
            found += _summaries(grid, keeping, ordinals, values[present])
        return found


def _summaries(
    grid: Grid,
    keeping: Keeping,
    ordinals: NDArray[np.int64],
    values: NDArray[np.float64],
) -> list[Pane]:
    """Return the panes of values in the order of their events, shape (n,)."""
    cuts = np.flatnonzero(np.diff(ordinals)) + 1
    starts = [0, *cuts.tolist()] if len(values) else []
    ends = [*cuts.tolist(), len(values)]
    every = values.tolist()
    return [
        Pane(
            grid,
            int(ordinals[start]),
            Summary.of(
                every[start:end], squares=keeping.squares, bounds=keeping.bounds
            ),
        )
        for start, end in zip(starts, ends, strict=False)
    ]


def _entries(columns: EventColumns, held: NDArray[np.int32]) -> bytes:
    """Return some events as `retrodict.codec` encodes entries."""
    times = columns.time_us[held]
    steps = np.diff(times)
    unit = codec.unit_of(int(np.gcd.reduce(steps)) if len(steps) else 0)
    out = bytearray(codec.begin_times(unit, int(times[0])))
    out += _varints(steps // codec.UNITS_US[unit] if unit else steps)
    out += columns.identity[held].astype("<u8").tobytes()
    out += columns.check[held].astype("<u2").tobytes()
    for column in columns.values:
        values = column[held]
        is_null = np.isnan(values)
        nulls = np.packbits(is_null, bitorder="little").tobytes()
        present = values[~is_null].astype("<f8").tobytes()
        out += codec.column_bytes(int(is_null.sum()), nulls, present)
    return bytes(out)


def _varints(numbers: NDArray[np.int64]) -> bytes:
    """Return LEB128 varints of numbers at or above 0, shape (n,)."""
    most = int(numbers.max(initial=0))
    if most < _CONTINUE:
        return numbers.astype(np.uint8).tobytes()
    shifts = np.arange(-(-most.bit_length() // 7)) * 7
    rest = numbers[:, np.newaxis] >> shifts
    goes_on = (rest >> 7) > 0
    parts = (rest & _SEVEN_BITS | goes_on * _CONTINUE).astype(np.uint8)
    is_there = (rest > 0) | (shifts == 0)
    raw: bytes = parts[is_there].tobytes()
    return raw
