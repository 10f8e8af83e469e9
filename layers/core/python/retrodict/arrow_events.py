"""Events as the segments of the log hold them, as columns for the fold in bulk.

No event becomes an object: identities, checks and the order of positions are computed
over Arrow's buffers by the compiled fold's library. Rows that are not plain, because
they are of another schema version or their payload is kept as text, are read one by
one and lifted, as `retrodict.upcasting` does. Either way the columns are those of
`EventColumns.of` for the same events.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict import kernel
from retrodict.bulk import Doubles, EventColumns
from retrodict.derived_columns import CHECK, EDGE, IDENTITY, identities_of
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError
from retrodict.features import FeatureSet
from retrodict.leaves import Category, Column
from retrodict.payloads import payloads
from retrodict.ports import IN_TIME, PLAIN_VERSION, Reading
from retrodict.upcasting import newest

ENVELOPE: Final = (
    "key", "source", "id", "schema_version", "time_us", "observed_at_us", "position",
    "late", "digest",
)  # fmt: skip
"""What a table of events has beside their payload, where it is not plain."""

_ALWAYS: Final = ("key", "time_us", "late", IDENTITY, CHECK)
_BEGINS: Final = 1
REPEATS: Final = 2
"""The mark of a row that has the key and position of the one before."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How many events were looked at, and the first and the last of their positions."""

    events: int = 0
    first_position: str = ""
    last_position: str = ""

    def __add__(self, other: "Cut") -> "Cut":
        """Return what both looked at."""
        if not (self.events and other.events):
            return self if self.events else other
        return Cut(
            self.events + other.events,
            min(self.first_position, other.first_position),
            max(self.last_position, other.last_position),
        )


@dataclass(frozen=True, eq=False)
class KnownEvents:
    """Events of many keys in order of (key, position), each position once.

    Attributes
    ----------
    columns
        What the fold reads.
    position
        Arrow texts, shape (n,); None where they were not read.
    observed_at_us
        When each event arrived, shape (n,); None where it was not read.
    cut
        What was looked at, events of keys that nobody asked for among it.
    """

    columns: EventColumns
    position: pa.LargeStringArray | None
    observed_at_us: NDArray[np.int64] | None
    cut: Cut = Cut()

    def only(self, keys: Container[str]) -> "KnownEvents":
        """Return the events of some keys."""
        own = self.columns
        places = [place for place, key in enumerate(own.keys) if key in keys]
        if len(places) == len(own.keys):
            return self
        starts, ends = own.key_start[places], own.key_start[1:][places]
        rows = rows_of(starts, ends)
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
            columns,
            None if self.position is None else self.position.take(pa.array(rows)),
            None if self.observed_at_us is None else self.observed_at_us[rows],
            self.cut,
        )


def reading_of(
    definitions: Iterable[FeatureSet],
    *,
    positions: bool = True,
    arrivals: bool = True,
) -> Reading:
    """Return what is to be read of a segment for some definitions of one event type.

    Parameters
    ----------
    positions
        Whether the position of every event is read, or only where the runs of a key
        begin and end.
    arrivals
        Whether it is read when every event arrived.
    """
    several = [*definitions]
    fields = {name for definition in several for name in fields_of(definition)}
    version = several[0].event.contract().version
    envelope = [*_ALWAYS, "position" if positions else EDGE]
    envelope += ["observed_at_us"] * arrivals
    return Reading(tuple(envelope), tuple(sorted(fields)), version)


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


def arrived_by(tables: Iterable[pa.Table], until_us: int | None) -> Iterator[pa.Table]:
    """Yield tables of the events that were observed by a time, or of all if None."""
    for table in tables:
        if until_us is None:
            yield table
        else:
            yield table.filter(pc.less_equal(table["observed_at_us"], until_us))


