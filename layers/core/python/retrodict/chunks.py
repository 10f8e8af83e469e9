"""A large state as a small head and chunks, so that a write costs what changed.

Events are chunked by event time and panes by their number, so an event that is added
at the end changes the head alone: the newest stretch of time, and the panes beside it.
A state and its parts say the same: `join` gives back the bytes that `split` took.
"""

from collections.abc import Mapping
from typing import Final

from retrodict import codec
from retrodict.panes import Pane
from retrodict.windows import Entry

SMALL_BYTES: Final = 6 * 1024
"""States up to this size stay whole."""

_PARTS: Final = 16
"""About how many chunks the events of a state make."""

_PANES: Final = 32
"""How many panes of a grid one chunk holds."""

_DEFINITION: Final = slice(3, 35)


def split(
    state: bytes, small_bytes: int = SMALL_BYTES
) -> tuple[bytes, dict[str, bytes]]:
    """Return the head of a state, and its chunks by name.

    Parameters
    ----------
    state
        Canonical bytes of a state, see `retrodict.codec`.

    Examples
    --------
    >>> entries = [Entry(n * 1_000_000, n, 0, (n / 7,)) for n in range(600)]
    >>> state = codec.encode("ab" * 32, "p", 1, entries)
    >>> head, chunks = split(state)
    >>> len(state), len(head), len(chunks), join(head, chunks) == state
    (11443, 1243, 8, True)
    """
    if len(state) <= small_bytes:
        return state, {}
    definition = state[_DEFINITION].hex()
    position, entries, panes = codec.decode(state, definition)
    if not entries:
        return state, {}
    width = len(entries[0].values)
    chunk_us = _chunk_us(entries)
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
    return head, chunks


def join(head: bytes, chunks: Mapping[str, bytes]) -> bytes:
    """Return the state that `split` took.

    Raises
    ------
    StateFormatError
        A part is not one of this state's definition.
    """
    if not chunks:
        return head
    definition = head[_DEFINITION].hex()
    position, entries, panes = codec.decode(head, definition)
    for raw in chunks.values():
        _, more, others = codec.decode(raw, definition)
        entries += more
        panes += others
    entries.sort()
    panes.sort(key=lambda pane: (pane.grid, pane.ordinal))
    return codec.encode(definition, position, len(entries[0].values), entries, panes)


def _chunk_us(entries: list[Entry]) -> int:
    """Return the length of a chunk: a power of two, which changes only now and then."""
    length_us = (entries[-1].time_us - entries[0].time_us) // _PARTS
    return 1 << length_us.bit_length()


def _is_newest(several: list[Pane], panes: list[Pane]) -> bool:
    """Return whether a chunk holds the newest pane of its grid."""
    own = several[-1]
    return not any(p.grid == own.grid and p.ordinal > own.ordinal for p in panes)
