"""The event log in S3: Parquet segments that are written once and never changed."""

import hashlib
import io
import itertools
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

import pyarrow as pa
from retrodict.buckets import bucket_of
from retrodict.contracts import Contract, Event
from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError, StoreUnavailableError
from retrodict.ports import LogPartition, MergedPart, Reading, SegmentFile
from retrodict.stamps import from_datetime

from retrodict_aws.clients import AWS_ERRORS, error_code
from retrodict_aws.joined_files import joined
from retrodict_aws.segments import (
    LAYOUT,
    DamagedSegmentError,
    Segment,
    buckets_of,
    encode,
    encode_table,
    intact,
    json_of,
    rewritten,
    schema_of,
)

T = TypeVar("T")

PREFIX: Final = "segments/"
ENDING: Final = ".parquet"
ROWS_DIGEST: Final = "rows-sha256"
BODY_DIGEST: Final = "body-sha256"
TAIL_DIGEST: Final = "tail-sha256"
TAIL_BYTES: Final = 1 << 16
"""The end of a segment, which holds what Parquet says of its pages."""
WHOLE_BYTES: Final = 1 << 20
"""Segments up to this size are fetched whole; of larger ones only what is read."""
LISTINGS: Final = 5
"""How often a partition is listed again because a segment in it has gone."""

_MERGED: Final = re.compile(r"bucket=(\d\d)/v(\d+)-[0-9a-f]+")
_GONE: Final = {"NoSuchKey", "404", "NotFound"}


class SegmentCollisionError(PermanentError):
    """A segment of that name holds other events; the log is never overwritten."""


def listed(found: Mapping[str, Any]) -> SegmentFile:
    """Return what one entry of a listing says."""
    name = found["Key"].removeprefix(PREFIX).removesuffix(ENDING)
    merged = _MERGED.fullmatch(name.split("/", 2)[-1])
    return SegmentFile(
        name,
        found["Size"],
        from_datetime(found["LastModified"]),
        *((int(merged[1]), int(merged[2])) if merged else (None, None)),
    )


