"""Event source mappings from streams to functions, with AWS's semantics.

The streams are Kinesis streams and the streams of DynamoDB tables.

moto keeps the configuration of a mapping and delivers wrongly: one record a call, into
one mapping a stream, errors dropped. Here every shard has a reader that

- sends one batch at a time, in order, of at most ``BatchSize`` records and 6 MB,
- waits for a full batch at most ``MaximumBatchingWindowInSeconds``,
- with ``ReportBatchItemFailures`` goes on from the lowest reported sequence number; an
  empty answer is success; a null, empty, unknown or misnamed identifier, or an answer
  that is no object, fails the whole batch,
- after an error splits the batch in two if ``BisectBatchOnFunctionError``, which
  counts as no retry, and otherwise retries with growing pauses,
- gives a batch up after ``MaximumRetryAttempts`` retries, and records older than
  ``MaximumRecordAgeInSeconds`` or the stream's retention, to the on-failure
  destination: S3 gets the whole invocation record, SQS and SNS its metadata,
- reads a child shard after its parents are drained.

With a partial answer and bisect the batch is cut at the reported number and the rest is
no retry; where the reported number is the first, nothing can be cut and it is one.
AWS documents neither the pauses nor what a wrong top-level key means: pauses double
from 0.25 s to 60 s, and an object without ``batchItemFailures`` is success.

Of a mapping with ``MetricsConfig`` the events are counted that it polled, dropped, and
delivered to its destination.

Not reproduced, and refused by name: ``ParallelizationFactor`` other than 1, tumbling
windows, starting at a timestamp, other sources, destinations on Kafka.
"""

import base64
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.kinesis.models import Record

from infra.local import kinesis_shard, table_stream
from infra.local.activity import Activity
from infra.local.clock import Clock, Timer
from infra.local.errors import UnsupportedByTwinError
from infra.local.event_pattern import EventPattern
from infra.local.lambda_runtime import LambdaRuntime, Outcome
from infra.local.metrics import Metrics
from infra.local.polled_events import PolledEvents

PAYLOAD_LIMIT_BYTES = 6 * 1024 * 1024
_RECORD_OVERHEAD_BYTES = 600  # what surrounds the data of a record in the payload
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 60.0
_UNLIMITED = -1
_REFUSED = {
    "TumblingWindowInSeconds": (None, 0),
    "ParallelizationFactor": (None, 1),
    "StartingPosition": ("TRIM_HORIZON", "LATEST"),
}


_SOURCES: Mapping[str, Any] = {"kinesis": kinesis_shard, "dynamodb": table_stream}


def _source(stream_arn: str) -> Any:
    """Return how a stream is read: a module with the same functions for each kind."""
    return _SOURCES[stream_arn.split(":")[2]]


@dataclass(frozen=True)
class MappingSettings:
    """A mapping's configuration, as ``list_event_source_mappings`` shows it."""

    uuid: str
    stream_arn: str
    function_arn: str
    batch_size: int
    window: timedelta
    retries: int
    age: timedelta
    bisects: bool
    reports_failures: bool
    destination: str | None
    from_latest: bool
    filters: tuple[EventPattern, ...]
    counts_events: bool
    is_enabled: bool

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> "MappingSettings":
        """Read what the API shows.

        Raises
        ------
        UnsupportedByTwinError
            If the mapping needs what the twin does not reproduce.
        """
        kind = "AWS::Lambda::EventSourceMapping"
        for key, values in _REFUSED.items():
            if shown.get(key) not in values:
                raise UnsupportedByTwinError(
                    shown["UUID"], kind, f"the property {key} = {shown.get(key)!r}"
                )
        source = shown["EventSourceArn"]
        if source.split(":")[2] not in _SOURCES:
            raise UnsupportedByTwinError(
                shown["UUID"], kind, f"the event source {source}"
            )
        retention = timedelta(hours=_source(source).retention_hours(source))
        age = shown.get("MaximumRecordAgeInSeconds", _UNLIMITED)
        limit = timedelta(seconds=age) if age != _UNLIMITED else retention
        on_failure = shown.get("DestinationConfig", {}).get("OnFailure", {})
        return cls(
            uuid=shown["UUID"],
            stream_arn=source,
            function_arn=shown["FunctionArn"],
            batch_size=int(shown.get("BatchSize", 100)),
            window=timedelta(seconds=shown.get("MaximumBatchingWindowInSeconds", 0)),
            retries=int(shown.get("MaximumRetryAttempts", _UNLIMITED)),
            age=min(limit, retention),
            bisects=bool(shown.get("BisectBatchOnFunctionError", False)),
            reports_failures="ReportBatchItemFailures"
            in shown.get("FunctionResponseTypes", []),
            destination=on_failure.get("Destination"),
            from_latest=shown["StartingPosition"] == "LATEST",
            filters=tuple(
                EventPattern.of_json(entry["Pattern"], place=shown["UUID"])
                for entry in shown.get("FilterCriteria", {}).get("Filters", [])
            ),
            counts_events="EventCount"
            in (shown.get("MetricsConfig") or {}).get("Metrics", []),
            is_enabled=shown["State"] == "Enabled",
        )


