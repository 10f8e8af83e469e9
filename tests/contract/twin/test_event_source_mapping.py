"""An event source mapping delivers as AWS's does: in order, and at least once."""

import json
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from infra.local.errors import UnsupportedByTwinError
from infra.local.event_source_mapping import lowest_failure
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, mapping, ref, resource
from tests.contract.twin.conftest import Start
from tests.simulation.answers import EMPTY, first_failed, malformed, naming, widened

REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
# Every handler below keeps the texts of each batch it was called with in a table, so
# that a test can see what was delivered and how.
NOTEBOOK = """
import base64, itertools, json, os, time
import boto3

table = boto3.resource("dynamodb").Table(os.environ["NOTEBOOK"])

def note(event):
    batch = [
        base64.b64decode(record["kinesis"]["data"]).decode()
        for record in event["Records"]
    ]
    place = time.time_ns()
    table.put_item(Item={"id": str(place), "at": place, "batch": batch})
    return batch

def answer(event, failed):
    numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
    return {"batchItemFailures": [{"itemIdentifier": numbers[n]} for n in failed]}
"""
ACCEPTING = """
def lambda_handler(event, context):
    note(event)
"""
POISONED = """
def lambda_handler(event, context):
    if "poison" in note(event):
        raise ValueError("poison")
"""


def started(start: Start, handler: str, **properties: Any) -> Twin:
    """Start a twin in which one function reads one stream of one shard."""
    return start(
        {
            "Role": ROLE,
            "Failed": resource("AWS::S3::Bucket"),
            "Notebook": resource(
                "AWS::DynamoDB::Table",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            ),
            "Stream": resource("AWS::Kinesis::Stream", ShardCount=1),
            "Function": function(
                "code", Environment={"Variables": {"NOTEBOOK": ref("Notebook")}}
            ),
            "Mapping": mapping("Stream", "Function", **properties),
        },
        {"code": {"handler.py": NOTEBOOK + handler}},
        outputs={
            "Stream": {"Value": ref("Stream")},
            "Function": {"Value": ref("Function")},
            "Notebook": {"Value": ref("Notebook")},
            "Failed": {"Value": ref("Failed")},
            "Mapping": {"Value": ref("Mapping")},
        },
    )


def send(twin: Twin, texts: Sequence[str]) -> None:
    twin.client("kinesis").put_records(
        StreamName=twin.outputs()["Stream"],
        Records=[{"Data": text.encode(), "PartitionKey": "k"} for text in texts],
    )


def batches(twin: Twin) -> list[list[str]]:
    """Return what the function was called with, in order."""
    items = twin.client("dynamodb").scan(TableName=twin.outputs()["Notebook"])["Items"]
    items.sort(key=lambda item: int(item["at"]["N"]))
    return [[text["S"] for text in item["batch"]["L"]] for item in items]


def status(twin: Twin) -> dict[str, Any]:
    (only,) = twin.mappings.status().values()
    return only


def destination(twin: Twin) -> dict[str, dict[str, Any]]:
    """Return the records of the on-failure destination by key."""
    s3, bucket = twin.client("s3"), twin.outputs()["Failed"]
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        entry["Key"]: json.load(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"])
        for entry in listed
    }


def test_batches_are_in_order_full_where_possible_and_complete(start: Start) -> None:
    twin = started(start, ACCEPTING, BatchSize=4, MaximumBatchingWindowInSeconds=30)
    texts = [f"{n}" for n in range(10)]

    send(twin, texts)
    twin.wait_idle()

    assert batches(twin) == [texts[:4], texts[4:8], texts[8:]]
    assert status(twin)["lag_records"] == 0


def test_a_batch_stays_below_six_megabytes(start: Start) -> None:
    twin = started(
        start,
        """
def lambda_handler(event, context):
    size = len(json.dumps(event))
    place = time.time_ns()
    entry = [str(size), str(len(event["Records"]))]
    table.put_item(Item={"id": str(place), "at": place, "batch": entry})
""",
        BatchSize=100,
        MaximumBatchingWindowInSeconds=1,
    )

    for _ in range(2):
        send(twin, ["x" * 1_000_000] * 4)
    twin.wait_idle()

    called = batches(twin)
    assert sum(int(count) for _, count in called) == 8
    assert max(int(size) for size, _ in called) <= 6 * 1024 * 1024


def test_a_partial_failure_goes_on_from_the_lowest_failed_record(start: Start) -> None:
    twin = started(
        start,
        """
seen = itertools.count()

def lambda_handler(event, context):
    note(event)
    return answer(event, [4, 2]) if next(seen) == 0 else None
""",
        BatchSize=5,
        MaximumBatchingWindowInSeconds=1,
        **REPORTS,
    )

    send(twin, list("abcde"))
    twin.wait_idle()

    assert batches(twin) == [list("abcde"), list("cde")]
    assert status(twin)["delivered"] == 5


