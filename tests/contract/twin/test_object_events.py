"""An object in S3 reaches a Lambda function through a rule of EventBridge."""

import json
import time
from typing import Any

from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, ref, resource
from tests.contract.twin.conftest import Start

HANDLER = """
import json, os
import boto3

s3 = boto3.client("s3")

def lambda_handler(event, context):
    key = event["detail"]["object"]["key"]
    body = s3.get_object(Bucket=event["detail"]["bucket"]["name"], Key=key)["Body"]
    if body.read() == b"broken":
        raise ValueError("broken file")
    s3.put_object(Bucket=os.environ["SEEN"], Key=key, Body=json.dumps(event))
"""


def started(start: Start, *, state: str = "ENABLED") -> Twin:
    """Start a twin in which a function sees every new object of a bucket."""
    return start(
        {
            "Role": ROLE,
            "Seen": resource("AWS::S3::Bucket"),
            "Failed": resource("AWS::SQS::Queue"),
            "Inbox": resource(
                "AWS::S3::Bucket",
                NotificationConfiguration={
                    "EventBridgeConfiguration": {"EventBridgeEnabled": True}
                },
            ),
            "Function": function(
                "code", Environment={"Variables": {"SEEN": ref("Seen")}}
            ),
            "Attempts": resource(
                "AWS::Lambda::EventInvokeConfig",
                FunctionName=ref("Function"),
                Qualifier="$LATEST",
                MaximumRetryAttempts=1,
                DestinationConfig={"OnFailure": {"Destination": att("Failed")}},
            ),
            "Rule": resource(
                "AWS::Events::Rule",
                State=state,
                EventPattern={
                    "source": ["aws.s3"],
                    "detail-type": ["Object Created"],
                    "detail": {"bucket": {"name": [ref("Inbox")]}},
                },
                Targets=[
                    {
                        "Id": "T",
                        "Arn": att("Function"),
                        "DeadLetterConfig": {"Arn": att("Failed")},
                    }
                ],
            ),
        },
        {"code": {"handler.py": HANDLER}},
        outputs={
            name: {"Value": ref(name)}
            for name in ("Inbox", "Seen", "Failed", "Function")
        },
    )


def seen(twin: Twin) -> list[str]:
    listed = twin.client("s3").list_objects_v2(Bucket=twin.outputs()["Seen"])
    return [entry["Key"] for entry in listed.get("Contents", [])]


def failed(twin: Twin) -> list[dict[str, Any]]:
    answer = twin.client("sqs").receive_message(
        QueueUrl=twin.outputs()["Failed"],
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
    )
    return list(answer.get("Messages", []))


def put(twin: Twin, key: str, body: bytes) -> None:
    twin.client("s3").put_object(Bucket=twin.outputs()["Inbox"], Key=key, Body=body)


def test_a_new_object_invokes_the_function_with_the_event_of_s3(start: Start) -> None:
    twin = started(start)

    put(twin, "a b.csv", b"x")
    twin.wait_idle()

    (key,) = seen(twin)
    body = twin.client("s3").get_object(Bucket=twin.outputs()["Seen"], Key=key)["Body"]
    event = json.load(body)
    assert key == "a b.csv"
    assert event["source"] == "aws.s3"
    assert event["detail-type"] == "Object Created"
    assert event["detail"]["bucket"]["name"] == twin.outputs()["Inbox"]
    assert event["detail"]["object"]["size"] == 1
    assert event["time"].endswith("Z")
    assert failed(twin) == []


def test_a_failing_function_is_retried_and_its_event_ends_in_the_queue(
    start: Start,
) -> None:
    twin = started(start)
    began = twin.clock.now()

    put(twin, "bad", b"broken")
    twin.wait_idle()

    (message,) = failed(twin)
    record = json.loads(message["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["requestPayload"]["detail"]["object"]["key"] == "bad"
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert (twin.clock.now() - began).total_seconds() == 60


def test_an_event_for_a_function_that_is_gone_ends_in_the_rules_queue(
    start: Start,
) -> None:
    twin = started(start)
    twin.client("lambda").delete_function(FunctionName=twin.outputs()["Function"])

    put(twin, "a", b"x")
    twin.wait_idle()

    (message,) = failed(twin)
    attributes = message["MessageAttributes"]
    assert attributes["ERROR_CODE"]["StringValue"] == "RESOURCE_NOT_FOUND"
    assert json.loads(message["Body"])["detail"]["object"]["key"] == "a"


def test_a_disabled_rule_and_another_bucket_invoke_nothing(start: Start) -> None:
    twin = started(start, state="DISABLED")

    put(twin, "a", b"x")
    twin.client("s3").put_object(Bucket=twin.outputs()["Seen"], Key="b", Body=b"x")
    twin.wait_idle()

    assert seen(twin) == ["b"]


def test_an_asynchronous_invocation_returns_before_the_function(start: Start) -> None:
    twin = start(
        {"Role": ROLE, "Function": function("code")},
        {
            "code": {
                "handler.py": """
                import time

                def lambda_handler(event, context):
                    time.sleep(1)
                """
            }
        },
        outputs={"Function": {"Value": ref("Function")}},
    )
    name = twin.outputs()["Function"]
    began = time.perf_counter()

    answer = twin.client("lambda").invoke(
        FunctionName=name, InvocationType="Event", Payload=b"{}"
    )
    took = time.perf_counter() - began
    twin.wait_idle()

    assert answer["StatusCode"] == 202
    assert took < 1
    assert twin.functions.status()[name]["invocations"] == 1
