"""Events as the segments of the log hold them, as columns for the fold in bulk.

No event becomes an object: identities, checks and the order of positions are computed
over Arrow's buffers by the compiled fold's library. Rows that are not plain, because
they are of another schema version or their payload is kept as text, are read one by
one and lifted, as `retrodict.upcasting` does. Either way the columns are those of
`EventColumns.of` for the same events.
"""

import ctypes
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict import kernel
from retrodict.bulk import Doubles, EventColumns
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError
from retrodict.features import FeatureSet
from retrodict.leaves import Category, Column
from retrodict.payloads import payloads
from retrodict.ports import Reading
from retrodict.upcasting import newest
from retrodict.windows import check_of, identity_of

ENVELOPE: Final = (
    "key", "source", "id", "schema_version", "time_us", "observed_at_us", "position",
    "late", "digest",
)  # fmt: skip
"""What is read of every event beside its payload."""

_TEXTS: Final = ("key", "source", "id", "position", "digest")
_BEGINS: Final = 1
REPEATS: Final = 2
"""The mark of a row that has the key and position of the one before."""


@dataclass(frozen=True, eq=False)
class KnownEvents:
    """Events of many keys in order of (key, position), each position once.

    Attributes
    ----------
    columns
        What the fold reads.
    position
        Arrow texts, shape (n,).
    observed_at_us
        When each event arrived, shape (n,).
    """

    columns: EventColumns
    position: pa.LargeStringArray
    observed_at_us: NDArray[np.int64]

    def only(self, keys: Container[str]) -> "KnownEvents":
        """Return the events of some keys."""
        own = self.columns
        places = [place for place, key in enumerate(own.keys) if key in keys]
        if len(places) == len(own.keys):
            return self
        starts, ends = own.key_start[places], own.key_start[1:][places]
        spans = map(np.arange, starts.tolist(), ends.tolist())
        rows = np.concatenate([*spans, np.empty(0, np.int64)]).astype(np.int64)
        columns = EventColumns(
            tuple(own.keys[place] for place in places),
            np.append(0, np.cumsum(ends - starts)).astype(np.int64),
            own.time_us[rows],
            own.identity[rows],
            own.check[rows],
            own.late[rows],
            tuple(values[rows] for values in own.values),
        )
        return KnownEvents(
            columns, self.position.take(pa.array(rows)), self.observed_at_us[rows]
        )


def reading_of(definitions: Iterable[FeatureSet]) -> Reading:
    """Return what is to be read of a segment for some definitions of one event type."""
    several = [*definitions]
    fields = {name for definition in several for name in fields_of(definition)}
    version = several[0].event.contract().version
    return Reading(ENVELOPE, tuple(sorted(fields)), version)


def fields_of(definition: FeatureSet) -> tuple[str, ...]:
    """Return the fields of an event's payload that a definition reads.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> fields_of(Sensor)
    ('value',)
    """
    fields = {c.field if isinstance(c, Category) else c for c in definition.columns}
    return tuple(sorted({field.name for field in fields}))


def known_events(
    definition: FeatureSet, tables: pa.Table | Iterable[pa.Table]
) -> KnownEvents:
    """Return the columns of tables of events of the definition's type.

    Keys come in their order as texts. A table that is in order of (key, position), as
    compacted segments are, is neither sorted nor copied.

    Parameters
    ----------
    tables
        One, or several of any layouts, each read before the next is asked for: columns
        of `ENVELOPE`, with ``data`` or ``raw_data`` or both, in any order and with
        repeats, shape (n,).

    Raises
    ------
    EventFormatError
        A column is missing, or an envelope has a null.
    UpcastError
        An event cannot be read as the newest version.
    """
    return known_by([definition], tables)[0]


