"""State codec v3: the events a key still needs, as canonical bytes.

Equal states have equal bytes and different states different ones, so a rebuild can
be compared with the online store byte for byte. There is no compression: its output
would depend on the library's version.

Layout, all integers LEB128 varints unless said otherwise::

    "RS" version:1 definition:32 position:text columns entries
    times:      unit (0 microseconds, 1 milliseconds, 2 seconds), the first as zigzag
                microseconds, then the steps in units
    identities: 8 bytes each, little-endian
    checks:     2 bytes each, little-endian
    column:     number of nulls; if any, one bit an entry, little-endian; the values
                that are present as little-endian doubles
    panes:      number of grids, then each as length in microseconds, column, flags
                (1 squares, 2 bounds), count, and the panes by time
    pane:       step of the index (first: zigzag absolute), n, scale, sum, perhaps sum
                of squares, perhaps bounds as four doubles
    sum:        length in bytes, then two's complement, little-endian, the shortest
"""

import struct
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, groupby
from math import gcd
from operator import sub
from typing import Final

from retrodict.errors import StateFormatError
from retrodict.panes import Bounds, Grid, Pane, Summary
from retrodict.statistics import Moments
from retrodict.windows import Entry

MAGIC: Final = b"RS"
VERSION: Final = 3

HEAD_BYTES: Final = 512
"""What a state without entries and panes takes at most."""

_entry: Final = partial(tuple.__new__, Entry)
"""An entry of its four parts, without a call of Python for each."""

UNITS_US: Final = (1, 1_000, 1_000_000)
"""The units that steps between times may be told in."""

_BOUNDS: Final = struct.Struct("<4d")
_DIGEST_BYTES: Final = 32
_CONTINUE: Final = 0x80
_SQUARES: Final = 1
_HAS_BOUNDS: Final = 2
_STAMP_BYTES: Final = 10 + 8 + 2 + 1


def entry_bytes(width: int) -> int:
    """Return what one entry of `width` columns takes at most.

    Examples
    --------
    >>> entry_bytes(1)
    29
    """
    return _STAMP_BYTES + 8 * width


def _varint(number: int, out: bytearray) -> None:
    while number >= _CONTINUE:
        out.append(number & 0x7F | _CONTINUE)
        number >>= 7
    out.append(number)


def _varints(numbers: Sequence[int], out: bytearray) -> None:
    if max(numbers, default=0) < _CONTINUE:
        out += bytes(numbers)
        return
    append = out.append
    for number in numbers:
        while number >= _CONTINUE:
            append(number & 0x7F | _CONTINUE)
            number >>= 7  # noqa: PLW2901 - what is left of it
        append(number)


def _zigzag(number: int, out: bytearray) -> None:
    _varint(number << 1 if number >= 0 else ~(number << 1), out)


def _sum(number: int, out: bytearray) -> None:
    length = number.bit_length() // 8 + 1
    _varint(length, out)
    out += number.to_bytes(length, "little", signed=True)


def encode(
    definition: str,
    position: str,
    width: int,
    entries: Sequence[Entry],
    panes: Sequence[Pane] = (),
) -> bytes:
    """Return the canonical bytes of a state.

    Parameters
    ----------
    definition
        Digest of the feature set, 64 hexadecimal digits.
    position
        Position of the last applied event, empty for none.
    width
        Number of values an entry holds.
    entries
        Applied events in order, shape (n,).
    panes
        Sealed panes in order, shape (m,).

    Examples
    --------
    >>> blob = encode("00" * 32, "p", 1, [Entry(5, 1, 2, (2.5,))])
    >>> decode(blob, "00" * 32)[1]
    [Entry(time_us=5, identity=1, check=2, values=(2.5,))]
    """
    body = _encode_entries(entries, width) if entries else b""
    return assemble(definition, position, width, len(entries), body, panes)


