"""Many small Parquet files, read as one.

Opening a file, and each of its columns, takes longer than reading the few rows of a
batch. Files whose footers differ only in their row groups are put one behind the other,
and a footer is made that has the row groups of all, their offsets moved. No page is
read for that. Files that are not alike, or not understood, are given as they are, and
so are those whose footer points past their own bytes.
"""

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from retrodict import kernel

SMALL_BYTES: Final = 1 << 20
"""Files up to this size are joined."""

JOINED_BYTES: Final = 128 << 20
"""No more than about so much is joined into one: what a pass of compaction reads, so
that its table is one piece."""

_MAGIC: Final = b"PAR1"
_TAIL: Final = 8
_STRUCT: Final = 12
_SHORT: Final = 15


@dataclass(slots=True)
class _Joined:
    """Files one behind the other."""

    frame: tuple[bytes, bytes, bytes]
    bodies: list[bytes] = field(default_factory=list)
    size: int = 0
    rows: int = 0
    groups: int = 0
    copied: list[bytes] = field(default_factory=list)

    def whole(self) -> bytes:
        before, between, after = self.frame
        many = self.groups >= _SHORT
        head = bytes([(_SHORT if many else self.groups) << 4 | _STRUCT])
        told = head + (_varint(self.groups) if many else b"")
        rows = _varint(self.rows << 1)
        footer = b"".join([before, rows, between, told, *self.copied, after])
        end = len(footer).to_bytes(4, "little") + _MAGIC
        return b"".join([*self.bodies, footer, end])


def joined(files: Iterable[bytes]) -> Iterator[bytes]:
    """Yield Parquet files with the rows of `files`, in another order, in fewer."""
    alike: dict[tuple[bytes, bytes, bytes], _Joined] = {}
    mover = _Mover()
    own: _Joined | None = None
    for file in files:
        footer = _footer(file)
        body = file[: -_TAIL - len(footer)]
        moved = mover.row_groups(footer, len(body), 0 if own is None else own.size)
        if moved is not None and (own is None or moved.frame != own.frame):
            own = alike.setdefault(moved.frame, _Joined(moved.frame))
            moved = mover.row_groups(footer, len(body), own.size)
        if own is None or moved is None:
            yield file
            continue
        own.bodies.append(body)
        own.size += len(body)
        own.rows += moved.rows
        own.groups += moved.count
        own.copied.append(moved.copied)
        if own.size >= JOINED_BYTES:
            yield alike.pop(own.frame).whole()
            own = None
    for own in alike.values():
        yield own.whole()


@dataclass(frozen=True, slots=True)
class _RowGroups:
    frame: tuple[bytes, bytes, bytes]
    rows: int
    count: int
    copied: bytes


def _footer(file: bytes) -> bytes:
    """Return the footer of a small file; nothing for another one."""
    size = int.from_bytes(file[-_TAIL : -len(_MAGIC)], "little")
    is_one = file[-len(_MAGIC) :] == _MAGIC and size <= len(file) - _TAIL
    is_small = is_one and len(file) <= SMALL_BYTES
    return file[-_TAIL - size : -_TAIL] if is_small else b""


class _Mover:
    """Room for the row groups of one footer after the other."""

    def __init__(self) -> None:
        self._out = ctypes.create_string_buffer(0)
        self._told = (ctypes.c_int64 * 6)()

    def row_groups(
        self, footer: bytes, body_bytes: int, shift: int
    ) -> _RowGroups | None:
        """Return the row groups of a footer, moved; None where it is not understood.

        Nor is one that points past the bytes before it: those of another file would
        be there.
        """
        library = kernel.library()
        if library is None:
            return None
        # A number of two bytes with its head grows to eleven at most.
        room = 6 * len(footer)
        if room > len(self._out):
            self._out = ctypes.create_string_buffer(room)
        out, told = self._out, self._told
        size = library.retrodict_row_groups(
            footer, len(footer), body_bytes, shift, out, room, told
        )
        if size < 0:
            return None
        rows, begin, end, groups_begin, groups_end, count = told
        frame = footer[:begin], footer[end:groups_begin], footer[groups_end:]
        return _RowGroups(frame, rows, count, ctypes.string_at(out, size))


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
