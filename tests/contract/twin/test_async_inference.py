"""An asynchronous request is answered at once, and its result is found in S3."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.clock import DrivenClock
from infra.local.twin import Twin
from tests.contract.twin.assembly import att, ref, resource
from tests.contract.twin.conftest import Start
from tests.contract.twin.container_image import (
    OUTPUTS,
    PROGRAMS,
    RESOURCES,
    get,
    put,
    serve,
)


def started(start: Start, *, concurrent: int = 4) -> Twin:
    """Start a twin with the asynchronous endpoint `scores`."""
    twin = start(
        {
            **RESOURCES,
            **{
                name: body
                for kind in ("Success", "Failure")
                for name, body in {
                    kind: resource("AWS::SNS::Topic"),
                    f"{kind}Seen": resource("AWS::SQS::Queue"),
                }.items()
            },
        },
        images={"programs": PROGRAMS},
        outputs={
            **OUTPUTS,
            **{
                name: {"Value": ref(name)}
                for name in ("Success", "Failure", "SuccessSeen", "FailureSeen")
            },
            "SuccessArn": {"Value": att("SuccessSeen")},
            "FailureArn": {"Value": att("FailureSeen")},
        },
    )
    outputs = twin.outputs()
    for kind in ("Success", "Failure"):
        twin.client("sns").subscribe(
            TopicArn=outputs[kind],
            Protocol="sqs",
            Endpoint=outputs[f"{kind}Arn"],
            Attributes={"RawMessageDelivery": "true"},
        )
    bucket = outputs["Bucket"]
    serve(
        twin,
        {"version": 1},
        AsyncInferenceConfig={
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrent},
            "OutputConfig": {
                "S3OutputPath": f"s3://{bucket}/answers/",
                "S3FailurePath": f"s3://{bucket}/failures/",
                "NotificationConfig": {
                    "SuccessTopic": outputs["Success"],
                    "ErrorTopic": outputs["Failure"],
                },
            },
        },
    )
    return twin


def ask(twin: Twin, body: bytes, **members: Any) -> dict[str, Any]:
    answer = twin.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="scores", InputLocation=put(twin, "asked/1", body), **members
    )
    return dict(answer)


def messages(twin: Twin, kind: str) -> list[dict[str, Any]]:
    found = twin.client("sqs").receive_message(
        QueueUrl=twin.outputs()[f"{kind}Seen"], MaxNumberOfMessages=10
    )
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def test_a_request_is_answered_at_once_and_its_result_later(start: Start) -> None:
    twin = started(start)
    twin.advance(to="2030-01-01T00:00:00.5Z")

    answer = ask(
        twin,
        b"rows",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=1",
        InferenceId="mine",
    )
    twin.wait_idle()

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert answer["OutputLocation"].endswith(".out")
    assert "/failures/" in answer["FailureLocation"]
    seen = json.loads(get(twin, answer["OutputLocation"]))
    assert seen["body"] == "rows"
    assert seen["headers"]["Content-Type"] == "text/csv"
    assert seen["headers"]["X-Amzn-SageMaker-Custom-Attributes"] == "trace=1"
    assert seen["headers"]["X-Amzn-SageMaker-Inference-Id"] == "mine"
    bucket = twin.outputs()["Bucket"]
    assert messages(twin, "Success") == [
        {
            "awsRegion": "eu-west-1",
            "eventTime": "2030-01-01T00:00:00.500Z",
            "receivedTime": "2030-01-01T00:00:00.500Z",
            "invocationStatus": "Completed",
            "requestParameters": {
                "contentType": "text/csv",
                "endpointName": "scores",
                "inputLocation": f"s3://{bucket}/asked/1",
            },
            "responseParameters": {
                "contentType": "application/json",
                "outputLocation": answer["OutputLocation"],
            },
            "inferenceId": "mine",
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        }
    ]
    assert messages(twin, "Failure") == []


def test_an_error_of_the_model_is_found_in_the_failure_path(start: Start) -> None:
    twin = started(start)

    answer = ask(twin, b"status:400")
    twin.wait_idle()

    assert get(twin, answer["FailureLocation"]) == b"as you wished"
    (message,) = messages(twin, "Failure")
    assert message["invocationStatus"] == "Failed"
    assert message["inferenceId"] == answer["InferenceId"]
    assert "Received client error (400)" in message["failureReason"]
    assert messages(twin, "Success") == []
    with pytest.raises(ClientError, match="NoSuchKey"):
        get(twin, answer["OutputLocation"])


def test_a_missing_input_and_a_slow_model_are_failures_too(start: Start) -> None:
    twin = started(start)
    bucket = twin.outputs()["Bucket"]

    ask(twin, b"sleep:5", InvocationTimeoutSeconds=1)
    twin.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="scores", InputLocation=f"s3://{bucket}/none"
    )
    twin.wait_idle()

    reasons = sorted(message["failureReason"] for message in messages(twin, "Failure"))
    assert len(reasons) == 2
    assert "timed out" in reasons[0]
    assert "failed to read" in reasons[1]


def test_requests_beyond_the_limit_wait_for_their_turn(start: Start) -> None:
    twin = started(start, concurrent=2)

    answers = [ask(twin, b"sleep:0.4") for _ in range(4)]
    twin.wait_idle()

    together = [int(get(twin, answer["OutputLocation"])) for answer in answers]
    assert max(together) == 2
    assert len(messages(twin, "Success")) == 4


def test_a_request_that_waited_too_long_is_not_sent(start: Start) -> None:
    twin = started(start, concurrent=1)
    ask(twin, b"sleep:1")

    ask(twin, b"late", RequestTTLSeconds=60)
    assert isinstance(twin.clock, DrivenClock)
    twin.clock.advance_to(  # without waiting for what runs
        twin.clock.now() + timedelta(seconds=61), lambda: None
    )
    twin.wait_idle()

    (message,) = messages(twin, "Failure")
    assert "longer than its RequestTTLSeconds" in message["failureReason"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"RequestTTLSeconds": 21_601}, "must be from 60 to 21600"),
        ({"InvocationTimeoutSeconds": 3601}, "must be from 1 to 3600"),
        ({"InputLocation": "https://elsewhere/x"}, "expected an InputLocation s3://"),
        ({"EndpointName": "none"}, "Endpoint none of account 123456789012 not found"),
        ({"Filename": "mine"}, "UnsupportedByTwin"),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused(
    start: Start, members: dict[str, Any], message: str
) -> None:
    twin = started(start)
    request = {"EndpointName": "scores", "InputLocation": "s3://b/k", **members}

    with pytest.raises(ClientError, match=message):
        twin.client("sagemaker-runtime").invoke_endpoint_async(**request)


def test_an_endpoint_is_either_asynchronous_or_in_real_time(start: Start) -> None:
    twin = started(start)

    with pytest.raises(ClientError, match="use InvokeEndpointAsync"):
        twin.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="scores", Body=b"x"
        )


def test_a_real_time_endpoint_takes_no_asynchronous_request(start: Start) -> None:
    twin = start(RESOURCES, images={"programs": PROGRAMS}, outputs=OUTPUTS)
    serve(twin, {"version": 1})

    with pytest.raises(ClientError, match="use InvokeEndpoint"):
        ask(twin, b"x")
