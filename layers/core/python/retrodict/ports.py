"""What the core needs of the world, without saying how.

``retrodict_aws`` implements each port; ``tests/fakes.py`` holds one in memory. Both
sign the same test in ``tests/contract``.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from retrodict.envelope import StampedEvent
from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.lifecycle import Decided, Recorded

LARGEST_RECORD_BYTES: Final = 1 << 20
"""What a stream takes as one record, its partition key included."""


def fits(partition_key: str, data: bytes, growth: int = 0) -> bool:
    """Return whether a stream takes such a record, were it `growth` bytes longer.

    Examples
    --------
    >>> fits("s-1", bytes(LARGEST_RECORD_BYTES - 3))
    True
    >>> fits("s-1", bytes(LARGEST_RECORD_BYTES - 2))
    False
    """
    size = len(data) + len(partition_key.encode()) + growth
    return size <= LARGEST_RECORD_BYTES


class KeyedBatch(NamedTuple):
    """Events of one entity key in the order of their positions, shape (n,)."""

    key: str
    events: Sequence[StampedEvent]


@dataclass(frozen=True, slots=True)
class OnlineItem:
    """The online state of one key, as the store keeps it.

    Attributes
    ----------
    entity
        Partition key, ``<pipeline>.<feature set>#<entity key>``.
    version
        Count of writes, 1 for the first; the condition of the next put.
    definition
        Digest of the feature definition.
    position
        Position of the last applied event.
    time_us
        Time of the newest applied event, microseconds.
    features
        Current feature values as JSON, floats in shortest exact form.
    state
        Canonical bytes of the state.
    """

    entity: str
    version: int
    definition: str
    position: str
    time_us: int
    features: str
    state: bytes

    def content(self) -> tuple[str, str, str, int, str, bytes]:
        """Return what a rebuild must reproduce: everything but the count of writes."""
        return (
            self.entity,
            self.definition,
            self.position,
            self.time_us,
            self.features,
            self.state,
        )


class EventStream(Protocol):
    """The validated stream."""

    def put(self, batches: Iterable[KeyedBatch]) -> None:
        """Append every batch, never changing the order within a key.

        Raises
        ------
        StreamUnavailableError
            Some batch was refused even after retries; putting all again is safe.
        """


class IngestStream(Protocol):
    """The door that everything enters by."""

    def put(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Put (partition key, bytes) pairs and return how many.

        Raises
        ------
        RecordTooLargeError
            Some do not fit, see `fits`; all others were put.
        StreamUnavailableError
            Some were refused even after retries; putting all again is safe.
        """


