"""State codec v1: the events a key still needs, as canonical bytes.

Equal states have equal bytes and different states different ones, so a rebuild can
be compared with the online store byte for byte. There is no compression: its output
would depend on the library's version.

Layout, all integers LEB128 varints unless said otherwise::

    "RS" version:1 definition:32 position:text columns entries
    sources: count, then each as text
    entry:   time delta (first: zigzag absolute, microseconds), source index,
             id:text, digest:32, null bits, present values as little-endian doubles
"""

import struct
from collections.abc import Sequence
from typing import Final

from retrodict.errors import StateFormatError
from retrodict.features import Entry

MAGIC: Final = b"RS"
VERSION: Final = 1
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


def encode(
    definition: str, position: str, width: int, entries: Sequence[Entry]
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
    previous: int | None = None
    for entry in entries:
        time_us = entry.time_us
        delta = time_us << 1 ^ time_us >> 63 if previous is None else time_us - previous
        previous = time_us
        _varint(delta, out)
        _varint(index[entry.source], out)
        _text(entry.id, out)
        out += bytes.fromhex(entry.digest)
        nulls = sum(1 << i for i, value in enumerate(entry.values) if value is None)
        _varint(nulls, out)
        for value in entry.values:
            if value is not None:
                out += _DOUBLE.pack(value)
    return bytes(out)


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

    def take(self, count: int) -> bytes:
        taken = self.blob[self.at : self.at + count]
        if len(taken) != count:
            raise IndexError
        self.at += count
        return taken

    def text(self) -> str:
        return self.take(self.varint()).decode()


def decode(blob: bytes, definition: str) -> tuple[str, list[Entry]]:
    """Return the applied position and the entries of a state.

    Raises
    ------
    StateFormatError
        The bytes are cut short, of a newer version, or of another definition.
    """
    if blob[:2] != MAGIC or len(blob) < len(MAGIC) + 1 + _DIGEST_BYTES:
        raise StateFormatError(f"expected a state, got bytes {blob[:8]!r}")
    if blob[2] != VERSION:
        raise StateFormatError(
            f"the state has codec version {blob[2]}, this code reads {VERSION}: deploy "
            "the reader before the writer"
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
    except (IndexError, UnicodeDecodeError) as error:
        raise StateFormatError(
            f"the state is cut short or corrupt at byte {reader.at} of {len(blob)}"
        ) from error
    if reader.at != len(blob):
        raise StateFormatError(f"{len(blob) - reader.at} bytes follow the state")
    return position, entries


def _entries(reader: _Reader) -> list[Entry]:
    width, count = reader.varint(), reader.varint()
    sources = [reader.text() for _ in range(reader.varint())]
    entries: list[Entry] = []
    time_us = 0
    for place in range(count):
        delta = reader.varint()
        time_us = (delta >> 1) ^ -(delta & 1) if place == 0 else time_us + delta
        source, identifier = sources[reader.varint()], reader.text()
        digest = reader.take(_DIGEST_BYTES).hex()
        nulls = reader.varint()
        values = tuple(
            None if nulls >> i & 1 else _DOUBLE.unpack(reader.take(8))[0]
            for i in range(width)
        )
        entries.append(Entry(time_us, source, identifier, digest, values))
    return entries
