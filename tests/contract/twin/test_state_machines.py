"""An execution follows its machine on the twin's time, and tells how it ended."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.errors import TwinTimeoutError, UnsupportedByTwinError
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, ref, resource
from tests.contract.twin.conftest import Start

HOUR = 3_600
# Fails with the error that it is told to, and counts how often it was called.
HANDLER = """
calls = 0

class StreamConflictError(Exception):
    pass

def lambda_handler(event, context):
    global calls
    calls += 1
    if calls <= event.get("failures", 0):
        raise StreamConflictError("again")
    return {"calls": calls, "given": event}
"""
INVOKE = "arn:aws:states:::lambda:invoke"


def machine(definition: Mapping[str, Any], **substitutions: Any) -> dict[str, Any]:
    return resource(
        "AWS::StepFunctions::StateMachine",
        DefinitionString=json.dumps(definition),
        DefinitionSubstitutions=substitutions,
        RoleArn=att("Role"),
    )


def one_state(**state: Any) -> dict[str, Any]:
    return {"StartAt": "Only", "States": {"Only": {"End": True, **state}}}


def started(start: Start, definition: Mapping[str, Any], **more: Any) -> Twin:
    """Start a twin of one machine, whose status changes arrive in a queue."""
    return start(
        {
            "Role": ROLE,
            "Told": resource("AWS::SQS::Queue"),
            "Ended": resource(
                "AWS::Events::Rule",
                EventPattern={
                    "source": ["aws.states"],
                    "detail-type": ["Step Functions Execution Status Change"],
                },
                Targets=[{"Id": "T", "Arn": att("Told")}],
            ),
            "Machine": machine(definition),
            **more,
        },
        outputs={"Machine": {"Value": ref("Machine")}, "Told": {"Value": ref("Told")}},
    )


def run(twin: Twin, given: Any = None, *, name: str | None = None) -> str:
    named = {"name": name} if name else {}
    arn: str = twin.client("stepfunctions").start_execution(
        stateMachineArn=twin.outputs()["Machine"],
        input=json.dumps(given or {}),
        **named,
    )["executionArn"]
    return arn


def described(twin: Twin, arn: str) -> dict[str, Any]:
    shown: dict[str, Any] = twin.client("stepfunctions").describe_execution(
        executionArn=arn
    )
    return shown


def ended(twin: Twin, given: Any = None) -> dict[str, Any]:
    """Run an execution to its end and return what the API says of it."""
    arn = run(twin, given)
    twin.wait_idle()
    return described(twin, arn)


def told(twin: Twin) -> list[dict[str, Any]]:
    found = twin.client("sqs").receive_message(
        QueueUrl=twin.outputs()["Told"], MaxNumberOfMessages=10
    )
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def counted(twin: Twin, name: str) -> float:
    now = twin.clock.now()
    answer = twin.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/States",
        MetricName=name,
        Dimensions=[{"Name": "StateMachineArn", "Value": twin.outputs()["Machine"]}],
        StartTime=now - timedelta(days=3),
        EndTime=now + timedelta(minutes=1),
        Period=86_400,
        Statistics=["Sum"],
    )
    return math.fsum(point["Sum"] for point in answer["Datapoints"])


def test_a_wait_takes_the_clocks_time_and_none_of_the_machines(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", Seconds=36 * HOUR))
    began = twin.clock.now()

    shown = ended(twin, {"kept": 1})

    assert shown["status"] == "SUCCEEDED"
    assert json.loads(shown["output"]) == {"kept": 1}
    assert twin.clock.now() - began == timedelta(hours=36)
    assert shown["stopDate"] - shown["startDate"] == timedelta(hours=36)


def test_a_wait_ends_when_the_clock_passes_it_and_not_before(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", Seconds=HOUR))
    arn = run(twin)

    twin.advance(seconds=HOUR - 1)
    before = described(twin, arn)["status"]
    twin.advance(seconds=1)

    assert (before, described(twin, arn)["status"]) == ("RUNNING", "SUCCEEDED")


def test_waiting_without_driving_leaves_an_execution_that_waits(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", Seconds=HOUR))
    began = twin.clock.now()
    arn = run(twin)

    twin.wait_idle(drive=False)

    assert described(twin, arn)["status"] == "RUNNING"
    assert twin.clock.now() == began
    assert list(twin.status()["executions"].values()) == [{"RUNNING": 1}]


def test_a_wait_until_an_instant_ends_at_that_instant(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", TimestampPath="$.until"))
    until = (twin.clock.now() + timedelta(days=2)).replace(microsecond=0)

    shown = ended(twin, {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}"})

    assert shown["status"] == "SUCCEEDED"
    assert twin.clock.now() == until


def test_branches_and_items_wait_beside_each_other(start: Start) -> None:
    waits: Callable[[int], dict[str, Any]] = lambda hours: one_state(  # noqa: E731
        Type="Wait", Seconds=hours * HOUR
    )
    items = one_state(Type="Wait", SecondsPath="$")
    definition = {
        "StartAt": "Both",
        "States": {
            "Both": {
                "Type": "Parallel",
                "Branches": [waits(2), waits(5)],
                "ResultPath": None,
                "Next": "Each",
            },
            "Each": {
                "Type": "Map",
                "ItemsPath": "$.items",
                "ItemProcessor": items,
                "End": True,
            },
        },
    }
    twin = started(start, definition)
    began = twin.clock.now()

    shown = ended(twin, {"items": [HOUR, 3 * HOUR, 2 * HOUR]})

    assert json.loads(shown["output"]) == [HOUR, 3 * HOUR, 2 * HOUR]
    assert twin.clock.now() - began == timedelta(hours=5 + 3)


def test_a_failed_branch_ends_the_wait_of_the_others(start: Start) -> None:
    definition = one_state(
        Type="Parallel",
        Branches=[
            one_state(Type="Wait", Seconds=100 * HOUR),
            {
                "StartAt": "Soon",
                "States": {
                    "Soon": {"Type": "Wait", "Seconds": 60, "Next": "Broken"},
                    "Broken": {"Type": "Fail", "Error": "Broken", "Cause": "told to"},
                },
            },
        ],
    )
    twin = started(start, definition)
    began = twin.clock.now()

    shown = ended(twin)

    assert (shown["status"], shown["error"]) == ("FAILED", "Broken")
    assert twin.clock.now() - began == timedelta(minutes=1)


def test_a_machines_time_limit_counts_the_clocks_seconds(start: Start) -> None:
    twin = started(
        start, {"TimeoutSeconds": 60, **one_state(Type="Wait", Seconds=HOUR)}
    )
    began = twin.clock.now()

    shown = ended(twin)

    assert shown["status"] == "TIMED_OUT"
    assert twin.clock.now() - began == timedelta(minutes=1)
    assert counted(twin, "ExecutionsTimedOut") == 1


def test_an_execution_that_is_stopped_waits_no_longer(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", Seconds=HOUR))
    began = twin.clock.now()
    arn = run(twin)
    twin.wait_idle(drive=False)

    twin.client("stepfunctions").stop_execution(executionArn=arn)
    twin.wait_idle()

    assert described(twin, arn)["status"] == "ABORTED"
    assert twin.clock.now() == began
    assert counted(twin, "ExecutionsAborted") == 1


def test_every_change_of_status_is_an_event_and_a_metric(start: Start) -> None:
    twin = started(start, one_state(Type="Wait", Seconds=60))

    arn = run(twin, {"a": 1}, name="run-1")
    twin.wait_idle()

    first, last = sorted(told(twin), key=lambda event: str(event["time"]))
    assert first["source"] == "aws.states"
    assert first["resources"] == [arn]
    assert first["detail"]["status"] == "RUNNING"
    assert first["detail"]["stopDate"] is None
    assert last["time"] == f"{twin.clock.now():%Y-%m-%dT%H:%M:%SZ}"
    assert last["detail"]["name"] == "run-1"
    assert last["detail"]["stateMachineArn"] == twin.outputs()["Machine"]
    assert (last["detail"]["status"], last["detail"]["output"]) == (
        "SUCCEEDED",
        '{"a": 1}',
    )
    assert counted(twin, "ExecutionsStarted") == 1
    assert counted(twin, "ExecutionsSucceeded") == 1
    assert counted(twin, "ExecutionsFailed") == 0


def test_executions_without_a_name_get_different_ones(start: Start) -> None:
    twin = started(start, one_state(Type="Pass"))

    first, second = run(twin, {"n": 1}), run(twin, {"n": 2})
    twin.wait_idle()

    assert first != second
    assert {described(twin, arn)["status"] for arn in (first, second)} == {"SUCCEEDED"}


def test_a_choice_without_a_match_fails_by_its_name(start: Start) -> None:
    definition = {
        "StartAt": "Which",
        "States": {
            "Which": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.n", "NumericEquals": 1, "Next": "One"}],
            },
            "One": {"Type": "Succeed"},
        },
    }

    shown = ended(started(start, definition), {"n": 2})

    assert (shown["status"], shown["error"]) == ("FAILED", "States.NoChoiceMatched")


def test_a_functions_error_keeps_its_name_and_is_retried_on_the_clock(
    start: Start,
) -> None:
    call = {
        "Type": "Task",
        "Resource": INVOKE,
        "Parameters": {"FunctionName": "${Function}", "Payload.$": "$"},
        "ResultSelector": {"result.$": "$.Payload"},
    }
    conflict = {"ErrorEquals": ["StreamConflictError"]}
    definition = {
        "StartAt": "Patient",
        "States": {
            "Patient": {
                **call,
                "Retry": [
                    {**conflict, "IntervalSeconds": HOUR, "BackoffRate": 2.0},
                ],
                "ResultPath": "$.first",
                "Next": "Hasty",
            },
            "Hasty": {
                **call,
                "Parameters": {
                    "FunctionName": "${Function}",
                    "Payload": {"failures": 99},
                },
                "Catch": [{**conflict, "ResultPath": "$.caught", "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "End": True},
        },
    }
    twin = start(
        {
            "Role": ROLE,
            "Function": function("code"),
            "Machine": machine(definition, Function=att("Function")),
        },
        {"code": {"handler.py": HANDLER}},
        outputs={"Machine": {"Value": ref("Machine")}},
    )
    began = twin.clock.now()

    shown = ended(twin, {"failures": 2})

    output = json.loads(shown["output"])
    assert output["first"]["result"] == {"calls": 3, "given": {"failures": 2}}
    assert output["caught"]["Error"] == "StreamConflictError"
    assert json.loads(output["caught"]["Cause"])["errorMessage"] == "again"
    assert twin.clock.now() - began == timedelta(hours=1 + 2)


def test_an_execution_starts_another_and_waits_for_its_result(start: Start) -> None:
    calling = {
        "StartAt": "Ask",
        "States": {
            "Ask": {
                "Type": "Task",
                "Resource": "arn:aws:states:::states:startExecution.sync:2",
                "Parameters": {
                    "StateMachineArn": "${Inner}",
                    "Input": {"seconds": 7200, "answer": 42},
                },
                "ResultSelector": {
                    "answer.$": "$.Output.answer",
                    "status.$": "$.Status",
                },
                "End": True,
            },
        },
    }
    twin = start(
        {
            "Role": ROLE,
            "Inner": machine(one_state(Type="Wait", SecondsPath="$.seconds")),
            "Machine": machine(calling, Inner=ref("Inner")),
        },
        outputs={"Machine": {"Value": ref("Machine")}},
    )
    began = twin.clock.now()

    shown = ended(twin)

    assert json.loads(shown["output"]) == {"answer": 42, "status": "SUCCEEDED"}
    assert twin.clock.now() - began == timedelta(hours=2)


def test_a_started_execution_is_not_waited_for_and_is_not_started_twice(
    start: Start,
) -> None:
    ask = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution",
        "Parameters": {"StateMachineArn": "${Inner}", "Name": "once", "Input": {}},
        "ResultPath": "$.asked",
    }
    calling = {
        "StartAt": "First",
        "States": {
            "First": {**ask, "Next": "Pause"},
            "Pause": {"Type": "Wait", "Seconds": HOUR, "Next": "Second"},
            "Second": {
                **ask,
                "Catch": [
                    {
                        "ErrorEquals": [
                            "StepFunctions.ExecutionAlreadyExistsException"
                        ],
                        "ResultPath": None,
                        "Next": "Known",
                    }
                ],
                "Next": "Twice",
            },
            "Twice": {"Type": "Fail"},
            "Known": {"Type": "Succeed"},
        },
    }
    twin = start(
        {
            "Role": ROLE,
            "Inner": machine(one_state(Type="Pass")),
            "Machine": machine(calling, Inner=ref("Inner")),
        },
        outputs={"Machine": {"Value": ref("Machine")}},
    )

    shown = ended(twin)

    asked = json.loads(shown["output"])["asked"]
    assert shown["status"] == "SUCCEEDED"
    assert asked["ExecutionArn"].endswith(":once")
    assert datetime.fromisoformat(asked["StartDate"]).tzinfo is not None


def test_an_sdk_call_answers_in_pascal_case_with_times_as_text(start: Start) -> None:
    definition = {
        "StartAt": "Put",
        "States": {
            "Put": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:putItem",
                "Parameters": {
                    "TableName": "${Table}",
                    "Item": {"id": {"S": "a"}, "lower": {"S": "b"}},
                },
                "ResultPath": None,
                "Next": "Get",
            },
            "Get": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:getItem",
                "Parameters": {"TableName": "${Table}", "Key": {"id": {"S": "a"}}},
                "ResultPath": "$.got",
                "Next": "Show",
            },
            "Show": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:sfn:describeStateMachine",
                "Parameters": {"StateMachineArn.$": "$$.StateMachine.Id"},
                "ResultPath": "$.shown",
                "End": True,
            },
        },
    }
    table = resource(
        "AWS::DynamoDB::Table",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    twin = start(
        {
            "Role": ROLE,
            "Table": table,
            "Machine": machine(definition, Table=ref("Table")),
        },
        outputs={"Machine": {"Value": ref("Machine")}},
    )

    output = json.loads(ended(twin)["output"])

    assert output["got"]["Item"] == {"id": {"S": "a"}, "lower": {"S": "b"}}
    assert output["shown"]["StateMachineArn"] == twin.outputs()["Machine"]
    created = datetime.fromisoformat(output["shown"]["CreationDate"])
    assert twin.clock.now() - created < timedelta(milliseconds=1)


def test_a_loop_asks_again_until_the_clock_has_come(start: Start) -> None:
    definition = {
        "StartAt": "Ask",
        "States": {
            "Ask": {
                "Type": "Pass",
                "Parameters": {
                    "until.$": "$.until",
                    "entered.$": "$$.State.EnteredTime",
                    "started.$": "$$.Execution.StartTime",
                },
                "Next": "Is it time?",
            },
            "Is it time?": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Variable": "$.entered",
                        "TimestampLessThanPath": "$.until",
                        "Next": "Pause",
                    }
                ],
                "Default": "Done",
            },
            "Pause": {"Type": "Wait", "Seconds": 30, "Next": "Ask"},
            "Done": {"Type": "Succeed"},
        },
    }
    twin = started(start, definition)
    began = twin.clock.now()
    until = began + timedelta(minutes=5)

    shown = ended(twin, {"until": f"{until:%Y-%m-%dT%H:%M:%S.%fZ}"})

    output = json.loads(shown["output"])
    assert datetime.fromisoformat(output["started"]) <= began
    assert timedelta(minutes=5) <= twin.clock.now() - began <= timedelta(minutes=5.5)


def test_an_execution_in_real_time_waits_real_seconds(start: Start) -> None:
    twin = start(
        {"Role": ROLE, "Machine": machine(one_state(Type="Wait", Seconds=1))},
        outputs={"Machine": {"Value": ref("Machine")}},
        real_time=True,
    )

    shown = ended(twin)

    assert shown["stopDate"] - shown["startDate"] >= timedelta(seconds=1)


def test_waiting_for_an_execution_that_works_too_long_ends_with_an_error(
    start: Start,
) -> None:
    slow = "import time\ndef lambda_handler(event, context):\n    time.sleep(2)\n"
    task = {"Type": "Task", "Resource": "${Function}"}
    twin = start(
        {
            "Role": ROLE,
            "Function": function("code"),
            "Machine": machine(one_state(**task), Function=att("Function")),
        },
        {"code": {"handler.py": slow}},
        outputs={"Machine": {"Value": ref("Machine")}},
    )
    run(twin)

    with pytest.raises(TwinTimeoutError):
        twin.wait_idle(timeout=0.3)


NOWHERE = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}}


@pytest.mark.parametrize(
    ("definition", "told_why"),
    [
        (NOWHERE, "a way to 'B', which is no state, in the state 'A'"),
        ({**NOWHERE, "StartAt": "B"}, "StartAt 'B', which is no state"),
        (
            one_state(Type="Parallel", Branches=[NOWHERE]),
            "a way to 'B', which is no state, in the state 'A'",
        ),
        ({**one_state(Type="Pass"), "QueryLanguage": "JSONata"}, "JSONata"),
        (one_state(Type="Pass", Assign={"a": 1}), "a variable in the state 'Only'"),
        (
            one_state(
                Type="Map",
                ToleratedFailurePercentage=5,
                ItemProcessor={
                    "ProcessorConfig": {"Mode": "DISTRIBUTED"},
                    **one_state(Type="Pass"),
                },
            ),
            "a Distributed Map that tolerates failures",
        ),
        (
            one_state(
                Type="Task",
                Resource="arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            ),
            "sqs:sendMessage.waitForTaskToken",
        ),
        (
            one_state(Type="Task", Resource="arn:aws:states:::glue:startJobRun.sync"),
            "glue:startJobRun.sync",
        ),
    ],
)
def test_what_would_not_be_executed_is_refused_when_the_machine_is_made(
    start: Start, definition: dict[str, Any], told_why: str
) -> None:
    with pytest.raises(UnsupportedByTwinError) as refused:
        start({"Role": ROLE, "Machine": machine(definition)})

    assert told_why in str(refused.value)


def test_the_first_instant_can_be_chosen(start: Start) -> None:
    first = datetime(2026, 3, 1, tzinfo=UTC)
    twin = start(
        {"Role": ROLE, "Machine": machine(one_state(Type="Pass"))},
        outputs={"Machine": {"Value": ref("Machine")}},
        start_at=first,
    )

    assert described(twin, run(twin))["startDate"] == first
