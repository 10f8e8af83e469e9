"""Each adapter and its fake keep the same promises; AWS is moto here."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import boto3
import pytest
from moto import mock_aws
from pipelines.sensor_anomaly.features import Sensor
from retrodict.arrow_events import known_events, reading_of
from retrodict.buckets import bucket_of
from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError, RecordTooLargeError, StateConflictError
from retrodict.features import feature_set
from retrodict.ports import (
    LARGEST_RECORD_BYTES,
    ColumnLog,
    EventLog,
    EventStream,
    IngestStream,
    KeyedBatch,
    OnlineItem,
    OnlineStore,
    Quarantine,
)
from retrodict.wire import JsonLines, WireEvents
from retrodict_aws.clients import online_store_client
from retrodict_aws.dynamodb_online_store import IN_FLIGHT, DynamoDBOnlineStore
from retrodict_aws.kinesis_event_stream import (
    KinesisEventStream,
    KinesisIngestStream,
    decode,
    encode,
)
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine, body

from tests.events import reading
from tests.fakes import (
    FakeEventLog,
    FakeEventStream,
    FakeIngestStream,
    FakeOnlineStore,
    FakeQuarantine,
)
from tests.tables import ONLINE_STORE

REGION = "eu-west-1"
SHARD = "shardId-000000000000"
ITEM = OnlineItem("p.S#s-1", 1, "ab" * 32, "0-1", 7, '{"mean":0.1}', b"\x00state\xff")
DEFINITION = feature_set(Sensor)
backends = pytest.mark.parametrize("backend", ["fake", "aws"])


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every test against an account of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def bucket(name: str) -> Any:
    s3 = client("s3")
    s3.create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return s3


def online_store(backend: str) -> OnlineStore:
    if backend == "fake":
        return FakeOnlineStore()
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="online",
        **ONLINE_STORE,
    )
    return DynamoDBOnlineStore(online_store_client(), "online")


def event_log(backend: str) -> EventLog:
    return FakeEventLog() if backend == "fake" else S3EventLog(bucket("log"), "log")


def quarantine(backend: str) -> Quarantine:
    return (
        FakeQuarantine()
        if backend == "fake"
        else S3Quarantine(bucket("rejects"), "rejects")
    )


@backends
def test_an_item_comes_back_as_it_was_put(backend: str) -> None:
    store = online_store(backend)
    store.put(ITEM)

    assert store.load([ITEM.entity, "p.S#nobody"]) == {ITEM.entity: ITEM}
    assert list(store.scan()) == [ITEM]


@backends
def test_the_shares_of_a_store_have_every_item_once(backend: str) -> None:
    store = online_store(backend)
    items = [replace(ITEM, entity=f"p.S#s-{n}", time_us=n) for n in range(40)]
    for item in items:
        store.put(item)

    shares = [list(store.entities(share, 4)) for share in range(4)]

    assert sum(bool(share) for share in shares) > 1
    assert sorted(found for share in shares for found in share) == sorted(
        (item.entity, item.time_us) for item in items
    )


@backends
def test_more_keys_than_one_call_takes_are_loaded(backend: str) -> None:
    store = online_store(backend)
    items = [replace(ITEM, entity=f"p.S#s-{n}") for n in range(130)]
    for item in items:
        store.put(item)

    assert store.load([item.entity for item in items]) == {i.entity: i for i in items}


@backends
@pytest.mark.parametrize("version", [1, 3], ids=["behind", "ahead"])
def test_a_writer_that_read_another_version_is_refused(
    backend: str, version: int
) -> None:
    store = online_store(backend)
    store.put(ITEM)

    with pytest.raises(StateConflictError):
        store.put(replace(ITEM, version=version, position="0-9"))

    assert store.load([ITEM.entity])[ITEM.entity] == ITEM


@backends
def test_one_that_is_refused_keeps_no_other_from_being_written(backend: str) -> None:
    store = online_store(backend)
    items = [replace(ITEM, entity=f"p.S#s-{n:02}") for n in range(25)]
    store.put(items[3])

    outcomes = list(store.put_all(items))

    assert isinstance(outcomes[3], StateConflictError)
    assert outcomes[:3] + outcomes[4:] == [None] * 24
    assert store.load([i.entity for i in items]) == {i.entity: i for i in items}


@backends
def test_who_asks_for_no_more_outcomes_lets_the_rest_be(backend: str) -> None:
    store = online_store(backend)
    items = [replace(ITEM, entity=f"p.S#s-{n:02}") for n in range(25)]

    assert next(store.put_all(items)) is None

    assert 1 <= len(list(store.scan())) <= IN_FLIGHT


@backends
def test_the_first_write_of_a_key_is_version_one(backend: str) -> None:
    store = online_store(backend)

    with pytest.raises(StateConflictError):
        store.put(replace(ITEM, version=2))


@backends
@pytest.mark.parametrize("is_narrow", [False, True])
def test_a_log_gives_its_events_as_columns(backend: str, *, is_narrow: bool) -> None:
    log = event_log(backend)
    events = [
        reading(0.1 * n, number=n, key=f"s-{n % 5}", data={"site": None})
        for n in range(1, 40)
    ]
    for start in range(0, 40, 15):
        name = f"type=sensor.reading/arrived=2026-01-05/segment-{start}"
        log.append(name, events[start : start + 20])  # cuts overlap
    wanted = reading_of([DEFINITION]) if is_narrow else None
    parts = [bucket_of("s-1"), bucket_of("s-3")]

    assert isinstance(log, ColumnLog)
    whole = known_events(DEFINITION, log.tables("sensor.reading", wanted))
    some = known_events(DEFINITION, log.tables("sensor.reading", wanted, buckets=parts))

    columns = whole.columns
    assert columns.keys == ("s-0", "s-1", "s-2", "s-3", "s-4")
    ordered = sorted(events, key=lambda event: (event.key, event.position))
    assert whole.position is not None
    assert whole.position.to_pylist() == [event.position for event in ordered]
    assert columns.values[0].tolist() == [event.data["value"] for event in ordered]
    assert {bucket_of(key) for key in some.columns.keys} == {*parts}
    assert list(log.tables("another.type", wanted)) == []


@backends
def test_events_come_back_from_the_log_exactly(backend: str) -> None:
    log = event_log(backend)
    events = [
        reading(0.1, number=1),
        replace(reading(-0.0, number=2, late=True), tags=("number_underflow",)),
        replace(reading(5e-324, number=3), causation_id="c", correlation_id="k"),
    ]
    log.append("type=sensor.reading/arrived=2026-01-05/shard-1-3", events)

    assert list(log.read()) == events


@backends
def test_a_redelivered_segment_changes_nothing(backend: str) -> None:
    log = event_log(backend)
    name = "type=sensor.reading/arrived=2026-01-05/shard-1-1"
    log.append(name, [reading(1.0)])
    log.append(name, [reading(1.0)])

    assert list(log.read()) == [reading(1.0)]


@backends
def test_a_segment_is_never_overwritten_with_other_events(backend: str) -> None:
    log = event_log(backend)
    name = "type=sensor.reading/arrived=2026-01-05/shard-1-1"
    log.append(name, [reading(1.0)])

    with pytest.raises(PermanentError):
        log.append(name, [reading(2.0)])

    assert list(log.read()) == [reading(1.0)]


@backends
def test_rejects_are_kept_and_the_same_batch_is_kept_once(backend: str) -> None:
    kept = quarantine(backend)
    kept.put("arrived=2026-01-05/shard-1-2", [{"codes": ["empty"]}, {"codes": ["x"]}])
    kept.put("arrived=2026-01-05/shard-1-2", [{"codes": ["empty"]}, {"codes": ["x"]}])

    assert list(kept.read()) == [{"codes": ["empty"]}, {"codes": ["x"]}]


@backends
def test_rejects_that_are_lines_already_are_kept_as_they_are(backend: str) -> None:
    kept = quarantine(backend)
    lines = JsonLines([b'{"codes":["x"]}\n', b'{"codes":["\\u00e9"]}\n'])
    kept.put("arrived=2026-01-05/shard-1-2", lines)

    assert list(kept.read()) == list(lines) == [{"codes": ["x"]}, {"codes": ["\u00e9"]}]
    assert lines[-1:] == [{"codes": ["\u00e9"]}]
    assert body(lines) == body(list(lines)) == lines.text


def read_stream(kinesis: Any) -> list[KeyedBatch]:
    batches = []
    for shard in kinesis.list_shards(StreamName="events")["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName="events",
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator)["Records"]
        batches += [decode(record["Data"]) for record in records]
    return batches


@backends
def test_the_stream_keeps_the_order_of_each_key(backend: str) -> None:
    sent = [
        KeyedBatch("s-1", [reading(1.0, id="1"), reading(2.0, id="2", number=2)]),
        KeyedBatch("s-2", [reading(3.0, id="1", key="s-2", number=3)]),
    ]
    stream: EventStream
    if backend == "fake":
        stream = fake = FakeEventStream()
        stream.put(sent)
        received = fake.batches
    else:
        kinesis = client("kinesis")
        kinesis.create_stream(StreamName="events", ShardCount=1)
        KinesisEventStream(kinesis, "events").put(sent)
        received = read_stream(kinesis)

    assert received == sent


@backends
def test_what_fits_no_stream_is_told_and_all_others_are_put(backend: str) -> None:
    largest = bytes(LARGEST_RECORD_BYTES - len("s-1"))
    sent = [("s-1", b"first"), ("s-1", largest + b"!"), ("s-1", largest)]
    sent += [("s-2", bytes(10 * LARGEST_RECORD_BYTES)), ("s-2", b"last")]
    stream: IngestStream
    if backend == "fake":
        stream = fake = FakeIngestStream()
    else:
        kinesis = client("kinesis")
        kinesis.create_stream(StreamName="ingest", ShardCount=1)
        stream = KinesisIngestStream(kinesis, "ingest")

    with pytest.raises(RecordTooLargeError) as caught:
        stream.put(sent)

    assert caught.value.places == (1, 3)
    assert "2 records are larger than stream 'ingest' takes" in str(caught.value)
    records = fake.records if backend == "fake" else put_on(kinesis, "ingest")
    assert records == [("s-1", b"first"), ("s-1", largest), ("s-2", b"last")]


def put_on(kinesis: Any, name: str) -> list[tuple[str, bytes]]:
    """Return what lies on a stream of one shard."""
    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    return [(record["PartitionKey"], record["Data"]) for record in records]


def test_a_batch_too_large_for_a_record_is_cut_in_order() -> None:
    events = [
        reading(1.0, id=str(n), number=n, data={"site": "x" * 1000})
        for n in range(2000)
    ]

    records = list(encode(KeyedBatch("s-1", events)))

    assert len(records) > 1
    assert max(map(len, records)) < 1_000_000
    assert [e for record in records for e in decode(record).events] == events
    assert list(encode(KeyedBatch("s-1", wired(events)))) == records
    few = events[:9]
    assert list(encode(KeyedBatch("s-1", wired(few)))) == list(
        encode(KeyedBatch("s-1", few))
    )


def wired(events: list[StampedEvent]) -> WireEvents:
    """Return events as the validator passes them on."""
    text = b",".join(event.to_json() for event in events)
    return WireEvents(text, len(events), tuple(sorted({e.type for e in events})))


class RefusingKinesis:
    """A Kinesis that refuses the first records of a call, as throttled shards do."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[bytes] = []
        self.keys_of_calls: list[list[str]] = []

    def put_records(self, *, StreamName: str, Records: list[Any]) -> Any:  # noqa: ARG002, N803 - boto3's
        self.keys_of_calls.append([r["PartitionKey"] for r in Records])
        results = []
        for record in Records:
            if self.refusals:
                self.refusals -= 1
                results.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.taken.append(record["Data"])
                results.append({"SequenceNumber": "1", "ShardId": "s"})
        failed = sum("ErrorCode" in result for result in results)
        return {"FailedRecordCount": failed, "Records": results}


