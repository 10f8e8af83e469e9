"""An endpoint serves its model, changes by blue/green updates, and heals itself."""

import json
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
from botocore.exceptions import ClientError

from infra.local.errors import UnknownEndpointError
from infra.local.twin import Twin
from tests.contract.twin.assembly import att, ref, resource
from tests.contract.twin.conftest import Start
from tests.contract.twin.container_image import (
    OUTPUTS,
    PROGRAMS,
    RESOURCES,
    ROLE_ARN,
    archive,
    ask,
    config,
    put,
    serve,
    settled,
)

OLD, NEW = {"version": 1}, {"version": 2}
CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
            "WaitIntervalInSeconds": 600,
        },
        "TerminationWaitInSeconds": 300,
        "MaximumExecutionTimeoutInSeconds": 3600,
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
}


def started(start: Start, **options: Any) -> Twin:
    return start(
        {
            **RESOURCES,
            "Errors": resource(
                "AWS::CloudWatch::Alarm",
                AlarmName="errors",
                Namespace="AWS/SageMaker",
                MetricName="Invocation5XXErrors",
                Dimensions=[
                    {"Name": "EndpointName", "Value": "scores"},
                    {"Name": "VariantName", "Value": "champion"},
                ],
                Statistic="Average",
                Period=60,
                EvaluationPeriods=1,
                Threshold=0.01,
                ComparisonOperator="GreaterThanThreshold",
                TreatMissingData="notBreaching",
            ),
        },
        images={"programs": PROGRAMS},
        outputs=OUTPUTS,
        **options,
    )


def update(twin: Twin, model: Any = None, **members: Any) -> dict[str, Any]:
    """Begin an update to the configuration `second`, and wait for its green fleet."""
    twin.client("sagemaker").update_endpoint(
        EndpointName="scores",
        EndpointConfigName=config(twin, "second", NEW if model is None else model),
        **members,
    )
    return settled(twin)


def shown(twin: Twin) -> dict[str, Any]:
    return dict(twin.client("sagemaker").describe_endpoint(EndpointName="scores"))


def versions(twin: Twin, requests: int = 40) -> list[int]:
    return [ask(twin)["model"]["version"] for _ in range(requests)]


def alarm(twin: Twin, state: str) -> None:
    twin.client("cloudwatch").set_alarm_state(
        AlarmName="errors", StateValue=state, StateReason="a test"
    )


def metric(twin: Twin, name: str, statistic: str = "Sum") -> list[float]:
    now = twin.clock.now()
    points = twin.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=name,
        Dimensions=[
            {"Name": "EndpointName", "Value": "scores"},
            {"Name": "VariantName", "Value": "champion"},
        ],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=5),
        Period=60,
        Statistics=[statistic],
    )["Datapoints"]
    return [point[statistic] for point in points]


# Serving


def test_an_endpoint_serves_the_model_of_its_configuration(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)

    endpoint = shown(twin)
    answer = twin.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="scores",
        Body=b"hello",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=1",
        InferenceId="i-1",
    )
    seen = json.load(answer["Body"])

    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == "first"
    (variant,) = endpoint["ProductionVariants"]
    assert variant["CurrentWeight"] == 1.0
    (image,) = variant["DeployedImages"]
    assert image["SpecifiedImage"] == twin.outputs()["Image"]
    assert seen["model"] == OLD
    assert seen["body"] == "hello"
    assert seen["headers"]["Content-Type"] == "text/csv"
    assert seen["headers"]["Accept"] == "application/json"
    assert seen["headers"]["X-Amzn-SageMaker-Custom-Attributes"] == "trace=1"
    assert seen["headers"]["X-Amzn-SageMaker-Inference-Id"] == "i-1"
    assert seen["environment"]["PIPELINE"] == "first"
    assert seen["environment"]["AWS_ENDPOINT_URL"] == twin.endpoint_url
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "champion"
    assert answer["CustomAttributes"] == "from-the-model"


def test_a_program_follows_the_twins_time_without_asking(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)

    for instant in ("2030-01-01T00:00:00.000001Z", "2031-06-30T23:59:59.5Z"):
        twin.advance(to=instant)
        seen = ask(twin)
        now = datetime.fromisoformat(instant)
        assert datetime.fromisoformat(seen["now"]) == now
        assert seen["time"] == now.timestamp()


