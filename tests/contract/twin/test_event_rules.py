"""A rule hands what it matches, or what its schedule says, to every kind of target."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.errors import UnsupportedByTwinError
from infra.local.schedule_expression import parse
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, ref, resource
from tests.contract.twin.conftest import Start

FIRST = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
PATTERN = {"source": ["shop"], "detail": {"paid": [True]}}
PASS = json.dumps({"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}})


def rule(*targets: dict[str, Any], **properties: Any) -> dict[str, Any]:
    named = [{"Id": f"T{place}", **target} for place, target in enumerate(targets)]
    return resource("AWS::Events::Rule", Targets=named, **properties)


def started(start: Start, *, start_at: datetime = FIRST, **resources: Any) -> Twin:
    """Start a twin with two queues beside the given resources."""
    return start(
        {
            "Role": ROLE,
            "Queue": resource("AWS::SQS::Queue"),
            "Lost": resource("AWS::SQS::Queue"),
            **resources,
        },
        outputs={name: {"Value": ref(name)} for name in ("Queue", "Lost", *resources)},
        start_at=start_at,
    )


def messages(twin: Twin, queue: str = "Queue") -> list[dict[str, Any]]:
    """Take every message of a queue."""
    found: list[dict[str, Any]] = []
    url, sqs = twin.outputs()[queue], twin.client("sqs")
    while taken := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        found += taken
        for message in taken:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def bodies(twin: Twin, queue: str = "Queue") -> list[dict[str, Any]]:
    return [json.loads(message["Body"]) for message in messages(twin, queue)]


def put(twin: Twin, *details: dict[str, Any]) -> None:
    answer = twin.client("events").put_events(
        Entries=[
            {"Source": "shop", "DetailType": "Order", "Detail": json.dumps(detail)}
            for detail in details
        ]
    )
    assert answer["FailedEntryCount"] == 0


def test_a_clients_event_reaches_a_queue_a_topic_and_a_machine(start: Start) -> None:
    twin = started(
        start,
        Topic=resource("AWS::SNS::Topic"),
        Subscription=resource(
            "AWS::SNS::Subscription",
            Protocol="sqs",
            Endpoint=att("Lost"),
            RawMessageDelivery=True,
            TopicArn=ref("Topic"),
        ),
        Machine=resource(
            "AWS::StepFunctions::StateMachine",
            DefinitionString=PASS,
            RoleArn=att("Role"),
        ),
        Rule=rule(
            {"Arn": att("Queue")},
            {"Arn": ref("Topic")},
            {"Arn": ref("Machine"), "RoleArn": att("Role")},
            EventPattern=PATTERN,
        ),
    )

    put(twin, {"paid": True, "n": 1}, {"paid": False, "n": 2})
    twin.wait_idle()

    (event,) = bodies(twin)
    (execution,) = twin.client("stepfunctions").list_executions(
        stateMachineArn=twin.outputs()["Machine"]
    )["executions"]
    output = twin.client("stepfunctions").describe_execution(
        executionArn=execution["executionArn"]
    )["output"]
    assert (event["source"], event["detail-type"]) == ("shop", "Order")
    assert event["detail"] == {"paid": True, "n": 1}
    assert event["time"] == "2026-03-01T00:30:00Z"
    assert bodies(twin, "Lost") == [event]
    assert json.loads(output) == event


def test_a_constant_input_stands_for_the_event(start: Start) -> None:
    constant = {"asked": ["again"]}
    twin = started(
        start,
        Rule=rule(
            {"Arn": att("Queue"), "Input": json.dumps(constant)}, EventPattern=PATTERN
        ),
    )

    put(twin, {"paid": True})

    assert bodies(twin) == [constant]


def test_a_schedule_fires_whenever_the_clock_passes_it(start: Start) -> None:
    twin = started(
        start, Rule=rule({"Arn": att("Queue")}, ScheduleExpression="rate(3 hours)")
    )

    twin.advance(to="2026-03-01T09:00:00Z")

    events = bodies(twin)
    assert [event["time"] for event in events] == [
        f"2026-03-01T{hour:02d}:00:00Z" for hour in (3, 6, 9)
    ]
    assert {(e["source"], e["detail-type"]) for e in events} == {
        ("aws.events", "Scheduled Event")
    }
    assert events[0]["resources"][0].endswith(f"rule/{twin.outputs()['Rule']}")
    assert events[0]["detail"] == {}
    assert twin.status()["schedules"] == {
        twin.outputs()["Rule"]: {"fired": 3, "due": "2026-03-01T12:00:00+00:00"}
    }


def test_nobody_drives_the_clock_to_a_schedule(start: Start) -> None:
    twin = started(
        start, Rule=rule({"Arn": att("Queue")}, ScheduleExpression="rate(1 minute)")
    )

    twin.wait_idle()

    assert twin.clock.now() == FIRST
    assert messages(twin) == []


def test_a_schedule_fires_in_order_with_what_else_is_due(start: Start) -> None:
    wait = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 5400}}}
    wait["States"]["W"]["End"] = True  # type: ignore[index]
    twin = started(
        start,
        Machine=resource(
            "AWS::StepFunctions::StateMachine",
            DefinitionString=json.dumps(wait),
            RoleArn=att("Role"),
        ),
        Hourly=rule({"Arn": att("Queue")}, ScheduleExpression="rate(1 hour)"),
        Ended=rule(
            {"Arn": att("Queue")},
            EventPattern={
                "source": ["aws.states"],
                "detail": {"status": ["SUCCEEDED"]},
            },
        ),
    )
    twin.client("stepfunctions").start_execution(
        stateMachineArn=twin.outputs()["Machine"]
    )

    twin.wait_idle()  # drives to 02:00, the end of the wait, where the rule is due too

    told = [(event["time"][11:16], event["source"]) for event in bodies(twin)]
    assert told[0] == ("01:00", "aws.events")
    assert sorted(told[1:]) == [("02:00", "aws.events"), ("02:00", "aws.states")]


def test_a_disabled_rule_does_nothing_until_it_is_enabled(start: Start) -> None:
    twin = started(
        start,
        Hourly=rule(
            {"Arn": att("Queue")}, State="DISABLED", ScheduleExpression="rate(1 hour)"
        ),
    )
    name = twin.outputs()["Hourly"]

    twin.advance(seconds=7200)
    before = len(messages(twin))
    twin.client("events").enable_rule(Name=name)
    twin.advance(seconds=7200)
    between = len(messages(twin))
    twin.client("events").disable_rule(Name=name)
    twin.advance(seconds=7200)

    assert (before, between, len(messages(twin))) == (0, 2, 0)


def test_a_schedule_takes_no_event_of_others(start: Start) -> None:
    twin = started(
        start, Rule=rule({"Arn": att("Queue")}, ScheduleExpression="rate(1 hour)")
    )

    put(twin, {"paid": True})

    assert messages(twin) == []


def test_a_rule_made_by_a_client_fires_too(start: Start) -> None:
    twin = started(start)
    events = twin.client("events")
    queue = twin.client("sqs").get_queue_attributes(
        QueueUrl=twin.outputs()["Queue"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]

    events.put_rule(Name="daily", ScheduleExpression="cron(15 6 ? * MON-FRI *)")
    events.put_targets(Rule="daily", Targets=[{"Id": "T", "Arn": queue}])
    twin.advance(seconds=timedelta(days=2).total_seconds())  # from a Sunday

    assert [event["time"] for event in bodies(twin)] == ["2026-03-02T06:15:00Z"]
    with pytest.raises(events.exceptions.ClientError, match="got 'L'"):
        events.put_rule(Name="last", ScheduleExpression="cron(0 6 L * ? *)")
    with pytest.raises(events.exceptions.ClientError, match="InputPath"):
        events.put_targets(
            Rule="daily", Targets=[{"Id": "P", "Arn": queue, "InputPath": "$.detail"}]
        )


def test_an_event_for_a_machine_that_is_gone_ends_in_the_rules_queue(
    start: Start,
) -> None:
    twin = started(
        start,
        Machine=resource(
            "AWS::StepFunctions::StateMachine",
            DefinitionString=PASS,
            RoleArn=att("Role"),
        ),
        Rule=rule(
            {"Arn": ref("Machine"), "DeadLetterConfig": {"Arn": att("Lost")}},
            {"Arn": att("Queue")},
            EventPattern=PATTERN,
        ),
    )
    machine = twin.outputs()["Machine"]
    twin.client("stepfunctions").delete_state_machine(stateMachineArn=machine)

    put(twin, {"paid": True})

    (message,) = messages(twin, "Lost")
    assert json.loads(message["Body"])["source"] == "shop"
    attributes = message["MessageAttributes"]
    assert attributes["ERROR_CODE"]["StringValue"] == "StateMachineDoesNotExist"
    assert attributes["TARGET_ARN"]["StringValue"] == machine
    assert len(messages(twin)) == 1


def test_a_topic_delivers_to_a_function_afterwards_and_retries_it(
    start: Start,
) -> None:
    handler = """
