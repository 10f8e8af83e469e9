"""Identities that came back with another payload, or with another key.

Most identities are used once, and of those nothing is kept but that. Only where an
identifier is seen again are source, key and payload compared, in columns; only of what
conflicts does an event become an object.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict.derived_columns import identity_column_of
from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError
from retrodict.ports import LogPartition, SegmentFile, SegmentStore

BATCH_BYTES: Final = 64 << 20
"""Segments of other dates whose identities are compared at once."""

_IDENTITY: Final = ("key", "source", "id")
_COMPARED: Final = (*_IDENTITY, "digest")


@dataclass(slots=True)
class Reuse:
    """Identities that mean more than one event.

    Attributes
    ----------
    conflicting
        Events whose identity had another payload at an earlier position, in order.
    across_keys
        How many (source, id) pairs more than one key uses.
    """

    conflicting: list[StampedEvent] = field(default_factory=list)
    across_keys: int = 0


def reuse_in(
    partition: LogPartition,
    others: Iterable[LogPartition],
    store: SegmentStore,
    *,
    events: pa.Table | None = None,
) -> Reuse:
    """Compare the identities of a partition with each other and with other dates.

    The state of a key notices a reused identity only as far back as it reaches. The
    first position wins, wherever it is; of each other payload one event is reported.

    Parameters
    ----------
    others
        Partitions of the same type; its own is left out.
    events
        All events of the partition, if they have been read; else only columns are.
    """
    beside = [
        file
        for other in others
        if other.arrived != partition.arrived
        for file in other.files
    ]
    own = _Own(
        store.columns_of(partition.files, _COMPARED)
        if events is None
        else events.select(_COMPARED)
    )
    for batch in _batches(beside, store):
        own.meet(batch)
    conflicts = own.conflicts()
    if not conflicts:
        return Reuse(across_keys=own.across_keys())
    found = _sought(conflicts, [*partition.files, *beside], store)
    events = [
        _fetch(key, one, store)
        for (key, _, _), known in found.items()
        for one in sorted(known.values(), key=lambda seen: seen.position)[1:]
    ]
    return Reuse(sorted(events, key=lambda e: e.position), own.across_keys())


def _batches(files: Sequence[SegmentFile], store: SegmentStore) -> Iterator[pa.Table]:
    held: list[SegmentFile] = []
    for file in files:
        held.append(file)
        if sum(one.size_bytes for one in held) >= BATCH_BYTES:
            yield store.columns_of(held, _COMPARED)
            held = []
    if held:
        yield store.columns_of(held, _COMPARED)


class _Own:
    """The identities of one partition, and what has been found of them.

    Rows are compared where `retrodict.windows.identity_of` of source and id is equal,
    as it is wherever these are; whether they are is then seen from the texts.

    A pair or an identity is marked at the first of its rows.
    """

    def __init__(self, table: pa.Table) -> None:
        row = pa.array(np.arange(table.num_rows))
        self._table = table.append_column("row", row)
        self._across = np.zeros(table.num_rows, np.bool_)
        self._conflicting = np.zeros(table.num_rows, np.bool_)
        self._identity = identity_column_of(table)
        in_order = np.sort(self._identity.to_numpy())
        self._compare(self._with(pa.array(in_order[1:][in_order[1:] == in_order[:-1]])))

    def meet(self, others: pa.Table) -> None:
        """Compare with events of other dates."""
        identity = identity_column_of(others)
        is_met = pc.is_in(identity, value_set=self._identity)
        met = others.filter(is_met)
        if not met.num_rows:
            return
        own = self._with(identity.filter(is_met))
        met = met.append_column("row", pa.nulls(met.num_rows, pa.int64()))
        self._compare(pa.concat_tables([own, met]))

    def across_keys(self) -> int:
        return int(self._across.sum())

    def conflicts(self) -> set[tuple[str, str, str]]:
        rows = pa.array(np.flatnonzero(self._conflicting))
        found = self._table.take(rows)
        return {*zip(*(found[name].to_pylist() for name in _IDENTITY), strict=True)}

    def _with(self, identities: Any) -> pa.Table:
        """Return the rows that have one of some identities."""
        if not len(identities):
            return self._table.slice(0, 0)
        return self._table.filter(pc.is_in(self._identity, value_set=identities))

    def _compare(self, table: pa.Table) -> None:
        if table.num_rows:
            self._across[_several(table, ("source", "id"), "key")] = True
            self._conflicting[_several(table, _IDENTITY, "digest")] = True


def _several(table: pa.Table, by: Sequence[str], name: str) -> NDArray[np.int64]:
    """Return the first own row of each group that has several values of a column."""
    groups = pa.TableGroupBy(table, [*by], use_threads=False).aggregate(
        [(name, "count_distinct"), ("row", "min")]
    )
    several = pc.greater(groups[f"{name}_count_distinct"], 1)
    rows: NDArray[np.int64] = groups["row_min"].filter(several).drop_null().to_numpy()
    return rows


@dataclass(frozen=True, slots=True)
class _Seen:
    position: str
    file: SegmentFile


def _sought(
    identities: set[tuple[str, str, str]],
    files: Iterable[SegmentFile],
    store: SegmentStore,
) -> dict[tuple[str, str, str], dict[str, _Seen]]:
    """Return where some identities stand first with each payload, by its digest."""
    ids = pa.array(sorted({id_ for _, _, id_ in identities}), pa.string())
    seen: dict[tuple[str, str, str], dict[str, _Seen]] = {}
    for file in files:
        table = store.columns_of([file], (*_COMPARED, "position"))
        table = table.filter(pc.is_in(table["id"], value_set=ids))
        columns = (table[name].to_pylist() for name in (*_COMPARED, "position"))
        for key, source, id_, digest, position in zip(*columns, strict=True):
            if (key, source, id_) not in identities:
                continue
            known = seen.setdefault((key, source, id_), {})
            if digest not in known or position < known[digest].position:
                known[digest] = _Seen(position, file)
    return seen


def _fetch(key: str, one: _Seen, store: SegmentStore) -> StampedEvent:
    for event in store.events_of(one.file, keys=[key]):
        if event.position == one.position:
            return event
    raise PermanentError(f"position {one.position!r} has left {one.file.name!r}")