def test_what_waits_in_a_program_waits_real_time(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    began = time.perf_counter()

    answer = twin.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="scores", Body=b"sleep:0.3"
    )

    assert answer["Body"].read() == b"1"
    assert time.perf_counter() - began >= 0.3


def test_in_real_time_a_program_keeps_the_machines_clock(start: Start) -> None:
    twin = started(start, real_time=True)
    serve(twin, OLD)
    before = time.time()

    seen = ask(twin)

    assert before < seen["time"] < time.time()


def test_requests_are_measured_at_the_twins_time(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    twin.advance(to="2030-01-01T00:00:00Z")
    runtime = twin.client("sagemaker-runtime")

    for body in (b"fine", b"status:400", b"status:503", b"sleep:0.1"):
        try:
            runtime.invoke_endpoint(EndpointName="scores", Body=body)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ModelError"  # noqa: PT017

    assert metric(twin, "Invocations") == [4.0]
    assert metric(twin, "Invocation4XXErrors") == [1.0]
    assert metric(twin, "Invocation5XXErrors") == [1.0]
    (slowest,) = metric(twin, "ModelLatency", "Maximum")
    assert 100_000 < slowest < 10_000_000  # µs
    (overhead,) = metric(twin, "OverheadLatency", "Maximum")
    assert 0 < overhead < 10_000_000


def test_an_embedded_metric_that_is_printed_is_there_with_the_answer(
    start: Start,
) -> None:
    twin = started(start)
    serve(twin, OLD)
    twin.advance(to="2030-01-01T00:00:00Z")
    line = json.dumps(
        {
            "_aws": {
                "Timestamp": int(twin.clock.now().timestamp() * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": "AWS/SageMaker",
                        "Dimensions": [["EndpointName", "VariantName"]],
                        "Metrics": [{"Name": "Alerts"}],
                    }
                ],
            },
            "EndpointName": "scores",
            "VariantName": "champion",
            "Alerts": [1, 0, 1],
        }
    )

    twin.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="scores", Body=f"print:{line}".encode()
    )

    assert metric(twin, "Alerts") == [2.0]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"status:400", 400, "Received client error \\(400\\) from primary with"),
        (b"status:500", 500, "Received server error \\(500\\) from primary with"),
        (b"die", 0, "Received server error \\(0\\) from primary and could not load"),
    ],
)
def test_an_error_of_the_model_reaches_the_caller(
    start: Start, body: bytes, status: int, message: str
) -> None:
    twin = started(start)
    serve(twin, OLD)

    with pytest.raises(ClientError, match=message) as caught:
        twin.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="scores", Body=body
        )

    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == status
    assert answer["OriginalMessage"] == ("as you wished" if status else "")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"EndpointName": "none", "Body": b"x"}, "ValidationError"),
        ({"EndpointName": "scores", "Body": b"x" * 6_291_457}, "413"),
        (
            {"EndpointName": "scores", "Body": b"x", "TargetVariant": "other"},
            "ValidationError",
        ),
        (
            {"EndpointName": "scores", "Body": b"x", "TargetModel": "m"},
            "UnsupportedByTwin",
        ),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused(
    start: Start, members: dict[str, Any], code: str
) -> None:
    twin = started(start)
    serve(twin, OLD)

    with pytest.raises(ClientError) as caught:
        twin.client("sagemaker-runtime").invoke_endpoint(**members)

    assert caught.value.response["Error"]["Code"] == code
    assert metric(twin, "Invocations") == []


# Health