def known_by(
    definitions: Sequence[FeatureSet], tables: pa.Table | Iterable[pa.Table]
) -> list[KnownEvents]:
    """Return what `known_events` returns for each of several definitions of one type.

    The tables are read once.
    """
    several = [tables] if isinstance(tables, pa.Table) else tables
    parts = [_Part(definitions, table) for table in several if table.num_rows]
    key, names = _keys([chunk for part in parts for chunk in part.keys])
    position = _joined(parts)
    rows, mark = order_of_rows(key, len(names), position)
    kept = None if rows is None else rows[mark != REPEATS]
    mark = mark[mark != REPEATS]
    starts = np.flatnonzero(mark == _BEGINS)
    own_keys = key[starts] if kept is None else key[kept[starts]]

    def ordered(arrays: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
        held = [*arrays]
        column = (
            held[0] if len(held) == 1 else np.concatenate([*held, np.empty(0, dtype)])
        )
        return column if kept is None else column[kept]

    keys = tuple(names[place] for place in own_keys.tolist())
    key_start = np.append(starts, len(mark)).astype(np.int64)
    stamps = (
        ordered((part.time_us for part in parts), np.int64),
        ordered((part.identity for part in parts), np.uint64),
        ordered((part.check for part in parts), np.uint16),
        ordered((part.late for part in parts), np.bool_),
    )
    if kept is not None:
        position = position.take(pa.array(kept))
    observed_at_us = ordered((part.observed_at_us for part in parts), np.int64)
    found = []
    for n, definition in enumerate(definitions):
        values = tuple(
            ordered((part.values[n][column] for part in parts), np.float64)
            for column in range(len(definition.columns))
        )
        columns = EventColumns(keys, key_start, *stamps, values)
        found.append(KnownEvents(columns, position, observed_at_us))
    return found


class _Part:
    """What is kept of one table; its texts go with it."""

    def __init__(self, definitions: Sequence[FeatureSet], table: pa.Table) -> None:
        _check(table)
        keys = table["key"]
        if not pa.types.is_dictionary(keys.type):
            keys = keys.dictionary_encode()
        self.keys = keys.chunks
        self.positions = pc.cast(table["position"], pa.large_string()).chunks
        self.time_us = _numbers(table, "time_us")
        self.observed_at_us = _numbers(table, "observed_at_us")
        self.late: NDArray[np.bool_] = table["late"].to_numpy()
        self.identity, self.check = _identities(table)
        self.values = [_values(definition, table) for definition in definitions]


def _check(table: pa.Table) -> None:
    missing = {*ENVELOPE} - {*table.column_names}
    if missing or not {"data", "raw_data"} & {*table.column_names}:
        raise EventFormatError(
            f"the table has no {sorted(missing) or 'data'}; it has "
            f"{table.column_names}: read it from the log with its envelope"
        )
    for name in ENVELOPE:
        if table[name].null_count:
            raise EventFormatError(
                f"{table[name].null_count} events have no {name!r}: the table is not "
                "of the log's making"
            )


def _keys(chunks: list[pa.DictionaryArray]) -> tuple[NDArray[np.int32], list[str]]:
    """Return the place of each key among all of them in order, and those."""
    kind = pa.dictionary(pa.int32(), pa.string())
    chunks = [chunk.cast(kind) for chunk in chunks]
    whole = pa.chunked_array(chunks, kind).unify_dictionaries()
    names = whole.chunk(0).dictionary.to_pylist() if chunks else []
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    codes = [chunk.indices.to_numpy() for chunk in whole.chunks]
    return place[np.concatenate([*codes, np.empty(0, np.int32)])], [
        names[n] for n in order
    ]


def _joined(parts: Sequence[_Part]) -> pa.LargeStringArray:
    """Return the positions of all parts, which keep theirs no more."""
    chunks = [chunk for part in parts for chunk in part.positions]
    for part in parts:
        part.positions = []
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays([*chunks, pa.array([], pa.large_string())])


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = table[name].to_numpy()
    return np.ascontiguousarray(found, np.int64)


def order_of_rows(
    key: NDArray[np.int32], keys: int, position: pa.LargeStringArray
) -> tuple[NDArray[np.int64] | None, NDArray[np.uint8]]:
    """Return rows in order, None for as they are, and the mark of each in that order.

    A row begins a key, repeats the position before, or does neither.
    """
    mark = np.zeros(len(key), np.uint8)
    library = kernel.library()
    if library is None:
        return _plain_order(key, position, mark)
    at = np.frombuffer(position.buffers()[1] or bytes(8), np.int64)[position.offset :]
    text = position.buffers()[2]
    texts = (at.ctypes.data, 0 if text is None else text.address)
    if not library.retrodict_in_order(
        len(key), key.ctypes.data, *texts, mark.ctypes.data
    ):
        if not np.any(mark == REPEATS):
            return None, mark
        return np.arange(len(key)), mark
    rows = np.empty(len(key), np.int64)
    if library.retrodict_sort(
        len(key), keys, key.ctypes.data, *texts, rows.ctypes.data, mark.ctypes.data
    ):
        raise MemoryError(f"{len(key)} events do not fit in memory")
    return rows, mark


def _plain_order(
    key: NDArray[np.int32], position: pa.LargeStringArray, mark: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    known = list(zip(key.tolist(), position.to_pylist(), strict=True))
    rows = sorted(range(len(known)), key=known.__getitem__)
    for place, row in enumerate(rows):
        before = known[rows[place - 1]] if place else (-1, "")
        mark[place] = (
            _BEGINS if known[row][0] != before[0] else REPEATS * (known[row] == before)
        )
    return np.array(rows, np.int64), mark


def _identities(table: pa.Table) -> tuple[NDArray[np.uint64], NDArray[np.uint16]]:
    """Return identity and check of each row; see `retrodict.windows`."""
    identity = np.empty(table.num_rows, np.uint64)
    check = np.empty(table.num_rows, np.uint16)
    library, place = kernel.library(), 0
    for batch in table.select(["source", "id", "digest"]).to_batches():
        span = slice(place, place + batch.num_rows)
        place += batch.num_rows
        if library is None:
            source, id_, digest = (column.to_pylist() for column in batch.columns)
            identity[span] = [*map(identity_of, source, id_)]
            check[span] = [*map(check_of, digest)]
        elif batch.num_rows:
            _digest(library, batch, identity[span], check[span])
    return identity, check


def _digest(
    library: ctypes.CDLL,
    batch: pa.RecordBatch,
    identity: NDArray[np.uint64],
    check: NDArray[np.uint16],
) -> None:
    held = [pc.cast(batch[name], pa.string()) for name in ("source", "id", "digest")]
    source, id_, digest = map(_text, held)
    if library.retrodict_identities(
        batch.num_rows, *source, *id_, identity.ctypes.data
    ):
        raise MemoryError("the longest identity does not fit in memory")
    wrong = library.retrodict_checks(batch.num_rows, *digest, check.ctypes.data)
    if wrong:
        raise EventFormatError(
            f"expected a digest of hexadecimal digits, got {held[2][wrong - 1]}: the "
            "table is not of the log's making"
        )


def _text(array: pa.StringArray) -> tuple[int, int]:
    """Return the addresses of the offsets and of the bytes of texts."""
    _, at, text = array.buffers()
    return at.address + 4 * array.offset, 0 if text is None else text.address


def _values(definition: FeatureSet, table: pa.Table) -> list[Doubles]:
    """Return the columns of the definition, NaN for null, each of shape (n,)."""
    contract = definition.event.contract()
    slow = table["schema_version"].to_numpy() != contract.version
    if "raw_data" in table.column_names:
        slow |= table["raw_data"].is_valid().to_numpy()
    if "data" not in table.column_names or not pa.types.is_struct(table["data"].type):
        slow[:] = True
    found: list[Doubles] = []
    for column in definition.columns:
        values = None if slow.all() else _column(column, table["data"])
        if values is None:
            slow[:] = True
            values = np.empty(table.num_rows)
        found.append(values)
    places = np.flatnonzero(slow)
    if len(places):
        rows = _lifted(definition, table.take(pa.array(places)))
        for n, own in enumerate(zip(*rows, strict=True)):
            found[n] = found[n].copy()
            found[n][places] = np.array(own, np.float64)
    return found


def _column(column: Column, data: pa.ChunkedArray) -> Doubles | None:
    """Return one column of typed payloads; None where its type needs a closer look."""
    field = column.field if isinstance(column, Category) else column
    place = data.type.get_field_index(field.name)
    if place < 0:
        return np.full(len(data), np.nan)
    chunks = [chunk.field(place) for chunk in data.chunks]
    child = pa.chunked_array(chunks, data.type.field(place).type)
    if isinstance(column, Category):
        if not pa.types.is_string(child.type):
            return None
        return _places(column, child)
    if not (pa.types.is_float64(child.type) or pa.types.is_int64(child.type)):
        return None
    values: Doubles = pc.cast(child, pa.float64(), safe=False).to_numpy()
    return values


def _places(column: Category, texts: pa.ChunkedArray) -> Doubles:
    name = column.field.name
    known = pa.array(dict.fromkeys(column.values), pa.string())
    numbers = [column.read({name: value}) for value in known.to_pylist()]
    numbers.append(float(len(column.values)))
    found = pc.fill_null(pc.index_in(texts, value_set=known), len(known))
    values: Doubles = np.array(numbers, np.float64)[found.to_numpy()]
    values[texts.is_null().to_numpy()] = np.nan
    return values


def _lifted(definition: FeatureSet, table: pa.Table) -> list[tuple[float | None, ...]]:
    """Return what a state keeps of each row, read as an event."""
    contract = definition.event.contract()
    stamps: Sequence[list[Any]] = [table[name].to_pylist() for name in ENVELOPE]
    rows = []
    for stamp, data in zip(zip(*stamps, strict=True), payloads(table), strict=True):
        own = dict(zip(ENVELOPE, stamp, strict=True))
        event = StampedEvent(**own, type=contract.type, tags=(), data=data)
        rows.append(definition.values_of(newest(event, contract).data))
    return rows
