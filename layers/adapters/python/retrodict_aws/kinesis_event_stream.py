"""The validated stream on Kinesis, in order per key whatever fails.

``PutRecords`` may fail in part and does not promise order. So one call never holds
two records of a key: all events of a key travel in one record, and where they do not
fit, the next record waits until the one before is acknowledged. A record names the
types of its events, so that a consumer's filter can leave it out unread.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest
from time import sleep as real_sleep
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.errors import (
    EventFormatError,
    RecordTooLargeError,
    StreamUnavailableError,
)
from retrodict.ports import KeyedBatch, fits
from retrodict.reasons import Reason, Violation
from retrodict.validation import Arrival, Rejected
from retrodict.wire import WireEvents

from retrodict_aws.clients import AWS_ERRORS, error_code
from retrodict_aws.kinesis_batch import DeliveredRecord

RECORD_BYTES: Final = 900_000
CALL_RECORDS: Final = 500
CALL_BYTES: Final = 4_500_000
ATTEMPTS: Final = 6

Entry = dict[str, Any]

_quoted: Final = json.encoder.encode_basestring_ascii


def encode(batch: KeyedBatch) -> Iterable[bytes]:
    """Cut `batch` into records, each below `RECORD_BYTES`, order kept."""
    events = batch.events
    if isinstance(events, WireEvents) and 0 < len(events.text) < RECORD_BYTES:
        return (_record(batch.key, events.types, events.text),)
    return _cut(batch.key, events)


def _cut(key: str, events: Iterable[StampedEvent]) -> Iterator[bytes]:
    held: list[bytes] = []
    types: set[str] = set()
    size = 0
    for event in events:
        text = event.to_json()
        grown = size + len(text) + 1
        if held and grown > RECORD_BYTES:
            yield _record(key, tuple(sorted(types)), b",".join(held))
            held, types, grown = [], set(), len(text)
        held.append(text)
        types.add(event.type)
        size = grown
    if held:
        yield _record(key, tuple(sorted(types)), b",".join(held))


def _record(key: str, types: tuple[str, ...], events: bytes) -> bytes:
    head = f'{{"key":{_quoted(key)},"types":{_names(types)},"events":['
    return b"".join((head.encode(), events, b"]}"))


@lru_cache(maxsize=256)
def _names(types: tuple[str, ...]) -> str:
    return json.dumps(types, separators=(",", ":"))


def filter_of(types: Collection[str]) -> dict[str, Any]:
    """Return the filter of an event source mapping that wants events of `types` only.

    Records with other events beside them are delivered too.

    Examples
    --------
    >>> filter_of({"sensor.reading"})
    {'data': {'types': ['sensor.reading']}}
    """
    return {"data": {"types": sorted(types)}}


def decode(data: bytes) -> KeyedBatch:
    """Read what `encode` wrote.

    Raises
    ------
    EventFormatError
        The bytes are not a record of the validated stream.
    """
    try:
        document = json.loads(data)
        key = document["key"]
        events = [StampedEvent.from_wire(event) for event in document["events"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EventFormatError(
            f"expected a record of the validated stream, got {data[:80]!r}"
        ) from error
    return KeyedBatch(key, events)


def _calls(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    call: list[Entry] = []
    size = 0
    for entry in entries:
        grown = size + len(entry["Data"]) + len(entry["PartitionKey"].encode())
        if call and (len(call) == CALL_RECORDS or grown > CALL_BYTES):
            yield call
            call, grown = [], len(entry["Data"]) + len(entry["PartitionKey"].encode())
        call.append(entry)
        size = grown
    if call:
        yield call


class _Putter:
    """Put records until every one is acknowledged, or give up aloud."""

    def __init__(
        self,
        client: Any,
        stream_name: str,
        sleep: Callable[[float], None],
        attempts: int = ATTEMPTS,
    ) -> None:
        self._client = client
        self.stream_name = stream_name
        self._sleep = sleep
        self._attempts = attempts

    def put(self, entries: Iterable[Entry]) -> None:
        for call in _calls(entries):
            self._put_call(call)

    def _put_call(self, entries: list[Entry]) -> None:
        refusal = ""
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(0.05 * 2**attempt)
            try:
                answer = self._client.put_records(
                    StreamName=self.stream_name, Records=entries
                )
            except AWS_ERRORS as error:
                refusal = error_code(error)
                continue
            if not answer["FailedRecordCount"]:
                return
            results = answer["Records"]
            refusal = next(r["ErrorCode"] for r in results if r.get("ErrorCode"))
            entries = [
                entry
                for entry, result in zip(entries, results, strict=True)
                if result.get("ErrorCode")
            ]
        raise StreamUnavailableError(
            f"stream {self.stream_name!r} refused {len(entries)} records "
            f"{self._attempts} times, last with {refusal}: put the batch again later"
        )


class KinesisEventStream:
    """`EventStream` over one Kinesis stream."""

    def __init__(
        self,
        client: Any,
        stream_name: str,
        *,
        sleep: Callable[[float], None] = real_sleep,
    ) -> None:
        self._putter = _Putter(client, stream_name, sleep)

    def put(self, batches: Iterable[KeyedBatch]) -> None:
        """Append every batch; see `EventStream.put`."""
        queues = [
            [{"PartitionKey": batch.key, "Data": data} for data in encode(batch)]
            for batch in batches
        ]
        for wave in zip_longest(*queues):
            self._putter.put(entry for entry in wave if entry is not None)


class KinesisIngestStream:
    """The door everything enters by, for those who hold raw records."""

    def __init__(
        self,
        client: Any,
        stream_name: str,
        *,
        sleep: Callable[[float], None] = real_sleep,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._putter = _Putter(client, stream_name, sleep, attempts)

    def put(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Put (partition key, bytes) pairs and return how many.

        A key's records may pass each other where Kinesis refuses some: their order
        is that of becoming known, not of happening, so features do not mind.

        Raises
        ------
        RecordTooLargeError
            Some do not fit, see `fits`; all others were put. Kinesis would refuse
            them with every record that travels beside them, each time.
        StreamUnavailableError
            Some were refused even after retries; putting all again is safe.
        """
        count = 0
        too_large: list[int] = []

        def fitting() -> Iterator[Entry]:
            nonlocal count
            for place, (key, data) in enumerate(records):
                if fits(key, data):
                    count += 1
                    yield {"PartitionKey": key, "Data": data}
                else:
                    too_large.append(place)

        self._putter.put(fitting())
        if too_large:
            raise RecordTooLargeError(self._putter.stream_name, tuple(too_large))
        return count


def read_batches(
    records: Iterable[DeliveredRecord],
) -> tuple[list[tuple[str, KeyedBatch]], list[dict[str, Any]]]:
    """Decode delivered records of the validated stream.

    Returns
    -------
    tuple
        Sequence number and content of each record that can be read, in order, and a
        quarantine document for each that cannot: it must not hold up the shard.
    """
    batches: list[tuple[str, KeyedBatch]] = []
    unreadable: list[dict[str, Any]] = []
    for record in records:
        try:
            batches.append((record.sequence_number, decode(record.data)))
        except EventFormatError as error:
            violation = Violation(
                "record", Reason.UNREADABLE_EVENT, "an event of ours", str(error)
            )
            arrival = Arrival(
                record.position, record.partition_key, record.arrived_at_us
            )
            rejected = Rejected(record.data, arrival, (violation,), None)
            unreadable.append(rejected.as_json())
    return batches, unreadable
