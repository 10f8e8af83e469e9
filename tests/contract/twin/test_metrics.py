"""CloudWatch answers about metrics what was put, by the sets of its dimensions."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, mapping, ref, resource
from tests.contract.twin.conftest import Start

BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STATISTICS = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"]


@pytest.fixture
def twin(start: Start) -> Twin:
    return start({}, start_at=BEGIN)


def put(twin: Twin, **datum: Any) -> None:
    twin.client("cloudwatch").put_metric_data(
        Namespace="Test", MetricData=[{"MetricName": "load", **datum}]
    )


def about(**dimensions: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


def statistics(twin: Twin, **asked: Any) -> list[dict[str, Any]]:
    points = twin.client("cloudwatch").get_metric_statistics(
        **{
            "Namespace": "Test",
            "MetricName": "load",
            "StartTime": BEGIN - timedelta(hours=1),
            "EndTime": BEGIN + timedelta(hours=1),
            "Period": 60,
            **({} if "ExtendedStatistics" in asked else {"Statistics": STATISTICS}),
            **asked,
        }
    )["Datapoints"]
    return list(points)


def series(twin: Twin, stat: str = "Sum", **asked: Any) -> dict[str, Any]:
    metric = {"Namespace": "Test", "MetricName": "load"}
    query = {
        "Id": "q",
        "MetricStat": {"Metric": metric, "Period": 60, "Stat": stat},
    }
    (found,) = twin.client("cloudwatch").get_metric_data(
        **{
            "MetricDataQueries": [query],
            "StartTime": BEGIN - timedelta(hours=1),
            "EndTime": BEGIN + timedelta(hours=1),
            **asked,
        }
    )["MetricDataResults"]
    return dict(found)


def test_one_period_has_the_statistics_of_its_values(twin: Twin) -> None:
    put(twin, Value=1, Timestamp=BEGIN)
    put(twin, Values=[2, 5], Counts=[3, 1], Timestamp=BEGIN + timedelta(seconds=59))
    told = {"SampleCount": 2, "Sum": 20, "Minimum": 8, "Maximum": 12}
    put(twin, StatisticValues=told, Timestamp=BEGIN + MINUTE)

    first, second = statistics(twin)

    assert first == {
        "Timestamp": BEGIN,
        "SampleCount": 5.0,
        "Average": 2.4,
        "Sum": 12.0,
        "Minimum": 1.0,
        "Maximum": 5.0,
        "Unit": "None",
    }
    assert (second["Timestamp"], second["Average"]) == (BEGIN + MINUTE, 10.0)


def test_dimensions_are_a_set_and_another_set_is_another_metric(twin: Twin) -> None:
    put(twin, Value=1, Dimensions=about(a="1", b="2"))
    put(twin, Value=10, Dimensions=about(a="1"))
    put(twin, Value=100, Dimensions=about(a="1", b="3"))
    put(twin, Value=1000)

    found = {
        str(wanted): statistics(twin, Dimensions=about(**wanted))[0]["Sum"]
        for wanted in ({"b": "2", "a": "1"}, {"a": "1"}, {"a": "1", "b": "3"}, {})
    }

    assert list(found.values()) == [1, 10, 100, 1000]
    assert statistics(twin, Dimensions=about(a="2")) == []


def test_periods_begin_at_the_start_rounded_down_to_the_minute(twin: Twin) -> None:
    put(twin, Value=1, Timestamp=BEGIN + 2 * MINUTE)
    put(twin, Value=1, Timestamp=BEGIN + 3 * MINUTE)

    found = statistics(
        twin, StartTime=BEGIN - MINUTE * 57 + timedelta(seconds=20), Period=3600
    )

    assert [(p["Timestamp"], p["Sum"]) for p in found] == [
        (BEGIN - 57 * MINUTE, 1),
        (BEGIN + 3 * MINUTE, 1),
    ]


def test_values_of_another_unit_are_another_point(twin: Twin) -> None:
    put(twin, Value=1, Unit="Count")
    put(twin, Value=2, Unit="Seconds")

    both = statistics(twin)
    one = statistics(twin, Unit="Seconds")

    assert [(p["Unit"], p["Sum"]) for p in both] == [("Count", 1), ("Seconds", 2)]
    assert [(p["Unit"], p["Sum"]) for p in one] == [("Seconds", 2)]


def test_percentiles_are_known_where_the_values_are(twin: Twin) -> None:
    put(twin, Values=list(range(1, 101)))
    put(
        twin,
        StatisticValues={"SampleCount": 2, "Sum": 5, "Minimum": 2, "Maximum": 3},
        Timestamp=BEGIN + MINUTE,
    )

    values, summary = statistics(twin, ExtendedStatistics=["p50", "p99", "p99.5"])
    told = series(twin, "p99")

    assert values["ExtendedStatistics"] == {"p50": 50, "p99": 99, "p99.5": 100}
    assert summary.get("ExtendedStatistics", {}) == {}
    assert (told["Timestamps"], told["Values"]) == ([BEGIN], [99])


def test_metric_data_comes_newest_first_unless_asked_otherwise(twin: Twin) -> None:
    for place in range(3):
        put(twin, Value=place, Timestamp=BEGIN + place * MINUTE)

    newest, oldest = series(twin), series(twin, ScanBy="TimestampAscending")

    assert newest["Values"] == [2, 1, 0]
    assert oldest["Values"] == [0, 1, 2]
    assert oldest["Timestamps"] == [BEGIN + place * MINUTE for place in range(3)]
    assert (oldest["Label"], oldest["StatusCode"]) == ("load Sum", "Complete")


@pytest.mark.parametrize("expression", ["q1 * 2", 'SELECT AVG("load") FROM "Test"'])
def test_math_is_refused_by_name(twin: Twin, expression: str) -> None:
    with pytest.raises(ClientError, match="neither metric math nor Metrics Insights"):
        series(twin, MetricDataQueries=[{"Id": "q", "Expression": expression}])


def test_a_statistic_that_is_not_made_is_refused_by_name(twin: Twin) -> None:
    with pytest.raises(ClientError, match="'tm90' is no statistic"):
        series(twin, "tm90")


@pytest.mark.parametrize(
    "datum",
    [
        {"Value": 1, "Timestamp": BEGIN - timedelta(days=15)},
        {"Value": 1, "Timestamp": BEGIN + timedelta(hours=3)},
        {"Value": float("nan")},
        {"Values": [1, 2], "Counts": [1]},
        {"Value": 1, "Values": [1]},
        {},
        {"StatisticValues": {"SampleCount": 2, "Sum": 5, "Minimum": 2, "Maximum": 3},
         "Value": 2},
    ],
)  # fmt: skip
def test_what_cloudwatch_refuses_is_refused(twin: Twin, datum: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="InvalidParameter"):
        put(twin, **datum)

    assert statistics(twin) == []


def test_too_many_data_points_are_refused(twin: Twin) -> None:
    with pytest.raises(ClientError, match="exceeds the limit"):
        statistics(twin, StartTime=BEGIN - timedelta(days=2))


def test_metrics_are_listed_by_part_of_their_dimensions_and_in_pages(
    twin: Twin,
) -> None:
    for place in range(501):
        twin.metrics.put("Test", "load", {"a": "1", "place": str(place)}, 1)
    twin.metrics.put("Test", "other", {"a": "1"}, 1)
    twin.metrics.put("Else", "load", {"a": "1"}, 1)
    cloudwatch = twin.client("cloudwatch")

    pages = list(
        cloudwatch.get_paginator("list_metrics").paginate(
            Namespace="Test", MetricName="load", Dimensions=about(a="1")
        )
    )
    one = cloudwatch.list_metrics(Dimensions=about(place="7"))["Metrics"]

    assert [len(page["Metrics"]) for page in pages] == [500, 1]
    assert one == [
        {
            "Namespace": "Test",
            "MetricName": "load",
            "Dimensions": about(a="1", place="7"),
        }
    ]


def test_a_hundred_thousand_values_cost_little(twin: Twin) -> None:
    began = time.perf_counter()
    for place in range(100_000):
        twin.metrics.put("Test", "load", {"a": str(place % 10)}, place)
    took = time.perf_counter() - began

    began = time.perf_counter()
    (point,) = statistics(twin, Dimensions=about(a="7"))
    asked = time.perf_counter() - began

    assert point["SampleCount"] == 10_000
    assert took < 10
    assert asked < 1


FAILING = """
def lambda_handler(event, context):
    raise ValueError("no")