def known_events(
    definition: FeatureSet, tables: pa.Table | Iterable[pa.Table]
) -> KnownEvents:
    """Return the columns of tables of events of the definition's type.

    Keys come in their order as texts. A table that is in order of (key, position), as
    compacted segments are, is neither sorted nor copied.

    Parameters
    ----------
    tables
        One, or several of any layouts, each read before the next is asked for: plain
        ones as `reading_of` asks for them, or columns of `ENVELOPE` with ``data`` or
        ``raw_data`` or both, in any order and with repeats, shape (n,).

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
    if len(parts) == 1 and parts[0].edges is not None:
        runs = _runs(parts)
        if runs is not None and np.all(np.diff(runs.start) > 0):
            position = _joined(parts)
            found = _of_runs(definitions, parts, runs, None)
            return [replace(known, position=position) for known in found]
    return _sorted(definitions, parts)


def known_in(
    definitions: Sequence[FeatureSet],
    read: Callable[[Reading], Iterable[pa.Table]],
    *,
    keys: Container[str],
    positions: bool,
    arrivals: bool,
) -> list[KnownEvents]:
    """Return what is known of some keys for each of several definitions of one type.

    Positions are read only where they are asked for, or where the edges of the keys'
    runs do not tell their order. The result is the same either way.

    Parameters
    ----------
    read
        Returns the tables of a reading; it is called a second time where positions
        turn out to be needed.
    """
    if not positions:
        reading = reading_of(definitions, positions=False, arrivals=arrivals)
        parts = [_Part(definitions, t) for t in read(reading) if t.num_rows]
        found = _by_edges(definitions, parts, keys)
        if found is not None:
            return found
        del parts
    reading = reading_of(definitions, arrivals=arrivals)
    return [known.only(keys) for known in known_by(definitions, read(reading))]


_Places = NDArray[np.int64]


class _Part:
    """What is kept of one table; its texts go with it."""

    def __init__(self, definitions: Sequence[FeatureSet], table: pa.Table) -> None:
        _check(table)
        keys = table["key"]
        if not pa.types.is_dictionary(keys.type):
            keys = keys.dictionary_encode()
        self.keys = keys.chunks
        self.edges: pa.StringArray | None = None
        if EDGE in table.column_names:
            self.edges = table[EDGE].combine_chunks()
        self.positions: list[pa.LargeStringArray] = []
        if "position" in table.column_names:
            self.positions = pc.cast(table["position"], pa.large_string()).chunks
        self.time_us = _numbers(table, "time_us")
        self.observed_at_us: NDArray[np.int64] | None = None
        if "observed_at_us" in table.column_names:
            self.observed_at_us = _numbers(table, "observed_at_us")
        self.late: NDArray[np.bool_]
        if "late" in table.column_names:
            self.late = table["late"].to_numpy()
        else:
            self.late = np.zeros(table.num_rows, np.bool_)
        self.identity, self.check = _identities(table)
        self.values = [_values(definition, table) for definition in definitions]

    def arrays(self, definition: int) -> list[NDArray[Any] | None]:
        """Return what is kept of every event for one definition."""
        return [
            self.time_us, self.identity, self.check, self.late, self.observed_at_us,
            *self.values[definition],
        ]  # fmt: skip

    def runs(self) -> tuple[pa.Array, pa.Array, pa.Array, _Places] | None:
        """Return key, first and last position of each run, and where it begins.

        None where the edges do not stand just where runs begin and end.
        """
        if self.edges is None:
            return None
        keys = self.keys[0]
        if len(self.keys) > 1:
            keys = pa.chunked_array(self.keys).unify_dictionaries().combine_chunks()
        begins = begins_of(keys.indices, self.edges)
        if begins is None:
            return None
        starts = np.append(begins, len(keys))
        return (
            keys.dictionary.take(keys.indices.take(pa.array(begins))),
            self.edges.take(pa.array(begins)),
            self.edges.take(pa.array(starts[1:] - 1)),
            starts,
        )


class _Ordered:
    """Events whose positions were read, as a part in order of (key, position)."""

    def __init__(self, known: Sequence[KnownEvents]) -> None:
        self._known = known

    def runs(self) -> tuple[pa.Array, pa.Array, pa.Array, _Places] | None:
        columns, position = self._known[0].columns, self._known[0].position
        if position is None:
            return None
        starts = columns.key_start
        return (
            pa.array(columns.keys, pa.string()),
            position.take(pa.array(starts[:-1])),
            position.take(pa.array(starts[1:] - 1)),
            starts,
        )

    def arrays(self, definition: int) -> list[NDArray[Any] | None]:
        known = self._known[definition]
        own = known.columns
        return [
            own.time_us, own.identity, own.check, own.late, known.observed_at_us,
            *own.values,
        ]  # fmt: skip


_TYPES: Final = (np.int64, np.uint64, np.uint16, np.bool_, np.int64)
"""Of `_Part.arrays`; the others are doubles."""


def _sorted(definitions: Sequence[FeatureSet], parts: list[_Part]) -> list[KnownEvents]:
    """Return the events of parts with positions."""
    key, names = _keys([chunk for part in parts for chunk in part.keys])
    position = _joined(parts)
    rows, mark = order_of_rows(key, len(names), position)
    kept = None if rows is None else rows[mark != REPEATS]
    mark = mark[mark != REPEATS]
    starts = np.flatnonzero(mark == _BEGINS)
    own_keys = key[starts] if kept is None else key[kept[starts]]

    def ordered(held: list[NDArray[Any] | None], dtype: Any) -> NDArray[Any] | None:
        arrays = [array for array in held if array is not None]
        if len(arrays) < len(held):
            return None
        one = arrays[0] if len(arrays) == 1 else None
        column = np.concatenate([*arrays, np.empty(0, dtype)]) if one is None else one
        return column if kept is None else column[kept]

    keys = tuple(names[place] for place in own_keys.tolist())
    key_start = np.append(starts, len(mark)).astype(np.int64)
    if kept is not None:
        position = position.take(pa.array(kept))
    cut = _cut_of(position, key_start)
    return _found(definitions, parts, ordered, keys, key_start, position, cut)


def _found(  # noqa: PLR0913, PLR0917 - what two ways to order have found
    definitions: Sequence[FeatureSet],
    parts: Sequence[_Part | _Ordered],
    ordered: Callable[[list[NDArray[Any] | None], Any], NDArray[Any] | None],
    keys: tuple[str, ...],
    key_start: NDArray[np.int64],
    position: pa.LargeStringArray | None,
    cut: Cut,
) -> list[KnownEvents]:
    """Return the columns of parts in the order that was found."""
    stamps: list[Any] = []
    found = []
    for n, definition in enumerate(definitions):
        types = [*_TYPES, *(np.float64 for _ in definition.columns)]
        columns = [*zip(*(part.arrays(n) for part in parts), strict=True)]
        columns = columns or [()] * len(types)
        begin = len(_TYPES) if stamps else 0
        own: list[Any] = [
            ordered([*column], dtype)
            for column, dtype in zip(columns[begin:], types[begin:], strict=True)
        ]
        if not stamps:
            stamps, own = own[: len(_TYPES)], own[len(_TYPES) :]
        time_us, identity, check, late, observed_at_us = stamps
        events = EventColumns(
            keys, key_start, time_us, identity, check, late, tuple(own)
        )
        found.append(KnownEvents(events, position, observed_at_us, cut))
    return found


def _cut_of(position: pa.LargeStringArray, key_start: NDArray[np.int64]) -> Cut:
    """Return the cut of events in order of (key, position)."""
    if not len(position):
        return Cut()
    own = position.take(pa.array([*key_start[:-1], *(key_start[1:] - 1)])).to_pylist()
    return Cut(len(position), min(own), max(own))


def _by_edges(
    definitions: Sequence[FeatureSet], found: list[_Part], keys: Container[str]
) -> list[KnownEvents] | None:
    """Return the events of some keys without the positions of all.

    Parts with positions, as segments are that nobody has merged, are put in order by
    them. None where the edges do not tell how the others go on: two runs of a key
    overlap, or a run was cut.
    """
    loose = [part for part in found if part.edges is None]
    parts: list[_Part | _Ordered] = [part for part in found if part.edges is not None]
    if loose:
        known = _sorted(definitions, loose)
        if not parts:
            return [one.only(keys) for one in known]
        parts.append(_Ordered(known))
    runs = _runs(parts)
    return None if runs is None else _of_runs(definitions, parts, runs, keys)


def _of_runs(
    definitions: Sequence[FeatureSet],
    parts: Sequence[_Part | _Ordered],
    runs: "_Runs",
    keys: Container[str] | None,
) -> list[KnownEvents]:
    """Return the events of runs of some keys, or of all."""
    cut = Cut()
    if len(runs.names):
        ends = pc.min_max(runs.first)["min"].as_py(), pc.max(runs.last).as_py()
        cut = Cut(int(runs.rows.sum()), *ends)
    names = runs.names.to_pylist()
    is_wanted = (keys is None or name in keys for name in names)
    places = np.flatnonzero(np.fromiter(is_wanted, np.bool_, len(names)))
    own = [names[place] for place in places.tolist()]
    begins = np.array(
        [n == 0 or name != own[n - 1] for n, name in enumerate(own)], np.bool_
    )
    starts = np.append(0, np.cumsum(runs.rows[places]))
    key_start = np.append(starts[:-1][begins], starts[-1]).astype(np.int64)
    told = tuple(own[n] for n in np.flatnonzero(begins).tolist())

    def ordered(held: list[NDArray[Any] | None], dtype: Any) -> NDArray[Any] | None:
        arrays = [array for array in held if array is not None]
        if len(arrays) < len(held):
            return None
        return _gathered(arrays, dtype, runs, places)

    return _found(definitions, parts, ordered, told, key_start, None, cut)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Rows of one key side by side in one part, in order of (key, position).

    Attributes
    ----------
    names, first, last
        Key, and positions of the first and the last row, shape (n_runs,).
    part, start, rows
        Where they lie, and how many there are, shape (n_runs,).
    """

    names: pa.StringArray
    first: pa.StringArray
    last: pa.StringArray
    part: NDArray[np.int64]
    start: NDArray[np.int64]
    rows: NDArray[np.int64]


