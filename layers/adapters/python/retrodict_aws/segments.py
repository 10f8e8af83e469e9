"""The layout of a log segment: Parquet with typed columns, by version of the layout.

`data` is a struct with a column for each field of the event's contract, so that SQL
and any Parquet reader can fetch ``data.value`` alone. An event whose payload such a
struct would change, or whose contract is not known, has its payload as JSON text in
`raw_data` as well, and is read from there. The types stand in the file: reading one
needs no contract.

Layouts
-------
1
    `data` is JSON text.
2
    `data` is a struct, `raw_data` JSON text; the footer says so.
3
    Beside them stand `identity`, `check` and `edge`; see `retrodict.derived_columns`.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from retrodict.buckets import bucket_of
from retrodict.contracts import Contract
from retrodict.derived_columns import CHECK, DERIVED, EDGE, IDENTITY, with_derived
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError, PermanentError
from retrodict.payloads import events_of
from retrodict.ports import IN_TIME, PLAIN_VERSION, Reading

LAYOUT: Final = 3
LAYOUT_KEY: Final = b"retrodict.segment"
ROWS_OF_A_GROUP: Final = 131_072
"""Rows of a row group: what is skipped, or fetched, as one."""

ENVELOPE: Final = (
    ("key", pa.string()),
    ("source", pa.string()),
    ("id", pa.string()),
    ("schema_version", pa.int32()),
    ("time_us", pa.int64()),
    ("observed_at_us", pa.int64()),
    ("position", pa.string()),
    ("late", pa.bool_()),
    ("tags", pa.list_(pa.string())),
    ("digest", pa.string()),
)
LINEAGE: Final = (("causation_id", pa.string()), ("correlation_id", pa.string()))
NEEDED: Final = tuple(name for name, _ in ENVELOPE if name != "tags")
"""What a reader needs of an event beside its payload to lift it."""

_INSTEAD: Final = {
    IDENTITY: ("source", "id"), CHECK: ("digest",), EDGE: ("position",)
}  # fmt: skip
"""What is read where a segment has no such column."""

_STEPS: Final = ("time_us", "observed_at_us", CHECK)
"""Whole numbers that take least space, and time to read, as differences."""

_DIGITS: Final = "digest"
"""Hexadecimal texts of one length: with the lengths kept apart, Zstandard finds nothing
but digits, which takes it little more than half the time."""

_PACKED: Final = (*_STEPS, IDENTITY)
"""What no compression makes smaller."""

_OFTEN: Final = ("key", EDGE)
"""What bulk readers fetch and has little to compress: Zstandard sets out anew for each
page, which takes longer than reading it."""

SAMPLE_ROWS: Final = 4_096
"""How many rows tell whether the numbers of a field repeat."""

_TAGS: Final = "tags.list.element"

SAID: Final = frozenset(
    {name for name, _ in (*ENVELOPE, *LINEAGE)} | {"data", "raw_data"}
)
"""What an event says; other columns follow from these."""

ROWS_OF_A_THREAD: Final = 10_000
"""Segments of fewer rows are read by one thread."""

_TYPES: Final = {
    str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()
}  # fmt: skip
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_INT64: Final = 1 << 63


class DamagedSegmentError(PermanentError):
    """A segment is not what was written; its events are not to be had from it.

    Attributes
    ----------
    name
        Of the segment.
    why
        What was noticed.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return (
            f"segment {self.name!r} is damaged: {self.why}; nothing of it was used: "
            "restore the version of the object that was written first"
        )


def struct_of(contract: Contract) -> pa.StructType:
    """Return the type of the column `data` under a contract."""
    return pa.struct([(ref.name, _TYPES[ref.type]) for ref in contract.fields])


def schema_of(contract: Contract | None) -> pa.Schema:
    """Return the columns of a segment of events of one type.

    Examples
    --------
    >>> schema_of(None).names[-3:]
    ['raw_data', 'causation_id', 'correlation_id']
    """
    return _schema((*ENVELOPE, *DERIVED), contract)


def events_schema_of(contract: Contract | None) -> pa.Schema:
    """Return the columns that say what events are, of which the others follow."""
    return _schema(ENVELOPE, contract)