@dataclass
class MappingCounts:
    """What a mapping has done since the twin started."""

    invocations: int = 0
    delivered: int = 0
    filtered: int = 0
    discarded: int = 0
    last_error: str | None = None


@dataclass
class _Batch:
    """Records that are sent together, and how often that failed."""

    records: list[Record]
    failures: int = 0
    invocations: int = 0


@dataclass(frozen=True)
class _Surroundings:
    """What every reader shares."""

    clock: Clock
    activity: Activity
    runtime: LambdaRuntime
    client: Callable[[str], Any]
    region: str
    metrics: Metrics


class _ShardReader:
    """One shard of one mapping: its place, its batch, its pauses.

    The thread sleeps only while it holds no token of the activity, so the twin is idle
    exactly when every reader waits for a record or for its timer.
    """

    def __init__(
        self,
        surroundings: _Surroundings,
        running: "_RunningMapping",
        shard_id: str,
        drained: Callable[[str], None],
    ) -> None:
        self._around = surroundings
        self._settings = running.settings
        self._source = _source(running.settings.stream_arn)
        self._counts = running.counts
        self._polled = running.polled
        after = running.positions.get(shard_id, 0)
        self._shard_id = shard_id
        self._drained = drained
        self._batches: deque[_Batch] = deque()
        self._collected: list[Record] = []
        self._size = 0
        self._read_to = after
        self.checkpoint = after
        self._wake = threading.Condition()
        self._is_woken = True
        self._is_stopping = False
        self._timer: Timer | None = None
        self._is_due = False
        self._is_parked = False
        surroundings.activity.begin()
        self._thread = threading.Thread(
            target=self._run, name=f"twin-{shard_id}", daemon=True
        )
        self._thread.start()

    @property
    def lag(self) -> int:
        """How many records stand after the checkpoint."""
        stream, shard = self._settings.stream_arn, self._shard_id
        newest: int = self._source.last_sequence_number(stream, shard)
        return newest - self.checkpoint

    def wake(self) -> None:
        """Look again: there may be records, or a shard was closed."""
        with self._wake:
            self._is_woken = True
            if self._is_parked:
                self._is_parked = False
                self._around.activity.begin()
                self._wake.notify_all()

    def stop(self) -> None:
        """End after the invocation that runs, if one does."""
        self._is_stopping = True
        self.wake()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                if self._batches:
                    self._send(self._batches.popleft())
                elif self._collect():
                    self._batches.append(_Batch(self._collected))
                    self._collected, self._size = [], 0
                elif self._is_over():
                    self._drained(self._shard_id)
                    return
                else:
                    self._park()
        except Exception as error:
            self._counts.last_error = repr(error)
            self._around.activity.fail(error)
            raise
        finally:
            self._around.activity.end()

    def _is_over(self) -> bool:
        stream, shard = self._settings.stream_arn, self._shard_id
        return not self._collected and self._source.is_drained(
            stream, shard, self._read_to
        )

    def _park(self) -> None:
        """Wait without a token until someone wakes this reader."""
        with self._wake:
            if not self._is_woken:
                self._is_parked = True
                self._around.activity.end()
                while self._is_parked:
                    self._wake.wait()
            self._is_woken = False

    def _pause(self, duration: timedelta) -> None:
        """Wait for the clock, whatever else happens, except for the end."""
        self._is_due = False
        self._schedule(self._around.clock.now() + duration)
        while not self._is_due and not self._is_stopping:
            self._park()

    def _schedule(self, due: datetime) -> None:
        def fire() -> None:
            self._is_due = True
            self._timer = None
            self.wake()

        self._timer = self._around.clock.call_at(due, fire)

    def _collect(self) -> bool:
        """Take records into the batch; True once it is to be sent."""
        settings = self._settings
        is_full = self._read()
        if not self._collected:
            self.checkpoint = self._read_to
            return False
        is_full = is_full or len(self._collected) >= settings.batch_size
        is_closed = self._source.is_drained(
            settings.stream_arn, self._shard_id, self._read_to
        )
        if not (is_full or is_closed or self._is_due or not settings.window):
            if self._timer is None:
                self._schedule(self._around.clock.now() + settings.window)
            return False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = False
        return True

    def _read(self) -> bool:
        """Read what the batch has room for; True if its bytes leave none."""
        settings, begin = self._settings, self._read_to
        is_full = False
        while not is_full and len(self._collected) < settings.batch_size:
            wanted = settings.batch_size - len(self._collected)
            found = self._source.read(
                settings.stream_arn, self._shard_id, self._read_to, wanted
            )
            if not found:
                break
            for record in found:
                size = len(record.data) + _RECORD_OVERHEAD_BYTES
                if self._collected and self._size + size > PAYLOAD_LIMIT_BYTES:
                    is_full = True
                    break
                self._read_to = record.sequence_number
                if self._is_wanted(record):
                    self._collected.append(record)
                    self._size += size
                else:
                    self._counts.filtered += 1
        if self._polled is not None and self._read_to > begin:
            self._polled.add(self._read_to - begin)
        return is_full

    def _is_wanted(self, record: Any) -> bool:
        if not self._settings.filters:
            return True
        if self._source is table_stream:
            shown = record.shown
        else:
            try:
                data = json.loads(base64.b64decode(record.data))
            except ValueError:
                return False
            shown = {"partitionKey": record.partition_key, "data": data}
        return any(pattern.matches(shown) for pattern in self._settings.filters)

    def _send(self, batch: _Batch) -> None:
        """Invoke the function once and decide what becomes of the batch."""
        oldest_allowed = self._around.clock.now() - self._settings.age
        expired = [r for r in batch.records if _arrival(r) < oldest_allowed]
        if expired:
            rest = batch.records[len(expired) :]
            self._discard(_Batch(expired, invocations=batch.invocations), None)
            if rest:
                self._batches.appendleft(_Batch(rest, batch.failures))
            return
        payload = self._payload(batch.records)
        age = self._around.clock.now() - _arrival(batch.records[-1])
        self._around.metrics.put(
            "AWS/Lambda",
            "IteratorAge",
            {"FunctionName": _name_of(self._settings.function_arn)},
            max(0.0, age.total_seconds() * 1000),
            "Milliseconds",
        )
        outcome = self._around.runtime.invoke(self._settings.function_arn, payload)
        if self._is_stopping:
            return
        batch.invocations += 1
        self._counts.invocations += 1
        failed_from = self._failed_from(batch.records, outcome)
        if failed_from is None:
            self._advance(batch.records[-1], len(batch.records))
        elif failed_from > 0:
            self._advance(batch.records[failed_from - 1], failed_from)
            failures = batch.failures + (0 if self._settings.bisects else 1)
            rest = batch.records[failed_from:]
            self._retry(_Batch(rest, failures, batch.invocations), outcome)
        elif outcome.is_error and self._settings.bisects and len(batch.records) > 1:
            middle = len(batch.records) // 2
            for half in (batch.records[middle:], batch.records[:middle]):
                self._batches.appendleft(
                    _Batch(half, batch.failures, batch.invocations)
                )
        else:
            batch.failures += 1
            self._retry(batch, outcome)

    def _advance(self, record: Record, count: int) -> None:
        self.checkpoint = record.sequence_number
        self._counts.delivered += count

    def _retry(self, batch: _Batch, outcome: Outcome) -> None:
        retries = self._settings.retries
        if retries != _UNLIMITED and batch.failures > retries:
            self._discard(batch, outcome)
            return
        self._batches.appendleft(batch)
        if batch.failures:
            seconds = _FIRST_PAUSE_SECONDS * 2.0 ** min(batch.failures - 1, 16)
            self._pause(timedelta(seconds=min(seconds, _LONGEST_PAUSE_SECONDS)))

    def _failed_from(self, records: list[Record], outcome: Outcome) -> int | None:
        """Return the place of the first failed record, None if all succeeded."""
        if outcome.is_error:
            self._counts.last_error = outcome.payload.decode(errors="replace")
            return 0
        if not self._settings.reports_failures:
            return None
        place, problem = lowest_failure(
            outcome.payload, [self._source.name_of(record) for record in records]
        )
        if problem is not None:
            self._counts.last_error = problem
        return place

    def _payload(self, records: Sequence[Any]) -> bytes:
        stream = self._settings.stream_arn
        if self._source is table_stream:
            return table_stream.payload(records)
        role = self._around.runtime.definition(self._settings.function_arn).role
        return json.dumps(
            {
                "Records": [
                    {
                        "kinesis": {
                            "kinesisSchemaVersion": "1.0",
                            "partitionKey": record.partition_key,
                            "sequenceNumber": str(record.sequence_number),
                            "data": record.data,
                            "approximateArrivalTimestamp": int(record.created_at * 1000)
                            / 1000,
                        },
                        "eventSource": "aws:kinesis",
                        "eventVersion": "1.0",
                        "eventID": f"{self._shard_id}:{record.sequence_number}",
                        "eventName": "aws:kinesis:record",
                        "invokeIdentityArn": role,
                        "awsRegion": self._around.region,
                        "eventSourceARN": stream,
                    }
                    for record in records
                ]
            },
            separators=(",", ":"),
        ).encode()

    def _discard(self, batch: _Batch, outcome: Outcome | None) -> None:
        """Give a batch up: to the on-failure destination, then past it."""
        became = "DroppedEventCount"
        if self._settings.destination is not None:
            self._deliver(self._settings.destination, batch, outcome)
            became = "OnFailureDestinationDeliveredEventCount"
        if self._settings.counts_events:
            self._around.metrics.put(
                "AWS/Lambda",
                became,
                {"EventSourceMappingUUID": self._settings.uuid},
                float(len(batch.records)),
                "Count",
            )
        self._counts.discarded += len(batch.records)
        self.checkpoint = batch.records[-1].sequence_number

    def _deliver(
        self, destination: str, batch: _Batch, outcome: Outcome | None
    ) -> None:
        now = self._around.clock.now()
        first, last = batch.records[0], batch.records[-1]
        record: dict[str, Any] = {
            "requestContext": {
                "requestId": outcome.request_id if outcome else str(uuid.uuid4()),
                "functionArn": f"{self._settings.function_arn}:$LATEST",
                "condition": "RetryAttemptsExhausted"
                if outcome
                else "RecordAgeExceeded",
                "approximateInvokeCount": batch.invocations,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled" if outcome and outcome.is_error else None,
            },
            "version": "1.0",
            "timestamp": _milliseconds(now),
            "DDBStreamBatchInfo"
            if self._source is table_stream
            else "KinesisBatchInfo": {
                "shardId": self._shard_id,
                "startSequenceNumber": self._source.name_of(first),
                "endSequenceNumber": self._source.name_of(last),
                "approximateArrivalOfFirstRecord": _milliseconds(_arrival(first)),
                "approximateArrivalOfLastRecord": _milliseconds(_arrival(last)),
                "batchSize": len(batch.records),
                "streamArn": self._settings.stream_arn,
            },
        }
        service, name = destination.split(":")[2], destination.split(":")[5]
        client = self._around.client(service)
        if service == "s3":
            record["payload"] = self._payload(batch.records).decode()
            client.put_object(
                Bucket=name,
                Key=f"aws/lambda/{self._settings.uuid}/{self._shard_id}/"
                f"{now:%Y/%m/%d}/{now:%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}",
                Body=json.dumps(record).encode(),
            )
        elif service == "sqs":
            url = client.get_queue_url(QueueName=name)["QueueUrl"]
            client.send_message(QueueUrl=url, MessageBody=json.dumps(record))
        else:
            client.publish(TopicArn=destination, Message=json.dumps(record))


