"""The fold of a delivered batch: states of many keys, from bytes to bytes.

What becomes of a state is said by `retrodict.state`, one event at a time. Here the
compiled fold of `retrodict.kernel` carries all keys of a definition in one call;
definitions and states that it does not know go through the plain fold. Either way
outcomes, bytes and features are those of the plain fold.
"""

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from math import isnan, nan
from typing import Any, Final

from retrodict import codec, kernel
from retrodict.envelope import StampedEvent
from retrodict.expressions import Number
from retrodict.features import FeatureSet
from retrodict.leaves import Category, Column, is_integral
from retrodict.state import OUTCOMES, KeyState, Outcome
from retrodict.upcasting import newest
from retrodict.windows import check_of

_BEYOND: Final = 2
_NO_STATE: Final = b"\0"
"""Stands for no bytes at all, which are no state, as opposed to a new key."""


@dataclass(frozen=True, slots=True)
class BatchFold:
    """What became of a batch, in columns.

    Attributes
    ----------
    outcomes
        Of every event, by key, shape (n,).
    states
        Canonical bytes, None where a state stays what it was, shape (n_keys,).
    positions, times_us, features
        Of each state that changed: its position, and time and features, by name, of
        its newest event, shape (n_keys,).
    """

    outcomes: list[Outcome]
    states: list[bytes | None]
    positions: list[str]
    times_us: list[int]
    features: dict[str, list[Number | None]]

    @classmethod
    def empty(cls, definition: FeatureSet, events: int, keys: int) -> "BatchFold":
        """Return a batch of which nothing is known yet."""
        return cls(
            [Outcome.APPLIED] * events,
            [None] * keys,
            [""] * keys,
            [0] * keys,
            {name: [None] * keys for name in definition.features},
        )

    def features_of(self, key: int) -> dict[str, Number | None]:
        """Return the features of the key at a place."""
        return {name: column[key] for name, column in self.features.items()}


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events of several keys in columns, by key, those of a key in order of position.

    Attributes
    ----------
    key_start
        Place of the first event of each key, and of the end, shape (n_keys + 1,).
    time_us, identity, check, late
        See `retrodict.windows.Entry`, shape (n,).
    position_text
        The positions one after the other, and n + 1 offsets.
    values
        The definition's columns, NaN for null, each of shape (n,).
    """

    key_start: "array[int]"
    time_us: "array[int]"
    identity: "array[int]"
    check: "array[int]"
    late: bytes
    positions: Sequence[str]
    position_text: tuple[bytes, "array[int]"]
    values: Sequence["array[float]"]

    @classmethod
    def of(
        cls, definition: FeatureSet, by_key: Sequence[Sequence[StampedEvent]]
    ) -> "Arrivals":
        """Return the columns of the events of each key.

        Raises
        ------
        LookupError
            There is no library for this platform.
        UpcastError
            An event cannot be read as the newest version of its contract.
        """
        events = [event for own in by_key for event in own]
        contract = definition.event.contract()
        version = contract.version
        if [1 for event in events if event.schema_version != version]:
            rows = [newest(event, contract).data for event in events]
        else:
            rows = [event.data for event in events]
        positions = [event.position for event in events]
        return cls(
            key_start=array("q", accumulate(map(len, by_key), initial=0)),
            time_us=array("q", [event.time_us for event in events]),
            identity=_identities(events),
            check=_checks([event.digest for event in events]),
            late=bytes([event.late for event in events]),
            positions=positions,
            position_text=_texts(positions),
            values=[_doubles(column, rows) for column in definition.columns],
        )


def fold(
    definition: FeatureSet,
    states: Sequence[bytes | None],
    events: Sequence[Sequence[StampedEvent]],
) -> BatchFold:
    """Fold a batch into the states of its keys.

    Parameters
    ----------
    states
        Canonical bytes, None for a new key, shape (n_keys,).
    events
        Events of each key in the order of their positions, shape (n_keys,).

    Raises
    ------
    StateFormatError
        Some bytes are not a state of this definition.
    UpcastError
        An event cannot be read as the newest version of its contract.
    MemoryError
        The states do not fit.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> fold(Sensor, [None], [[]]).states
    [None]
    """
    keys = len(states)
    start = list(accumulate(map(len, events), initial=0))
    if kernel.library() is None or _compiled(definition) is None:
        found = BatchFold.empty(definition, start[-1], keys)
        plain: Sequence[int] = range(keys)
    else:
        arrivals = Arrivals.of(definition, events)
        found, plain = fold_columns(definition, states, arrivals)
    for key in plain:
        before = KeyState.decode(definition, states[key])
        after, folded = before.fold(events[key])
        found.outcomes[start[key] : start[key + 1]] = [one.outcome for one in folded]
        if after != before:
            found.states[key] = after.encode()
            found.positions[key] = after.position
            found.times_us[key] = after.time_us or 0
            for name, value in after.features.items():
                found.features[name][key] = value
    return found


def fold_columns(
    definition: FeatureSet, states: Sequence[bytes | None], arrivals: Arrivals
) -> tuple[BatchFold, list[int]]:
    """Fold columns into the states of their keys by the compiled fold.

    Returns
    -------
    tuple
        What became of the batch, and the keys that only the plain fold can carry, of
        which nothing is known yet.

    Raises
    ------
    LookupError
        The definition is not compiled, or there is no library for this platform.
    MemoryError
        The states do not fit.
    """
    library, compiled = _library(), _compiled(definition)
    if compiled is None:
        raise LookupError(f"feature set {definition.name!r} is not compiled")
    keys, count = len(states), len(arrivals.time_us)
    known = [b"" if state is None else state or _NO_STATE for state in states]
    state_at = array("q", accumulate(map(len, known), initial=0))
    position, position_at = arrivals.position_text
    outcome, became = array("b", bytes(count)), array("B", bytes(keys))
    applied, newest_us = array("q", bytes(8 * keys)), array("q", bytes(8 * keys))
    out_at = array("q", bytes(8 * (keys + 1)))
    row = array("d", bytes(8 * keys * len(compiled.plan.leaves)))
    document = kernel.OnlineStruct(
        keys,
        len(arrivals.values),
        len(compiled.plan.leaves),
        len(compiled.plan.views),
        len(compiled.grids),
        _address(arrivals.key_start),
        _address(arrivals.time_us),
        _address(arrivals.identity),
        _address(arrivals.check),
        arrivals.late,
        kernel.addresses([_address(values) for values in arrivals.values]),
        _address(position_at),
        position,
        _address(state_at),
        b"".join(known),
        compiled.head,
        compiled.plan.leaves,
        compiled.plan.views,
        compiled.grids,
        definition.kept_us,
        definition.reach_us,
        definition.depth,
        definition.state_limit_bytes - codec.HEAD_BYTES,
        codec.entry_bytes(len(definition.columns)),
        _address(outcome),
        _address(became),
        _address(applied),
        _address(newest_us),
        _address(row),
        _address(out_at),
        None,
    )
    if library.retrodict_online(ctypes.byref(document)):
        raise MemoryError(f"the states of {keys} keys do not fit in memory")
    out = ctypes.string_at(document.out, out_at[-1]) if document.out else b""
    library.retrodict_free(ctypes.byref(document))
    found = BatchFold(
        outcomes=[OUTCOMES[place] for place in outcome],
        states=[out[a:b] if a < b else None for a, b in pairwise(out_at)],
        positions=[
            arrivals.positions[place] if place >= 0 else "" for place in applied
        ],
        times_us=newest_us.tolist(),
        features=_features(definition, compiled, row, keys),
    )
    return found, [key for key, one in enumerate(became) if one == _BEYOND]


def _features(
    definition: FeatureSet, compiled: "_Compiled", row: "array[float]", keys: int
) -> dict[str, list[Number | None]]:
    """Return the features of leaves, NaN for null, shape (n_leaves * n_keys,)."""
    columns: list[list[Number | None]] = []
    for place, integral in enumerate(compiled.integral):
        leaf: list[Any] = row[place * keys : (place + 1) * keys].tolist()
        if isnan(sum(leaf)):  # as it is where one of them is
            leaf = [None if isnan(value) else value for value in leaf]
        if integral:
            leaf = [None if value is None else int(value) for value in leaf]
        columns.append(leaf)
    return definition.program.run_columns(columns, keys)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What the compiled fold knows of a definition."""

    plan: kernel.Plan
    grids: "ctypes.Array[kernel.GridStruct]"
    head: bytes
    integral: Sequence[bool]