import json, os
import boto3

attempts = 0

def lambda_handler(event, context):
    global attempts
    attempts += 1
    if attempts == 1:
        raise ValueError("not yet")
    boto3.client("sqs").send_message(
        QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event)
    )
"""
    twin = start(
        {
            "Role": ROLE,
            "Queue": resource("AWS::SQS::Queue"),
            "Topic": resource("AWS::SNS::Topic"),
            "Function": function(
                "code", Environment={"Variables": {"QUEUE": ref("Queue")}}
            ),
            "ToFunction": resource(
                "AWS::SNS::Subscription",
                Protocol="lambda",
                Endpoint=att("Function"),
                TopicArn=ref("Topic"),
                FilterPolicy={"kind": ["wanted"]},
            ),
            "ToPerson": resource(
                "AWS::SNS::Subscription",
                Protocol="email",
                Endpoint="somebody@example.org",
                TopicArn=ref("Topic"),
            ),
        },
        {"code": {"handler.py": handler}},
        outputs={name: {"Value": ref(name)} for name in ("Queue", "Topic")},
    )
    began = twin.clock.now()
    topic = twin.outputs()["Topic"]

    for kind in ("other", "wanted"):
        twin.client("sns").publish(
            TopicArn=topic,
            Subject="s",
            Message=f"this is {kind}",
            MessageAttributes={"kind": {"DataType": "String", "StringValue": kind}},
        )
    twin.wait_idle()

    (event,) = bodies(twin)
    (record,) = event["Records"]
    assert record["EventSource"] == "aws:sns"
    assert record["Sns"]["Message"] == "this is wanted"
    assert (record["Sns"]["Subject"], record["Sns"]["TopicArn"]) == ("s", topic)
    assert record["Sns"]["MessageAttributes"]["kind"]["Value"] == "wanted"
    assert twin.clock.now() - began == timedelta(minutes=1)
    subscriptions = twin.client("sns").list_subscriptions_by_topic(TopicArn=topic)
    assert {s["Protocol"] for s in subscriptions["Subscriptions"]} == {
        "email",
        "lambda",
    }


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"ScheduleExpression": "cron(0 6 ? * 2#1 *)"}, "'2#1'"),
        ({"ScheduleExpression": "cron(0 6 1 * 2 *)"}, "expected ? for either"),
        (
            {
                "EventPattern": PATTERN,
                "Targets": [{"Id": "T", "Arn": "arn:aws:kinesis:r:1:stream/s"}],
            },
            "the target arn:aws:kinesis",
        ),
        (
            {
                "EventPattern": PATTERN,
                "Targets": [
                    {
                        "Id": "T",
                        "Arn": "arn:aws:sqs:eu-west-1:1:q",
                        "InputTransformer": {"InputTemplate": "<a>"},
                    }
                ],
            },
            "Targets[0].InputTransformer",
        ),
    ],
)
def test_what_a_rule_would_not_do_is_refused_by_name(
    start: Start, properties: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedByTwinError) as refused:
        start({"Rule": resource("AWS::Events::Rule", **properties)})

    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "dues"),
    [
        ("rate(1 day)", ["2026-03-02T00:00", "2026-03-03T00:00"]),
        ("cron(0 12 * * ? *)", ["2026-03-01T12:00", "2026-03-02T12:00"]),
        ("cron(0/20 0 1 * ? *)", ["2026-03-01T00:40", "2026-04-01T00:00"]),
        ("cron(0 8,20 ? * 2-3 *)", ["2026-03-02T08:00", "2026-03-02T20:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("cron(0 0 31 12 ? 2026)", ["2026-12-31T00:00", None]),
    ],
)
def test_an_expression_names_its_instants(
    expression: str, dues: Sequence[str | None]
) -> None:
    instant: datetime | None = FIRST
    found: list[str | None] = []
    for _ in dues:
        instant = parse(expression).next_after(instant) if instant else None
        found.append(f"{instant:%Y-%m-%dT%H:%M}" if instant else None)

    assert found == list(dues)
