"""Events and quarantine documents as bytes, decoded when somebody asks for them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

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
    >>> wired = WireEvents(event.to_json(), 1, ("shop.order",))
    >>> wired[0] == event, len(wired)
    (True, 1)
    """

    __slots__ = ("_count", "_events", "text", "types")

    def __init__(self, text: bytes, count: int, types: tuple[str, ...]) -> None:
        self.text = text
        self.types = types
        self._count = count
        self._events: list[StampedEvent] | None = None

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


class JsonLines(Sequence[dict[str, Any]]):
    r"""Documents as JSON, a line break behind each, shape (n,).

    Examples
    --------
    >>> lines = JsonLines.of([{"a": 1}, {"a": 2}])
    >>> lines.text, lines[1], len(lines)
    (b'{"a":1}\n{"a":2}\n', {'a': 2}, 2)
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]]) -> Self:
        """Return documents as what they are kept as, unless they are it."""
        if isinstance(documents, cls):
            return documents
        return cls([line_of(document) for document in documents])

    @property
    def text(self) -> bytes:
        """All of them."""
        return b"".join(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [json.loads(line) for line in self._lines[place]]
        document: dict[str, Any] = json.loads(self._lines[place])
        return document


def line_of(document: Mapping[str, Any]) -> bytes:
    """Return a document as one of `JsonLines`."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
