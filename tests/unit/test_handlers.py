"""Each function does its one thing, twice delivered or once, over ports in memory."""

import base64
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from retrodict.contracts import Event, Key, field
from retrodict.errors import (
    LogConflictError,
    StoreUnavailableError,
    StreamUnavailableError,
)
from retrodict.online import plan, project
from retrodict.pipeline import load_catalog, load_pipelines
from retrodict.ports import KeyedBatch, OnlineItem
from retrodict.validation import Accepted, Arrival, Catalog, validate
from retrodict_aws.kinesis_batch import (
    DeliveredBatch,
    DeliveredRecord,
    again_from,
    delivered,
    segment_name,
)
from retrodict_aws.kinesis_event_stream import encode
from retrodict_aws.s3_event_log import S3EventLog

from tests.events import NOON_US, SECOND_US, place, reading
from tests.fake_s3 import FakeS3
from tests.fakes import (
    FakeEventLog,
    FakeEventStream,
    FakeIngestStream,
    FakeOnlineStore,
    FakeQuarantine,
)

FUNCTIONS = Path(__file__).parents[2] / "functions"
SHARD = "shardId-000000000000"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what Powertools reads at import."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "test")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Retrodict")
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")


@pytest.fixture
def handler(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Import the handler of the function that the test names."""
    name = f"handler_of_{request.param}"
    path = FUNCTIONS / request.param / "handler.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def of(function: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("handler", [function], indirect=True)


def raw(value: object, *, id: str = "1", key: str = "s-1") -> bytes:  # noqa: A002
    return json.dumps(
        {
            "specversion": "1.0",
            "id": id,
            "source": "plant",
            "type": "sensor.reading",
            "subject": key,
            "time": "2026-01-05T12:00:00Z",
            "dataschema": "sensor.reading/v1",
            "data": {"sensor_id": key, "value": value},
        }
    ).encode()


def record(data: bytes, number: int, key: str = "s-1") -> DeliveredRecord:
    return DeliveredRecord(SHARD, str(number), key, NOON_US, data)


def validated(*batches: KeyedBatch) -> list[DeliveredRecord]:
    return [
        record(data, number, batch.key)
        for number, batch in enumerate(batches, start=1)
        for data in encode(batch)
    ]


@of("validate_records")
def test_good_records_go_on_in_order_and_bad_ones_to_quarantine(
    handler: ModuleType,
) -> None:
    stream, quarantine = FakeEventStream(), FakeQuarantine()
    records = [
        record(raw(1.0, id="a"), 1),
        record(b"\x1f\x8b", 2),
        record(raw("hot", id="b"), 3),
        record(raw(2.0, id="c"), 4),
        record(raw(3.0, id="d", key="s-2"), 5, "s-2"),
    ]

    counts = handler.handle(DeliveredBatch(lambda_event(*records)), stream, quarantine)

    assert [(b.key, [e.id for e in b.events]) for b in stream.batches] == [
        ("s-1", ["a", "c"]),
        ("s-2", ["d"]),
    ]
    assert [d["codes"] for d in quarantine.read()] == [["compressed"], ["wrong_type"]]
    assert counts == {"AcceptedRecords": 3, "RejectedRecords": 2}


@of("validate_records")
def test_rejects_keep_their_name_wherever_their_batch_is_cut(
    handler: ModuleType,
) -> None:
    quarantine = FakeQuarantine()
    good = [record(raw(1.0, id=str(n)), n) for n in (1, 5)]
    bad = [record(b"\x1f\x8b", n) for n in (2, 3, 4)]
    cuts = [[good[0], *bad], [*bad, good[1]], bad, [bad[0], good[1], bad[2]]]

    for cut in cuts:
        batch = DeliveredBatch(lambda_event(*cut))
        handler.handle(batch, FakeEventStream(), quarantine)

    assert set(quarantine.documents) == {
        segment_name(bad),
        segment_name([bad[0], bad[2]]),
    }
    kept = [len(documents) for documents in quarantine.documents.values()]
    assert sorted(kept) == [2, 3]


@pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")
@of("validate_records")
def test_what_a_stream_refuses_is_asked_for_again_from_its_first_record(
    handler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(FakeEventStream):
        def put(self, batches: Any) -> None:  # noqa: ARG002 - the port's signature
            raise StreamUnavailableError("throttled")

    handler.__dict__["ports"] = lambda: (Refusing(), FakeQuarantine())
    event = lambda_event(record(raw(1.0), 7), record(raw(2.0, id="2"), 8))

    answer = handler.lambda_handler(event, Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "7"}]}


@of("validate_records")
def test_a_reject_comes_in_by_redrive_once_its_contract_is_mended(
    handler: ModuleType,
) -> None:
    class Mended(Event, type="sensor.reading", version=1):
        sensor_id: Key[str] = field(pattern=r"[a-z0-9-]{1,64}")
        value: float = field(ge=-40, le=500, unit="Cel")

    stream, quarantine = FakeEventStream(), FakeQuarantine()
    hot = lambda_event(record(raw(200.0, id="hot"), 1))
    handler.handle(DeliveredBatch(hot), stream, quarantine)
    (document,) = quarantine.read()
    handler.__dict__["load_catalog"] = lambda: Catalog({"sensor.reading": Mended})

    again = lambda_event(record(base64.b64decode(document["bytes_base64"]), 2))
    counts = handler.handle(DeliveredBatch(again), stream, quarantine)

    assert document["codes"] == ["out_of_range"]
    assert counts == {"AcceptedRecords": 1, "RejectedRecords": 0}
    assert [e.id for b in stream.batches for e in b.events] == ["hot"]


@of("write_features")
def test_features_of_each_key_are_written_once_and_again_nothing(
    handler: ModuleType,
) -> None:
    store, quarantine = FakeOnlineStore(), FakeQuarantine()
    records = validated(
        KeyedBatch("s-1", [reading(1.0), reading(3.0, id="2", number=2)]),
        KeyedBatch("s-2", [reading(5.0, key="s-2", number=3)]),
    )

    first = handler.handle(records, store, quarantine, FakeIngestStream())
    again = handler.handle(records, store, quarantine, FakeIngestStream())

    assert (first.puts, again.puts) == (2, 0)
    items = {i.entity.split("#")[1]: json.loads(i.features) for i in store.scan()}
    assert items["s-1"]["mean_3"] == 2.0
    assert items["s-2"]["mean_3"] == 5.0


@of("write_features")
def test_a_used_identity_with_another_payload_is_quarantined(
    handler: ModuleType,
) -> None:
    store, quarantine = FakeOnlineStore(), FakeQuarantine()
    batch = KeyedBatch("s-1", [reading(1.0), reading(9.0, number=2)])

    handler.handle(validated(batch), store, quarantine, FakeIngestStream())

    assert [d["codes"] for d in quarantine.read()] == [["identity_conflict"]]
    (item,) = store.scan()
    assert json.loads(item.features)["mean_3"] == 1.0


@of("write_features")
def test_what_came_too_late_is_no_conflict_once_its_identity_was_used(
    handler: ModuleType,
) -> None:
    store, quarantine = FakeOnlineStore(), FakeQuarantine()
    late = KeyedBatch("s-1", [reading(1.0, late=True)])
    other = KeyedBatch("s-1", [reading(9.0, number=2)])

    handler.handle(validated(late), store, quarantine, FakeIngestStream())
    handler.handle(validated(late, other), store, quarantine, FakeIngestStream())
    handler.handle(validated(late, other), store, quarantine, FakeIngestStream())

    assert not list(quarantine.read())
    (item,) = store.scan()
    assert json.loads(item.features)["mean_3"] == 9.0


def conflict_that_is_forgotten() -> list[KeyedBatch]:
    """Return two payloads of one identity, and enough after them to forget it."""
    after = [reading(2.0, at_s=n * 60.0, id=str(n), number=n) for n in range(3, 3 + 60)]
    return [KeyedBatch("s-1", [reading(1.0), reading(9.0, number=2), *after])]


@of("write_features")
def test_a_conflict_is_kept_though_the_batch_breaks_off_before_or_after_it_is(
    handler: ModuleType,
) -> None:
    class Refusing(FakeQuarantine):
        is_refusing = True

        def put(self, name: str, documents: Any) -> None:
            if self.is_refusing:
                raise StoreUnavailableError("throttled")
            super().put(name, documents)

    store, quarantine = FakeOnlineStore(), Refusing()
    records = validated(*conflict_that_is_forgotten())
    with pytest.raises(StoreUnavailableError):
        handler.handle(records, store, quarantine, FakeIngestStream())
    quarantine.is_refusing = False

    handler.handle(records, store, quarantine, FakeIngestStream())
    handler.handle(records, store, quarantine, FakeIngestStream())

    assert [d["codes"] for d in quarantine.read()] == [["identity_conflict"]]


@of("write_features")
def test_what_is_told_again_does_not_replace_what_was_told_before(
    handler: ModuleType,
) -> None:
    store, quarantine = FakeOnlineStore(), FakeQuarantine()
    (batch,) = conflict_that_is_forgotten()
    last = reading(9.0, at_s=62 * 60.0, id="62", number=99)
    records = validated(KeyedBatch("s-1", [*batch.events, last]))

    handler.handle(records, store, quarantine, FakeIngestStream())
    handler.handle(records, store, quarantine, FakeIngestStream())

    told = {d["position"]: d["codes"] for d in quarantine.read()}
    assert told == {where: ["identity_conflict"] for where in (place(2), place(99))}


@of("write_features")
def test_a_key_beyond_its_rate_is_told_as_an_event_that_is_accepted(
    handler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (definition,) = load_pipelines()["sensor_anomaly"].features
    monkeypatch.setattr(definition, "state_limit_bytes", 2_500)
    store, quarantine, stream = FakeOnlineStore(), FakeQuarantine(), FakeIngestStream()
    burst = [reading(1.0, at_s=n / 100, id=str(n), number=n + 1) for n in range(200)]
    records = validated(KeyedBatch("s-1", burst))

    handler.handle(records, store, quarantine, stream)

    ((key, raw),) = stream.records
    arrival = Arrival(place(900), key, NOON_US + SECOND_US)
    verdict = validate(raw, arrival, load_catalog())
    assert isinstance(verdict, Accepted)
    told = verdict.event
    assert (told.type, told.key) == ("retrodict.rate.exceeded", "s-1")
    beyond = list(quarantine.read())
    assert {code for d in beyond for code in d["codes"]} == {"rate_exceeded"}
    assert told.data["events"] == len(beyond) > 0
    assert told.data["first_position"] == beyond[0]["position"]
    assert told.data["max_rate"] == definition.max_rate


@of("write_features")
def test_a_record_that_is_none_of_ours_does_not_hold_up_the_shard(
    handler: ModuleType,
) -> None:
    store, quarantine = FakeOnlineStore(), FakeQuarantine()
    records = [record(b"junk", 1), *validated(KeyedBatch("s-1", [reading(1.0)]))]

    projected = handler.handle(records, store, quarantine, FakeIngestStream())

    assert projected.unfinished is None
    assert [d["codes"] for d in quarantine.read()] == [["unreadable_event"]]
    assert len(store.items) == 1


@of("archive_events")
def test_a_batch_is_one_segment_a_type_and_again_the_same(
    handler: ModuleType,
) -> None:
    log, quarantine = FakeEventLog(), FakeQuarantine()
    events = [reading(1.0), reading(2.0, id="2", number=2)]
    records = validated(KeyedBatch("s-1", events))

    assert handler.handle(records, log, quarantine) == 2
    assert handler.handle(records, log, quarantine) == 2
    assert list(log.read()) == events
    [name] = log.segments
    assert name.startswith(f"type=sensor.reading/arrived=2026-01-05/{SHARD}-1-1-")


@of("archive_events")
@pytest.mark.parametrize("left_out", [(), (2,), (3,), (2, 3)])
def test_batches_with_the_same_ends_and_other_records_are_both_archived(
    handler: ModuleType, left_out: tuple[int, ...]
) -> None:
    log, quarantine = FakeEventLog(), FakeQuarantine()
    events = [reading(1.0, id=str(number), number=number) for number in range(1, 5)]
    records = validated(*(KeyedBatch("s-1", [event]) for event in events))
    some = [one for one in records if int(one.sequence_number) not in left_out]

    assert handler.handle(some, log, quarantine) == 4 - len(left_out)
    assert handler.handle(records, log, quarantine) == 4
    assert {event.id for event in log.read()} == {"1", "2", "3", "4"}
    assert len(log.segments) == (2 if left_out else 1)


def test_a_batch_has_the_same_name_in_columns_and_in_records() -> None:
    records = validated(*(KeyedBatch("s-1", [reading(1.0)]) for _ in range(3)))

    name = segment_name(records)

    assert name == DeliveredBatch(lambda_event(*records)).segment_name(range(3))
    assert name != segment_name(records[::2])


class StoreThatFails(FakeOnlineStore):
    """Refuses to write one key."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def put(self, item: OnlineItem) -> None:
        if item.entity.endswith(self.key):
            raise StoreUnavailableError("throttled")
        super().put(item)


def test_a_batch_is_given_back_from_the_lowest_record_that_was_not_folded() -> None:
    store = StoreThatFails("#s-2")
    works = plan(
        [
            ("9", KeyedBatch("s-1", [reading(1.0)])),
            ("10", KeyedBatch("s-2", [reading(1.0, key="s-2", number=2)])),
            ("11", KeyedBatch("s-3", [reading(1.0, key="s-3", number=3)])),
            ("12", KeyedBatch("s-1", [reading(2.0, id="2", number=4)])),
        ]
    )

    done = project(works, store, lambda _: None)

    assert done.unfinished == "10"
    assert [e.split("#")[1] for e in store.items] == ["s-1"]


class StoreThatLosesARace(FakeOnlineStore):
    """Has another writer fold the same events first, once."""

    def put(self, item: OnlineItem) -> None:
        if not self.items:
            super().put(item)
        super().put(item)


def test_a_lost_race_is_folded_again_over_what_won() -> None:
    store = StoreThatLosesARace()

    works = plan([("1", KeyedBatch("s-1", [reading(1.0)]))])
    done = project(works, store, lambda _: None)

    assert done.unfinished is None
    assert done.puts == 0
    assert [item.version for item in store.scan()] == [1]


def test_the_sample_event_of_aws_is_read() -> None:
    event = {
        "Records": [
            {
                "kinesis": {
                    "partitionKey": "1",
                    "sequenceNumber": "49590338271490256608559692538361571095921575989",
                    "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                    "approximateArrivalTimestamp": 1545084650.987,
                },
                "eventID": "shardId-000000000006:4959033827149025660855969253836",
            }
        ]
    }

    (found,) = delivered(event)

    assert found.data == b"Hello, this is a test."
    assert found.arrived_at_us == 1_545_084_650_987_000
    assert found.position.startswith("000000000006-0")
    batch = DeliveredBatch(event)
    assert batch.raw(0) == found.data
    assert batch.arrival(0) == Arrival(found.position, "1", found.arrived_at_us)
    assert batch.segment_name([0]) == segment_name([found])
    assert batch.segment_name([0]).startswith(
        "arrived=2018-12-17/shardId-000000000006-"
        "49590338271490256608559692538361571095921575989-"
        "49590338271490256608559692538361571095921575989-"
    )


@pytest.mark.parametrize(
    ("arrived_s", "day"),
    [(1545091199.999, "2018-12-17"), (1545091200.0, "2018-12-18")],
)
def test_a_segment_is_named_by_the_day_its_first_record_arrived(
    arrived_s: float, day: str
) -> None:
    (first, second) = (
        {
            "eventID": "shardId-000000000006:1",
            "kinesis": {
                "partitionKey": "1",
                "sequenceNumber": sequence,
                "data": "",
                "approximateArrivalTimestamp": arrived_s + later_s,
            },
        }
        for sequence, later_s in (("8", 0.0), ("9", 86_400.0))
    )
    name = DeliveredBatch({"Records": [first, second]}).segment_name([0, 1])

    assert name.startswith(f"arrived={day}/shardId-000000000006-8-9-")
    assert name == segment_name(delivered({"Records": [first, second]}))


def test_an_empty_sequence_number_is_never_answered() -> None:
    with pytest.raises(ValueError, match="empty"):
        again_from("")


class Context:
    """What Powertools reads of a Lambda context."""

    function_name = "test"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:test"
    aws_request_id = "1"


def lambda_event(*records: DeliveredRecord) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"{r.shard_id}:{r.sequence_number}",
                "kinesis": {
                    "partitionKey": r.partition_key,
                    "sequenceNumber": r.sequence_number,
                    "approximateArrivalTimestamp": r.arrived_at_us / 1e6,
                    "data": base64.b64encode(r.data).decode(),
                },
            }
            for r in records
        ]
    }


