"""The stream of a table reaches a function: every change once, in order, as AWS's."""

import json
from typing import Any

import pytest

from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, mapping, ref, resource
from tests.contract.twin.conftest import Start

# Keeps every batch it was called with as one object, whose key is its place in time.
NOTING = """
import json, os, time
import boto3

s3 = boto3.client("s3")

def note(event):
    s3.put_object(
        Bucket=os.environ["SEEN"], Key=f"{time.time_ns():020d}", Body=json.dumps(event)
    )
    return [record["dynamodb"]["Keys"]["id"]["S"] for record in event["Records"]]
"""
ACCEPTING = """
def lambda_handler(event, context):
    note(event)
"""
REPORTING = """
def lambda_handler(event, context):
    if "poison" not in note(event):
        return {"batchItemFailures": []}
    for record in event["Records"]:
        if record["dynamodb"]["Keys"]["id"]["S"] == "poison":
            number = record["dynamodb"]["SequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": number}]}
"""
POISONED = """
def lambda_handler(event, context):
    if "poison" in note(event):
        raise ValueError("poison")
"""


def started(
    start: Start, handler: str = ACCEPTING, view: str = "NEW_IMAGE", **properties: Any
) -> Twin:
    """Start a twin in which a function reads the stream of a table."""
    return start(
        {
            "Role": ROLE,
            "Seen": resource("AWS::S3::Bucket"),
            "Failed": resource("AWS::S3::Bucket"),
            "Queue": resource("AWS::SQS::Queue"),
            "Table": resource(
                "AWS::DynamoDB::Table",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                StreamSpecification={"StreamViewType": view},
            ),
            "Function": function(
                "code", Environment={"Variables": {"SEEN": ref("Seen")}}
            ),
            "Mapping": mapping(
                "Table",
                "Function",
                **{"EventSourceArn": att("Table", "StreamArn"), **properties},
            ),
        },
        {"code": {"handler.py": NOTING + handler}},
        outputs={
            name: {"Value": ref(name)} for name in ("Table", "Seen", "Failed", "Queue")
        },
    )


def put(twin: Twin, *names: str) -> None:
    """Put items, all in one batch, so that they are there before the first is read."""
    table = twin.outputs()["Table"]
    requests = [{"PutRequest": {"Item": {"id": {"S": name}}}} for name in names]
    twin.client("dynamodb").batch_write_item(RequestItems={table: requests})


def batches(twin: Twin) -> list[list[dict[str, Any]]]:
    """Return the records of every batch, in the order of the invocations."""
    s3, bucket = twin.client("s3"), twin.outputs()["Seen"]
    keys = [
        entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    ]
    return [
        json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])["Records"]
        for key in sorted(keys)
    ]


def names(batch: list[dict[str, Any]]) -> list[str]:
    return [record["dynamodb"]["Keys"]["id"]["S"] for record in batch]


def changes(twin: Twin) -> list[tuple[str, str]]:
    return [
        (record["eventName"], record["dynamodb"]["Keys"]["id"]["S"])
        for batch in batches(twin)
        for record in batch
    ]


def test_a_batch_holds_the_new_items_in_order(start: Start) -> None:
    twin = started(start, BatchSize=10, MaximumBatchingWindowInSeconds=1)

    put(twin, "a", "b", "c")
    twin.wait_idle()

    (batch,) = batches(twin)
    first = batch[0]
    assert names(batch) == ["a", "b", "c"]
    assert first["eventName"] == "INSERT"
    assert first["eventSource"] == "aws:dynamodb"
    assert first["awsRegion"] == twin.region
    assert "/stream/" in first["eventSourceARN"]
    assert first["dynamodb"]["NewImage"] == {"id": {"S": "a"}}
    assert "OldImage" not in first["dynamodb"]
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in batch]
    assert numbers == sorted(set(numbers))


