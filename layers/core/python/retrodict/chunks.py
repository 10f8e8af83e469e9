"""A large state as a small head and chunks, so that a write costs what changed.

Events are chunked by event time and panes by their number, so an event that is added
at the end changes the head alone: the newest stretch of time, and the panes beside it.
A state lets its oldest events go one by one; their chunk need not be written for that,
because the head says how many events there are. A state and its parts say the same:
`join` gives back the bytes that `split` took.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from retrodict import codec
from retrodict.panes import Pane
from retrodict.windows import Entry

SMALL_BYTES: Final = 6 * 1024
"""States up to this size stay whole."""

_MOST_PARTS: Final = 8
"""About how many chunks the events of a state make at most."""

_PANES: Final = 32
"""How many panes of a grid one chunk holds."""

_DEFINITION: Final = slice(3, 35)
_STAMP_BYTES: Final = 11
"""What an event usually takes beside its values."""


class Parts(NamedTuple):
    """A state in parts.

    Attributes
    ----------
    chunks
        By name; none where the state is small.
    events
        Number of events; the chunks may hold older ones, which are no part of it.
    """

    head: bytes
    chunks: Mapping[str, bytes]
    events: int = 0


def split(state: bytes, small_bytes: int = SMALL_BYTES) -> Parts:
    """Return a state in parts.

    Parameters
    ----------
    state
        Canonical bytes of a state, see `retrodict.codec`.

    Examples
    --------
    >>> entries = [Entry(n * 1_000_000, n, 0, (n / 7,)) for n in range(600)]
    >>> state = codec.encode("ab" * 32, "p", 1, entries)
    >>> parts = split(state)
    >>> len(state), len(parts.head), len(parts.chunks), join(parts) == state
    (11443, 1243, 2, True)
    """
    if len(state) <= small_bytes:
        return Parts(state, {})
    definition = state[_DEFINITION].hex()
    position, entries, panes = codec.decode(state, definition)
    if not entries:
        return Parts(state, {})
    width = len(entries[0].values)
    chunk_us = _chunk_us(entries, max(1, small_bytes // 2))
    events: dict[str, list[Entry]] = {}
    for entry in entries:
        events.setdefault(f"e{entry.time_us // chunk_us}", []).append(entry)
    sums: dict[str, list[Pane]] = {}
    for pane in panes:
        name = f"p{pane.grid.every_us}.{pane.grid.column}.{pane.ordinal // _PANES}"
        sums.setdefault(name, []).append(pane)
    newest = {f"e{entries[-1].time_us // chunk_us}"}
    newest |= {name for name, several in sums.items() if _is_newest(several, panes)}
    head = codec.encode(
        definition,
        position,
        width,
        [entry for name in newest for entry in events.get(name, [])],
        sorted(pane for name in newest for pane in sums.get(name, [])),
    )
    chunks = {
        name: codec.encode(definition, "", width, own)
        for name, own in events.items()
        if name not in newest
    }
    chunks |= {
        name: codec.encode(definition, "", width, [], own)
        for name, own in sums.items()
        if name not in newest
    }
    return Parts(head, chunks, len(entries))


def join(parts: Parts) -> bytes:
    """Return the state that `split` took.

    Raises
    ------
    StateFormatError
        A part is not one of this state's definition.
    """
    if not parts.chunks:
        return parts.head
    definition = parts.head[_DEFINITION].hex()
    position, entries, panes = codec.decode(parts.head, definition)
    for raw in parts.chunks.values():
        _, more, others = codec.decode(raw, definition)
        entries += more
        panes += others
    entries = sorted(entries)[-parts.events :]
    panes.sort(key=lambda pane: (pane.grid, pane.ordinal))
    return codec.encode(definition, position, len(entries[0].values), entries, panes)


def oldest(names: Iterable[str]) -> str | None:
    """Return the name of the chunk with the oldest events, if any holds events.

    Examples
    --------
    >>> oldest(["e100", "e99", "p3600000000.0.3"]), oldest([])
    ('e99', None)
    """
    events = [name for name in names if name.startswith("e")]
    return min(events, key=lambda name: int(name[1:]), default=None)


def ends_with(stored: bytes, chunk: bytes) -> bool:
    """Return whether a stored chunk has the events of `chunk` after older ones."""
    definition = chunk[_DEFINITION].hex()
    if stored[_DEFINITION].hex() != definition:
        return False
    _, before, _ = codec.decode(stored, definition)
    _, after, _ = codec.decode(chunk, definition)
    return bool(after) and before[-len(after) :] == after


def _chunk_us(entries: list[Entry], chunk_bytes: int) -> int:
    """Return the length of a chunk: a power of two, which changes only now and then.

    A chunk has a size, not a share of the state: a state that grows keeps its chunks.
    """
    size_bytes = len(entries) * (_STAMP_BYTES + 8 * len(entries[0].values))
    parts = max(1, min(_MOST_PARTS, size_bytes // chunk_bytes))
    length_us = (entries[-1].time_us - entries[0].time_us) // parts
    return 1 << length_us.bit_length()


def _is_newest(several: list[Pane], panes: list[Pane]) -> bool:
    """Return whether a chunk holds the newest pane of its grid."""
    own = several[-1]
    return not any(p.grid == own.grid and p.ordinal > own.ordinal for p in panes)
