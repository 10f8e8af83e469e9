"""Columns of a segment that follow from its others, written so that nobody reads those.

`identity` and `check` are what the state of a key compares; see `retrodict.windows`.
They stand in 12 bytes for three texts of some 100. `edge` is the position of the first
and of the last row of each key in a row group whose rows are in order of (key,
position), each position once; elsewhere it is null. Who finds the edges of all runs of
a key one behind the other knows the order of its events without reading a position.
"""

from itertools import pairwise
from operator import or_
from typing import Any, Final

import pyarrow as pa

from retrodict import kernel
from retrodict.errors import EventFormatError
from retrodict.windows import check_of, identity_of

IDENTITY: Final = "identity"
CHECK: Final = "check"
EDGE: Final = "edge"
DERIVED: Final = (
    pa.field(IDENTITY, pa.int64(), nullable=False),
    pa.field(CHECK, pa.int32(), nullable=False),
    pa.field(EDGE, pa.string()),
)
"""Their types: SQL knows no unsigned numbers, so an identity is signed here."""

_SIGN: Final = 1 << 63


def with_derived(table: pa.Table, group_rows: int) -> pa.Table:
    """Return a table of events with the derived columns behind the others.

    Parameters
    ----------
    table
        With the columns of the envelope, shape (n,).
    group_rows
        Rows of each row group but the last.

    Raises
    ------
    EventFormatError
        A digest is no hexadecimal text.
    """
    identity, check = identities_of(table)
    columns = (identity, check, edges_of(table, group_rows))
    for field, column in zip(DERIVED, columns, strict=True):
        table = table.append_column(field, column)
    return table


def identities_of(table: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return identity and check of each row, shape (n,).

    Raises
    ------
    EventFormatError
        A digest is no hexadecimal text.
    """
    checks = [_checks(_plain(chunk)) for chunk in table["digest"].chunks]
    return identity_column_of(table), pa.chunked_array(checks, pa.int32())


def identity_column_of(table: pa.Table) -> pa.ChunkedArray:
    """Return the identity of each row, shape (n,)."""
    batches = table.select(["source", "id"]).to_batches()
    parts = [_identities(*map(_plain, batch.columns)) for batch in batches]
    return pa.chunked_array(parts, pa.int64())


def edges_of(table: pa.Table, group_rows: int) -> pa.ChunkedArray:
    """Return the position of the edges of each key in each row group, shape (n,)."""
    edges = []
    for start in range(0, table.num_rows, group_rows):
        part = table.select(["key", "position"]).slice(start, group_rows)
        texts = (_plain(column.combine_chunks()) for column in part.columns)
        edges.append(_edges(*texts))
    return pa.chunked_array(edges, pa.string())


def _plain(array: pa.Array) -> pa.StringArray:
    if pa.types.is_string(array.type):
        return array
    return array.cast(pa.string())


def _identities(source: pa.StringArray, id_: pa.StringArray) -> pa.Array:
    library, count = kernel.library(), len(source)
    if library is None or not count:
        own = map(identity_of, source.to_pylist(), id_.to_pylist())
        return pa.array([(one ^ _SIGN) - _SIGN for one in own], pa.int64())
    identity = pa.allocate_buffer(8 * count)
    if library.retrodict_identities(
        count,
        *addresses_of(source),
        *addresses_of(id_),
        identity.address,
        kernel.has_sha256(),
    ):
        raise MemoryError("the longest identity does not fit in memory")
    return pa.Array.from_buffers(pa.int64(), count, [None, identity])


def _checks(digest: pa.StringArray) -> pa.Array:
    library, count = kernel.library(), len(digest)
    if library is None or not count:
        return pa.array([*map(check_of, digest.to_pylist())], pa.int32())
    check = pa.allocate_buffer(4 * count)
    wrong = library.retrodict_checks(count, *addresses_of(digest), check.address)
    if wrong:
        raise EventFormatError(
            f"expected a digest of hexadecimal digits, got {digest[wrong - 1]}: the "
            "table is not of the log's making"
        )
    return pa.Array.from_buffers(pa.int32(), count, [None, check])


def _edges(key: pa.StringArray, position: pa.StringArray) -> pa.StringArray:
    library, count = kernel.library(), len(key)
    if library is None:
        return _plain_edges(key.to_pylist(), position.to_pylist())
    valid = pa.allocate_buffer((count + 7) // 8)
    at = pa.allocate_buffer(4 * (count + 1))
    text = pa.allocate_buffer(position.nbytes)
    nulls = library.retrodict_edges(
        count,
        *addresses_of(key),
        *addresses_of(position),
        valid.address,
        at.address,
        text.address,
    )
    if nulls < 0:
        return pa.nulls(count, pa.string())
    used = text.slice(0, int.from_bytes(at[4 * count :].to_pybytes(), "little"))
    return pa.StringArray.from_buffers(count, at, used, valid, nulls)


def _plain_edges(keys: list[str], positions: list[str]) -> pa.StringArray:
    rows = [*zip(keys, positions, strict=True)]
    pairs = [*pairwise(rows)]
    if any(one >= other for one, other in pairs):
        return pa.nulls(len(rows), pa.string())
    ends = [one[0] != other[0] for one, other in pairs]
    is_edge = map(or_, [True, *ends], [*ends, True])
    told = zip(positions, is_edge, strict=False)
    return pa.array([text if at_edge else None for text, at_edge in told], pa.string())


def addresses_of(array: Any) -> tuple[int, int]:
    """Return the addresses of the offsets and of the bytes of texts."""
    _, at, text = array.buffers()
    return at.address + 4 * array.offset, 0 if text is None else text.address
