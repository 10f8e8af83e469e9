"""The event log in S3: Parquet segments that are written once and never changed."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError, StoreUnavailableError

from retrodict_aws.clients import AWS_ERRORS, error_code

PREFIX: Final = "segments/"
ROWS_DIGEST: Final = "rows-sha256"

SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("id", pa.string()),
        ("schema_version", pa.int32()),
        ("time_us", pa.int64()),
        ("observed_at_us", pa.int64()),
        ("position", pa.string()),
        ("late", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("digest", pa.string()),
        ("data", pa.string()),
        ("causation_id", pa.string()),
        ("correlation_id", pa.string()),
    ]
)
"""Columns of a segment; the event type is a partition of the object key."""


class SegmentCollisionError(PermanentError):
    """A segment of that name holds other events; the log is never overwritten."""


def _row(event: StampedEvent) -> dict[str, Any]:
    return {
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
        "data": json.dumps(event.data, sort_keys=True, separators=(",", ":")),
        "causation_id": event.causation_id,
        "correlation_id": event.correlation_id,
    }


def _event(event_type: str, row: dict[str, Any]) -> StampedEvent:
    return StampedEvent(
        key=row["key"],
        source=row["source"],
        id=row["id"],
        type=event_type,
        schema_version=row["schema_version"],
        time_us=row["time_us"],
        observed_at_us=row["observed_at_us"],
        position=row["position"],
        late=row["late"],
        tags=tuple(row["tags"]),
        digest=row["digest"],
        data=json.loads(row["data"]),
        causation_id=row["causation_id"],
        correlation_id=row["correlation_id"],
    )


class S3EventLog:
    """`EventLog` over one bucket.

    Parameters
    ----------
    kept_events
        How many events to keep in memory between reads, in the segments used latest:
        who reads a moving window again and again fetches only what is new. A segment
        never changes, so what is kept is never stale.
    """

    def __init__(self, client: Any, bucket_name: str, *, kept_events: int = 0) -> None:
        self._client = client
        self._bucket_name = bucket_name
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
        rows = [_row(event) for event in events]
        digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        buffer = BytesIO()
        pq.write_table(
            pa.Table.from_pylist(rows, schema=SCHEMA),
            buffer,
            compression="zstd",
            compression_level=1,
        )
        key = f"{PREFIX}{name}.parquet"
        try:
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=key,
                Body=buffer.getvalue(),
                IfNoneMatch="*",
                Metadata={ROWS_DIGEST: digest},
            )
        except AWS_ERRORS as error:
            if error_code(error) != "PreconditionFailed":
                raise StoreUnavailableError(
                    f"log {self._bucket_name!r} refused segment {name!r}: "
                    f"{error_code(error)}"
                ) from error
            self._check_same(key, digest)

    def _check_same(self, key: str, digest: str) -> None:
        """Accept a redelivered segment, refuse another one under its name."""
        head = self._client.head_object(Bucket=self._bucket_name, Key=key)
        if head["Metadata"].get(ROWS_DIGEST) != digest:
            raise SegmentCollisionError(
                f"segment {key!r} exists with other events: find out who wrote it; "
                "nothing was overwritten"
            )

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
    ) -> Iterator[StampedEvent]:
        """Yield every event of every segment; see `EventLog.read`.

        Parameters
        ----------
        types
            Only these event types; all if None.
        arrived_from
            Only segments whose records arrived on this date or later.
        """
        prefixes = [PREFIX] if types is None else [f"{PREFIX}type={t}/" for t in types]
        since = "" if arrived_from is None else f"arrived={arrived_from.isoformat()}"
        for prefix in prefixes:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket_name,
                Prefix=prefix,
                # Of one type, keys stand in the order of arrival.
                StartAfter=prefix + since if types is not None else prefix,
            )
            for page in pages:
                for found in page.get("Contents", []):
                    if found["Key"].removeprefix(PREFIX).split("/")[1] >= since:
                        yield from self._segment(found["Key"])

    def _segment(self, key: str) -> list[StampedEvent]:
        events = self._kept.get(key)
        if events is not None:
            self._kept.move_to_end(key)
            return events
        events = self._fetch(key)
        if len(events) <= self._kept_events:
            self._kept[key] = events
            self._held_events += len(events)
        while self._held_events > self._kept_events:
            self._held_events -= len(self._kept.popitem(last=False)[1])
        return events

    def _fetch(self, key: str) -> list[StampedEvent]:
        answer = self._client.get_object(Bucket=self._bucket_name, Key=key)
        event_type = key.removeprefix(PREFIX).split("/")[0].removeprefix("type=")
        table = pq.ParquetFile(BytesIO(answer["Body"].read())).read()
        return [_event(event_type, row) for row in table.to_pylist()]