def lowest_failure(
    payload: bytes, sequence_numbers: Sequence[str]
) -> tuple[int | None, str | None]:
    """Read a ``ReportBatchItemFailures`` answer.

    Parameters
    ----------
    payload
        What the function returned, JSON.
    sequence_numbers
        Those of the batch, in order.

    Returns
    -------
    place
        Of the lowest reported number in the batch; 0 if the answer is malformed and
        the whole batch counts as failed; None if all succeeded.
    problem
        What is wrong with the answer, None if nothing is.

    Examples
    --------
    >>> lowest_failure(b'{"batchItemFailures": []}', ["7", "8"])
    (None, None)
    >>> lowest_failure(b'{"batchItemFailures":[{"itemIdentifier":"8"}]}', ["7", "8"])
    (1, None)
    >>> lowest_failure(b'{"batchItemFailures":[{"itemIdentifier":"9"}]}', ["7", "8"])[0]
    0
    """
    try:
        answer = json.loads(payload or b"null")
    except ValueError:
        return 0, "the answer is not JSON"
    if not isinstance(answer, dict | None):
        return 0, "the answer is no object"
    failures = (answer or {}).get("batchItemFailures") or []
    if not isinstance(failures, list):
        return 0, "batchItemFailures is no list"
    if not failures:
        return None, None
    places = {number: place for place, number in enumerate(sequence_numbers)}
    lowest = len(sequence_numbers)
    for failure in failures:
        name = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(name, str) or name not in places:
            return 0, f"the itemIdentifier {name!r} is not of this batch"
        lowest = min(lowest, places[name])
    return lowest, None


