"""State codec v2: the events a key still needs, as canonical bytes.

Equal states have equal bytes and different states different ones, so a rebuild can
be compared with the online store byte for byte. There is no compression: its output
would depend on the library's version.

Layout, all integers LEB128 varints unless said otherwise::

    "RS" version:1 definition:32 position:text columns entries
    sources: count, then each as text
    entry:   time delta (first: zigzag absolute, microseconds), source index,
             id:text, digest:32, null bits, present values as little-endian doubles
    panes:   number of columns, then each as column, whether squares are kept, count,
             and the panes by hour
    pane:    hour delta (first: zigzag absolute), n, scale, sum, perhaps sum of squares
    sum:     length in bytes, then two's complement, little-endian, the shortest
"""

import struct
from collections.abc import Sequence
from typing import Final

from retrodict.errors import StateFormatError
from retrodict.features import Entry
from retrodict.panes import Pane
from retrodict.statistics import Moments

MAGIC: Final = b"RS"
VERSION: Final = 2
_DOUBLE: Final = struct.Struct("<d")
_DIGEST_BYTES: Final = 32
_CONTINUE: Final = 0x80


def _varint(number: int, out: bytearray) -> None:
    while number >= _CONTINUE:
        out.append(number & 0x7F | _CONTINUE)
        number >>= 7
    out.append(number)


def _text(text: str, out: bytearray) -> None:
    raw = text.encode()
    _varint(len(raw), out)
    out += raw


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
        Sealed hours in order, shape (m,).

    Examples
    --------
    >>> blob = encode("00" * 32, "p", 1, [Entry(5, "s", "1", "ab" * 32, (2.5,))])
    >>> decode(blob, "00" * 32)[1][0].values
    (2.5,)
    """
    out = bytearray(MAGIC)
    out.append(VERSION)
    out += bytes.fromhex(definition)
    _text(position, out)
    sources = sorted({entry.source for entry in entries})
    index = {source: place for place, source in enumerate(sources)}
    _varint(width, out)
    _varint(len(entries), out)
    _varint(len(sources), out)
    for source in sources:
        _text(source, out)
    time_us = 0
    for place, entry in enumerate(entries):
        if place:
            _varint(entry.time_us - time_us, out)
        else:
            _zigzag(entry.time_us, out)
        time_us = entry.time_us
        _varint(index[entry.source], out)
        _text(entry.id, out)
        out += bytes.fromhex(entry.digest)
        nulls = sum(1 << i for i, value in enumerate(entry.values) if value is None)
        _varint(nulls, out)
        for value in entry.values:
            if value is not None:
                out += _DOUBLE.pack(value)
    _encode_panes(panes, out)
    return bytes(out)


def _encode_panes(panes: Sequence[Pane], out: bytearray) -> None:
    columns: dict[int, list[Pane]] = {}
    for pane in panes:
        columns.setdefault(pane.column, []).append(pane)
    _varint(len(columns), out)
    for column, several in columns.items():
        _varint(column, out)
        _varint(several[0].moments.squares is not None, out)
        _varint(len(several), out)
        before: int | None = None
        for _, hour, (n, total, squares, scale) in several:
            if before is None:
                _zigzag(hour, out)
            else:
                _varint(hour - before, out)
            before = hour
            _varint(n, out)
            _varint(scale, out)
            _sum(total, out)
            if squares is not None:
                _sum(squares, out)


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

    def text(self) -> str:
        return self.take(self.varint()).decode()


def decode(blob: bytes, definition: str) -> tuple[str, list[Entry], list[Pane]]:
    """Return the applied position, the entries and the panes of a state.

    Raises
    ------
    StateFormatError
        The bytes are cut short, of a newer version, or of another definition.
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
        position, entries = reader.text(), _entries(reader)
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
        column, has_squares = reader.varint(), reader.varint()
        hour = 0
        for place in range(reader.varint()):
            hour = hour + reader.varint() if place else reader.zigzag()
            n, scale, total = reader.varint(), reader.varint(), reader.sum()
            squares = reader.sum() if has_squares else None
            panes.append(Pane(column, hour, Moments(n, total, squares, scale)))
    return panes


def _entries(reader: _Reader) -> list[Entry]:
    width, count = reader.varint(), reader.varint()
    sources = [reader.text() for _ in range(reader.varint())]
    entries: list[Entry] = []
    time_us = 0
    for place in range(count):
        time_us = time_us + reader.varint() if place else reader.zigzag()
        source, identifier = sources[reader.varint()], reader.text()
        digest = reader.take(_DIGEST_BYTES).hex()
        nulls = reader.varint()
        values = tuple(
            None if nulls >> i & 1 else _DOUBLE.unpack(reader.take(8))[0]
            for i in range(width)
        )
        entries.append(Entry(time_us, source, identifier, digest, values))
    return entries