def _runs(parts: Sequence[_Part | _Ordered]) -> _Runs | None:
    """Return the runs of parts in order; None where their edges do not tell it."""
    tables, part_of, starts, counts = [], [], [], []
    for n, part in enumerate(parts):
        found = part.runs()
        if found is None:
            return None
        *texts, begins = found
        tables.append(pa.table(texts, ["key", "first", "last"]))
        part_of.append(np.full(len(begins) - 1, n))
        starts.append(begins[:-1])
        counts.append(np.diff(begins))
    kind = pa.schema([(name, pa.string()) for name in ("key", "first", "last")])
    told = pa.concat_tables([t.cast(kind) for t in tables] or [kind.empty_table()])
    order = pc.sort_indices(told, [("key", "ascending"), ("first", "ascending")])
    told = told.take(order).combine_chunks()
    names, first, last = (
        pa.concat_arrays([*column.chunks, pa.array([], pa.string())])
        for column in told.columns
    )
    is_same = pc.equal(names[1:], names[:-1])
    if pc.any(pc.and_(is_same, pc.less_equal(first[1:], last[:-1]))).as_py():
        return None
    rows = order.to_numpy()
    none = np.empty(0, np.int64)
    return _Runs(
        names,
        first,
        last,
        *(np.concatenate([*held, none])[rows] for held in (part_of, starts, counts)),
    )


