"""Alarms ring as CloudWatch's do, on driven time, and everybody is told."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.alarm_state import TREATMENTS, state_of
from infra.local.errors import UnsupportedByTwinError
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, ref, resource
from tests.contract.twin.conftest import Start

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = json.loads((FIXTURES / "alarm_missing_data.json").read_text())["cases"]
BREACHES = {".": False, "X": True, "-": None}
VALUES = {".": 0.0, "X": 2.0}
BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SETTINGS = {
    "Namespace": "Test",
    "MetricName": "Load",
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1,
    "ComparisonOperator": "GreaterThanThreshold",
}


def alarm(twin: Twin, name: str = "load", **settings: Any) -> None:
    twin.client("cloudwatch").put_metric_alarm(
        AlarmName=name, **{**SETTINGS, **settings}
    )


def put(
    twin: Twin, value: float, at: datetime, metric: str = "Load", space: str = "Test"
) -> None:
    twin.client("cloudwatch").put_metric_data(
        Namespace=space,
        MetricData=[{"MetricName": metric, "Timestamp": at, "Value": value}],
    )


def state(twin: Twin, name: str = "load") -> str:
    return twin.alarms.states()[name]


def shown(twin: Twin, name: str = "load") -> dict[str, Any]:
    (found,) = twin.client("cloudwatch").describe_alarms(AlarmNames=[name])[
        "MetricAlarms"
    ]
    return dict(found)


def started(start: Start, **resources: Any) -> Twin:
    return start(resources, start_at=BEGIN)


def messages(twin: Twin, queue: str) -> list[Any]:
    sqs = twin.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["points"]))
def test_the_rule_is_that_of_the_user_guide(
    case: dict[str, Any], treatment: str
) -> None:
    found = state_of(
        [BREACHES[point] for point in case["points"]],
        evaluation_periods=case["evaluation_periods"],
        datapoints_to_alarm=case["datapoints_to_alarm"],
        treat_missing=treatment,
    )

    assert (found or "KEEPS") == case["states"][treatment]


def test_alarms_of_the_twin_follow_the_rule(start: Start) -> None:
    twin = started(start)
    twin.advance(to=BEGIN + timedelta(hours=1))
    now = twin.clock.now()
    expected = {}
    for place, case in enumerate(CASES):
        for treatment in TREATMENTS:
            name = f"case-{place}-{treatment}"
            alarm(
                twin,
                name,
                MetricName=f"case-{place}",
                EvaluationPeriods=case["evaluation_periods"],
                DatapointsToAlarm=case["datapoints_to_alarm"],
                TreatMissingData=treatment,
            )
            told = case["states"][treatment]
            # the state an alarm is created in is the one it keeps
            expected[name] = told.replace("KEEPS", "INSUFFICIENT_DATA")
        for age, point in enumerate(reversed(case["points"]), 1):
            if point in VALUES:
                put(twin, VALUES[point], now - age * MINUTE, f"case-{place}")

    twin.advance(seconds=0)
    with_points = twin.alarms.states()
    twin.advance(seconds=60)
    without = twin.alarms.states()

    empty = f"case-{[case['points'] for case in CASES].index('-----')}-"
    found = {
        name: (without if name.startswith(empty) else with_points)[name]
        for name in expected
    }
    assert found == expected


def test_m_of_n_rings_at_the_mth_and_ends_when_too_few_are_left(start: Start) -> None:
    twin = started(start)
    alarm(twin, EvaluationPeriods=3, DatapointsToAlarm=2)
    states = []

    for value in (0, 2, 0, 2, 0, 0, 0):
        put(twin, value, twin.clock.now())
        twin.advance(seconds=60)
        states.append(state(twin))

    assert states == ["OK", "OK", "OK", "ALARM", "OK", "OK", "OK"]


def test_a_period_is_judged_when_it_is_over_and_not_before(start: Start) -> None:
    twin = started(start)
    alarm(twin)
    put(twin, 2, BEGIN + timedelta(seconds=10))

    twin.advance(seconds=59)
    before = state(twin)
    twin.advance(seconds=1)

    assert (before, state(twin)) == ("INSUFFICIENT_DATA", "ALARM")
    assert shown(twin)["StateUpdatedTimestamp"] == BEGIN + MINUTE


def test_a_late_data_point_counts_while_its_period_is_in_range(start: Start) -> None:
    twin = started(start)
    alarm(twin, EvaluationPeriods=3, DatapointsToAlarm=2, Period=300)
    put(twin, 2, BEGIN + timedelta(minutes=11))
    twin.advance(seconds=15 * 60 + 20)
    before = state(twin)

    put(twin, 2, BEGIN + timedelta(minutes=1))
    twin.advance(seconds=60)

    assert (before, state(twin)) == ("INSUFFICIENT_DATA", "ALARM")
    # alarms are looked at every minute
    assert shown(twin)["StateUpdatedTimestamp"] == BEGIN + 16 * MINUTE


def test_a_data_point_that_is_too_late_changes_nothing(start: Start) -> None:
    twin = started(start)
    alarm(twin, TreatMissingData="notBreaching")
    twin.advance(seconds=3600)
    looked = twin.alarms.evaluations

    put(twin, 2, BEGIN + MINUTE)
    twin.advance(seconds=3600)

    assert state(twin) == "OK"
    assert twin.alarms.evaluations == looked


def test_a_month_goes_by_for_forty_alarms_at_little_cost(start: Start) -> None:
    twin = started(start)
    for place in range(40):
        alarm(
            twin,
            f"load-{place}",
            MetricName=f"Load-{place}",
            Period=(60, 300, 3600)[place % 3],
            EvaluationPeriods=3,
            TreatMissingData=TREATMENTS[place % 4],
        )
        put(twin, 2, BEGIN, f"Load-{place}")

    began = time.perf_counter()
    twin.advance(seconds=30 * 86_400)
    took = time.perf_counter() - began

    # one look at the period's end, one where a state changes as the value ages
    assert twin.alarms.evaluations <= 40 * 4
    assert took < 5
    assert {state(twin, f"load-{place}") for place in range(0, 40, 4)} == {
        "INSUFFICIENT_DATA"
    }
    assert {state(twin, f"load-{place}") for place in range(3, 40, 4)} == {"OK"}


def test_a_month_of_values_ends_in_the_state_of_the_last_one(start: Start) -> None:
    twin = started(start)
    alarm(twin, Period=3600)

    for day in range(10):
        put(twin, 2 if day == 9 else 0, twin.clock.now())
        twin.advance(seconds=3600)
        put(twin, 0, twin.clock.now())
        twin.advance(seconds=86_400 - 3600)
    history = twin.client("cloudwatch").describe_alarm_history(
        AlarmName="load", HistoryItemType="StateUpdate", ScanBy="TimestampAscending"
    )["AlarmHistoryItems"]

    rang = [item for item in history if item["HistorySummary"].endswith("to ALARM")]
    assert [item["Timestamp"] for item in rang] == [BEGIN + timedelta(days=9, hours=1)]
    assert state(twin) == "INSUFFICIENT_DATA"


def test_alarms_on_dynamodb_ignore_missing_data(start: Start) -> None:
    twin = started(start)
    alarm(twin, Namespace="AWS/DynamoDB", TreatMissingData="breaching")
    put(twin, 0, BEGIN, space="AWS/DynamoDB")

    twin.advance(seconds=86_400)

    assert state(twin) == "OK"


def test_a_percentile_alarm_looks_at_the_tail(start: Start) -> None:
    twin = started(start)
    wanted = {k: v for k, v in SETTINGS.items() if k != "Statistic"}
    twin.client("cloudwatch").put_metric_alarm(
        AlarmName="load", ExtendedStatistic="p95", **wanted
    )
    for value in [0.5] * 90 + [3] * 10:
        twin.metrics.put("Test", "Load", {}, value)

    twin.advance(seconds=60)

    assert state(twin) == "ALARM"


def test_an_alarm_of_a_unit_takes_no_other(start: Start) -> None:
    twin = started(start)
    alarm(twin, Unit="Seconds")
    twin.metrics.put("Test", "Load", {}, 2, "Count")

    twin.advance(seconds=60)

    assert state(twin) == "INSUFFICIENT_DATA"


def test_the_state_set_by_hand_acts_and_lasts_until_the_next_look(
    start: Start,
) -> None:
    twin = started(start, Topic=resource("AWS::SNS::Topic", TopicName="topic"))
    alarm(twin, TreatMissingData="notBreaching", AlarmActions=[topic(twin)])
    twin.advance(seconds=90)

    twin.client("cloudwatch").set_alarm_state(
        AlarmName="load", StateValue="ALARM", StateReason="a drill"
    )
    at_once = shown(twin)
    twin.advance(seconds=30)
    history = twin.client("cloudwatch").describe_alarm_history(AlarmName="load")

    assert (at_once["StateValue"], at_once["StateReason"]) == ("ALARM", "a drill")
    assert [item["HistorySummary"] for item in history["AlarmHistoryItems"]] == [
        "Alarm updated from ALARM to OK",
        f"Successfully executed action {topic(twin)}",
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        'Alarm "load" created',
    ]


def test_a_changed_alarm_keeps_its_state(start: Start) -> None:
    twin = started(start)
    alarm(twin)
    put(twin, 2, BEGIN)
    twin.advance(seconds=60)

    alarm(twin, Threshold=5)
    kept = state(twin)
    put(twin, 2, twin.clock.now())
    twin.advance(seconds=60)

    assert (kept, state(twin)) == ("ALARM", "OK")


def test_a_deleted_alarm_is_not_looked_at_again(start: Start) -> None:
    twin = started(start)
    alarm(twin)
    put(twin, 2, BEGIN)

    twin.client("cloudwatch").delete_alarms(AlarmNames=["load"])
    twin.advance(seconds=60)

    assert twin.alarms.states() == {}
    assert twin.alarms.evaluations == 0


def topic(twin: Twin) -> str:
    (found,) = twin.client("sns").list_topics()["Topics"]
    return str(found["TopicArn"])


def test_a_change_reaches_the_default_bus_in_the_shape_of_aws(start: Start) -> None:
    twin = started(
        start,
        Queue=resource("AWS::SQS::Queue", QueueName="changes"),
        Rule=resource(
            "AWS::Events::Rule",
            EventPattern={
                "source": ["aws.cloudwatch"],
                "detail-type": ["CloudWatch Alarm State Change"],
                "detail": {
                    "alarmName": [{"prefix": "lo"}],
                    "state": {"value": ["ALARM"]},
                },
            },
            Targets=[{"Id": "queue", "Arn": att("Queue")}],
        ),
    )
    dimensions = [{"Name": "of", "Value": "one"}]
    alarm(twin, EvaluationPeriods=2, Dimensions=dimensions, AlarmDescription="too much")
    for value in (0.0, 2.0, 3.0):
        twin.metrics.put("Test", "Load", {"of": "one"}, value)
        twin.advance(seconds=60)

    (event,) = messages(twin, "changes")
    detail = event.pop("detail")
    arn = f"arn:aws:cloudwatch:{twin.region}:123456789012:alarm:load"
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "123456789012",
        "time": "2030-01-01T12:03:00Z",
        "region": twin.region,
        "resources": [arn],
    }
    data = json.loads(detail["state"].pop("reasonData"))
    assert detail["state"] == {
        "value": "ALARM",
        "reason": "Threshold Crossed: 2 out of the last 2 datapoints "
        "[3.0 (01/01/30 12:02:00), 2.0 (01/01/30 12:01:00)] were greater than the "
        "threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition).",
        "timestamp": "2030-01-01T12:03:00.000+0000",
    }
    assert data == {
        "version": "1.0",
        "queryDate": "2030-01-01T12:03:00.000+0000",
        "startDate": "2030-01-01T12:01:00.000+0000",
        "statistic": "Maximum",
        "period": 60,
        "recentDatapoints": [2.0, 3.0],
        "threshold": 1.0,
        "evaluatedDatapoints": [
            {
                "timestamp": "2030-01-01T12:02:00.000+0000",
                "sampleCount": 1.0,
                "value": 3.0,
            },
            {
                "timestamp": "2030-01-01T12:01:00.000+0000",
                "sampleCount": 1.0,
                "value": 2.0,
            },
        ],
    }
    assert detail["alarmName"] == "load"
    assert detail["previousState"]["value"] == "OK"
    assert detail["configuration"]["description"] == "too much"
    (metric,) = detail["configuration"]["metrics"]
    assert metric["returnData"] is True
    assert metric["metricStat"] == {
        "metric": {
            "namespace": "Test",
            "name": "Load",
            "dimensions": {"of": "one"},
        },
        "period": 60,
        "stat": "Maximum",
    }


def test_an_alarm_of_the_template_is_published_and_reaches_a_queue(
    start: Start,
) -> None:
    twin = started(
        start,
        Topic=resource("AWS::SNS::Topic", TopicName="topic"),
        Queue=resource("AWS::SQS::Queue", QueueName="queue"),
        Alarm=resource(
            "AWS::CloudWatch::Alarm",
            **SETTINGS,
            AlarmName="load",
            TreatMissingData="notBreaching",
            AlarmActions=[ref("Topic")],
            OKActions=[ref("Topic")],
        ),
    )
    twin.advance(seconds=60)  # OK before anybody listens
    twin.client("sns").subscribe(
        TopicArn=topic(twin),
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{twin.region}:123456789012:queue",
    )

    put(twin, 2, twin.clock.now())
    twin.advance(seconds=600)

    rang, ended = messages(twin, "queue")
    told = json.loads(rang["Message"])
    assert rang["Subject"] == 'ALARM: "load" in EU (Ireland)'
    assert told["Trigger"].pop("Dimensions") == []
    assert {
        key: told[key] for key in told if key.startswith(("New", "Old", "State"))
    } == {
        "NewStateValue": "ALARM",
        "NewStateReason": "Threshold Crossed: 1 out of the last 1 datapoints "
        "[2.0 (01/01/30 12:01:00)] was greater than the threshold (1.0) "
        "(minimum 1 datapoint for OK -> ALARM transition).",
        "StateChangeTime": "2030-01-01T12:02:00.000+0000",
        "OldStateValue": "OK",
    }
    assert told["Trigger"] == {
        "MetricName": "Load",
        "Namespace": "Test",
        "StatisticType": "Statistic",
        "Statistic": "MAXIMUM",
        "Unit": None,
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 1.0,
        "TreatMissingData": "notBreaching",
        "EvaluateLowSampleCountPercentile": "",
    }
    reason = json.loads(ended["Message"])["NewStateReason"]
    assert reason == (
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing "
        "datapoint was treated as [NonBreaching]."
    )


def test_an_action_that_fails_is_in_the_history(start: Start) -> None:
    twin = started(start)
    gone = f"arn:aws:sns:{twin.region}:123456789012:gone"
    alarm(twin, AlarmActions=[gone])

    put(twin, 2, BEGIN)
    twin.advance(seconds=60)
    (item,) = twin.client("cloudwatch").describe_alarm_history(
        AlarmName="load", HistoryItemType="Action"
    )["AlarmHistoryItems"]

    assert item["HistorySummary"].startswith(f"Failed to execute action {gone}")
    assert state(twin) == "ALARM"


def test_disabled_actions_are_not_taken(start: Start) -> None:
    twin = started(start)
    alarm(twin, AlarmActions=["arn:aws:sns:eu-west-1:123456789012:gone"])
    twin.client("cloudwatch").disable_alarm_actions(AlarmNames=["load"])

    put(twin, 2, BEGIN)
    twin.advance(seconds=60)

    history = twin.client("cloudwatch").describe_alarm_history(AlarmName="load")
    kinds = {item["HistoryItemType"] for item in history["AlarmHistoryItems"]}
    assert kinds == {"ConfigurationUpdate", "StateUpdate"}


DRIFT = """
import json

