"""One digest over what a table of events says, whatever holds them.

It is taken of Arrow's buffers, column by column, and depends neither on how the rows
are cut into segments and chunks, nor on dictionaries, nor on whether a payload is held
in typed columns or as text. `retrodict.compaction.digest_of_events` is its oracle: of
tables in one order, the digests are equal exactly if those of the events are.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrodict.errors import EventFormatError

_ABSENT, _NULL, _TEXT, _INT, _FLOAT, _BOOL, _JSON = range(7)
"""What a field of a payload holds in a row."""

_TYPES: Final = {
    _TEXT: pa.string(), _INT: pa.int64(), _FLOAT: pa.float64(), _BOOL: pa.bool_(),
    _JSON: pa.string(),
}  # fmt: skip
_EXACT: Final = frozenset({pa.string(), pa.int32(), pa.int64(), pa.bool_()})
"""Types whose values Arrow compares by their bits."""
_KINDS: Final = {kind: place for place, kind in _TYPES.items() if place != _JSON}
_PLAIN: Final = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL}
_STAMPS: Final = (
    "position", "key", "source", "id", "schema_version", "time_us", "observed_at_us",
    "late", "digest",
)  # fmt: skip
_LINEAGE: Final = ("causation_id", "correlation_id")
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_INT64: Final = 1 << 63


def digest_of_table(table: pa.Table) -> str:
    """Return one digest over the events of one type, in the order of their rows.

    Parameters
    ----------
    table
        As a segment of any layout holds it, shape (n,).

    Raises
    ------
    EventFormatError
        An envelope has a null, or a payload is no JSON object.
    """
    digest = hashlib.sha256(b"%d rows\n" % table.num_rows)
    for name in _STAMPS:
        column = table[name]
        if column.null_count:
            raise EventFormatError(
                f"{column.null_count} events have no {name!r}: the table is not of "
                "the log's making"
            )
        _name(digest, name)
        _values(digest, column)
    tags = table["tags"]
    _name(digest, "tags")
    for chunk in tags.chunks:
        digest.update(pc.list_value_length(chunk).to_numpy())
    _values(digest, pa.chunked_array([c.flatten() for c in tags.chunks], pa.string()))
    for name in _LINEAGE:
        _name(digest, name)
        _field(digest, _of_column(table[name], _TEXT))
    for name, held in sorted(_fields(table).items()):
        if held.kinds.any():
            _name(digest, f"data {_ENCODER.encode(name)}")
            _field(digest, held)
    return digest.hexdigest()


def is_same(one: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables of events hold the same bits, held alike.

    Where they do, `digest_of_table` of both is the same; where they do not, it may be,
    as of payloads that are typed in one and text in the other.
    """
    if one.schema != other.schema or one.num_rows != other.num_rows:
        return False
    pairs = zip(one.columns, other.columns, strict=True)
    return all(
        own.num_chunks == beside.num_chunks == 1
        and _has_bits_of(own.chunk(0), beside.chunk(0))
        for own, beside in pairs
    )


def _has_bits_of(one: pa.Array, other: pa.Array) -> bool:
    """Return whether two arrays of one type hold the same bits, nulls in one place.

    To Arrow zeros are equal whatever their sign, and what is no number is unequal even
    to itself, so that numbers are compared as the bits that hold them.
    """
    kind = one.type
    if pa.types.is_struct(kind):
        return bool(one.is_valid().equals(other.is_valid())) and all(
            _has_bits_of(one.field(place), other.field(place))
            for place in range(kind.num_fields)
        )
    if pa.types.is_float64(kind):
        return _has_bits_of(one.view(pa.int64()), other.view(pa.int64()))
    is_known = kind in _EXACT or kind == pa.list_(pa.string())
    return is_known and bool(one.equals(other))


def _name(digest: Any, name: str) -> None:
    digest.update(b"\n%s\n" % name.encode())


@dataclass(slots=True)
class _Field:
    """A field of the payloads.

    Attributes
    ----------
    kinds
        What each row holds, shape (n,).
    values
        By kind, the values of its rows in their order.
    """

    kinds: NDArray[np.uint8]
    values: dict[int, pa.ChunkedArray] = field(default_factory=dict)


def _field(digest: Any, held: _Field) -> None:
    digest.update(held.kinds)
    for _, values in sorted(held.values.items()):
        _values(digest, values)