@pytest.mark.parametrize("model", [{"broken": True}, {"unhealthy": True}])
def test_a_first_fleet_that_is_not_healthy_fails_the_endpoint(
    start: Start, model: Any
) -> None:
    twin = started(start)
    sagemaker = twin.client("sagemaker")
    twin.sagemaker.endpoints.ping_seconds = 1.0

    serve(twin, model)
    endpoint = shown(twin)

    assert endpoint["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in endpoint["FailureReason"]
    with pytest.raises(ClientError, match="not found"):
        ask(twin)
    with pytest.raises(ClientError, match="in status Failed"):
        update(twin)
    sagemaker.delete_endpoint(EndpointName="scores")
    twin.wait_idle()
    with pytest.raises(ClientError, match="Could not find endpoint"):
        shown(twin)


def test_a_process_that_dies_is_replaced_and_counted(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    (before,) = twin.status()["sagemaker"]["endpoints"]["scores"]["pids"]

    killed = twin.kill_endpoint("score")
    twin.wait_idle()

    status = twin.status()["sagemaker"]["endpoints"]["scores"]
    assert killed
    assert status["restarts"] == 1
    assert status["pids"] not in ([before], [None])
    assert ask(twin)["model"] == OLD


def test_a_request_while_a_process_is_replaced_waits_for_the_next(
    start: Start,
) -> None:
    twin = started(start)
    serve(twin, OLD)

    twin.kill_endpoint("scores")

    assert ask(twin)["model"] == OLD


def test_an_archive_that_leads_out_of_its_folder_is_not_unpacked(start: Start) -> None:
    twin = started(start)
    sagemaker = twin.client("sagemaker")
    config(twin, "first", OLD)
    put(twin, "models/first.tar.gz", archive({"../outside": "x"}))

    sagemaker.create_endpoint(EndpointName="scores", EndpointConfigName="first")
    endpoint = settled(twin)

    assert endpoint["EndpointStatus"] == "Failed"
    assert "outside the destination" in endpoint["FailureReason"]


# Updates


def test_an_update_without_a_policy_moves_all_traffic_at_once(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    pids = twin.status()["sagemaker"]["endpoints"]["scores"]["pids"]
    began = twin.clock.now()

    update(twin)
    twin.wait_idle()

    assert shown(twin)["EndpointConfigName"] == "second"
    assert set(versions(twin)) == {2}
    assert twin.clock.now() == began
    assert twin.status()["sagemaker"]["endpoints"]["scores"]["pids"] != pids


def test_a_canary_gets_its_share_bakes_and_takes_over(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)

    baking = update(twin, DeploymentConfig=CANARY)
    shares = [versions(twin, 200).count(2)]
    twin.advance(seconds=600)
    shares.append(versions(twin).count(2))
    during = shown(twin)
    twin.advance(seconds=899)
    late = shown(twin)
    twin.advance(seconds=1)
    after = shown(twin)

    assert 8 <= shares[0] <= 35  # 10 % of 200, the router is seeded
    assert shares[1] == 40
    for endpoint in (baking, during, late):
        assert endpoint["EndpointStatus"] == "Updating"
        assert endpoint["EndpointConfigName"] == "first"
        pending = endpoint["PendingDeploymentSummary"]
        assert pending["EndpointConfigName"] == "second"
    assert after["EndpointStatus"] == "InService"
    assert after["EndpointConfigName"] == "second"
    assert "PendingDeploymentSummary" not in after
    assert after["LastDeploymentConfig"] == CANARY


def test_a_linear_update_goes_in_steps(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    routing = {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 40},
        "WaitIntervalInSeconds": 60,
    }
    update(
        twin,
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}
        },
    )

    percents = []
    for _ in range(4):
        status = twin.status()["sagemaker"]["endpoints"]["scores"]
        percents.append((status["green_percent"], status["config"]))
        twin.advance(seconds=60)

    assert percents == [(40, "first"), (80, "first"), (100, "first"), (0, "second")]


def test_waiting_for_rest_bakes_an_update_to_its_end(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    began = twin.clock.now()
    update(twin, DeploymentConfig=CANARY)

    twin.wait_idle()

    assert shown(twin)["EndpointConfigName"] == "second"
    assert twin.clock.now() - began == timedelta(seconds=600 + 600 + 300)


@pytest.mark.parametrize("after_seconds", [0, 300, 1100, 1400])
def test_an_alarm_at_any_time_of_an_update_rolls_it_back(
    start: Start, after_seconds: int
) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, DeploymentConfig=CANARY)
    twin.advance(seconds=after_seconds)

    alarm(twin, "ALARM")
    twin.advance(seconds=10)

    endpoint = shown(twin)
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == "first"
    assert "ALARM: errors" in endpoint["FailureReason"]
    assert set(versions(twin)) == {1}
    twin.wait_idle()
    assert len(twin.status()["sagemaker"]["endpoints"]["scores"]["pids"]) == 1


def test_a_canary_whose_errors_ring_an_alarm_is_rolled_back(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, {"status": 500}, DeploymentConfig=CANARY)
    errors = 0

    for _ in range(60):
        try:
            ask(twin)
        except ClientError:
            errors += 1
    began = twin.clock.now()
    twin.advance(seconds=60)  # the end of the minute, and of the alarm's period

    endpoint = shown(twin)
    assert 0 < errors < 20
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == "first"
    assert "ALARM: errors" in endpoint["FailureReason"]
    assert endpoint["LastModifiedTime"] - began <= timedelta(seconds=60)
    assert set(versions(twin)) == {1}


def test_an_alarm_of_the_instant_of_the_last_step_comes_first(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    minute = twin.clock.now().replace(second=0, microsecond=0)
    twin.advance(to=minute + timedelta(minutes=1))
    update(twin, DeploymentConfig=CANARY)
    twin.advance(seconds=1499)

    for _ in range(3):
        with pytest.raises(ClientError, match="500"):
            ask(twin, b"status:500")
    twin.advance(seconds=1)  # the end of the bake, and of the alarm's period

    assert shown(twin)["EndpointConfigName"] == "first"


def test_an_alarm_that_rang_before_the_update_rolls_it_back_at_once(
    start: Start,
) -> None:
    twin = started(start)
    serve(twin, OLD)
    alarm(twin, "ALARM")

    endpoint = update(twin, DeploymentConfig=CANARY)

    assert endpoint["EndpointConfigName"] == "first"
    assert "ALARM: errors" in endpoint["FailureReason"]


def test_without_alarms_only_bad_health_rolls_back(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    alarm(twin, "ALARM")

    update(
        twin,
        DeploymentConfig={"BlueGreenUpdatePolicy": CANARY["BlueGreenUpdatePolicy"]},
    )
    twin.wait_idle()

    assert shown(twin)["EndpointConfigName"] == "second"


def test_a_green_fleet_that_is_not_healthy_is_rolled_back(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)

    endpoint = update(twin, {"broken": True}, DeploymentConfig=CANARY)

    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == "first"
    assert "did not pass the ping health check" in endpoint["FailureReason"]
    assert set(versions(twin)) == {1}


def test_an_endpoint_can_be_updated_again_after_a_rollback(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, {"broken": True}, DeploymentConfig=CANARY)

    twin.client("sagemaker").update_endpoint(
        EndpointName="scores",
        EndpointConfigName=config(twin, "third", {"version": 3}),
        DeploymentConfig=CANARY,
    )
    twin.wait_idle()

    endpoint = shown(twin)
    assert endpoint["EndpointConfigName"] == "third"
    assert "FailureReason" not in endpoint


def test_a_deployment_configuration_is_retained_only_if_asked_for(
    start: Start,
) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, DeploymentConfig=CANARY)
    twin.wait_idle()
    sagemaker = twin.client("sagemaker")
    config(twin, "third", OLD)

    sagemaker.update_endpoint(
        EndpointName="scores", EndpointConfigName="third", RetainDeploymentConfig=True
    )
    retained = settled(twin)
    twin.wait_idle()
    sagemaker.update_endpoint(EndpointName="scores", EndpointConfigName="second")
    not_retained = settled(twin)

    assert retained["EndpointStatus"] == "Updating"
    assert not_retained["EndpointStatus"] == "InService"


def test_an_update_under_way_takes_no_other_and_no_deletion(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, DeploymentConfig=CANARY)
    sagemaker = twin.client("sagemaker")

    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.update_endpoint(EndpointName="scores", EndpointConfigName="first")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="scores")


def policy(**routing: Any) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"WaitIntervalInSeconds": 60, **routing}
        }
    }


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (policy(Type="CANARY"), "CanarySize must be there"),
        (
            policy(Type="CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 51}),
            "from 1 to 50",
        ),
        (
            policy(Type="CANARY", CanarySize={"Type": "INSTANCE_COUNT", "Value": 1}),
            "CanarySize.Type = 'INSTANCE_COUNT'",
        ),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 10},
                    "WaitIntervalInSeconds": 60,
                }
            },
            "RollingUpdatePolicy",
        ),
        (
            {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "none"}]}},
            "Could not find the CloudWatch alarms",
        ),
        (
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "ALL_AT_ONCE",
                        "WaitIntervalInSeconds": 700,
                    },
                    "MaximumExecutionTimeoutInSeconds": 600,
                }
            },
            "must be larger than all waits",
        ),
    ],
)
def test_a_deployment_that_cannot_be_kept_is_refused(
    start: Start, deployment: dict[str, Any], message: str
) -> None:
    twin = started(start)
    serve(twin, OLD)

    with pytest.raises(ClientError, match=message):
        update(twin, DeploymentConfig=deployment)

    assert shown(twin)["EndpointStatus"] == "InService"