@dataclass
class _RunningMapping:
    """A mapping and the readers of its shards."""

    settings: MappingSettings
    counts: MappingCounts = field(default_factory=MappingCounts)
    readers: dict[str, _ShardReader] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    positions: dict[str, int] = field(default_factory=dict)
    polled: PolledEvents | None = None

    def lag(self) -> int:
        """Return how many records were not taken, also where nobody reads now."""
        stream = self.settings.stream_arn
        found = 0
        for shard in _source(stream).shards(stream):
            name = shard.shard_id
            reader = self.readers.get(name)
            if reader is not None:
                found += reader.lag
            elif name not in self.finished:
                newest = _source(stream).last_sequence_number(stream, name)
                found += newest - self.positions.get(name, 0)
        return found


class EventSourceMappings:
    """Every mapping of the twin, kept in step with what the Lambda API shows."""

    def __init__(  # noqa: PLR0913, PLR0917 - what every reader shares
        self,
        clock: Clock,
        activity: Activity,
        runtime: LambdaRuntime,
        client: Callable[[str], Any],
        region: str,
        metrics: Metrics,
    ) -> None:
        self._around = _Surroundings(clock, activity, runtime, client, region, metrics)
        self._lock = threading.RLock()
        self._running: dict[str, _RunningMapping] = {}
        self._stop_listening = [
            source.listen(self._stream_changed) for source in _SOURCES.values()
        ]
        self._is_stopping = False

    def reconcile(self) -> None:
        """Start, change and stop readers until they are what the API shows.

        Raises
        ------
        UnsupportedByTwinError
            If a mapping needs what the twin does not reproduce.
        """
        client = self._around.client("lambda")
        pages = client.get_paginator("list_event_source_mappings").paginate()
        shown = {
            entry["UUID"]: MappingSettings.of(entry)
            for page in pages
            for entry in page["EventSourceMappings"]
        }
        with self._lock:
            for name in set(self._running) - set(shown):
                gone = self._running.pop(name)
                self._stop_readers(gone)
                if gone.polled is not None:
                    gone.polled.switch(is_on=False)
            for name, settings in shown.items():
                running = self._running.get(name)
                if running is None:
                    running = self._running[name] = _RunningMapping(settings)
                    self._set_start(running)
                elif running.settings != settings:
                    self._stop_readers(running)
                    running.settings = settings
                self._count_polls(running)
                self._start_readers(running)

    def _count_polls(self, running: _RunningMapping) -> None:
        """Count what a mapping polls, if it is to be counted, while it is enabled."""
        settings, around = running.settings, self._around
        if running.polled is None and settings.counts_events:
            running.polled = PolledEvents(
                settings.uuid, around.metrics, around.clock.now
            )
        if running.polled is not None:
            is_on = settings.is_enabled and settings.counts_events
            running.polled.switch(is_on=is_on)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return stream, function, state, lag and counts of every mapping."""
        with self._lock:
            return {
                name: {
                    "stream": _name(running.settings.stream_arn),
                    "function": _name_of(running.settings.function_arn),
                    "state": "Enabled" if running.settings.is_enabled else "Disabled",
                    "lag_records": running.lag(),
                    "invocations": running.counts.invocations,
                    "delivered": running.counts.delivered,
                    "filtered": running.counts.filtered,
                    "discarded": running.counts.discarded,
                    "last_error": running.counts.last_error,
                }
                for name, running in self._running.items()
            }

    def stop(self) -> None:
        """Let every reader end after the invocation that runs."""
        for stop in self._stop_listening:
            stop()
        with self._lock:
            self._is_stopping = True
            for reader in self._readers():
                reader.stop()

    def join(self) -> None:
        """Wait for the end of every reader."""
        for reader in self._readers():
            reader.join()

    def _readers(self) -> list[_ShardReader]:
        return [
            reader
            for running in self._running.values()
            for reader in running.readers.values()
        ]

    def _set_start(self, running: _RunningMapping) -> None:
        """Remember where each shard that exists now is first read."""
        stream = running.settings.stream_arn
        for shard in _source(stream).shards(stream):
            newest = _source(stream).last_sequence_number(stream, shard.shard_id)
            start = newest if running.settings.from_latest else 0
            running.positions[shard.shard_id] = start

    def _stream_changed(self, stream_arn: str) -> None:
        with self._lock:
            for running in self._running.values():
                if running.settings.stream_arn == stream_arn:
                    self._start_readers(running)
                    for reader in running.readers.values():
                        reader.wake()

    def _start_readers(self, running: _RunningMapping) -> None:
        """Start a reader for every shard whose parents are drained."""
        if not running.settings.is_enabled or self._is_stopping:
            return
        stream = running.settings.stream_arn
        known = _source(stream).shards(stream)
        names = {shard.shard_id for shard in known}
        for shard in known:
            name = shard.shard_id
            if name in running.readers or name in running.finished:
                continue
            parents = {shard.parent, shard.adjacent_parent} & names
            if parents <= running.finished:
                running.readers[name] = _ShardReader(
                    self._around,
                    running,
                    name,
                    lambda drained, of=running: self._shard_drained(of, drained),  # type: ignore[misc]
                )

    def _shard_drained(self, running: _RunningMapping, shard_id: str) -> None:
        with self._lock:
            running.readers.pop(shard_id, None)
            running.finished.add(shard_id)
            self._start_readers(running)

    def _stop_readers(self, running: _RunningMapping) -> None:
        for name, reader in list(running.readers.items()):
            reader.stop()
            reader.join()
            running.positions[name] = reader.checkpoint
        running.readers.clear()


def _name_of(function_arn: str) -> str:
    return function_arn.rsplit(":", maxsplit=1)[-1]


def _name(stream_arn: str) -> str:
    """Return the name of a stream, or of the table it belongs to."""
    return stream_arn.split("/")[1]


def _arrival(record: Record) -> datetime:
    return datetime.fromtimestamp(record.created_at, UTC)


def _milliseconds(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