def test_a_partial_failure_never_changes_the_order_within_a_key() -> None:
    long = [
        reading(1.0, id=str(n), number=n, data={"site": "x" * 1000})
        for n in range(2500)
    ]
    other = [reading(2.0, key="s-2", id="o", number=9_999)]
    kinesis = RefusingKinesis(refusals=3)

    KinesisEventStream(kinesis, "events", sleep=lambda _: None).put(
        [KeyedBatch("s-1", long), KeyedBatch("s-2", other)]
    )

    taken = [decode(data) for data in kinesis.taken]
    assert [e for b in taken if b.key == "s-1" for e in b.events] == long
    assert [e for b in taken if b.key == "s-2" for e in b.events] == other
    assert all(len(keys) == len(set(keys)) for keys in kinesis.keys_of_calls)


def test_a_segment_that_is_kept_in_memory_is_not_fetched_again() -> None:
    s3 = bucket("log")
    log = S3EventLog(s3, "log", kept_events=3)
    for number in (1, 2):
        name = f"type=sensor.reading/arrived=2026-01-0{number}/shard-1-1"
        log.append(name, [reading(1.0, number=number), reading(2.0, number=9 + number)])
    fetched: list[str] = []
    s3.meta.events.register(
        "before-call.s3.GetObject",
        lambda params, **_: fetched.append(params["url_path"]),
    )

    first = list(log.read())
    newest = list(log.read(arrived_from=date(2026, 1, 2)))

    assert len(fetched) == len(set(fetched)) == 2
    assert newest == first[2:]
    assert first == list(S3EventLog(s3, "log").read())
