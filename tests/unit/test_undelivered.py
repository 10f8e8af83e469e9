"""What a mapping gave up is brought in whole, once, or is left where it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    StillUndeliveredError,
    StoreUnavailableError,
    UndeliveredFormatError,
)
from retrodict.pipeline import load_catalog
from retrodict.replaying import Comparison, compare, replay
from retrodict.state import order_of_knowing
from retrodict.validation import Accepted, Arrival, validate
from retrodict_aws.kinesis_batch import DeliveredRecord
from retrodict_aws.redriving import Redriven, Redriving
from retrodict_aws.s3_undelivered import S3Undelivered, Undelivered, read_undelivered

from tests.events import NOON_US, place, reading
from tests.fake_s3 import Crash, FakeS3
from tests.fakes import (
    FakeEventLog,
    FakeEventStream,
    FakeIngestStream,
    FakeOnlineStore,
    FakeQuarantine,
)
from tests.simulation.champion import CHAMPION, promoted
from tests.simulation.runtime import Runtime, environment
from tests.simulation.simulation import CRAMPED_BYTES, state_limit
from tests.simulation.world import World
from tests.undelivered import document_of, event_of, given_up, numbered, records_of

# Powertools has doubts about the time, and about a batch without metrics.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SHARD = "shardId-000000000000"
NAME = "aws/lambda/one/shard/batch"
TABLE_EVENT = {
    "Records": [
        {"eventName": "INSERT", "dynamodb": {"SequenceNumber": str(n), "NewImage": {}}}
        for n in (8, 9)
    ]
}


class Deployment:
    """The real functions over ports in memory, and what their mappings gave up."""

    def __init__(self) -> None:
        self.log = FakeEventLog()
        self.store = FakeOnlineStore()
        self.quarantine = FakeQuarantine()
        self.door = FakeIngestStream()
        self.validated = FakeEventStream()
        self.runtime = Runtime(
            World(0, {}),
            {
                "validate_records": (self.validated, self.quarantine),
                "archive_events": (self.log, self.quarantine),
                "write_features": (self.store, self.quarantine, self.door),
                "score_events": (self.store, promoted(), (self.door,)),
            },
            {CHAMPION.digest: CHAMPION}.__getitem__,
        )
        self.settled: list[str] = []
        self.invoke: Callable[[str, bytes], Any] = self.run

    def run(self, arn: str, payload: bytes) -> Any:
        with environment():
            return self.runtime.invoke(arn.rsplit(":", 1)[-1], json.loads(payload))

    def deliver(self, function: str, *events: StampedEvent) -> None:
        answer = self.run(function, json.dumps(event_of(records_of(*events))).encode())
        assert answer == {"batchItemFailures": []}

    def archive_predictions(self) -> None:
        """Let what was predicted go the way of every record, to the log."""
        for number, (key, data) in enumerate(self.door.records, start=1_000):
            arrival = Arrival(place(number), key, NOON_US * 2)
            verdict = validate(data, arrival, load_catalog())
            assert isinstance(verdict, Accepted)
            self.log.append(f"type={verdict.event.type}/{number}", [verdict.event])

    def redriving(self) -> Redriving:
        return Redriving(
            invoke=self.invoke,
            settle=lambda batch: self.settled.append(batch.name),
            door=self.door,
            log=self.log,
            store=self.store,
            quarantine=self.quarantine,
        )

    def redrive(self, function: str, *batches: Undelivered) -> Redriven:
        return self.redriving().redrive(function, batches)

    def compared(self) -> Comparison:
        replayed, _ = replay(self.log.read())
        return compare(
            replayed, self.store.scan(), lambda keys: self.log.read(keys=keys)
        )


def batch(function: str, *events: StampedEvent) -> Undelivered:
    return given_up(function, event_of(records_of(*events)))


def test_what_lambda_leaves_is_read() -> None:
    records = records_of(*numbered(2))
    event = event_of(records)

    found = given_up("archive_events", event)

    assert found.records == tuple(records)
    assert json.loads(found.payload) == event
    assert found.function_arn.endswith(":function:archive_events")
    assert (found.first, found.last, found.count) == ("1", "2", 2)
    assert found.condition == "RetryAttemptsExhausted"
    assert found.mapping == found.name.split("/")[2]


def test_a_version_of_the_function_is_not_what_is_invoked() -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(1))))
    arn = document["requestContext"]["functionArn"]
    document["requestContext"]["functionArn"] = f"{arn}:$LATEST"

    assert read_undelivered(NAME, json.dumps(document).encode()).function_arn == arn


def test_a_payload_may_be_an_object_as_well() -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(1))))
    document["payload"] = json.loads(document["payload"])

    assert read_undelivered(NAME, json.dumps(document).encode()).count == 1


def test_a_batch_of_a_table_is_read_and_holds_no_kinesis_records() -> None:
    document = document_of("publish_decisions", event_of(records_of(*numbered(1))))
    info = {**document.pop("KinesisBatchInfo"), "batchSize": 2}
    info |= {"startSequenceNumber": "8", "endSequenceNumber": "9"}
    document |= {"DDBStreamBatchInfo": info, "payload": json.dumps(TABLE_EVENT)}

    found = read_undelivered(NAME, json.dumps(document).encode())

    assert (found.records, found.count) == ((), 2)
    assert json.loads(found.payload) == TABLE_EVENT


def test_what_holds_only_a_place_is_refused_with_the_place() -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(3))))
    del document["payload"]

    with pytest.raises(UndeliveredFormatError, match=r"3 records of .* from 1 to 3 on"):
        read_undelivered(NAME, json.dumps(document).encode())


def _without(records: list[Any]) -> list[Any]:
    return []


def _swapped(records: list[Any]) -> list[Any]:
    return records[::-1]


def _twice(records: list[Any]) -> list[Any]:
    return [records[0], *records]


def _of_another_shard(records: list[Any]) -> list[Any]:
    return [{**records[0], "eventID": "shardId-000000000007:1"}, *records[1:]]


def _one_more(records: list[Any]) -> list[Any]:
    more = {**records[-1], "kinesis": {**records[-1]["kinesis"]}}
    more["kinesis"]["sequenceNumber"] = "4"
    return [*records, more]


def _one_before(records: list[Any]) -> list[Any]:
    more = {**records[0], "kinesis": {**records[0]["kinesis"]}}
    more["kinesis"]["sequenceNumber"] = "0"
    return [more, *records]


def _without_bytes(records: list[Any]) -> list[Any]:
    return [{**records[0], "kinesis": {"sequenceNumber": "1"}}, *records[1:]]


@pytest.mark.parametrize(
    "damage",
    [
        _without, _swapped, _twice, _of_another_shard, _one_more, _one_before,
        _without_bytes,
    ],
)  # fmt: skip
def test_a_batch_that_is_not_what_was_given_up_is_refused(
    damage: Callable[[list[Any]], list[Any]],
) -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(3))))
    found = json.loads(document["payload"])["Records"]
    document["payload"] = json.dumps({"Records": damage(found)})
    if damage in (_one_more, _one_before):
        document["KinesisBatchInfo"]["batchSize"] = 4

    with pytest.raises(UndeliveredFormatError, match=NAME):
        read_undelivered(NAME, json.dumps(document).encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"requestContext": 1}', b"\xff", b"[" * 100_000],
    ids=lambda body: str(body[:20]),
)
def test_an_object_of_somebody_else_is_refused(body: bytes) -> None:
    with pytest.raises(UndeliveredFormatError, match="expected what Lambda leaves"):
        read_undelivered(NAME, body)


def test_any_cut_of_an_object_is_refused() -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(2))))
    body = json.dumps(document).encode()

    for end in range(len(body)):
        with pytest.raises(UndeliveredFormatError):
            read_undelivered(NAME, body[:end])


def test_a_mapping_with_a_filter_may_say_more_than_it_delivers() -> None:
    document = document_of("write_features", event_of(records_of(*numbered(4)[1:3])))
    info = {"startSequenceNumber": "1", "endSequenceNumber": "4", "batchSize": 4}
    document["KinesisBatchInfo"] |= info

    assert read_undelivered(NAME, json.dumps(document).encode()).count == 2


def test_a_redriven_object_is_moved_with_its_bytes_and_a_crash_keeps_it() -> None:
    document = document_of("archive_events", event_of(records_of(*numbered(1))))
    body = json.dumps(document).encode()
    for crash_at, before in ((1, True), (1, False), (2, True), (2, False)):
        s3 = FakeS3()
        s3.put_object(Bucket="b", Key=NAME, Body=body)
        kept = S3Undelivered(s3, "b")
        found = kept.read(NAME)
        s3.crash_at, s3.before = s3.changes + crash_at, before
        with pytest.raises(Crash):
            kept.settle(found)
        assert body in [held for held, *_ in s3.objects.values()]

        s3.crash_at = 0
        kept.settle(found)

        assert kept.names() == []
        assert {k: v[0] for k, v in s3.objects.items()} == {f"redriven/{NAME}": body}


def test_records_that_were_never_judged_enter_by_the_door_again() -> None:
    deployment = Deployment()
    sent = [
        DeliveredRecord(SHARD, str(n), f"key-{n}", NOON_US, f"raw {n}".encode())
        for n in (8, 9, 10)
    ]
    batches = [given_up("validate_records", event_of([one])) for one in sent[::-1]]

    done = deployment.redrive("validate_records", *batches)

    assert deployment.door.records == [(r.partition_key, r.data) for r in sent]
    assert deployment.validated.batches == []
    assert (done.batches, done.records, done.left) == (3, 3, {})
    assert deployment.settled == [one.name for one in batches[::-1]]


def test_events_that_were_not_archived_are_archived_at_their_positions() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", known[0], known[2])

    done = deployment.redrive("archive_events", batch("archive_events", known[1]))

    assert order_of_knowing([*deployment.log.read()]) == known
    assert (done.batches, done.records, done.left) == (1, 1, {})


def test_an_item_that_has_passed_a_batch_is_folded_again_with_it() -> None:
    deployment, known = Deployment(), numbered(4)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", known[0])
    deployment.deliver("write_features", *known[2:])
    deployment.deliver("score_events", *known)
    missed = batch("write_features", known[1])
    before = deployment.compared().differing

    done = deployment.redrive("write_features", missed)
    puts = deployment.store.puts
    again = deployment.redrive("write_features", missed)

    assert len(before) == 1
    assert deployment.compared().differing == ()
    assert (done.batches, done.restored, done.left) == (1, 1, {})
    assert (again.batches, again.restored, again.left) == (1, 0, {})
    assert deployment.store.puts == puts


def test_a_batch_that_was_finished_in_part_counts_once() -> None:
    deployment, known = Deployment(), numbered(4)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", *known)
    puts = deployment.store.puts

    done = deployment.redrive("write_features", batch("write_features", *known[1:3]))

    assert (done.restored, deployment.store.puts) == (0, puts)
    assert deployment.compared().differing == ()


def test_a_batch_waits_while_the_log_lacks_what_it_holds() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", known[0], known[2])
    deployment.deliver("write_features", known[0], known[2])
    missed = batch("write_features", known[1])
    before = dict(deployment.store.items)

    done = deployment.redrive("write_features", missed)

    assert deployment.settled == []
    assert "the log does not hold 1 of the 1 events" in done.left[missed.name]
    assert deployment.store.items == before


def test_a_batch_waits_while_its_key_is_ahead_of_the_log() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", *known[:2])
    deployment.deliver("write_features", known[0], known[2])
    missed = batch("write_features", known[1])
    before = dict(deployment.store.items)

    waiting = deployment.redrive("write_features", missed)
    deployment.deliver("archive_events", known[2])
    kept = dict(deployment.store.items)
    done = deployment.redrive("write_features", missed)

    assert "is ahead of the log" in waiting.left[missed.name]
    assert before == kept
    assert (done.batches, done.restored) == (1, 1)
    assert deployment.compared().differing == ()


def test_what_waits_is_tried_again_for_as_long_as_there_is_patience() -> None:
    deployment, known = Deployment(), numbered(3)
    other = reading(1.0, at_s=90, id="9", number=9, key="s-2")
    deployment.deliver("archive_events", *known[:2], other)
    deployment.deliver("score_events", known[0], known[2])
    batches = batch("score_events", known[1]), batch("score_events", other)
    turns: list[int] = []

    def wait() -> bool:
        turns.append(len(turns))
        if len(turns) == 2:
            deployment.deliver("archive_events", known[2])
        return len(turns) < 4

    done = deployment.redriving().persist("score_events", batches, wait)

    assert turns == [0, 1]
    assert (done.batches, done.records, done.restored, done.left) == (2, 2, 1, {})
    assert sum(done.unpredicted.values()) == 1
    assert deployment.compared().apart == ()
    assert deployment.settled == [batches[1].name, batches[0].name]


def test_what_was_predicted_while_it_waited_is_no_loss() -> None:
    deployment, known = Deployment(), numbered(2)
    deployment.deliver("archive_events", known[0])
    deployment.deliver("score_events", known[0])

    def wait() -> bool:
        deployment.deliver("archive_events", known[1])
        return True

    one = batch("score_events", known[1])
    done = deployment.redriving().persist("score_events", [one], wait)

    assert len(deployment.door.records) == 2
    assert (done.batches, done.unpredicted) == (1, {})


def test_patience_has_an_end() -> None:
    deployment, known = Deployment(), numbered(1)
    one = batch("write_features", *known)
    turns = iter([True, True, False])

    done = deployment.redriving().persist("write_features", [one], lambda: next(turns))

    assert list(done.left) == [one.name]
    assert list(turns) == []


def test_of_several_batches_only_those_that_wait_are_left() -> None:
    deployment = Deployment()
    mine = numbered(2)
    other = [reading(1.0, at_s=10 * n, id=str(n), number=n, key="s-2") for n in (3, 4)]
    deployment.deliver("archive_events", *mine, other[1])
    deployment.deliver("write_features", mine[1], other[1])
    batches = batch("write_features", mine[0]), batch("write_features", other[0])

    done = deployment.redrive("write_features", *batches)

    assert deployment.settled == [batches[0].name]
    assert list(done.left) == [batches[1].name]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"batchItemFailures": [{"itemIdentifier": "1"}]},
        StillUndeliveredError("it failed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", ["archive_events", "write_features"])
def test_what_a_function_does_not_take_stays(function: str, answer: Any) -> None:
    deployment, known = Deployment(), numbered(1)
    deployment.deliver("archive_events", *known)

    def invoke(_arn: str, _payload: bytes) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    deployment.invoke = invoke
    one = batch(function, *known)

    done = deployment.redrive(function, one)

    assert deployment.settled == []
    assert list(done.left) == [one.name]
    assert (done.batches, deployment.store.puts) == (0, 0)


def test_a_scoring_state_that_has_passed_a_batch_is_restored_and_the_loss_is_told() -> (
    None
):
    deployment, known = Deployment(), numbered(6)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", *known)
    deployment.deliver("score_events", known[0])
    deployment.deliver("score_events", *known[3:5])
    deployment.archive_predictions()
    before = deployment.compared()

    done = deployment.redrive("score_events", batch("score_events", *known[1:3]))
    scored = len(deployment.door.records)
    deployment.deliver("score_events", known[5])

    after = deployment.compared()
    assert (len(before.apart), after.apart, after.differing) == (1, (), ())
    assert (done.batches, done.restored) == (1, 1)
    assert sum(done.unpredicted.values()) == 2
    # what was on its way is scored when it comes
    assert len(deployment.door.records) == scored + 1


def test_a_batch_that_no_state_has_passed_is_predicted() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", *known)
    deployment.deliver("score_events", known[0])
    before = len(deployment.door.records)

    done = deployment.redrive("score_events", batch("score_events", *known[1:]))

    assert len(deployment.door.records) == before + 2
    assert (done.batches, done.restored, done.unpredicted) == (1, 0, {})
    assert deployment.compared().apart == ()


def test_what_was_predicted_before_its_batch_was_given_up_is_no_loss() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", *known)
    deployment.deliver("score_events", *known)
    deployment.archive_predictions()

    done = deployment.redrive("score_events", batch("score_events", *known[1:2]))

    assert done.unpredicted == {}


def test_a_conflict_that_a_state_has_passed_is_told_and_not_twice_folded() -> None:
    deployment = Deployment()
    first, last = numbered(3)[::2]
    other = reading(99.0, at_s=10, id="1", number=2)
    deployment.deliver("archive_events", first, other, last)
    deployment.deliver("write_features", first, last)

    deployment.redrive("write_features", batch("write_features", other))

    told = [*deployment.quarantine.read()]
    assert [(d["position"], d["codes"]) for d in told] == [
        (other.position, ["identity_conflict"])
    ]
    assert deployment.compared().differing == ()


def test_a_burst_that_a_state_has_passed_is_told_as_an_event_and_in_quarantine() -> (
    None
):
    deployment, known = Deployment(), numbered(40)
    deployment.deliver("archive_events", *known)
    with state_limit(CRAMPED_BYTES):
        deployment.deliver("write_features", *known[:25], known[39])
        deployment.redrive("write_features", batch("write_features", *known[25:39]))

        assert deployment.compared().differing == ()
    told = {d["position"]: d["codes"] for d in deployment.quarantine.read()}
    beyond = [event.position for event in known[25:39] if event.position in told]
    assert beyond
    assert {code for codes in told.values() for code in codes} == {"rate_exceeded"}
    [(key, data)] = deployment.door.records
    assert json.loads(data)["data"]["first_position"] == beyond[0]
    assert json.loads(data)["data"]["events"] == len(beyond)
    assert key == "s-1"


def test_what_is_told_on_delivery_is_told_once() -> None:
    deployment = Deployment()
    first, _ = numbered(2)
    other = reading(99.0, at_s=10, id="1", number=2)
    deployment.deliver("archive_events", first, other)
    deployment.deliver("write_features", first)

    deployment.redrive("write_features", batch("write_features", other))

    assert len([*deployment.quarantine.read()]) == 1


def test_what_is_remembered_of_alerts_is_kept() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", *known)
    deployment.deliver("score_events", known[0], known[2])
    [entity] = deployment.store.items
    item = deployment.store.items[entity]
    deployment.store.items[entity] = replace(item, features='{"last_alert_us":7}')

    deployment.redrive("score_events", batch("score_events", known[1]))

    assert deployment.store.items[entity].features == '{"last_alert_us":7}'


def test_who_writes_in_between_is_not_overwritten() -> None:
    deployment, known = Deployment(), numbered(4)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", known[0], known[2])
    sound = deployment.store.put
    raced: list[int] = []

    def put(item: Any) -> None:
        if not raced:
            raced.append(1)
            deployment.deliver("write_features", known[3])
        sound(item)

    deployment.store.put = put  # type: ignore[method-assign]

    done = deployment.redrive("write_features", batch("write_features", known[1]))

    assert raced
    assert done.left == {}
    assert deployment.compared().differing == ()


def test_a_store_that_refuses_loses_no_batch() -> None:
    deployment, known = Deployment(), numbered(3)
    deployment.deliver("archive_events", *known)
    deployment.deliver("write_features", known[0], known[2])

    def put(_item: Any) -> None:
        raise StoreUnavailableError("throttled")

    deployment.store.put = put  # type: ignore[method-assign, assignment]

    with pytest.raises(StoreUnavailableError):
        deployment.redrive("write_features", batch("write_features", known[1]))

    assert deployment.settled == []