def assemble(  # noqa: PLR0913, PLR0917 - one argument a part of the layout
    definition: str,
    position: str,
    width: int,
    count: int,
    entries: bytes,
    panes: Sequence[Pane],
) -> bytes:
    """Return the canonical bytes of a state whose entries are encoded already.

    Parameters
    ----------
    count, entries
        How many entries there are, and their bytes; see the layout.
    """
    out = bytearray(MAGIC)
    out.append(VERSION)
    out += bytes.fromhex(definition)
    raw = position.encode()
    _varint(len(raw), out)
    out += raw
    _varint(width, out)
    _varint(count, out)
    out += entries
    _encode_panes(panes, out)
    return bytes(out)


def unit_of(common_us: int) -> int:
    """Return the greatest unit that divides the common divisor of all steps."""
    return next(n for n in (2, 1, 0) if not common_us % UNITS_US[n])


def begin_times(unit: int, first_us: int) -> bytes:
    """Return what comes before the steps between times."""
    out = bytearray()
    _varint(unit, out)
    _zigzag(first_us, out)
    return bytes(out)


def column_bytes(nulls: int, bits: bytes, present: bytes) -> bytes:
    """Return a column of its number of nulls, one bit an entry, and its doubles."""
    out = bytearray()
    _varint(nulls, out)
    return bytes(out) + bits + present if nulls else bytes(out) + present


