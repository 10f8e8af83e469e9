"""What mappings gave up is listed, moved and delivered; AWS is moto here."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from moto import mock_aws
from retrodict.errors import StillUndeliveredError, StoreUnavailableError
from retrodict_aws.lambda_functions import LambdaFunctions
from retrodict_aws.s3_undelivered import S3Undelivered

from tests.undelivered import document_of, event_of, numbered, records_of

REGION = "eu-west-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:write"
MANY = 1_005  # more than one page of a listing


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every test against an account of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def bucket() -> Any:
    s3 = client("s3")
    s3.create_bucket(
        Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    s3.put_bucket_versioning(
        Bucket="kept", VersioningConfiguration={"Status": "Enabled"}
    )
    return s3


def body() -> bytes:
    event = event_of(records_of(*numbered(3)))
    return json.dumps(document_of("write_features", event)).encode()


def function(*, service: str | None) -> Any:
    role = client("iam").create_role(
        RoleName="role",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}),
    )["Role"]["Arn"]
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as code:
        code.writestr("handler.py", "")
    variables = {"POWERTOOLS_SERVICE_NAME": service} if service else {"OTHER": "1"}
    found = client("lambda")
    found.create_function(
        FunctionName="write",
        Runtime="python3.12",
        Role=role,
        Handler="handler.lambda_handler",
        Code={"ZipFile": held.getvalue()},
        Environment={"Variables": variables},
    )
    return found


def test_every_batch_is_listed_and_a_redriven_one_is_moved_with_its_bytes() -> None:
    s3, expected = bucket(), body()
    names = [f"aws/lambda/m/shard/2026/01/05/{n:04}" for n in range(MANY)]
    for name in names:
        s3.put_object(Bucket="kept", Key=name, Body=expected)
    s3.put_object(Bucket="kept", Key="rejected/other.jsonl", Body=b"{}")
    kept = S3Undelivered(s3, "kept")

    listed = kept.names()
    kept.settle(kept.read(names[7]))

    assert listed == names
    assert kept.names() == [name for name in names if name != names[7]]
    moved = s3.get_object(Bucket="kept", Key=f"redriven/{names[7]}")
    assert moved["Body"].read() == expected


def test_a_bucket_that_refuses_says_so() -> None:
    kept = S3Undelivered(client("s3"), "nobodys")

    with pytest.raises(StoreUnavailableError, match="refused to list: NoSuchBucket"):
        kept.names()
    bucket()
    with pytest.raises(StoreUnavailableError, match=r"refused aws/x: NoSuchKey"):
        S3Undelivered(client("s3"), "kept").read("aws/x")


def test_a_function_says_itself_which_folder_it_is_of() -> None:
    functions = LambdaFunctions(function(service="write_features.dev"))

    assert functions.name_of(ARN) == "write_features"


@pytest.mark.parametrize(
    ("arn", "why"),
    [(ARN, "is none of ours"), (f"{ARN}-gone", "ResourceNotFoundException")],
)
def test_a_function_that_is_gone_or_none_of_ours_is_named(arn: str, why: str) -> None:
    functions = LambdaFunctions(function(service=None))

    with pytest.raises(StillUndeliveredError, match=why):
        functions.name_of(arn)


def answering(**answer: Any) -> tuple[LambdaFunctions, Stubber]:
    """Return functions that answer one invocation so."""
    found = client("lambda")
    stubber = Stubber(found)
    payload = answer.pop("Payload")
    told = StreamingBody(io.BytesIO(payload), len(payload))
    asked = {"FunctionName": ARN, "Payload": b"{}"}
    stubber.add_response("invoke", {"Payload": told, **answer}, asked)
    stubber.activate()
    return LambdaFunctions(found), stubber


def test_an_answer_is_what_the_function_returned() -> None:
    functions, stubber = answering(Payload=b'{"batchItemFailures": []}')

    assert functions.invoke(ARN, b"{}") == {"batchItemFailures": []}
    stubber.assert_no_pending_responses()


def test_a_function_that_failed_is_no_answer() -> None:
    told = b'{"errorMessage": "out of memory"}'
    functions, _ = answering(Payload=told, FunctionError="Unhandled")

    with pytest.raises(StillUndeliveredError, match=r"failed: .*out of memory"):
        functions.invoke(ARN, b"{}")


def test_a_function_that_could_not_be_invoked_is_no_answer() -> None:
    found = client("lambda")
    stubber = Stubber(found)
    stubber.add_client_error("invoke", "TooManyRequestsException")
    stubber.activate()

    with pytest.raises(StillUndeliveredError, match="TooManyRequestsException"):
        LambdaFunctions(found).invoke(ARN, b"{}")


def test_a_function_that_does_not_answer_in_time_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = client("lambda")

    def invoke(**_asked: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="https://lambda")

    monkeypatch.setattr(found, "invoke", invoke)

    with pytest.raises(StillUndeliveredError, match="ReadTimeoutError"):
        LambdaFunctions(found).invoke(ARN, b"{}")