def test_every_kind_of_write_is_one_change(start: Start) -> None:
    twin = started(start, view="NEW_AND_OLD_IMAGES")
    table = twin.outputs()["Table"]
    client = twin.client("dynamodb")
    key = {"id": {"S": "a"}}
    nested = {"M": {"bytes": {"B": b"\x00\xff"}, "list": {"L": [{"N": "1"}]}}}

    client.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET v = :v",
        ExpressionAttributeValues={":v": nested},
    )
    client.put_item(TableName=table, Item={**key, "v": nested})  # changes nothing
    client.put_item(TableName=table, Item={**key, "v": {"N": "2"}})
    client.delete_item(TableName=table, Key=key)
    twin.wait_idle()

    records = [record for batch in batches(twin) for record in batch]
    kinds = [record["eventName"] for record in records]
    assert kinds == ["INSERT", "MODIFY", "REMOVE"]
    assert records[0]["dynamodb"]["NewImage"]["v"] == {
        "M": {"bytes": {"B": "AP8="}, "list": {"L": [{"N": "1"}]}}
    }
    assert records[1]["dynamodb"]["OldImage"] == records[0]["dynamodb"]["NewImage"]
    assert "NewImage" not in records[2]["dynamodb"]


def test_a_cancelled_transaction_changes_nothing_and_loses_nothing(
    start: Start,
) -> None:
    twin = started(start)
    table, client = twin.outputs()["Table"], twin.client("dynamodb")

    def written(name: str, **condition: str) -> dict[str, Any]:
        item = {"id": {"S": name}}
        return {"Put": {"TableName": table, "Item": item, **condition}}

    put(twin, "before")
    with pytest.raises(client.exceptions.TransactionCanceledException):
        client.transact_write_items(
            TransactItems=[
                written("never"),
                written("before", ConditionExpression="attribute_not_exists(id)"),
            ]
        )
    client.transact_write_items(TransactItems=[written("both"), written("together")])
    twin.wait_idle()

    assert changes(twin) == [
        ("INSERT", "before"),
        ("INSERT", "both"),
        ("INSERT", "together"),
    ]


def test_a_partial_answer_retries_from_the_reported_record(start: Start) -> None:
    twin = started(
        start,
        REPORTING,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumBatchingWindowInSeconds=1,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": att("Failed")}},
    )

    put(twin, "a", "poison")
    twin.wait_idle()
    put(twin, "b")
    twin.wait_idle()

    assert [names(batch) for batch in batches(twin)] == [
        ["a", "poison"],
        ["poison"],
        ["b"],
    ]
    s3, bucket = twin.client("s3"), twin.outputs()["Failed"]
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    record = json.load(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"])
    (sent,) = json.loads(record["payload"])["Records"]
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["DDBStreamBatchInfo"]["batchSize"] == 1
    assert sent["dynamodb"]["Keys"] == {"id": {"S": "poison"}}
    assert (
        record["DDBStreamBatchInfo"]["startSequenceNumber"]
        == sent["dynamodb"]["SequenceNumber"]
    )


def test_bisecting_finds_the_one_record_that_is_given_up(start: Start) -> None:
    twin = started(
        start,
        POISONED,
        BisectBatchOnFunctionError=True,
        MaximumBatchingWindowInSeconds=1,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": att("Queue")}},
    )

    put(twin, "a", "b", "poison", "c")
    twin.wait_idle()

    assert [names(batch) for batch in batches(twin)] == [
        ["a", "b", "poison", "c"],
        ["a", "b"],
        ["poison", "c"],
        ["poison"],
        ["c"],
    ]
    (message,) = twin.client("sqs").receive_message(QueueUrl=twin.outputs()["Queue"])[
        "Messages"
    ]
    assert json.loads(message["Body"])["DDBStreamBatchInfo"]["batchSize"] == 1
    (status,) = twin.mappings.status().values()
    assert (status["delivered"], status["discarded"]) == (3, 1)
    assert status["stream"] == twin.outputs()["Table"]


def test_a_filter_sees_the_image_of_the_item(start: Start) -> None:
    pattern = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"id": {"S": ["b"]}}}}
    twin = started(
        start, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]}
    )

    put(twin, "a", "b", "c")
    twin.wait_idle()

    (status,) = twin.mappings.status().values()
    assert changes(twin) == [("INSERT", "b")]
    assert (status["delivered"], status["filtered"]) == (1, 2)


def test_a_client_reads_the_stream_as_well(start: Start) -> None:
    twin = started(start)
    streams = twin.client("dynamodbstreams")

    put(twin, "a", "b")
    twin.wait_idle()
    (stream,) = streams.list_streams(TableName=twin.outputs()["Table"])["Streams"]
    (shard,) = streams.describe_stream(StreamArn=stream["StreamArn"])[
        "StreamDescription"
    ]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream["StreamArn"],
        ShardId=shard["ShardId"],
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    read = streams.get_records(ShardIterator=iterator)["Records"]

    assert names(read) == ["a", "b"]