def test_a_variant_keeps_its_name(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    config(twin, "other", NEW, variant="contender")

    with pytest.raises(ClientError, match="must have the name of the old, 'champion'"):
        twin.client("sagemaker").update_endpoint(
            EndpointName="scores", EndpointConfigName="other"
        )


# Configurations, models, events


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 10,
                    "DestinationS3Uri": "s3://a/b",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "DataCaptureConfig",
        ),
        (
            {
                "ShadowProductionVariants": [
                    {
                        "VariantName": "shadow",
                        "ModelName": "first",
                        "InitialInstanceCount": 1,
                        "InstanceType": "ml.m5.large",
                    }
                ]
            },
            "ShadowProductionVariants",
        ),
        (
            {
                "of_variant": {
                    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
                }
            },
            "ServerlessConfig",
        ),
        ({"of_variant": {"InstanceType": "big"}}, "enum value set"),
    ],
)
def test_a_configuration_that_cannot_be_kept_is_refused_by_name(
    start: Start, members: dict[str, Any], message: str
) -> None:
    twin = started(start)

    with pytest.raises(ClientError, match=message):
        config(twin, "first", OLD, **members)


def test_models_and_configurations_come_and_go(start: Start) -> None:
    twin = started(start)
    sagemaker = twin.client("sagemaker")
    serve(twin, OLD)

    with pytest.raises(ClientError, match="already existing"):
        config(twin, "first", OLD)
    with pytest.raises(ClientError, match="Could not find model data"):
        sagemaker.create_model(
            ModelName="none",
            ExecutionRoleArn=ROLE_ARN,
            PrimaryContainer={
                "Image": twin.outputs()["Image"],
                "ModelDataUrl": f"s3://{twin.outputs()['Bucket']}/none",
            },
        )
    model = sagemaker.describe_model(ModelName="first")
    shape = sagemaker.describe_endpoint_config(EndpointConfigName="first")
    listed = sagemaker.list_endpoints(NameContains="sco")["Endpoints"]
    sagemaker.delete_endpoint(EndpointName="scores")
    twin.wait_idle()
    sagemaker.delete_endpoint_config(EndpointConfigName="first")
    sagemaker.delete_model(ModelName="first")

    assert model["PrimaryContainer"]["Environment"] == {"PIPELINE": "first"}
    assert shape["ProductionVariants"][0]["InitialVariantWeight"] == 1.0
    assert [endpoint["EndpointStatus"] for endpoint in listed] == ["InService"]
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert twin.status()["sagemaker"]["endpoints"] == {}


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
                    "detail-type": ["SageMaker Endpoint State Change"],
                },
                Targets=[{"Id": "T", "Arn": att("Seen")}],
            ),
        },
        images={"programs": PROGRAMS},
        outputs={**OUTPUTS, "Seen": {"Value": ref("Seen")}},
    )

    serve(twin, OLD)
    twin.wait_idle()

    messages = twin.client("sqs").receive_message(
        QueueUrl=twin.outputs()["Seen"], MaxNumberOfMessages=10
    )["Messages"]
    states = [json.loads(m["Body"])["detail"]["EndpointStatus"] for m in messages]
    assert sorted(states) == ["CREATING", "IN_SERVICE"]