# --- compact_log ----------------------------------------------------------------------


class PatientContext(Context):
    """A Lambda context with time left."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")
@of("compact_log")
def test_a_schedule_merges_what_is_over_and_tells_what_was_reused(
    handler: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3, quarantine = FakeS3(), FakeQuarantine()
    log = S3EventLog(s3, "log", contracts=load_catalog().contracts)
    day = "type=sensor.reading/arrived=2026-01-05"
    log.append(f"{day}/shard-1", [reading(1.0, number=1)])
    log.append(f"{day}/shard-2", [reading(2.0, number=2)])
    monkeypatch.setattr(handler, "ports", lambda: (log, quarantine))
    monkeypatch.setenv("IDENTITY_LOOKBACK_DAYS", "35")

    early = handler.lambda_handler({"time": "2026-01-05T23:00:00Z"}, PatientContext())
    done = handler.lambda_handler({"time": "2026-01-06T02:00:00Z"}, PatientContext())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert early == {"partitions": 0, "unfinished": 0}
    assert done == {"partitions": 1, "unfinished": 0}
    assert [d["id"] for d in quarantine.read()] == ["1"]
    assert [line["ReusedIdentities"] for line in told if "_aws" in line] == [[0], [1]]


@pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")
@of("compact_log")
def test_a_day_that_cannot_be_merged_fails_the_run_after_everything_else(
    handler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, quarantine = FakeS3(), FakeQuarantine()
    log = S3EventLog(s3, "log")
    for day, value in (("2026-01-05", 1.0), ("2026-01-05", 2.0), ("2026-01-06", 3.0)):
        name = f"type=sensor.reading/arrived={day}/shard-{value}"
        log.append(name, [reading(value, number=int(day[-1]))])
    monkeypatch.setattr(handler, "ports", lambda: (log, quarantine))
    monkeypatch.setenv("IDENTITY_LOOKBACK_DAYS", "35")

    with pytest.raises(LogConflictError, match=r"sensor\.reading, 2026-01-05"):
        handler.lambda_handler({"time": "2026-01-08T02:00:00Z"}, PatientContext())

    assert any("arrived=2026-01-06/bucket=" in key for key in s3.objects)