def _schema(
    envelope: Iterable[pa.Field | tuple[str, pa.DataType]], contract: Contract | None
) -> pa.Schema:
    typed = [] if contract is None else [("data", struct_of(contract))]
    columns = [*envelope, *typed, ("raw_data", pa.string()), *LINEAGE]
    return pa.schema(columns, metadata={LAYOUT_KEY: str(LAYOUT).encode()})


def json_of(data: dict[str, Any]) -> str:
    """Return a payload as text that gives it back exactly."""
    return _ENCODER.encode(data)


def encode(events: Sequence[StampedEvent], contract: Contract | None) -> bytes:
    """Return a segment of `events`, in their order.

    Parameters
    ----------
    contract
        Promises of their type, or None where they are not known.
    """
    return encode_table(table_of(events, contract), contract, is_brief=True)


def table_of(events: Sequence[StampedEvent], contract: Contract | None) -> pa.Table:
    """Return `events` as a table with the columns of `events_schema_of`."""
    columns: dict[str, Any] = {
        name: pa.array([getattr(e, name) for e in events], kind)
        for name, kind in (*ENVELOPE, *LINEAGE)
    }
    survives = [False] * len(events)
    if contract is not None:
        columns["data"], survives = _typed(events, contract)
    columns["raw_data"] = pa.array(
        [
            None if whole else json_of(event.data)
            for event, whole in zip(events, survives, strict=True)
        ],
        pa.string(),
    )
    schema = events_schema_of(contract)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def derived(table: pa.Table, contract: Contract | None) -> pa.Table:
    """Return a table of events with all columns of a segment.

    Parameters
    ----------
    table
        With the columns of `events_schema_of`, shape (n,); what it has beside them is
        left out, or found anew.
    """
    schema = schema_of(contract)
    own = table.select(events_schema_of(contract).names)
    whole = with_derived(own, ROWS_OF_A_GROUP).select(schema.names)
    if whole.schema != schema:
        whole = whole.cast(schema)
    return pa.table(whole.columns, schema=schema)


def encode_table(
    table: pa.Table, contract: Contract | None, *, is_brief: bool = False
) -> bytes:
    """Return a segment of the rows of a table, in their order.

    Parameters
    ----------
    table
        As `derived` takes it, shape (n,).
    is_brief
        Whether it is one of many that will be merged soon.
    """
    whole = derived(table, contract)
    repeating = () if is_brief else repeating_in(whole, contract)
    options = options_of(contract, repeating)
    if is_brief:
        options |= _brief(whole.schema)
    buffer = BytesIO()
    pq.write_table(whole, buffer, **options)
    return buffer.getvalue()