def _gathered(
    held: Sequence[NDArray[Any]], dtype: Any, runs: _Runs, places: NDArray[np.int64]
) -> NDArray[Any]:
    """Return some runs of the arrays of several parts, one behind the other."""
    arrays = [np.ascontiguousarray(array, dtype) for array in held]
    part, start, rows = runs.part[places], runs.start[places], runs.rows[places]
    is_whole = len(arrays) == 1 and rows.sum() == len(arrays[0])
    if is_whole and np.all(np.diff(start) > 0):
        return arrays[0]
    library = kernel.library()
    if library is None:
        ends = (start + rows).tolist()
        spans = zip(part.tolist(), start.tolist(), ends, strict=True)
        kept = [arrays[n][begin:end] for n, begin, end in spans]
        return np.concatenate([*kept, np.empty(0, dtype)])
    count = int(rows.sum())
    # Arrow keeps what it frees, so the next pass finds pages that are there already.
    pool = pa.allocate_buffer(count * np.dtype(dtype).itemsize)
    joined = np.frombuffer(pool, dtype)
    bases = np.array([array.ctypes.data for array in arrays], np.uint64)
    at = bases[part] + (start * joined.itemsize).astype(np.uint64)
    sizes = (rows * joined.itemsize).astype(np.int64)
    library.retrodict_join(
        len(places), at.ctypes.data, sizes.ctypes.data, joined.ctypes.data
    )
    return joined


def begins_of(codes: pa.Array, edges: pa.StringArray) -> _Places | None:
    """Return where runs begin; None where edges are not just where they begin and end.

    Parameters
    ----------
    codes
        A number for the key of each row, the same for the same key, shape (n,).
    """
    key, valid = np.ascontiguousarray(codes.to_numpy(), np.int32), edges.buffers()[0]
    library = kernel.library()
    if library is None or valid is None:
        return _plain_begins(key, edges.is_valid().to_numpy(zero_copy_only=False))
    begins = np.empty(len(edges) - edges.null_count, np.int64)
    runs = library.retrodict_runs(
        len(key), key.ctypes.data, valid.address, edges.offset, begins.ctypes.data
    )
    return None if runs < 0 else begins[:runs]


