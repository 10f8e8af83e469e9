"""Every port in memory; trusted because it signs the same contract as AWS's."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError, StateConflictError
from retrodict.ports import KeyedBatch, OnlineItem


class FakeEventStream:
    """`EventStream` in a list."""

    def __init__(self) -> None:
        self.batches: list[KeyedBatch] = []

    def put(self, batches: Iterable[KeyedBatch]) -> None:
        self.batches += batches


class FakeQuarantine:
    """`Quarantine` in a dict."""

    def __init__(self) -> None:
        self.documents: dict[str, list[dict[str, Any]]] = {}

    def put(self, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
        self.documents[name] = [dict(document) for document in documents]

    def read(self) -> Iterator[dict[str, Any]]:
        for name in sorted(self.documents):
            yield from self.documents[name]


class FakeOnlineStore:
    """`OnlineStore` in a dict."""

    def __init__(self) -> None:
        self.items: dict[str, OnlineItem] = {}
        self.puts = 0

    def load(self, entities: Sequence[str]) -> dict[str, OnlineItem]:
        return {e: self.items[e] for e in entities if e in self.items}

    def put(self, item: OnlineItem) -> None:
        stored = self.items.get(item.entity)
        if (stored.version if stored else 0) != item.version - 1:
            raise StateConflictError(item.entity)
        self.items[item.entity] = item
        self.puts += 1

    def scan(self) -> Iterator[OnlineItem]:
        yield from self.items.values()


class FakeEventLog:
    """`EventLog` in a dict."""

    def __init__(self) -> None:
        self.segments: dict[str, list[StampedEvent]] = {}

    def append(self, name: str, events: Sequence[StampedEvent]) -> None:
        if self.segments.setdefault(name, list(events)) != list(events):
            raise PermanentError(f"segment {name!r} holds other events")

    def read(self) -> Iterator[StampedEvent]:
        for events in self.segments.values():
            yield from events
