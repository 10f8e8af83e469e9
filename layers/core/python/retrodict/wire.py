"""Validated events as the bytes that the stream carries, decoded when asked for."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

from retrodict.envelope import StampedEvent


class WireEvents(Sequence[StampedEvent]):
    """Events as JSON with commas between, shape (n,).

    Attributes
    ----------
    types
        Their event types, sorted.

    Examples
    --------
    >>> event = StampedEvent("a", "till", "1", "shop.order", 1, 0, 0, "0-1", False, (),
    ...                      "", {})
    >>> wired = WireEvents.of([event])
    >>> wired.types, wired[0] == event, len(wired)
    (('shop.order',), True, 1)
    """

    __slots__ = ("_count", "_events", "text", "types")

    def __init__(self, text: bytes, count: int, types: tuple[str, ...]) -> None:
        self.text = text
        self.types = types
        self._count = count
        self._events: list[StampedEvent] | None = None

    @classmethod
    def of(cls, events: Iterable[StampedEvent]) -> Self:
        """Return events as bytes."""
        held = list(events)
        types = tuple(sorted({event.type for event in held}))
        return cls(b",".join(event.to_json() for event in held), len(held), types)

    def _decoded(self) -> list[StampedEvent]:
        if self._events is None:
            wires = json.loads(b"[%b]" % self.text)
            self._events = [StampedEvent.from_wire(wire) for wire in wires]
        return self._events

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[StampedEvent]:
        return iter(self._decoded())

    @overload
    def __getitem__(self, place: int) -> StampedEvent: ...
    @overload
    def __getitem__(self, place: slice) -> list[StampedEvent]: ...
    def __getitem__(self, place: int | slice) -> StampedEvent | list[StampedEvent]:
        return self._decoded()[place]