def _brief(schema: pa.Schema) -> dict[str, Any]:
    """Return how a segment of a batch is compressed.

    Zstandard sets out anew for each page, which takes longer than the few rows in it,
    in writing and in reading. Snappy does not, but takes twice the room for digests.
    """
    codecs = dict.fromkeys(_leaves(schema), "snappy")
    codecs |= dict.fromkeys(_PACKED, "none") | {_DIGITS: "zstd"}
    return {"compression": codecs, "compression_level": {_DIGITS: 1}}


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Yield the columns of a schema as Parquet calls them."""
    for column in schema:
        if pa.types.is_struct(column.type):
            yield from (f"{column.name}.{child.name}" for child in column.type)
        elif pa.types.is_list(column.type):
            yield f"{column.name}.list.element"
        else:
            yield column.name


def repeating_in(table: pa.Table, contract: Contract | None) -> list[str]:
    """Return the fields of the payload whose numbers repeat, by a sample of the rows.

    Rows from all over the table are looked at, of which a quarter has to repeat.
    """
    step = -(-table.num_rows // SAMPLE_ROWS)
    if contract is None or not step:
        return []
    numbers = [ref.name for ref in contract.fields if ref.type in (int, float)]
    values = dict(zip(struct_of(contract).names, table["data"].flatten(), strict=True))
    rows = pa.array([*range(0, table.num_rows, step)], pa.int64())
    sample = {name: values[name].take(rows) for name in numbers}
    return [n for n in numbers if 4 * len(sample[n].unique()) <= 3 * len(rows)]


def options_of(
    contract: Contract | None, repeating: Collection[str] = ()
) -> dict[str, Any]:
    """Return how a segment is written.

    A dictionary is tried only of columns whose values repeat: of the others it would be
    given up after a megabyte, which takes longer than writing them. Row groups must be
    those that the edges were found for.

    Parameters
    ----------
    repeating
        Fields of the payload whose numbers repeat. Their places in a dictionary are
        short and in no order, so Snappy makes them about as small as Zstandard does,
        and they are read in less than half of the time.
    """
    fields = () if contract is None else contract.fields
    texts = [f"data.{ref.name}" for ref in fields if ref.type is str]
    payload = [f"data.{ref.name}" for ref in fields]
    numbers = [f"data.{name}" for name in repeating]
    names = [name for name, _ in (*ENVELOPE, *LINEAGE)]
    names += [field.name for field in DERIVED]
    quick = dict.fromkeys([*_OFTEN, *numbers], "snappy")
    leaves = {*names, _TAGS, *payload, "raw_data"} - {"tags", *_PACKED, *quick}
    codecs = dict.fromkeys(_PACKED, "none") | dict.fromkeys(leaves, "zstd")
    return {
        "compression": codecs | quick,
        "compression_level": dict.fromkeys(leaves, 1),
        "row_group_size": ROWS_OF_A_GROUP,
        "write_page_checksum": True,
        "use_dictionary": [
            "key", "source", "schema_version", "late", _TAGS, *texts, *numbers
        ],
        "column_encoding": dict.fromkeys(_STEPS, "DELTA_BINARY_PACKED")
        | {_DIGITS: "DELTA_LENGTH_BYTE_ARRAY"},
    }  # fmt: skip


def _typed(
    events: Sequence[StampedEvent], contract: Contract
) -> tuple[pa.StructArray, list[bool]]:
    """Return `data` as a struct, and of each event whether it gives back all of it."""
    current = [e.schema_version == contract.version for e in events]
    survives = [
        same and event.data.keys() == contract.names
        for event, same in zip(events, current, strict=True)
    ]
    children = []
    for ref in contract.fields:
        fits = _FITS[ref.type]
        values: list[Any] = []
        for place, event in enumerate(events):
            value = event.data.get(ref.name) if current[place] else None
            if value is not None and not fits(value):
                value, survives[place] = None, False
            values.append(value)
        children.append(pa.array(values, _TYPES[ref.type]))
    mask = pa.array([not same for same in current], pa.bool_())
    fields = [*struct_of(contract)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=mask), survives


def _fits_text(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_FITS: Final[dict[type, Callable[[Any], bool]]] = {
    str: _fits_text,
    int: lambda value: type(value) is int and -_INT64 <= value < _INT64,
    float: lambda value: type(value) is float,
    bool: lambda value: type(value) is bool,
}
"""By type of a field, whether its column holds a value without changing it."""


class Segment:
    """One segment, of any layout, opened for reading.

    Parameters
    ----------
    source
        Its bytes, or a file of them.
    dictionaries
        Columns that are to be read as dictionaries.
    is_remote
        Whether each reading of the source is a request, so that columns side by side
        are fetched together, by other threads. Of a file or of bytes, handing over to
        them takes longer than reading.
    is_compared
        Whether a digest of all of the source was compared, so that no checksum of its
        pages has to be.

    Raises
    ------
    EventFormatError
        It is of a layout that is newer than this code.
    """

    def __init__(
        self,
        event_type: str,
        source: Any,
        *,
        dictionaries: Sequence[str] = ("key",),
        is_remote: bool = False,
        is_compared: bool = False,
    ) -> None:
        self._type = event_type
        self._file = pq.ParquetFile(
            source,
            read_dictionary=[*dictionaries],
            page_checksum_verification=not is_compared,
            pre_buffer=is_remote,
        )
        described = self._file.metadata.schema
        self._places = {
            described.column(place).path.partition(".")[0]: place
            for place in range(len(described))
        }
        self._schema = self._file.schema_arrow
        metadata = self._schema.metadata or {}
        self.layout = int(metadata.get(LAYOUT_KEY, b"1"))
        if self.layout > LAYOUT:
            raise EventFormatError(
                f"a segment of {event_type!r} is of layout {self.layout}, this code "
                f"reads up to {LAYOUT}: deploy the newer code"
            )

    def events(
        self,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> list[StampedEvent]:
        """Return the events, in the order they were written, or only some keys'."""
        found: list[StampedEvent] = []
        for group in self._groups(keys):
            table = self._only(self._file.read_row_group(group), keys, buckets)
            found += events_of(self._type, table)
        return found

    def tables(
        self,
        reading: Reading | None = None,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the events of each row group as an Arrow table, keys as a dictionary.

        Parameters
        ----------
        reading
            Only these columns; all if None. A segment of an earlier layout gives
            instead what they follow from, and one with an event that has to be lifted
            the whole envelope and payload.
        """
        columns, plain = (None, None) if reading is None else self._columns(reading)
        for group in self._groups(keys):
            # On one core, another thread would only take turns with this one.
            table = self._file.read_row_group(
                group, columns=columns, use_threads=pa.cpu_count() > 1
            )
            if plain is not None:
                table = table.replace_schema_metadata(plain)
            yield self._only(table, keys, buckets)

    def table(self) -> pa.Table:
        """Return all events as one Arrow table."""
        return self._file.read()

    def _columns(self, reading: Reading) -> tuple[list[str], dict[bytes, bytes] | None]:
        """Return what a reading needs, as Parquet calls it, and what is plain of it."""
        schema = self._schema
        is_typed = "data" in schema.names and pa.types.is_struct(
            schema.field("data").type
        )
        envelope: list[str] = []
        for name in reading.envelope:
            envelope += [name] if self._holds(name) else _INSTEAD[name]
        if (
            is_typed
            and {*reading.fields} <= {field.name for field in schema.field("data").type}
            and self._is_of(reading.version)
            and self._is_empty("raw_data")
        ):
            told = {PLAIN_VERSION: str(reading.version).encode()}
            if self._is_in_time():
                told[IN_TIME] = b"1"
                envelope = [name for name in envelope if name != "late"]
            return [*envelope, *(f"data.{name}" for name in reading.fields)], told
        whole = dict.fromkeys([*envelope, *NEEDED])
        return [*whole, "data", "raw_data"], None

    def _holds(self, column: str) -> bool:
        """Return whether a column is there and was written for every row group."""
        if column != EDGE:
            return column in self._places
        return EDGE in self._places and not any(
            told is None or told.null_count == rows
            for told, rows in self._statistics(EDGE)
        )

    def _is_in_time(self) -> bool:
        """Return whether no event is late, as far as is told."""
        return all(
            told is not None and told.has_min_max and told.max is False
            for told, _ in self._statistics("late")
        )

    def _is_of(self, version: int) -> bool:
        """Return whether all events are of a schema version, as far as is told."""
        return all(
            told is not None
            and told.has_min_max
            and (told.min, told.max) == (version, version)
            for told, _ in self._statistics("schema_version")
        )

    def _is_empty(self, column: str) -> bool:
        """Return whether a column holds nothing but nulls, as far as is told."""
        return all(
            told is not None and told.null_count == rows
            for told, rows in self._statistics(column)
        )

    def _statistics(self, column: str) -> Iterator[tuple[Any, int]]:
        """Yield what each row group tells of a column, and how many rows it has."""
        metadata = self._file.metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            yield group.column(self._places[column]).statistics, group.num_rows

    def whole(self, buckets: Collection[int] | None = None) -> pa.Table:
        """Return all that the events say, or only those of keys in some parts."""
        columns = [name for name in self._schema.names if name in SAID]
        every = len(columns) == len(self._schema)
        table = self._read(None if every else columns)
        return table if buckets is None else self._only(table, None, buckets)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns of the envelope."""
        table = self._read([*names]).select([*names])
        return table.cast(pa.schema([(name, dict(ENVELOPE)[name]) for name in names]))

    def _read(self, columns: list[str] | None = None) -> pa.Table:
        """Return all rows; of few, no thread is worth its while."""
        few = self._file.metadata.num_rows < ROWS_OF_A_THREAD
        return self._file.read(columns, use_threads=not few)

    def _groups(self, keys: Collection[str] | None) -> Iterable[int]:
        """Return the row groups that may hold one of `keys`, by their statistics."""
        if keys is None:
            yield from range(self._file.num_row_groups)
            return
        for group, (told, _) in enumerate(self._statistics("key")):
            low, high = (told.min, told.max) if told and told.has_min_max else ("", "")
            if not high or any(low <= key <= high for key in keys):
                yield group

    @staticmethod
    def _only(
        table: pa.Table, keys: Collection[str] | None, buckets: Collection[int] | None
    ) -> pa.Table:
        if keys is not None:
            table = _where(table, "key", keys)
        if buckets is not None:
            present = _keys(table)
            own = [key for key in present if bucket_of(key) in buckets]
            if len(own) < len(present):
                table = _where(table, "key", own)
        return table


def _keys(table: pa.Table) -> list[str]:
    """Return the keys that a table may hold."""
    chunks = table["key"].chunks
    if pa.types.is_dictionary(table["key"].type):
        chunks = [chunk.dictionary for chunk in chunks]
    return [*dict.fromkeys(chain.from_iterable(chunk.to_pylist() for chunk in chunks))]


@contextmanager
def intact(name: str) -> Iterator[None]:
    """Tell which segment cannot be read, where Parquet alone says why.

    Raises
    ------
    DamagedSegmentError
        What is read inside is no segment, or not a whole one.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        raise DamagedSegmentError(name, f"it cannot be read: {error}") from error


def rewritten(
    event_type: str, tables: Iterable[pa.Table], contract: Contract | None
) -> pa.Table:
    """Return the events of several `Segment.whole` as `table_of` would give them.

    Rows that stand so already are not touched, the others are read one by one. The
    rows of one table stay in their order.
    """
    schema = events_schema_of(contract)
    alike: list[list[pa.Table]] = []
    for table in tables:
        for several in alike:
            if table.schema.equals(several[0].schema):
                several.append(table)
                break
        else:
            alike.append([table])
    parts: list[pa.Table] = []
    for several in alike:
        table = pa.concat_tables(several)
        is_plain = _is_plain(table, schema, contract)
        if is_plain is not None:
            table = _rewritten(event_type, table, is_plain, contract)
        table = table.select(schema.names)
        parts.append(table.replace_schema_metadata(schema.metadata))
    return pa.concat_tables(parts or [schema.empty_table()])


def _rewritten(
    event_type: str, table: pa.Table, is_plain: Any, contract: Contract | None
) -> pa.Table:
    import pyarrow.compute as pc  # noqa: PLC0415 - 40 ms that an append does without

    others = table.filter(pc.invert(is_plain))
    written = table_of([*events_of(event_type, others)], contract)
    if others.num_rows == table.num_rows:
        return written
    places = [pc.indices_nonzero(mask) for mask in (pc.invert(is_plain), is_plain)]
    plain = table.filter(is_plain).select(written.column_names)
    order = pc.sort_indices(pa.concat_arrays(places))
    return pa.concat_tables([written, plain.cast(written.schema)]).take(order)


def _is_plain(table: pa.Table, schema: pa.Schema, contract: Contract | None) -> Any:
    """Return which rows stand as they would be written now; None for all."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 40 ms that an append does without

    none = pa.chunked_array([pa.repeat(pa.scalar(value=False), table.num_rows)])
    if not {*schema.names} <= {*table.column_names}:
        return none
    texts = table["raw_data"]
    if contract is None:
        return texts.is_valid() if texts.null_count else None
    if table["data"].type != schema.field("data").type:
        return none
    versions = {*pc.min_max(table["schema_version"]).as_py().values()}
    if texts.null_count == len(texts) and versions <= {contract.version, None}:
        return None
    return pc.and_(texts.is_null(), pc.equal(table["schema_version"], contract.version))


def buckets_of(
    keys: Collection[str] | None, buckets: Collection[int] | None
) -> Collection[int] | None:
    """Return the parts that a reading of some keys and parts concerns; None for all."""
    if keys is None:
        return buckets
    own = {bucket_of(key) for key in keys}
    return own if buckets is None else own & {*buckets}


def _where(table: pa.Table, column: str, values: Collection[str]) -> pa.Table:
    import pyarrow.compute as pc  # noqa: PLC0415 - 40 ms that an append does without

    wanted = pa.array(sorted(values), pa.string())
    return table.filter(pc.is_in(table[column], value_set=wanted))