def test_the_registry_keeps_what_a_version_is_told(start: Start) -> None:
    twin = start(
        {
            **RESOURCES,
            "Group": resource(
                "AWS::SageMaker::ModelPackageGroup",
                ModelPackageGroupName="scores",
                ModelPackageGroupDescription="anomaly scores",
            ),
        },
        images={"programs": PROGRAMS},
        outputs={**OUTPUTS, "Group": {"Value": ref("Group")}},
    )
    sagemaker = twin.client("sagemaker")
    uri = put(twin, "artifacts/1/model.tar.gz", archive({"a": "1"}))
    metrics = put(twin, "artifacts/1/metrics.json", b"{}")
    arns = [
        sagemaker.create_model_package(
            ModelPackageGroupName=group,
            InferenceSpecification={
                "Containers": [{"Image": twin.outputs()["Image"], "ModelDataUrl": uri}],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            ModelMetrics={
                "ModelQuality": {
                    "Statistics": {"ContentType": "application/json", "S3Uri": metrics}
                }
            },
            CustomerMetadataProperties={"artifact_digest": "sha256:1", "run_id": "r"},
            ClientToken=token,
        )["ModelPackageArn"]
        for group, token in (("scores", "1"), (twin.outputs()["Group"], "2"))
    ]

    sagemaker.update_model_package(
        ModelPackageArn=arns[0],
        ModelApprovalStatus="Approved",
        ApprovalDescription="all gates passed",
    )
    sagemaker.update_model_package(
        ModelPackageArn=arns[0], CustomerMetadataProperties={"more": "1"}
    )

    first, second = (
        sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns
    )
    assert [arn.rsplit("/", 1)[1] for arn in arns] == ["1", "2"]
    assert first["ModelApprovalStatus"] == "Approved"
    assert first["ApprovalDescription"] == "all gates passed"
    assert first["CustomerMetadataProperties"] == {
        "artifact_digest": "sha256:1",
        "run_id": "r",
        "more": "1",
    }
    assert second["ModelApprovalStatus"] == "PendingManualApproval"
    assert second["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == metrics
    approved = sagemaker.list_model_packages(
        ModelPackageGroupName="scores", ModelApprovalStatus="Approved"
    )["ModelPackageSummaryList"]
    assert [package["ModelPackageArn"] for package in approved] == arns[:1]
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package_group(ModelPackageGroupName="scores")


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        (
            "create_processing_job",
            {
                "ProcessingJobName": "p",
                "ProcessingResources": {
                    "ClusterConfig": {
                        "InstanceCount": 1,
                        "InstanceType": "ml.m5.large",
                        "VolumeSizeInGB": 1,
                    }
                },
                "AppSpecification": {"ImageUri": "x"},
                "RoleArn": ROLE_ARN,
            },
        ),
        ("delete_model_package", {"ModelPackageName": "p"}),
    ],
)
def test_what_moto_only_pretends_is_refused(
    start: Start, operation: str, members: dict[str, Any]
) -> None:
    twin = started(start)

    with pytest.raises(ClientError, match="UnsupportedByTwin"):
        getattr(twin.client("sagemaker"), operation)(**members)


# The twin's own paths and the edge of the process


def test_the_paths_of_the_twin_show_and_kill_an_endpoint(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)

    killed = urlopen(
        Request(f"{twin.endpoint_url}/_retrodict/kill?endpoint=scores", method="POST")
    )
    twin.wait_idle()
    with urlopen(f"{twin.endpoint_url}/_retrodict/status") as answer:
        endpoint = json.load(answer)["sagemaker"]["endpoints"]["scores"]

    assert json.load(killed) == {"killed": True}
    assert endpoint["status"] == "InService"
    assert endpoint["restarts"] == 1
    with pytest.raises(UnknownEndpointError, match="expected one endpoint like 'no'"):
        twin.kill_endpoint("no")


def test_a_stopped_twin_leaves_no_process(start: Start) -> None:
    twin = started(start)
    serve(twin, OLD)
    update(twin, DeploymentConfig=CANARY)
    pids = twin.status()["sagemaker"]["endpoints"]["scores"]["pids"]

    twin.sagemaker.stop()
    twin.sagemaker.join()

    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
