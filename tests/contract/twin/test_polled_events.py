"""A mapping that reads says so every minute, and its silence rings."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, mapping, ref, resource
from tests.contract.twin.conftest import Start

BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
COUNTED = {"MetricsConfig": {"Metrics": ["EventCount"]}}
ACCEPTING = "def lambda_handler(event, context):\n    return None\n"
KINESIS = resource("AWS::Kinesis::Stream", ShardCount=2)
TABLE = resource(
    "AWS::DynamoDB::Table",
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    StreamSpecification={"StreamViewType": "NEW_IMAGE"},
)
SILENCE = {
    "AlarmName": "silence",
    "Namespace": "AWS/Lambda",
    "MetricName": "PolledEventCount",
    "Dimensions": [{"Name": "EventSourceMappingUUID", "Value": ref("Mapping")}],
    "Statistic": "Sum",
    "Period": 300,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 3,
    "Threshold": 0,
    "ComparisonOperator": "LessThanThreshold",
    "TreatMissingData": "breaching",
    "AlarmActions": [ref("Topic")],
    "OKActions": [ref("Topic")],
}


def started(start: Start, source: dict[str, Any] = KINESIS, **properties: Any) -> Twin:
    is_table = "Table" in source["Type"]
    arn = att("Source", "StreamArn") if is_table else att("Source")
    return start(
        {
            "Role": ROLE,
            "Source": source,
            "Function": function("code"),
            "Mapping": mapping(
                "Source", "Function", **{"EventSourceArn": arn, **COUNTED, **properties}
            ),
            "Topic": resource("AWS::SNS::Topic", TopicName="topic"),
            "Queue": resource("AWS::SQS::Queue", QueueName="queue"),
            "Alarm": resource("AWS::CloudWatch::Alarm", **SILENCE),
        },
        {"code": {"handler.py": ACCEPTING}},
        outputs={name: {"Value": ref(name)} for name in ("Source", "Mapping", "Topic")},
        start_at=BEGIN,
    )


def put(twin: Twin, key: str) -> None:
    name = twin.outputs()["Source"]
    if name in twin.client("dynamodb").list_tables()["TableNames"]:
        twin.client("dynamodb").put_item(TableName=name, Item={"id": {"S": key}})
    else:
        twin.client("kinesis").put_record(StreamName=name, Data=b"x", PartitionKey=key)


def switch(twin: Twin, *, is_on: bool) -> None:
    twin.client("lambda").update_event_source_mapping(
        UUID=twin.outputs()["Mapping"], Enabled=is_on
    )


def polled(twin: Twin) -> list[tuple[int, float]]:
    """Return the minutes since the beginning that have a value, with the value."""
    uuid = twin.outputs()["Mapping"]
    points = twin.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="PolledEventCount",
        Dimensions=[{"Name": "EventSourceMappingUUID", "Value": uuid}],
        StartTime=BEGIN - timedelta(hours=1),
        EndTime=BEGIN + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    found = [((p["Timestamp"] - BEGIN) // MINUTE, p["Sum"]) for p in points]
    return sorted(found)


def lag(twin: Twin) -> int:
    (only,) = twin.mappings.status().values()
    return int(only["lag_records"])


def changes(twin: Twin) -> list[tuple[str, int]]:
    """Return each state of the alarm, and the minute that it began in."""
    items = twin.client("cloudwatch").describe_alarm_history(
        AlarmName="silence",
        HistoryItemType="StateUpdate",
        ScanBy="TimestampAscending",
    )["AlarmHistoryItems"]
    return [
        (
            item["HistorySummary"].rsplit(" ", 1)[1],
            (item["Timestamp"] - BEGIN) // MINUTE,
        )
        for item in items
    ]


@pytest.mark.parametrize("source", [KINESIS, TABLE], ids=["kinesis", "dynamodb"])
def test_what_is_read_is_counted_by_the_minute_and_nothing_while_disabled(
    start: Start, source: dict[str, Any]
) -> None:
    twin = started(start, source)
    for key in ("a", "b", "c"):
        put(twin, key)
    twin.advance(seconds=3 * 60 + 10)
    switch(twin, is_on=False)
    put(twin, "d")
    twin.advance(seconds=3 * 60)
    switch(twin, is_on=True)
    twin.advance(seconds=2 * 60)

    assert polled(twin) == [(0, 3), (1, 0), (2, 0), (3, 0), (6, 1), (7, 0)]


def test_records_that_a_filter_leaves_out_are_read_too(start: Start) -> None:
    pattern = {"Pattern": json.dumps({"partitionKey": ["wanted"]})}
    twin = started(start, FilterCriteria={"Filters": [pattern]})

    put(twin, "other")
    twin.advance(seconds=60)

    assert polled(twin) == [(0, 1)]


def test_who_did_not_ask_for_counts_has_none(start: Start) -> None:
    twin = started(start, MetricsConfig={"Metrics": []})

    put(twin, "a")
    twin.advance(seconds=120)

    assert polled(twin) == []


def test_a_deleted_mapping_is_silent(start: Start) -> None:
    twin = started(start)
    twin.advance(seconds=60)

    twin.client("lambda").delete_event_source_mapping(UUID=twin.outputs()["Mapping"])
    twin.advance(seconds=120)

    assert polled(twin) == [(0, 0)]


def test_a_mapping_that_does_not_read_rings_and_one_that_reads_nothing_does_not(
    start: Start,
) -> None:
    twin = started(start)
    twin.client("sns").subscribe(
        TopicArn=twin.outputs()["Topic"],
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{twin.region}:123456789012:queue",
    )
    twin.advance(seconds=86_400)  # nobody sends
    quiet = changes(twin)
    switch(twin, is_on=False)
    for _ in range(2):
        put(twin, "a")
        twin.advance(seconds=3_600)
    unread = lag(twin)
    switch(twin, is_on=True)
    twin.wait_idle()
    twin.advance(seconds=3_600)

    day = 24 * 60
    [rang, ended] = changes(twin)[len(quiet) :]
    assert [state for state, _ in quiet] == ["OK"]
    assert rang[0] == "ALARM"
    assert day + 15 <= rang[1] <= day + 30
    assert ended[0] == "OK"
    assert day + 120 <= ended[1] <= day + 126
    assert (unread, lag(twin)) == (2, 0)
    sqs = twin.client("sqs")
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    told = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    states = [
        json.loads(json.loads(message["Body"])["Message"])["NewStateValue"]
        for message in told
    ]
    assert states == ["OK", "ALARM", "OK"]


def test_watching_an_idle_mapping_for_a_month_costs_nothing(start: Start) -> None:
    twin = started(start)
    twin.advance(seconds=3_600)
    looked = twin.alarms.evaluations

    twin.advance(seconds=30 * 86_400)

    assert twin.alarms.evaluations == looked
    assert twin.alarms.states() == {"silence": "OK"}