def rows_digest(events: Sequence[StampedEvent]) -> str:
    """Return a digest of what a segment holds, the same in every layout."""
    rows = [
        {
            "key": event.key,
            "source": event.source,
            "id": event.id,
            "schema_version": event.schema_version,
            "time_us": event.time_us,
            "observed_at_us": event.observed_at_us,
            "position": event.position,
            "late": event.late,
            "tags": list(event.tags),
            "digest": event.digest,
            "data": json_of(event.data),
            "causation_id": event.causation_id,
            "correlation_id": event.correlation_id,
        }
        for event in events
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _key(name: str) -> str:
    return f"{PREFIX}{name}{ENDING}"


class _Gone(Exception):  # noqa: N818 - not an error: the log is listed again
    """A segment that was listed is not there any more."""


class S3EventLog:
    """`EventLog` over one bucket.

    Parameters
    ----------
    contracts
        By event type, what `append` knows of the payloads; events of other types are
        written as text. Reading needs none.
    kept_events
        How many events to keep in memory between reads, in the segments used latest:
        who reads a moving window again and again fetches only what is new. A segment
        never changes, so what is kept is never stale.
    """

    def __init__(
        self,
        client: Any,
        bucket_name: str,
        *,
        contracts: Mapping[str, type[Event]] | None = None,
        kept_events: int = 0,
    ) -> None:
        self._client = client
        self._bucket_name = bucket_name
        self._contracts = contracts or {}
        self._kept_events = kept_events
        self._kept: OrderedDict[str, list[StampedEvent]] = OrderedDict()
        self._held_events = 0

    def append(self, name: str, events: Sequence[StampedEvent]) -> None:
        """Keep one segment of events of one type; see `EventLog.append`.

        Raises
        ------
        SegmentCollisionError
            A segment called `name` holds other events.
        """
        self._put(name, encode(events, self._contract(name)), rows_digest(events))

    def _put(self, name: str, body: bytes, digest: str) -> int:
        """Write one segment unless it is there, and return how many bytes it has."""
        try:
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=_key(name),
                Body=body,
                IfNoneMatch="*",
                Metadata={
                    ROWS_DIGEST: digest,
                    BODY_DIGEST: hashlib.sha256(body).hexdigest(),
                    TAIL_DIGEST: hashlib.sha256(body[-TAIL_BYTES:]).hexdigest(),
                },
            )
        except AWS_ERRORS as error:
            if error_code(error) != "PreconditionFailed":
                raise StoreUnavailableError(
                    f"log {self._bucket_name!r} refused segment {name!r}: "
                    f"{error_code(error)}"
                ) from error
            return self._size_of_same(name, digest) or len(body)
        return len(body)

    def _contract(self, name: str) -> Contract | None:
        event = self._contracts.get(name.split("/", 1)[0].removeprefix("type="))
        return None if event is None else event.contract()

    def _size_of_same(self, name: str, digest: str) -> int | None:
        """Return how many bytes a segment has that was written before; None for none.

        Raises
        ------
        SegmentCollisionError
            It holds other events.
        """
        try:
            head = self._client.head_object(Bucket=self._bucket_name, Key=_key(name))
        except AWS_ERRORS as error:
            if error_code(error) in _GONE:
                return None
            raise StoreUnavailableError(
                f"log {self._bucket_name!r} refused to tell of segment {name!r}: "
                f"{error_code(error)}"
            ) from error
        if head["Metadata"].get(ROWS_DIGEST) != digest:
            raise SegmentCollisionError(
                f"segment {name!r} exists with other events: find out who wrote it; "
                "nothing was overwritten"
            )
        return int(head["ContentLength"])

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[StampedEvent]:
        """Yield every event of every segment; see `EventLog.read`.

        Parameters
        ----------
        types
            Only these event types; all if None.
        arrived_from
            Only segments whose records arrived on this date or later.
        keys, buckets
            Only events of these keys, or of keys in these parts. Merged segments of
            other parts are not fetched, and of the others only the row groups that
            may hold one of `keys`.

        Raises
        ------
        StoreUnavailableError
            Segments went away faster than they could be listed.
        """
        since = "" if arrived_from is None else arrived_from.isoformat()
        for (event_type, arrived), found in self._partitions(types, since):
            if arrived >= since:
                segments = [*found]
                yield from self._partition(
                    f"type={event_type}/arrived={arrived}/",
                    segments,
                    buckets_of(keys, buckets),
                    lambda one: self._segment(one, keys, buckets),
                )

    def tables(
        self,
        event_type: str,
        reading: Reading | None = None,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the events of one type as tables; see `ColumnLog.tables`.

        Raises
        ------
        StoreUnavailableError
            Segments went away faster than they could be listed.
        """
        for (_, arrived), found in self._partitions([event_type], ""):
            yield from self._partition(
                f"type={event_type}/arrived={arrived}/",
                [*found],
                buckets_of(keys, buckets),
                lambda one: self._tables(
                    one, reading, keys, buckets if one.bucket is None else None
                ),
            )

    def _tables(
        self,
        one: SegmentFile,
        reading: Reading | None,
        keys: Collection[str] | None,
        buckets: Collection[int] | None,
    ) -> Iterator[pa.Table]:
        with intact(one.name):
            yield from self._open(one).tables(reading, keys=keys, buckets=buckets)

    def size_bytes(self, event_type: str) -> int:
        """Return how many bytes of segments hold events of a type."""
        return sum(one.size_bytes for one in self._list(f"type={event_type}/"))

    def _partitions(
        self, types: Collection[str] | None, since: str
    ) -> Iterator[tuple[tuple[str, str], Iterator[SegmentFile]]]:
        if types is None:
            every = self._list("")
        else:
            # Of one type, keys stand in the order of arrival.
            every = itertools.chain.from_iterable(
                self._list(f"type={t}/", after=f"arrived={since}" if since else "")
                for t in types
            )
        return itertools.groupby(every, key=lambda one: (one.event_type, one.arrived))

    def _list(self, below: str, *, after: str = "") -> Iterator[SegmentFile]:
        """Yield the segments below a prefix, in the order of their keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket_name,
            Prefix=PREFIX + below,
            StartAfter=PREFIX + below + after,
        )
        try:
            for page in pages:
                yield from map(listed, page.get("Contents", []))
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"log {self._bucket_name!r} refused to be listed below {below!r}: "
                f"{error_code(error)}"
            ) from error

    def _partition(
        self,
        below: str,
        segments: Sequence[SegmentFile],
        wanted: Collection[int] | None,
        read: Callable[[SegmentFile], Iterable[T]],
    ) -> Iterator[T]:
        """Yield what is read of one type and date, whatever compaction does meanwhile.

        A segment that has gone was merged into others, which another listing shows;
        what was yielded of it before is yielded again.
        """
        done: set[str] = set()
        for _ in range(LISTINGS):
            try:
                for one in segments:
                    if one.name in done or _is_elsewhere(one, wanted):
                        continue
                    yield from read(one)
                    done.add(one.name)
            except _Gone:
                segments = [*self._list(below)]
            else:
                return
        raise StoreUnavailableError(
            f"log {self._bucket_name!r}: segments below {below!r} go away faster than "
            "they can be listed: read again when compaction has finished"
        )

    def _segment(
        self,
        one: SegmentFile,
        keys: Collection[str] | None,
        buckets: Collection[int] | None,
    ) -> list[StampedEvent]:
        events = self._kept.get(one.name)
        if events is not None:
            self._kept.move_to_end(one.name)
        else:
            with intact(one.name):
                events = self._open(one).events(keys=keys, buckets=buckets)
            if keys is None and buckets is None:
                self._keep(one.name, events)
            return events
        if keys is not None:
            events = [event for event in events if event.key in keys]
        if buckets is not None:
            events = [event for event in events if bucket_of(event.key) in buckets]
        return events

    def _keep(self, name: str, events: list[StampedEvent]) -> None:
        if len(events) <= self._kept_events:
            self._kept[name] = events
            self._held_events += len(events)
        while self._held_events > self._kept_events:
            self._held_events -= len(self._kept.popitem(last=False)[1])

    def _object(self, one: SegmentFile) -> "_Object":
        return _Object(self._client, self._bucket_name, _key(one.name), one.size_bytes)

    def _open(self, one: SegmentFile) -> Segment:
        source = self._object(one)
        if one.size_bytes <= WHOLE_BYTES:
            body = pa.BufferReader(source.whole())
            return Segment(one.event_type, body, is_compared=source.is_compared)
        source.check_tail()
        return Segment(one.event_type, source, is_remote=True)

    def partitions(
        self, types: Collection[str] | None = None
    ) -> Iterator[LogPartition]:
        """Yield every partition with its segments; see `SegmentStore.partitions`."""
        for (event_type, arrived), found in self._partitions(types, ""):
            yield LogPartition(event_type, arrived, tuple(found))

    def table_of(
        self, files: Sequence[SegmentFile], *, buckets: Collection[int] | None = None
    ) -> pa.Table:
        """Return the events of some segments; see `SegmentStore.table_of`."""
        [event_type] = {file.event_type for file in files}
        sources = [self._object(file) for file in files]
        tables = (
            Segment(
                event_type,
                pa.BufferReader(body),
                dictionaries=(),
                is_compared=all(source.is_compared for source in sources),
            ).whole(buckets)
            for body in joined(map(self._fetch, files, sources))
        )
        with intact(_any_of(files)):
            return rewritten(event_type, tables, self._contract(files[0].name))

    def events_of(
        self, file: SegmentFile, *, keys: Collection[str]
    ) -> list[StampedEvent]:
        """Return events of one segment; see `SegmentStore.events_of`."""
        return self._of(file, lambda one: one.events(keys=keys))

    def columns_of(
        self, files: Sequence[SegmentFile], names: Sequence[str]
    ) -> pa.Table:
        """Return columns of some segments; of large ones only those are fetched."""
        small = [file for file in files if file.size_bytes <= WHOLE_BYTES]
        with intact(_any_of(files)):
            tables = [
                Segment(files[0].event_type, pa.BufferReader(body)).columns(names)
                for body in joined(map(self._fetch, small, map(self._object, small)))
            ]
        tables += [
            self._of(file, lambda one: one.columns(names))
            for file in files
            if file.size_bytes > WHOLE_BYTES
        ]
        return pa.concat_tables(tables)

    def _of(self, file: SegmentFile, read: Callable[[Segment], T]) -> T:
        try:
            with intact(file.name):
                return read(self._open(file))
        except _Gone as gone:
            raise self._has_gone(file) from gone

    def _fetch(self, file: SegmentFile, source: "_Object") -> bytes:
        try:
            return source.whole()
        except _Gone as gone:
            raise self._has_gone(file) from gone

    def _has_gone(self, file: SegmentFile) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"log {self._bucket_name!r}: segment {file.name!r} has gone since it was "
            "listed: another compaction runs; run again when it has finished"
        )

    def write_merged(
        self, partition: LogPartition, part: MergedPart, digest: str
    ) -> SegmentFile:
        """Write one merged segment; see `SegmentStore.write_merged`.

        It is named after what it holds and how its payloads are typed, so that a
        contract that changed writes another one instead of finding the old.
        """
        below = f"type={partition.event_type}/arrived={partition.arrived}"
        contract = self._contract(below)
        typing = str(schema_of(contract))
        told = hashlib.sha256(f"{LAYOUT} {typing} {digest}".encode()).hexdigest()[:40]
        name = f"{below}/bucket={part.bucket:02}/v{part.version}-{told}"
        size_bytes = self._size_of_same(name, digest) or self._put(
            name, encode_table(part.events, contract), digest
        )
        return SegmentFile(name, size_bytes, 0, part.bucket, part.version)

    def delete(self, file: SegmentFile) -> None:
        """Remove one segment; the bucket keeps its bytes as an older version."""
        try:
            self._client.delete_object(Bucket=self._bucket_name, Key=_key(file.name))
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"log {self._bucket_name!r} refused to delete {file.name!r}: "
                f"{error_code(error)}"
            ) from error