class Quarantine(Protocol):
    """Where rejected records wait with their bytes and reasons."""

    def put(self, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """Keep `documents` under `name`; the same name again replaces them.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield every kept document."""


class OnlineStore(Protocol):
    """The current state of every key."""

    def load(
        self, entities: Sequence[str], *, with_state: bool = True
    ) -> dict[str, OnlineItem]:
        """Return the items of those `entities` that have one.

        Parameters
        ----------
        with_state
            Whether the state is needed; without it, it is empty, and less is read.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """

    def put(self, item: OnlineItem) -> None:
        """Write `item` over version ``item.version - 1``.

        Raises
        ------
        StateConflictError
            The stored version is another: load again, fold again.
        StoreUnavailableError
            The store refused even after retries.
        """

    def put_all(
        self, items: Sequence[OnlineItem]
    ) -> Iterator[StateConflictError | StoreUnavailableError | None]:
        """Write items of different entities, and yield what `put` would have raised.

        Some that follow may be written before the first outcome is there; who asks for
        no more outcomes lets the rest be.
        """

    def scan(self) -> Iterator[OnlineItem]:
        """Yield every item."""

    def entities(self, share: int, shares: int) -> Iterator[tuple[str, int]]:
        """Yield entity and time, microseconds, of every item in a share of the store.

        Which share an entity is in is for the store to say; it is in one.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """


class EventLog(Protocol):
    """The log: every validated event, for ever."""

    def append(self, name: str, events: Sequence[StampedEvent]) -> None:
        """Keep one segment; the same name again must hold the same events.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[StampedEvent]:
        """Yield events as they were written, in no order, possibly more than once.

        Parameters
        ----------
        types
            Only these event types; all if None.
        arrived_from
            Leave out what arrived before this date; some of it may still come.
        keys, buckets
            Only events of these keys, or of keys in these parts (see `bucket_of`);
            all if None.
        """


PLAIN_VERSION: Final = b"retrodict.plain_version"
"""Metadata of a table without `schema_version`: the version of all its events, which
are typed."""

IN_TIME: Final = b"retrodict.in_time"
"""Metadata of such a table without `late`: no event of it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Which columns of a segment are asked for.

    A segment in which every event is typed and of one version gives just these, and
    says so in the metadata of its tables. Another gives the whole envelope and payload
    as well, so that its events can be lifted.

    Attributes
    ----------
    envelope
        Columns beside the payload, those of `retrodict.derived_columns` among them.
    fields
        Fields of the payload.
    version
        Schema version that `fields` are of.
    """

    envelope: tuple[str, ...]
    fields: tuple[str, ...]
    version: int


@runtime_checkable
class ColumnLog(Protocol):
    """A log that can give its events as Arrow tables."""

    def tables(
        self,
        event_type: str,
        reading: Reading | None = None,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[Any]:
        """Yield what `EventLog.read` would, of one type, a segment or less at a time.

        Parameters
        ----------
        reading
            Only these columns; all if None.

        Yields
        ------
        pyarrow.Table
            As `retrodict.arrow_events.known_events` takes them.
        """

    def size_bytes(self, event_type: str) -> int:
        """Return how many bytes of segments hold events of a type."""


class MergedPart(Protocol):
    """What one merged segment holds; see `retrodict.merging`."""

    @property
    def bucket(self) -> int:
        """The part of the keys."""

    @property
    def version(self) -> int:
        """The schema version of its events."""

    @property
    def events(self) -> Any:
        """They, as an Arrow table like those of `SegmentStore.table_of`."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment, as the log lists it.

    Attributes
    ----------
    name
        What `EventLog.append` was told, or what compaction called it:
        ``type=<event type>/arrived=<date>/...``
    written_us
        When it was written, microseconds.
    bucket, version
        Of a merged segment: its part of the keys, and the schema version of its
        events; None of one that was appended.
    """

    name: str
    size_bytes: int
    written_us: int
    bucket: int | None = None
    version: int | None = None

    @property
    def event_type(self) -> str:
        """The type of its events."""
        return self.name.split("/", 1)[0].removeprefix("type=")

    @property
    def arrived(self) -> str:
        """The date its records arrived on, as ``YYYY-MM-DD``."""
        return self.name.split("/", 2)[1].removeprefix("arrived=")


@dataclass(frozen=True, slots=True)
class LogPartition:
    """The segments of one event type and date of arrival, by name."""

    event_type: str
    arrived: str
    files: tuple[SegmentFile, ...]

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to merge: one segment a bucket and version."""
        kinds = {(file.bucket, file.version) for file in self.files}
        merged = all(file.bucket is not None for file in self.files)
        return merged and len(kinds) == len(self.files)


class SegmentStore(Protocol):
    """The log's segments one by one, as compaction needs them."""

    def partitions(
        self, types: Collection[str] | None = None
    ) -> Iterator[LogPartition]:
        """Yield every partition, the dates of a type in their order."""

    def table_of(
        self, files: Sequence[SegmentFile], *, buckets: Collection[int] | None = None
    ) -> Any:
        """Return the events of some segments of a type, or only of some parts' keys.

        They are an Arrow table with the columns of a segment that is written now, in no
        order, possibly with repeats.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries, or a segment has gone.
        """

    def events_of(
        self, file: SegmentFile, *, keys: Collection[str]
    ) -> list[StampedEvent]:
        """Return the events of some keys in one segment.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries, or the segment has gone.
        """

    def columns_of(self, files: Sequence[SegmentFile], names: Sequence[str]) -> Any:
        """Return columns of the envelope of some segments of a type as an Arrow table.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries, or the segment has gone.
        """

    def write_merged(
        self, partition: LogPartition, part: MergedPart, digest: str
    ) -> SegmentFile:
        """Write one merged segment; one with these events already stays as it is.

        Parameters
        ----------
        digest
            Of its events, by `retrodict.table_digest`.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """

    def delete(self, file: SegmentFile) -> None:
        """Remove one segment; one that has gone is no error.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """


class LifecycleStore(Protocol):
    """The decisions about each pipeline, in their order."""

    def read(self, stream_id: str) -> list[Recorded]:
        """Return every decision of a stream, oldest first; empty for a new one.

        Raises
        ------
        StoreUnavailableError
            The store refused even after retries.
        """

    def append(
        self, stream_id: str, decisions: Sequence[Decided], *, expected_version: int
    ) -> list[Recorded]:
        """Append after `expected_version`, one by one, and return what was recorded.

        Raises
        ------
        StreamConflictError
            The stream is at another version; what came before it stays recorded.
        StoreUnavailableError
            The store refused even after retries.
        """


class Workflow(Protocol):
    """A state machine that can be started."""

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        """Start one execution; a name that was started before is no error.

        Raises
        ------
        StoreUnavailableError
            The service refused even after retries.
        """