@pytest.mark.parametrize(
    "answer",
    [
        '{"batchItemFailures": [{"itemIdentifier": ""}]}',
        '{"batchItemFailures": [{"itemIdentifier": None}]}',
        '{"batchItemFailures": [{"wrong": "1"}]}',
        '{"batchItemFailures": [{"itemIdentifier": "999"}]}',
        '{"batchItemFailures": "1"}',
        '"done"',
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(start: Start, answer: str) -> None:
    twin = started(
        start,
        f"""
seen = itertools.count()

def lambda_handler(event, context):
    note(event)
    return {answer} if next(seen) == 0 else {{"batchItemFailures": []}}
""",
        BatchSize=3,
        MaximumBatchingWindowInSeconds=1,
        **REPORTS,
    )

    send(twin, list("abc"))
    twin.wait_idle()

    assert batches(twin) == [list("abc"), list("abc")]


@pytest.mark.parametrize(
    "answer", ["None", "{}", '{"batchItemFailures": None}', '{"batchItemFailures": []}']
)
def test_an_empty_answer_is_success(start: Start, answer: str) -> None:
    twin = started(
        start,
        f"""
def lambda_handler(event, context):
    note(event)
    return {answer}
""",
        BatchSize=3,
        MaximumBatchingWindowInSeconds=1,
        **REPORTS,
    )

    send(twin, list("abc"))
    twin.wait_idle()

    assert batches(twin) == [list("abc")]


def test_bisect_isolates_one_poison_record_and_the_destination_gets_it(
    start: Start,
) -> None:
    twin = started(
        start,
        POISONED,
        BatchSize=8,
        MaximumBatchingWindowInSeconds=1,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=2,
        DestinationConfig={"OnFailure": {"Destination": att("Failed")}},
    )
    outputs = twin.outputs()

    send(twin, ["a", "b", "c", "d", "e", "poison", "g", "h"])
    twin.wait_idle()

    ((key, record),) = destination(twin).items()
    assert key.startswith(f"aws/lambda/{outputs['Mapping']}/shardId-000000000000/")
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["KinesisBatchInfo"]["startSequenceNumber"] == "6"
    assert record["KinesisBatchInfo"]["endSequenceNumber"] == "6"
    assert record["KinesisBatchInfo"]["batchSize"] == 1
    payload = json.loads(record["payload"])["Records"]
    assert [entry["kinesis"]["data"] for entry in payload] == ["cG9pc29u"]
    good = [batch for batch in batches(twin) if "poison" not in batch]
    assert [text for batch in good for text in batch] == list("abcdegh")
    assert status(twin)["discarded"] == 1
    assert status(twin)["lag_records"] == 0


def test_without_bisect_the_batch_is_retried_whole_and_then_given_up(
    start: Start,
) -> None:
    twin = started(
        start,
        POISONED,
        BatchSize=2,
        MaximumBatchingWindowInSeconds=1,
        MaximumRetryAttempts=3,
        DestinationConfig={"OnFailure": {"Destination": att("Failed")}},
    )

    send(twin, ["a", "poison", "c"])
    twin.wait_idle()

    assert batches(twin) == [["a", "poison"]] * 4 + [["c"]]
    (record,) = destination(twin).values()
    assert record["requestContext"]["approximateInvokeCount"] == 4
    assert record["KinesisBatchInfo"]["batchSize"] == 2


def test_a_record_that_is_too_old_is_given_up_though_retries_have_no_end(
    start: Start,
) -> None:
    twin = started(
        start,
        POISONED,
        BatchSize=1,
        MaximumRecordAgeInSeconds=600,
        DestinationConfig={"OnFailure": {"Destination": att("Failed")}},
    )
    began = twin.clock.now()

    send(twin, ["poison"])
    twin.wait_idle()
    took = (twin.clock.now() - began).total_seconds()
    send(twin, ["b"])
    twin.wait_idle()

    (record,) = destination(twin).values()
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert record["KinesisBatchInfo"]["startSequenceNumber"] == "1"
    assert 600 <= took <= 661
    assert batches(twin)[-1] == ["b"]


def test_records_behind_a_failing_batch_wait_for_it(start: Start) -> None:
    twin = started(
        start,
        """
seen = itertools.count()

def lambda_handler(event, context):
    note(event)
    if next(seen) < 3:
        raise OSError("the store is away")
""",
        BatchSize=2,
        MaximumBatchingWindowInSeconds=1,
    )

    send(twin, list("abcd"))
    twin.wait_idle()

    assert batches(twin) == [["a", "b"]] * 4 + [["c", "d"]]


def test_a_filter_delivers_only_what_matches(start: Start) -> None:
    above = {"data": {"v": [{"numeric": [">", 2]}]}}
    twin = started(
        start,
        ACCEPTING,
        BatchSize=10,
        MaximumBatchingWindowInSeconds=1,
        FilterCriteria={"Filters": [{"Pattern": json.dumps(above)}]},
    )

    send(twin, ['{"v": 1}', '{"v": 3}', "no json", '{"v": 5}'])
    twin.wait_idle()

    assert batches(twin) == [['{"v": 3}', '{"v": 5}']]
    assert status(twin)["filtered"] == 2
    assert status(twin)["lag_records"] == 0


def test_latest_starts_at_the_end_and_trim_horizon_at_the_beginning(
    start: Start,
) -> None:
    twin = started(start, ACCEPTING, StartingPosition="LATEST")
    kinesis, outputs = twin.client("kinesis"), twin.outputs()
    arn = kinesis.describe_stream(StreamName=outputs["Stream"])["StreamDescription"][
        "StreamARN"
    ]
    send(twin, ["a"])
    twin.wait_idle()

    for position in ("LATEST", "TRIM_HORIZON"):
        twin.client("lambda").create_event_source_mapping(
            EventSourceArn=arn,
            FunctionName=outputs["Function"],
            StartingPosition=position,
        )
    twin.wait_idle()
    before = sorted(batches(twin))
    send(twin, ["b"])
    twin.wait_idle()

    assert before == [["a"], ["a"]]
    assert sorted(batches(twin)) == [["a"], ["a"], ["b"], ["b"], ["b"]]


def test_children_of_a_split_are_read_after_their_parent(start: Start) -> None:
    twin = started(start, ACCEPTING, BatchSize=1)
    kinesis, name = twin.client("kinesis"), twin.outputs()["Stream"]

    send(twin, ["1", "2", "3"])
    kinesis.split_shard(
        StreamName=name,
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=str(2**127),
    )
    send(twin, ["4", "5"])
    twin.wait_idle()

    assert batches(twin) == [["1"], ["2"], ["3"], ["4"], ["5"]]


def test_a_disabled_mapping_rests_and_goes_on_where_it_was(start: Start) -> None:
    twin = started(start, ACCEPTING)
    client, name = twin.client("lambda"), twin.outputs()["Mapping"]
    send(twin, ["a"])
    twin.wait_idle()

    client.update_event_source_mapping(UUID=name, Enabled=False)
    send(twin, ["b"])
    twin.wait_idle()
    resting = batches(twin)
    client.update_event_source_mapping(UUID=name, Enabled=True)
    twin.wait_idle()

    assert resting == [["a"]]
    assert batches(twin) == [["a"], ["b"]]


def test_a_function_killed_in_a_batch_gets_the_batch_again(start: Start) -> None:
    twin = started(
        start,
        """
def lambda_handler(event, context):
    note(event)
    time.sleep(0.5)
""",
        BatchSize=3,
    )

    send(twin, list("abc"))
    while not batches(twin):
        time.sleep(0.01)
    was_running = twin.functions.kill("function")
    twin.wait_idle()

    assert was_running
    assert batches(twin) == [list("abc")] * 2
    assert status(twin)["delivered"] == 3
    assert twin.functions.status()[twin.outputs()["Function"]]["restarts"] == 1


def test_what_the_twin_does_not_reproduce_is_refused_by_name(start: Start) -> None:
    pattern = json.dumps({"data": {"$or": [{"a": [1]}]}})

    with pytest.raises(UnsupportedByTwinError, match=r"\$or"):
        started(start, ACCEPTING, FilterCriteria={"Filters": [{"Pattern": pattern}]})


@pytest.mark.parametrize("seed", range(100))
def test_the_twin_and_the_simulation_read_an_answer_alike(seed: int) -> None:
    random = Random(seed)
    numbers = [str(number) for number in range(7, 7 + random.randint(1, 9))]
    sound = naming([random.choice(numbers)])
    answers = (
        *EMPTY, sound, naming([]), widened(random, None, numbers),
        malformed(random, sound, numbers), b"[]", b"0", b"false", b'""',
        b'{"batchItemFailures":0}', b'{"batchItemFailures":{}}', b"{",
    )  # fmt: skip

    for answer in answers:
        place, _ = lowest_failure(answer, numbers)
        assert first_failed(answer, numbers) == place, answer