def _any_of(files: Sequence[SegmentFile]) -> str:
    """Return the name of one segment, or of the first of several."""
    more = f" or one of {len(files) - 1} others" if len(files) > 1 else ""
    return f"{files[0].name}{more}"


def _is_elsewhere(one: SegmentFile, wanted: Collection[int] | None) -> bool:
    return wanted is not None and one.bucket is not None and one.bucket not in wanted


class _Object(io.RawIOBase):
    """An object of S3 as a file: every read is one request for just those bytes.

    Attributes
    ----------
    is_compared
        Whether no digest was missing that should have been compared so far.
    """

    def __init__(
        self, client: Any, bucket_name: str, key: str, size_bytes: int
    ) -> None:
        super().__init__()
        self._client = client
        self._bucket_name = bucket_name
        self._key = key
        self._size = size_bytes
        self._place = 0
        self._tail = b""
        self.is_compared = True

    def whole(self) -> bytes:
        """Return the object; see `fetch` for what it raises.

        Parquet changed by one bit may be read as other events, or end the process, so
        nothing is decoded before its digest was compared.

        Raises
        ------
        DamagedSegmentError
            It is not what was written.
        """
        return self._intact(BODY_DIGEST)

    def check_tail(self) -> None:
        """Compare the end of the object, which pages with checksums do not cover.

        Raises
        ------
        DamagedSegmentError
            It is not what was written.
        """
        first = max(0, self._size - TAIL_BYTES)
        self._tail = self._intact(TAIL_DIGEST, f"{first}-{self._size - 1}")

    def _intact(self, told: str, span: str | None = None) -> bytes:
        body, metadata = self.fetch(span)
        expected = metadata.get(told)  # none of a segment that was written long ago
        found = hashlib.sha256(body).hexdigest()
        self.is_compared = expected is not None
        if expected not in {None, found}:
            name = self._key.removeprefix(PREFIX).removesuffix(ENDING)
            why = f"its {told} is {found[:12]}, not {str(expected)[:12]}"
            raise DamagedSegmentError(name, why)
        return body

    def fetch(self, span: str | None = None) -> tuple[bytes, Mapping[str, str]]:
        """Return the bytes of the object, or some of them, and its metadata.

        Raises
        ------
        StoreUnavailableError
            S3 refused even after retries.
        """
        wanted = {} if span is None else {"Range": f"bytes={span}"}
        try:
            answer = self._client.get_object(
                Bucket=self._bucket_name, Key=self._key, **wanted
            )
            body: bytes = answer["Body"].read()
        except AWS_ERRORS as error:
            if error_code(error) in _GONE:
                raise _Gone from error
            raise StoreUnavailableError(
                f"log {self._bucket_name!r} refused to read {self._key!r}: "
                f"{error_code(error)}"
            ) from error
        return body, answer.get("Metadata", {})

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}
        self._place = start[whence] + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else self._place + size
        end = min(end, self._size)
        if end <= self._place:
            return b""
        behind = self._size - self._place
        if behind <= len(self._tail):
            start = len(self._tail) - behind
            body = self._tail[start : start + end - self._place]
        else:
            body, _ = self.fetch(f"{self._place}-{end - 1}")
        self._place = end
        return body