"""


def test_lambda_counts_invocations_errors_ages_and_what_became_of_records(
    start: Start,
) -> None:
    names = ("Kept", "Lost")
    resources = {"Role": ROLE, "Stream": resource("AWS::Kinesis::Stream", ShardCount=1)}
    resources["Failed"] = resource("AWS::SQS::Queue", QueueName="failed")
    for name in names:
        resources[name] = function("code")
        where = {"DestinationConfig": {"OnFailure": {"Destination": att("Failed")}}}
        resources[f"{name}Mapping"] = mapping(
            "Stream",
            name,
            MaximumRetryAttempts=0,
            MaximumBatchingWindowInSeconds=30,
            MetricsConfig={"Metrics": ["EventCount"]},
            **(where if name == "Kept" else {}),
        )
    twin = start(
        resources,
        {"code": {"handler.py": FAILING}},
        outputs={key: {"Value": ref(key)} for key in resources if key != "Role"},
        start_at=BEGIN,
    )
    told = twin.outputs()
    for _ in range(2):
        twin.client("kinesis").put_record(
            StreamName=told["Stream"], Data=b"x", PartitionKey="k"
        )
    twin.wait_idle()

    def total(metric: str, **dimensions: str) -> float | None:
        points = statistics(
            twin,
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=about(**dimensions),
            Period=3600,
        )
        return points[0]["Sum"] if points else None

    def became(name: str) -> list[float | None]:
        of = told[f"{name}Mapping"]
        return [
            total(metric, EventSourceMappingUUID=of)
            for metric in (
                "OnFailureDestinationDeliveredEventCount",
                "DroppedEventCount",
            )
        ]

    counted = {
        metric: total(metric, FunctionName=told["Kept"])
        for metric in ("Invocations", "Errors", "Throttles", "IteratorAge")
    }
    assert counted == {
        "Invocations": 1,
        "Errors": 1,
        "Throttles": 0,
        "IteratorAge": 30_000,
    }
    assert became("Kept") == [2, None]
    assert became("Lost") == [None, 2]


def test_the_depth_of_a_queue_is_known_minute_by_minute(start: Start) -> None:
    twin = start(
        {"Queue": resource("AWS::SQS::Queue", QueueName="queue")}, start_at=BEGIN
    )
    sqs = twin.client("sqs")
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="x")
        twin.advance(seconds=90)
    sqs.purge_queue(QueueUrl=url)
    twin.advance(seconds=150)

    found = statistics(
        twin,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=about(QueueName="queue"),
        Statistics=["Maximum"],
    )

    assert [(p["Timestamp"] - BEGIN, p["Maximum"]) for p in found] == [
        (place * MINUTE, depth) for place, depth in enumerate([1, 2, 2, 3, 0, 0, 0])
    ]