def _encode_entries(entries: Sequence[Entry], width: int) -> bytes:
    times, identities, checks, values = zip(*entries, strict=True)
    steps = list(map(sub, times[1:], times))
    unit = unit_of(gcd(*steps))
    out = bytearray(begin_times(unit, times[0]))
    if unit:
        unit_us = UNITS_US[unit]
        steps = [step // unit_us for step in steps]
    _varints(steps, out)
    out += struct.pack(f"<{len(entries)}Q", *identities)
    out += struct.pack(f"<{len(entries)}H", *checks)
    for column in zip(*values, strict=True) if width else ():
        nulls = column.count(None)
        bits, present = b"", column
        if nulls:
            number = sum(1 << n for n, value in enumerate(column) if value is None)
            bits = number.to_bytes(-(-len(column) // 8), "little")
            present = tuple(value for value in column if value is not None)
        out += column_bytes(nulls, bits, struct.pack(f"<{len(present)}d", *present))
    return bytes(out)


def flags_of(*, squares: bool, bounds: bool) -> int:
    """Return what is said of a grid's panes."""
    return _SQUARES * squares + _HAS_BOUNDS * bounds


def _encode_panes(panes: Sequence[Pane], out: bytearray) -> None:
    grids = [(g, list(found)) for g, found in groupby(panes, key=lambda p: p.grid)]
    _varint(len(grids), out)
    for grid, several in grids:
        first = several[0].summary
        has_squares, has_bounds = first.moments.squares is not None, bool(first.bounds)
        _varint(grid.every_us, out)
        _varint(grid.column, out)
        _varint(flags_of(squares=has_squares, bounds=has_bounds), out)
        _varint(len(several), out)
        before: int | None = None
        for _, index, (moments, bounds) in several:
            if before is None:
                _zigzag(index, out)
            else:
                _varint(index - before, out)
            before = index
            _varint(moments.n, out)
            _varint(moments.scale, out)
            _sum(moments.total, out)
            if moments.squares is not None:
                _sum(moments.squares, out)
            if bounds is not None:
                out += _BOUNDS.pack(*bounds)


class _Reader:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.at = 0

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.blob[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < _CONTINUE:
                return number
            shift += 7

    def varints(self, count: int) -> list[int]:
        """Read several: bytes, where each is one."""
        blob, at = self.blob, self.at
        several = blob[at : at + count]
        if several.isascii() and len(several) == count:
            self.at += count
            return list(several)
        found: list[int] = []
        for _ in range(count):
            byte = blob[at]
            at += 1
            number = byte & 0x7F
            shift = 7
            while byte >= _CONTINUE:
                byte = blob[at]
                at += 1
                number |= (byte & 0x7F) << shift
                shift += 7
            found.append(number)
        self.at = at
        return found

    def zigzag(self) -> int:
        number = self.varint()
        return number >> 1 if not number & 1 else ~(number >> 1)

    def sum(self) -> int:
        return int.from_bytes(self.take(self.varint()), "little", signed=True)

    def take(self, count: int) -> bytes:
        taken = self.blob[self.at : self.at + count]
        if len(taken) != count:
            raise IndexError
        self.at += count
        return taken


def decode(blob: bytes, definition: str) -> tuple[str, list[Entry], list[Pane]]:
    """Return the applied position, the entries and the panes of a state.

    Raises
    ------
    StateFormatError
        The bytes are cut short, of another version, or of another definition.
    """
    if blob[:2] != MAGIC or len(blob) < len(MAGIC) + 1 + _DIGEST_BYTES:
        raise StateFormatError(f"expected a state, got bytes {blob[:8]!r}")
    if blob[2] != VERSION:
        heal = (
            "deploy the reader before the writer"
            if blob[2] > VERSION
            else "rebuild the online store from the log"
        )
        raise StateFormatError(
            f"the state has codec version {blob[2]}, this code reads {VERSION}: {heal}"
        )
    reader = _Reader(blob)
    reader.at = len(MAGIC) + 1
    try:
        found = reader.take(_DIGEST_BYTES).hex()
        if found != definition:
            raise StateFormatError(
                f"the state belongs to feature definition {found[:12]}, not to "
                f"{definition[:12]}: rebuild the online store from the log"
            )
        position = reader.take(reader.varint()).decode()
        entries = _entries(reader)
        panes = _panes(reader)
    except (IndexError, UnicodeDecodeError) as error:
        raise StateFormatError(
            f"the state is cut short or corrupt at byte {reader.at} of {len(blob)}"
        ) from error
    if reader.at != len(blob):
        raise StateFormatError(f"{len(blob) - reader.at} bytes follow the state")
    return position, entries, panes


def _panes(reader: _Reader) -> list[Pane]:
    panes: list[Pane] = []
    for _ in range(reader.varint()):
        grid, flags = Grid(reader.varint(), reader.varint()), reader.varint()
        index = 0
        for place in range(reader.varint()):
            index = index + reader.varint() if place else reader.zigzag()
            n, scale, total = reader.varint(), reader.varint(), reader.sum()
            squares = reader.sum() if flags & _SQUARES else None
            bounds = None
            if flags & _HAS_BOUNDS:
                bounds = Bounds(*_BOUNDS.unpack(reader.take(_BOUNDS.size)))
            moments = Moments(n, total, squares, scale)
            panes.append(Pane(grid, index, Summary(moments, bounds)))
    return panes


def _entries(reader: _Reader) -> list[Entry]:
    width, count = reader.varint(), reader.varint()
    if not count:
        return []
    unit = reader.varint()
    if unit >= len(UNITS_US):
        raise IndexError
    unit_us, time_us = UNITS_US[unit], reader.zigzag()
    steps = reader.varints(count - 1)
    if unit:
        steps = [step * unit_us for step in steps]
    times = accumulate(steps, initial=time_us)
    identities = struct.unpack(f"<{count}Q", reader.take(8 * count))
    checks = struct.unpack(f"<{count}H", reader.take(2 * count))
    columns = [_column(reader, count) for _ in range(width)]
    values = zip(*columns, strict=True) if width else ((),) * count
    rows = zip(times, identities, checks, values, strict=True)
    return list(map(_entry, rows))


def _column(reader: _Reader, count: int) -> list[float | None]:
    nulls = reader.varint()
    bits = int.from_bytes(reader.take(-(-count // 8)), "little") if nulls else 0
    if nulls > count or bits.bit_count() != nulls:
        raise IndexError
    present = struct.unpack(f"<{count - nulls}d", reader.take(8 * (count - nulls)))
    if not nulls:
        return list(present)
    rest = iter(present)
    return [None if bits >> n & 1 else next(rest) for n in range(count)]