def lambda_handler(event, context):
    from datetime import datetime
    end = datetime.fromisoformat(event["time"]).timestamp()
    print(json.dumps({
        "_aws": {
            "Timestamp": int(end * 1000) - 1000,
            "CloudWatchMetrics": [{
                "Namespace": "Test", "Dimensions": [[]], "Metrics": [{"Name": "Load"}],
            }],
        },
        "Load": 2,
    }))
"""


def test_an_alarm_waits_for_what_is_due_at_the_same_instant(start: Start) -> None:
    """A schedule's function prints, at a period's end, a value of that period."""
    twin = start(
        {
            "Role": ROLE,
            "Function": function("code"),
            "Rule": resource(
                "AWS::Events::Rule",
                ScheduleExpression="rate(1 hour)",
                Targets=[{"Id": "function", "Arn": att("Function")}],
            ),
        },
        {"code": {"handler.py": DRIFT}},
        start_at=BEGIN,
    )
    alarm(twin, Period=3600)

    twin.advance(seconds=3600)

    assert state(twin) == "ALARM"
    assert shown(twin)["StateUpdatedTimestamp"] == BEGIN + timedelta(hours=1)


def test_a_message_that_nobody_takes_rings_until_it_is_dropped(start: Start) -> None:
    twin = started(start, Queue=resource("AWS::SQS::Queue", QueueName="failed"))
    sqs = twin.client("sqs")
    url = sqs.get_queue_url(QueueName="failed")["QueueUrl"]
    alarm(
        twin,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": "failed"}],
        Threshold=0,
        TreatMissingData="notBreaching",
    )
    sqs.send_message(QueueUrl=url, MessageBody="x")
    states = []

    for seconds in (60, 4 * 86_400 - 120, 180):  # messages are kept for four days
        twin.advance(seconds=seconds)
        states.append(state(twin))

    assert states == ["ALARM", "ALARM", "OK"]
    assert twin.alarms.evaluations <= 4


def test_a_message_in_flight_does_not_ring(start: Start) -> None:
    twin = started(start, Queue=resource("AWS::SQS::Queue", QueueName="failed"))
    sqs = twin.client("sqs")
    url = sqs.get_queue_url(QueueName="failed")["QueueUrl"]
    alarm(
        twin,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": "failed"}],
        Threshold=0,
    )
    sqs.send_message(QueueUrl=url, MessageBody="x")
    twin.advance(seconds=60)
    waits = state(twin)

    (message,) = sqs.receive_message(QueueUrl=url, VisibilityTimeout=600)["Messages"]
    twin.advance(seconds=120)
    hidden = state(twin)
    twin.advance(seconds=600)
    again = state(twin)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    twin.advance(seconds=120)

    assert (waits, hidden, again, state(twin)) == ("ALARM", "OK", "ALARM", "OK")


def test_alarms_of_the_machine_s_time_ring_by_themselves(start: Start) -> None:
    twin = start({}, real_time=True)
    alarm(twin, Period=10)

    put(twin, 2, datetime.fromtimestamp(time.time() - 10, UTC))
    deadline = time.perf_counter() + 15
    while state(twin) != "ALARM" and time.perf_counter() < deadline:
        time.sleep(0.1)

    assert state(twin) == "ALARM"


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "GreaterThanUpper"),
        ({"AlarmActions": ["arn:aws:lambda:eu-west-1:1:function:f"]}, "the action"),
        ({"OKActions": ["arn:aws:automate:eu-west-1:ec2:stop"]}, "the action"),
        ({"EvaluateLowSampleCountPercentile": "ignore"}, "EvaluateLow"),
        ({"Period": 45}, "Period 45"),
        ({"DatapointsToAlarm": 2}, "DatapointsToAlarm"),
    ],
)
def test_what_is_not_evaluated_is_refused_by_name(
    start: Start, settings: dict[str, Any], refused: str
) -> None:
    twin = started(start)

    with pytest.raises(ClientError, match=refused):
        alarm(twin, **settings)

    assert twin.alarms.states() == {}


def test_math_and_composite_alarms_are_refused_by_name(start: Start) -> None:
    twin = started(start)
    cloudwatch = twin.client("cloudwatch")

    with pytest.raises(ClientError, match="metric math"):
        cloudwatch.put_metric_alarm(
            AlarmName="math",
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=1,
            Metrics=[{"Id": "m", "Expression": "a / b"}],
        )
    with pytest.raises(ClientError, match="a composite alarm"):
        cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule="ALARM(math)")


@pytest.mark.parametrize(
    ("kind", "properties", "refused"),
    [
        ("AWS::CloudWatch::CompositeAlarm", {"AlarmRule": "TRUE"}, "CompositeAlarm"),
        ("AWS::CloudWatch::Alarm", {**SETTINGS, "Metrics": []}, "Metrics"),
        ("AWS::CloudWatch::Alarm", {**SETTINGS, "Statistic": "IQM"}, "'IQM'"),
        ("AWS::CloudWatch::Dashboard", {"DashboardBody": "[]"}, "no dashboard"),
    ],
)
def test_a_template_with_what_is_not_evaluated_is_refused(
    start: Start, kind: str, properties: dict[str, Any], refused: str
) -> None:
    with pytest.raises(UnsupportedByTwinError, match=refused):
        started(start, Watch=resource(kind, **properties))


def test_alarms_are_found_by_every_condition_at_once(start: Start) -> None:
    twin = started(start)
    for name in ("a-1", "a-2", "b-1"):
        alarm(twin, name, MetricName=name)
        put(twin, 0 if name == "a-1" else 2, BEGIN, name)
    twin.advance(seconds=60)
    cloudwatch = twin.client("cloudwatch")

    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix="a-", StateValue="ALARM", PaginationConfig={"PageSize": 1}
    )
    found = [found["AlarmName"] for page in pages for found in page["MetricAlarms"]]

    assert found == ["a-2"]
