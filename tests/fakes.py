"""Every port in memory; trusted because it signs the same contract as AWS's."""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from io import BytesIO
from typing import Any

import pyarrow as pa
from retrodict.buckets import bucket_of
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    PermanentError,
    RecordTooLargeError,
    StateConflictError,
    StoreUnavailableError,
    StreamConflictError,
)
from retrodict.lifecycle import Decided, Recorded
from retrodict.pipeline import load_catalog
from retrodict.ports import KeyedBatch, OnlineItem, Reading, fits
from retrodict_aws.segments import Segment, encode


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

    def load(
        self, entities: Sequence[str], *, with_state: bool = True
    ) -> dict[str, OnlineItem]:
        found = {e: self.items[e] for e in entities if e in self.items}
        if with_state:
            return found
        return {e: replace(item, state=b"") for e, item in found.items()}

    def put(self, item: OnlineItem) -> None:
        stored = self.items.get(item.entity)
        if (stored.version if stored else 0) != item.version - 1:
            raise StateConflictError(item.entity)
        self.items[item.entity] = item
        self.puts += 1

    def put_all(
        self, items: Sequence[OnlineItem]
    ) -> Iterator[StateConflictError | StoreUnavailableError | None]:
        for item in items:
            try:
                self.put(item)
            except (StateConflictError, StoreUnavailableError) as error:
                yield error
            else:
                yield None

    def scan(self) -> Iterator[OnlineItem]:
        yield from self.items.values()

    def entities(self, share: int, shares: int) -> Iterator[tuple[str, int]]:
        for entity, item in self.items.items():
            if zlib.crc32(entity.encode()) % shares == share:
                yield entity, item.time_us


class FakeEventLog:
    """`EventLog` in a dict."""

    def __init__(self) -> None:
        self.segments: dict[str, list[StampedEvent]] = {}
        self.event_bytes = 50

    def append(self, name: str, events: Sequence[StampedEvent]) -> None:
        if self.segments.setdefault(name, list(events)) != list(events):
            raise PermanentError(f"segment {name!r} holds other events")

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[StampedEvent]:
        since = "" if arrived_from is None else f"arrived={arrived_from.isoformat()}"
        for name, events in self.segments.items():
            event_type, arrived, *_ = [*name.removeprefix("type=").split("/"), since]
            if (types is None or event_type in types) and arrived >= since:
                yield from (
                    event
                    for event in events
                    if (keys is None or event.key in keys)
                    and (buckets is None or bucket_of(event.key) in buckets)
                )

    def tables(
        self,
        event_type: str,
        reading: Reading | None = None,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        event = load_catalog().contracts.get(event_type)
        contract = None if event is None else event.contract()
        for name, events in self.segments.items():
            if name.startswith(f"type={event_type}/"):
                raw = BytesIO(encode(events, contract))
                segment = Segment(event_type, raw)
                yield from segment.tables(reading, keys=keys, buckets=buckets)

    def size_bytes(self, event_type: str) -> int:
        held = (v for n, v in self.segments.items() if f"type={event_type}/" in n)
        return self.event_bytes * sum(map(len, held))


class FakeLifecycleStore:
    """`LifecycleStore` in a dict of lists."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Recorded]] = {}

    def read(self, stream_id: str) -> list[Recorded]:
        return [*self.streams.get(stream_id, [])]

    def append(
        self, stream_id: str, decisions: Sequence[Decided], *, expected_version: int
    ) -> list[Recorded]:
        stream = self.streams.get(stream_id, [])
        if len(stream) != expected_version:
            raise StreamConflictError(stream_id, expected_version)
        recorded = [
            Recorded(version, d.kind, d.time_us, d.data, d.causation_id)
            for version, d in enumerate(decisions, start=expected_version + 1)
        ]
        self.streams[stream_id] = stream + recorded
        return recorded


class FakeIngestStream:
    """`IngestStream` in a list."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []

    def put(self, records: Iterable[tuple[str, bytes]]) -> int:
        several = list(records)
        too_large = [n for n, record in enumerate(several) if not fits(*record)]
        added = [record for record in several if fits(*record)]
        self.records += added
        if too_large:
            raise RecordTooLargeError("ingest", tuple(too_large))
        return len(added)


class FakeWorkflow:
    """`Workflow` that remembers what was started, each name once."""

    def __init__(self) -> None:
        self.started: dict[str, Mapping[str, Any]] = {}
        self.calls = 0

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        self.calls += 1
        self.started.setdefault(name, document)