def _plain_begins(
    codes: NDArray[np.int32], is_edge: NDArray[np.bool_]
) -> _Places | None:
    at = np.flatnonzero(is_edge)
    # An edge behind an edge begins a run: a new row group, or a run of one row.
    begins = np.unique(
        np.concatenate(
            [
                np.arange(min(1, len(codes))),
                np.flatnonzero(codes[1:] != codes[:-1]) + 1,
                at[1:][np.diff(at) == 1],
            ]
        )
    )
    ends = np.append(begins[1:], len(codes)) - 1
    places = np.unique(np.concatenate([begins, ends[: len(begins)]]))
    return begins if np.array_equal(places, at) else None


def rows_of(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of spans one behind the other.

    Examples
    --------
    >>> rows_of(np.array([5, 0]), np.array([8, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    counts = ends - starts
    before = np.cumsum(counts) - counts
    rows: NDArray[np.int64] = np.repeat(starts - before, counts)
    return rows + np.arange(len(rows))


def _check(table: pa.Table) -> None:
    held = {*table.column_names}
    if _plain_version(table) is not None:
        needed = {*_ALWAYS} - ({"late"} if IN_TIME in table.schema.metadata else set())
        missing = needed - held
        if not {"position", EDGE} & held:
            missing.add("position")
    else:
        needed = {*ENVELOPE}
        missing = needed - held
        if not {"data", "raw_data"} & held:
            missing.add("data")
    if missing:
        raise EventFormatError(
            f"the table has no {sorted(missing)}; it has {table.column_names}: read it "
            "from the log with its envelope"
        )
    for name in sorted(needed & held):
        if table[name].null_count:
            raise EventFormatError(
                f"{table[name].null_count} events have no {name!r}: the table is not "
                "of the log's making"
            )


def _plain_version(table: pa.Table) -> int | None:
    """Return the version that all events are of, where the table says so."""
    told = (table.schema.metadata or {}).get(PLAIN_VERSION)
    return None if told is None else int(told)


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
    """Return the positions of all parts, which keep theirs no more.

    Raises
    ------
    EventFormatError
        A part was read without them.
    """
    if not all(part.positions for part in parts):
        raise EventFormatError(
            "the table has no 'position', only edges: read it with positions, or by "
            "`known_in`"
        )
    chunks = [chunk for part in parts for chunk in part.positions]
    for part in parts:
        part.positions = []
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays([*chunks, pa.array([], pa.large_string())])


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.ascontiguousarray(_array(table[name]), np.int64)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return numbers, NaN for null; those of one chunk are not copied."""
    if column.num_chunks == 1:
        found: NDArray[Any] = column.chunk(0).to_numpy(zero_copy_only=False)
        return found
    several: NDArray[Any] = column.to_numpy()
    return several


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
    if {IDENTITY, CHECK} <= {*table.column_names}:
        identity, check = table[IDENTITY], table[CHECK]
    else:
        identity, check = identities_of(table)
    signed: NDArray[np.int64] = _array(identity)
    return signed.view(np.uint64), _array(check).astype(np.uint16)


def _values(definition: FeatureSet, table: pa.Table) -> list[Doubles]:
    """Return the columns of the definition, NaN for null, each of shape (n,)."""
    contract = definition.event.contract()
    plain = _plain_version(table)
    if plain is not None and plain != contract.version:
        raise EventFormatError(
            f"the table holds version {plain} of {contract.type!r}, not "
            f"{contract.version}: read it again for this definition"
        )
    found: list[Doubles] = []
    slow = None if plain is not None else _slow(table, contract.version)
    is_lifted = slow is not None and bool(slow.all())
    for column in definition.columns:
        values = None if is_lifted else _column(column, table["data"])
        if values is None:
            is_lifted, values = True, np.empty(table.num_rows)
        found.append(values)
    if is_lifted:
        slow = np.ones(table.num_rows, np.bool_)
    places = np.empty(0, np.int64) if slow is None else np.flatnonzero(slow)
    if len(places):
        rows = _lifted(definition, table.take(pa.array(places)))
        for n, own in enumerate(zip(*rows, strict=True)):
            found[n] = found[n].copy()
            found[n][places] = np.array(own, np.float64)
    return found


def _slow(table: pa.Table, version: int) -> NDArray[np.bool_]:
    """Return which rows have to be read one by one, shape (n,)."""
    slow: NDArray[np.bool_] = table["schema_version"].to_numpy() != version
    if "raw_data" in table.column_names:
        slow |= table["raw_data"].is_valid().to_numpy()
    names = table.column_names
    if "data" not in names or not pa.types.is_struct(table["data"].type):
        slow[:] = True
    return slow


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
    if not pa.types.is_float64(child.type):
        child = pc.cast(child, pa.float64(), safe=False)
    return _array(child)


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
