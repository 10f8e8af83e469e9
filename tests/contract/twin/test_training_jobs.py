"""A training job runs the image's train program in the folders SageMaker documents."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.errors import TwinTimeoutError
from infra.local.twin import Twin
from tests.contract.twin.assembly import att, ref, resource
from tests.contract.twin.conftest import Start
from tests.contract.twin.container_image import (
    OUTPUTS,
    PROGRAMS,
    RESOURCES,
    ROLE_ARN,
    get,
    put,
    unpacked,
)


def started(start: Start, **options: Any) -> Twin:
    twin = start(RESOURCES, images={"programs": PROGRAMS}, outputs=OUTPUTS, **options)
    put(twin, "sets/1/fit.csv", b"a,b")
    put(twin, "sets/1/deep/more.csv", b"c")
    put(twin, "sets/12/other.csv", b"not of this set")
    return twin


def request(twin: Twin, name: str = "job", **members: Any) -> dict[str, Any]:
    bucket = twin.outputs()["Bucket"]
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE_ARN,
        "AlgorithmSpecification": {
            "TrainingImage": twin.outputs()["Image"],
            "TrainingInputMode": "File",
            "MetricDefinitions": [
                {"Name": "loss", "Regex": r"loss=([0-9.]+);"},
                {"Name": "never", "Regex": r"never=([0-9.]+);"},
            ],
        },
        "InputDataConfig": [
            {
                "ChannelName": "training",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{bucket}/sets/1/",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/jobs/"},
        "ResourceConfig": {
            "InstanceCount": 1,
            "InstanceType": "ml.m5.large",
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **members,
    }


def run(twin: Twin, name: str = "job", **members: Any) -> dict[str, Any]:
    """Create a job, wait for its end and return how it is described."""
    sagemaker = twin.client("sagemaker")
    sagemaker.create_training_job(**request(twin, name, **members))
    twin.wait_idle()
    return dict(sagemaker.describe_training_job(TrainingJobName=name))


def seen_by(twin: Twin, job: dict[str, Any]) -> dict[str, Any]:
    """Return what the program of a job saw."""
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    output = unpacked(get(twin, model.replace("model.tar", "output.tar")))
    return dict(json.loads(output["seen.json"]))


def log(twin: Twin) -> str:
    """Return what the program of the job printed until now."""
    path = twin.status()["sagemaker"]["jobs"]["job"]["log"]
    return Path(path).read_text() if path else ""


def test_a_job_turns_data_and_hyperparameters_into_an_artifact(start: Start) -> None:
    twin = started(start)

    job = run(twin, HyperParameters={"seed": "7"}, Environment={"COLOUR": "blue"})

    where = f"s3://{twin.outputs()['Bucket']}/jobs/job/output"
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Completed"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"{where}/model.tar.gz"
    model = unpacked(get(twin, f"{where}/model.tar.gz"))
    assert model == {"artifact.json": '{"seed": "7"}'}
    seen = seen_by(twin, job)
    assert seen["files"] == {
        "training/fit.csv": "a,b",
        "training/deep/more.csv": "c",
    }
    assert seen["config"]["hyperparameters"] == {"seed": "7"}
    assert seen["config"]["resourceconfig"]["hosts"] == ["algo-1"]
    assert seen["config"]["inputdataconfig"]["training"]["TrainingInputMode"] == "File"
    environment = seen["environment"]
    assert environment["COLOUR"] == "blue"
    assert environment["TRAINING_JOB_NAME"] == "job"
    assert environment["AWS_ENDPOINT_URL"] == twin.endpoint_url
    assert "layers/core/python" in environment["PYTHONPATH"]


def test_the_same_job_gives_the_same_bytes_later(start: Start) -> None:
    twin = started(start)
    first = run(twin, "first", HyperParameters={"seed": "7"})
    twin.advance(seconds=86_400)

    second = run(twin, "second", HyperParameters={"seed": "7"})

    archives = [
        get(twin, job["ModelArtifacts"]["S3ModelArtifacts"]) for job in (first, second)
    ]
    assert archives[0] == archives[1]


def test_a_program_sees_the_twins_time_and_the_job_ends_in_it(start: Start) -> None:
    twin = started(start)
    twin.advance(to="2030-01-01T00:00:00.250Z")

    job = run(twin)

    output = job["ModelArtifacts"]["S3ModelArtifacts"].replace(
        "model.tar", "output.tar"
    )
    seen = json.loads(unpacked(get(twin, output))["seen.json"])
    assert seen["time"] == twin.clock.now().timestamp()
    instants = [job[f"Training{part}Time"] for part in ("Start", "End")]
    assert instants == [twin.clock.now()] * 2


def test_in_real_time_a_program_keeps_the_machines_clock(start: Start) -> None:
    twin = started(start, real_time=True)
    before = time.time()

    job = run(twin)

    output = job["ModelArtifacts"]["S3ModelArtifacts"].replace(
        "model.tar", "output.tar"
    )
    seen = json.loads(unpacked(get(twin, output))["seen.json"])
    assert before < seen["time"] < time.time()


def test_an_isolated_job_knows_nothing_of_aws(start: Start) -> None:
    twin = started(start)

    job = run(twin, EnableNetworkIsolation=True)

    output = job["ModelArtifacts"]["S3ModelArtifacts"].replace(
        "model.tar", "output.tar"
    )
    seen = json.loads(unpacked(get(twin, output))["seen.json"])
    known = {key for key in seen["environment"] if key.startswith("AWS_")}
    assert known == {
        "AWS_CONFIG_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_SHARED_CREDENTIALS_FILE",
    }


def test_the_last_value_of_a_metric_in_the_log_is_kept(start: Start) -> None:
    twin = started(start)

    job = run(twin)

    (metric,) = job["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("loss", 0.25)


def test_a_job_that_fails_says_why_and_leaves_no_model(start: Start) -> None:
    twin = started(start)

    job = run(twin, HyperParameters={"fail": "too few rows"})

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: too few rows, exit code: 3"
    assert "ModelArtifacts" not in job
    listed = twin.client("s3").list_objects_v2(
        Bucket=twin.outputs()["Bucket"], Prefix="jobs/"
    )
    assert listed["KeyCount"] == 0


def test_a_job_can_be_stopped_and_keeps_its_checkpoint(start: Start) -> None:
    twin = started(start)
    sagemaker = twin.client("sagemaker")
    sagemaker.create_training_job(**request(twin, HyperParameters={"sleep": "60"}))
    bucket = twin.outputs()["Bucket"]
    deadline = time.perf_counter() + 20
    while "ready" not in log(twin) and time.perf_counter() < deadline:
        time.sleep(0.02)

    sagemaker.stop_training_job(TrainingJobName="job")
    twin.wait_idle()

    job = sagemaker.describe_training_job(TrainingJobName="job")
    assert job["TrainingJobStatus"] == "Stopped"
    model = get(twin, f"s3://{bucket}/jobs/job/output/model.tar.gz")
    assert unpacked(model) == {"checkpoint": "half"}
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName="job")


def test_a_job_that_takes_too_long_is_stopped(start: Start) -> None:
    twin = started(start)

    job = run(
        twin,
        HyperParameters={"sleep": "60"},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )

    assert job["TrainingJobStatus"] == "Stopped"
    assert job["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_a_job_keeps_the_driven_clock_where_it_is(start: Start) -> None:
    twin = started(start)
    fired = []
    twin.clock.call_at(
        twin.clock.now() + timedelta(hours=1), lambda: fired.append(twin.clock.now())
    )
    began = twin.clock.now()

    job = run(twin)

    assert job["TrainingEndTime"] == began
    assert fired == [began + timedelta(hours=1)]


def test_who_waits_too_short_is_told_which_job_runs(start: Start) -> None:
    twin = started(start)
    twin.client("sagemaker").create_training_job(
        **request(twin, HyperParameters={"sleep": "60"})
    )

    with pytest.raises(TwinTimeoutError, match=r"under way: \['job'\]"):
        twin.wait_idle(timeout=0.5)


@pytest.mark.parametrize(
    ("members", "code", "message"),
    [
        ({"TrainingJobName": "-"}, "ValidationException", "regular expression"),
        ({"RoleArn": "x" * 30}, "ValidationException", "roleArn"),
        (
            {"HyperParameters": {"a": "x" * 2501}},
            "ValidationException",
            "length less than or equal to 2500",
        ),
        (
            {"CheckpointConfig": {"S3Uri": "s3://a/b"}},
            "UnsupportedByTwin",
            "CheckpointConfig",
        ),
        ({"EnableManagedSpotTraining": True}, "UnsupportedByTwin", "Spot"),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": "elsewhere/image:1",
                    "TrainingInputMode": "File",
                }
            },
            "UnsupportedByTwin",
            "elsewhere/image:1",
        ),
        (
            {
                "InputDataConfig": [
                    {
                        "ChannelName": "training",
                        "DataSource": {
                            "S3DataSource": {
                                "S3DataType": "S3Prefix",
                                "S3Uri": "s3://none/",
                            }
                        },
                    }
                ]
            },
            "ValidationException",
            "No S3 objects found",
        ),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused(
    start: Start, members: dict[str, Any], code: str, message: str
) -> None:
    twin = started(start)

    with pytest.raises(ClientError, match=message) as caught:
        twin.client("sagemaker").create_training_job(**request(twin, **members))

    assert caught.value.response["Error"]["Code"] == code


def test_a_name_is_used_once_and_an_unknown_one_is_not_found(start: Start) -> None:
    twin = started(start)
    run(twin)

    with pytest.raises(ClientError, match="must be unique") as again:
        run(twin)
    with pytest.raises(ClientError, match="Requested resource not found"):
        twin.client("sagemaker").describe_training_job(TrainingJobName="none")

    assert again.value.response["Error"]["Code"] == "ResourceInUse"


def test_jobs_are_listed_and_carry_their_tags(start: Start) -> None:
    twin = started(start)
    sagemaker = twin.client("sagemaker")
    good = run(twin, "good", Tags=[{"Key": "run", "Value": "1"}])
    run(twin, "bad", HyperParameters={"fail": "x"})

    listed = sagemaker.list_training_jobs(StatusEquals="Failed")
    sagemaker.add_tags(
        ResourceArn=good["TrainingJobArn"], Tags=[{"Key": "more", "Value": "2"}]
    )

    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == ["bad"]
    tags = sagemaker.list_tags(ResourceArn=good["TrainingJobArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"run": "1", "more": "2"}


def test_changes_of_state_are_events_of_the_default_bus(start: Start) -> None:
    twin = start(
        {
            **RESOURCES,
            "Seen": resource("AWS::SQS::Queue"),
            "Rule": resource(
                "AWS::Events::Rule",
                State="ENABLED",
                EventPattern={
                    "source": ["aws.sagemaker"],
                    "detail-type": ["SageMaker Training Job State Change"],
                    "detail": {"TrainingJobStatus": ["Completed", "Failed"]},
                },
                Targets=[{"Id": "T", "Arn": att("Seen")}],
            ),
        },
        images={"programs": PROGRAMS},
        outputs={**OUTPUTS, "Seen": {"Value": ref("Seen")}},
    )
    put(twin, "sets/1/fit.csv", b"a,b")

    job = run(twin)

    (message,) = twin.client("sqs").receive_message(QueueUrl=twin.outputs()["Seen"])[
        "Messages"
    ]
    event = json.loads(message["Body"])
    assert event["resources"] == [job["TrainingJobArn"]]
    assert event["detail"]["TrainingJobName"] == "job"
    assert event["detail"]["SecondaryStatus"] == "Completed"
    ended = event["detail"]["TrainingEndTime"]
    assert ended == int(job["TrainingEndTime"].timestamp() * 1000)