def _values(digest: Any, column: pa.ChunkedArray) -> None:
    """Add values without nulls; how many is known from what stands before."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_string(kind):
        _texts(digest, column.chunks)
    elif pa.types.is_float64(kind):
        for chunk in column.chunks:
            digest.update(_one_nan(chunk.to_numpy()))
    elif pa.types.is_boolean(kind):
        for chunk in column.chunks:
            digest.update(chunk.cast(pa.uint8()).to_numpy())
    else:
        for chunk in column.cast(pa.int64()).chunks:
            digest.update(chunk.to_numpy())


def _texts(digest: Any, chunks: Iterable[pa.StringArray]) -> None:
    """Add the length of each text, then the bytes of all."""
    spans = []
    for chunk in chunks:
        if not len(chunk):
            continue
        _, ends, raw = chunk.buffers()
        at = np.frombuffer(ends, np.int32, len(chunk) + 1, 4 * chunk.offset)
        digest.update(np.diff(at))
        if raw is not None:
            spans.append(memoryview(raw)[at[0] : at[-1]])
    for span in spans:
        digest.update(span)


def _one_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers as they are, and one for all that are none."""
    return (
        np.where(np.isnan(values), np.nan, values)
        if np.isnan(values).any()
        else (np.ascontiguousarray(values))
    )


def _of_column(column: pa.ChunkedArray, kind: int) -> _Field:
    if not column.null_count:
        return _Field(np.full(len(column), kind, np.uint8), {kind: column})
    kinds = np.where(column.is_valid().to_numpy(), kind, _NULL).astype(np.uint8)
    values = {} if column.null_count == len(column) else {kind: column.drop_null()}
    return _Field(kinds, values)


def _fields(table: pa.Table) -> dict[str, _Field]:
    """Return the fields of all payloads, by name."""
    texts = texts_of(table)
    is_typed = texts.is_null().to_numpy() if texts.null_count else None
    if is_typed is None:
        return _parsed(texts, {}, np.empty(0, np.int64))
    data = table["data"]
    if texts.null_count == len(texts):
        return _typed(data)
    rows = np.flatnonzero(is_typed)
    return _parsed(texts, _typed(data.take(pa.array(rows))), rows)


def texts_of(table: pa.Table) -> pa.ChunkedArray:
    """Return the payloads that are held as text, null where columns hold them."""
    names = table.column_names
    if "data" in names and pa.types.is_string(table["data"].type):
        return table["data"]
    if "raw_data" not in names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    texts = table["raw_data"]
    missing = texts.null_count and "data" not in names
    if missing:
        raise EventFormatError(
            f"{texts.null_count} events have no payload: the table is not of the "
            "log's making"
        )
    return texts


def _typed(data: pa.ChunkedArray) -> dict[str, _Field]:
    found = {}
    for place, ref in enumerate(data.type):
        children = [chunk.field(place) for chunk in data.chunks]
        column = pa.chunked_array(children, ref.type)
        if ref.type not in _KINDS:
            raise EventFormatError(
                f"expected text, int64, float64 or boolean in data.{ref.name}, got "
                f"{ref.type}: the table is not of the log's making"
            )
        found[ref.name] = _of_column(column, _KINDS[ref.type])
    return found


def _parsed(
    texts: pa.ChunkedArray, typed: dict[str, _Field], rows: NDArray[np.int64]
) -> dict[str, _Field]:
    """Return the fields of payloads that are text, beside those of typed `rows`."""
    own: dict[str, list[tuple[int, int, Any]]] = {name: [] for name in typed}
    for row, text in enumerate(texts.to_pylist()):
        for name, value in () if text is None else _object(text).items():
            own.setdefault(name, []).append((row, *_spelled(value)))
    return {
        name: _joined(entries, typed.get(name), rows, len(texts))
        for name, entries in own.items()
    }


def _object(text: str) -> dict[str, Any]:
    payload = json.loads(text)
    if isinstance(payload, dict):
        return payload
    raise EventFormatError(
        f"expected a JSON object as payload, got {type(payload).__name__}: the table "
        "is not of the log's making"
    )


def _joined(
    entries: list[tuple[int, int, Any]],
    typed: _Field | None,
    rows: NDArray[np.int64],
    count: int,
) -> _Field:
    """Return a field of entries (row, kind, value) and of a column at some rows."""
    held = _Field(np.zeros(count, np.uint8))
    beside = _Field(np.empty(0, np.uint8)) if typed is None else typed
    if typed is not None:
        held.kinds[rows] = typed.kinds
    for row, kind, _ in entries:
        held.kinds[row] = kind
    for kind, of_kind in _TYPES.items():
        own = [(row, value) for row, found, value in entries if found == kind]
        chunks = beside.values[kind].chunks if kind in beside.values else []
        if not own and not chunks:
            continue
        values = pa.array([value for _, value in own], of_kind)
        places = [row for row, _ in own]
        if chunks:
            places = [*rows[beside.kinds == kind].tolist(), *places]
        order = np.argsort(np.array(places, np.int64))
        held.values[kind] = pa.chunked_array([*chunks, values]).take(pa.array(order))
    return held


def _spelled(value: Any) -> tuple[int, Any]:
    """Return what a value is, and the value as its column holds it."""
    if value is None:
        return _NULL, None
    kind = _PLAIN.get(type(value), _JSON)
    if kind == _INT and not -_INT64 <= value < _INT64:
        kind = _JSON
    if kind == _TEXT and any("\ud800" <= letter <= "\udfff" for letter in value):
        kind = _JSON
    return kind, _ENCODER.encode(value) if kind == _JSON else value