@cache
def _compiled(definition: FeatureSet) -> _Compiled | None:
    plan = kernel.plan_of(definition)
    if plan is None:
        return None
    return _Compiled(
        plan,
        kernel.grids_of(definition),
        codec.MAGIC + bytes([codec.VERSION]) + bytes.fromhex(definition.digest),
        [is_integral(leaf) for leaf in definition.program.leaves],
    )


def _library() -> ctypes.CDLL:
    found = kernel.library()
    if found is None:
        raise LookupError("there is no compiled fold for this platform")
    return found


def _address(values: "array[int] | array[float]") -> int:
    return values.buffer_info()[0]


def _doubles(column: Column, rows: Sequence[Mapping[str, Any]]) -> "array[float]":
    """Return a column of events as `retrodict.leaves.read_column` reads it."""
    if isinstance(column, Category):
        found = [column.read(row) for row in rows]
    else:
        found = [row.get(column.name) for row in rows]
    return array("d", [nan if value is None else float(value) for value in found])


def _texts(texts: Sequence[str]) -> tuple[bytes, "array[int]"]:
    """Return texts one after the other, and n + 1 offsets."""
    whole = "".join(texts)
    if whole.isascii():
        lengths, raw = list(map(len, texts)), whole.encode()
    else:
        parts = [text.encode() for text in texts]
        lengths, raw = list(map(len, parts)), b"".join(parts)
    if raw and lengths.count(lengths[0]) == len(lengths):
        return raw, array("i", range(0, len(raw) + 1, lengths[0]))
    return raw, array("i", accumulate(lengths, initial=0))


def _identities(events: Sequence[StampedEvent]) -> "array[int]":
    library = _library()
    source, source_at = _texts([event.source for event in events])
    name, name_at = _texts([event.id for event in events])
    found = array("Q", bytes(8 * len(events)))
    if library.retrodict_identities(
        len(events),
        _address(source_at),
        source,
        _address(name_at),
        name,
        _address(found),
        kernel.has_sha256(),
    ):
        raise MemoryError(f"{len(events)} identities do not fit in memory")
    return found


def _checks(digests: Sequence[str]) -> "array[int]":
    found = array("i", bytes(4 * len(digests)))
    raw, at = _texts(digests)
    refused = _library().retrodict_checks(
        len(digests), _address(at), raw, _address(found)
    )
    return array("H", map(check_of, digests) if refused else found)
