"""Events of many segments as few tables: each position once, by part of the keys.

No event becomes an object. Which rows are the same event is decided by
`retrodict.table_digest`, so that neither their cut nor how a payload is held matters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict import kernel
from retrodict.arrow_events import REPEATS, order_of_rows
from retrodict.buckets import bucket_of
from retrodict.derived_columns import addresses_of
from retrodict.errors import LogConflictError
from retrodict.table_digest import digest_of_table, is_same

TAKEN_BYTES: Final = 64 << 20
"""How much of a table is brought into order at once: a column whose rows are all asked
for comes from memory once, one of which a part is comes for each part."""


@dataclass(frozen=True, eq=False, slots=True)
class MergedPart:
    """What one merged segment holds.

    Attributes
    ----------
    events
        Arrow table of one part of the keys and one schema version, in order of (key,
        position), each position once.
    """

    bucket: int
    version: int
    events: pa.Table


def merged(table: pa.Table) -> Iterator[MergedPart]:
    """Yield the events of `table`, by part of the keys and schema version.

    As many parts are made at once as `TAKEN_BYTES` says, so that memory is that of the
    table and of those.

    Parameters
    ----------
    table
        Events of one type, in any order and with repeats, shape (n,).

    Raises
    ------
    LogConflictError
        Two different events claim one position.
    """
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.combine_chunks()
    rows = _first_rows(table)
    group, groups = _groups(table)
    group = group[rows]
    rows = rows[_stable_order(group, len(groups))]
    ends = np.cumsum(np.bincount(group, minlength=len(groups))).tolist()
    parts: list[tuple[int, int, int]] = []
    for part, own in groupby(
        zip(groups, ends, strict=True), key=lambda one: one[0][:2]
    ):
        *_, (_, end) = own
        parts.append((*part, end))
    start = 0
    most_rows = TAKEN_BYTES * table.num_rows // max(1, table.nbytes)
    while parts:
        several = [p for p in parts if p[2] - start <= most_rows] or parts[:1]
        del parts[: len(several)]
        first, start = start, several[-1][2]
        events, taken = rows_of(table, rows[first:start]), 0
        for bucket, version, end in several:
            own_rows = end - first - taken
            yield MergedPart(bucket, version, events.slice(taken, own_rows))
            taken += own_rows


def rows_of(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Return some rows of a table in their order: `Table.take`, with texts read ahead.

    The rows of a key lie far apart, so that each text is waited for unless it is asked
    for before.
    """
    places = pa.array(rows, pa.int64())
    columns = [
        _taken(column.chunk(0), places)
        if column.num_chunks == 1
        else column.take(places)
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def _taken(column: pa.Array, places: pa.Int64Array) -> pa.Array:
    kind, count = column.type, len(places)
    if column.null_count == len(column):
        return pa.nulls(count, kind) if count else column.slice(0, 0)
    if column.null_count or not count:
        return column.take(places)
    if pa.types.is_struct(kind):
        children = (column.field(n) for n in range(kind.num_fields))
        own = [_taken(child, places) for child in children]
        return pa.StructArray.from_arrays(own, fields=[*kind])
    library = kernel.library()
    if library is None or not pa.types.is_string(kind):
        return column.take(places)
    row = places.buffers()[1].address + 8 * places.offset
    at, text = addresses_of(column)
    ends = pa.allocate_buffer(4 * (count + 1))
    size = library.retrodict_taken(count, row, len(column), at, ends.address)
    if size < 0:
        raise ValueError(f"{count} texts are too many, or a row of them is not there")
    taken = pa.allocate_buffer(size)
    if size:
        library.retrodict_take(count, row, at, text, ends.address, taken.address)
    return pa.StringArray.from_buffers(count, ends, taken)


def _whole(texts: pa.ChunkedArray) -> pa.LargeStringArray:
    if texts.num_chunks == 1:
        return texts.chunk(0)
    return pa.concat_arrays([*texts.chunks, pa.array([], texts.type)])


def _groups(table: pa.Table) -> tuple[NDArray[np.int32], list[tuple[int, int, str]]]:
    """Return of each row the place of its group; a group is (bucket, version, key)."""
    key = _whole(table["key"]).dictionary_encode()
    version = _whole(table["schema_version"]).dictionary_encode()
    names, versions = key.dictionary.to_pylist(), version.dictionary.to_pylist()
    pair = key.indices.to_numpy().astype(np.int64) * len(versions)
    pair += version.indices.to_numpy()
    is_there = np.zeros(len(names) * len(versions), np.bool_)
    is_there[pair] = True
    parts = [bucket_of(name) for name in names]
    pairs: list[Any] = []
    for one in np.flatnonzero(is_there).tolist():
        name, place = divmod(one, len(versions))
        pairs.append(((parts[name], versions[place], names[name]), one))
    pairs.sort()
    place_of = np.empty(len(is_there), np.int32)
    place_of[[one for _, one in pairs]] = np.arange(len(pairs), dtype=np.int32)
    return place_of[pair], [group for group, _ in pairs]


def _first_rows(table: pa.Table) -> NDArray[np.int64]:
    """Return one row of each position, in their order."""
    position = _whole(pc.cast(table["position"], pa.large_string()))
    one_key = np.zeros(len(position), np.int32)
    rows, mark = order_of_rows(one_key, 1, position)
    if rows is None:
        return np.arange(len(mark))
    again = np.flatnonzero(mark == REPEATS)
    one, other = (table.take(pa.array(rows[own])) for own in (again - 1, again))
    if not is_same(one, other) and digest_of_table(one) != digest_of_table(other):
        raise _conflict(one, other)
    firsts: NDArray[np.int64] = rows[mark != REPEATS]
    return firsts


def _stable_order(group: NDArray[np.int32], groups: int) -> NDArray[np.int64]:
    """Return the order of groups, their rows as they are; of few it takes one pass."""
    is_small = groups <= np.iinfo(np.uint16).max
    narrow = group.astype(np.uint16) if is_small else group
    order: NDArray[np.int64] = np.argsort(narrow, kind="stable")
    return order


def _conflict(one: pa.Table, other: pa.Table) -> LogConflictError:
    """Return what is wrong with the first row that is not the same event in both."""
    low, high = 0, one.num_rows
    while high - low > 1:
        middle = (low + high) // 2
        span = slice(low, middle)
        if _digest(one, span) == _digest(other, span):
            low = middle
        else:
            high = middle
    position = one["position"][low].as_py()
    return LogConflictError(
        f"position {position!r} holds two different events: find out who wrote to the "
        "log; its segments were left as they are"
    )


def _digest(table: pa.Table, span: slice) -> str:
    return digest_of_table(table.slice(span.start, span.stop - span.start))
