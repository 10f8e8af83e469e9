"""The learning stack loses nothing, may do little, and owns no endpoint."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from retrodict.drift import DEFAULTS
from retrodict.model import SCORE
from retrodict.pipeline import load_pipelines
from retrodict.rollout import endpoint_name, rollback_alarms
from retrodict_aws.cloudwatch_drift import alarm_of

from infra.local.event_pattern import EventPattern
from tests.infra.conftest import ENVIRONMENTS, Assembly

# What AWS knows no resource for, or only what is shown to everybody in the account.
UNNAMED = {
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:PutMetricData",
    "dynamodb:ListStreams",
    "ecr:GetAuthorizationToken",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
    # How Step Functions is given a log group.
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
}
WITH_A_MODEL = [p for p in load_pipelines().values() if p.model is not None]

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)


def resources(
    assembly: Assembly, environment: str, kind: str
) -> dict[str, dict[str, Any]]:
    """Return the properties of the stack's resources of a type, by logical id."""
    return {
        logical_id: body
        for logical_id, body in assembly.template(environment, "Learning")[
            "Resources"
        ].items()
        if body["Type"] == kind
    }


def statements(
    assembly: Assembly, environment: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the role, and each statement of its policies."""
    for policy in resources(assembly, environment, "AWS::IAM::Policy").values():
        [role] = policy["Properties"]["Roles"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            yield role["Ref"], statement


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def alarms(assembly: Assembly, environment: str) -> list[dict[str, Any]]:
    found = resources(assembly, environment, "AWS::CloudWatch::Alarm").values()
    return [alarm["Properties"] for alarm in found]


@environments
def test_no_template_names_what_a_rollout_creates(
    assembly: Assembly, environment: str
) -> None:
    template = assembly.template(environment, "Learning")
    kinds = {body["Type"] for body in template["Resources"].values()}

    assert not {kind for kind in kinds if kind.startswith("AWS::SageMaker")} - {
        "AWS::SageMaker::ModelPackageGroup"
    }
    for group in resources(
        assembly, environment, "AWS::SageMaker::ModelPackageGroup"
    ).values():
        assert group["DeletionPolicy"] == group["UpdateReplacePolicy"] == "Retain"


@environments
def test_a_role_may_do_named_things_to_named_resources(
    assembly: Assembly, environment: str
) -> None:
    for role, statement in statements(assembly, environment):
        if statement["Effect"] == "Deny":
            continue
        for action in as_list(statement["Action"]):
            assert "*" not in action, (role, action)
            if statement["Resource"] == "*":
                assert action in UNNAMED, (role, action)


@environments
def test_a_role_is_passed_to_sagemaker_and_to_nobody_else(
    assembly: Assembly, environment: str
) -> None:
    passing = [
        (role, statement)
        for role, statement in statements(assembly, environment)
        if "iam:PassRole" in as_list(statement["Action"])
    ]

    assert len(passing) == 2
    for role, statement in passing:
        assert role.startswith(("RollOutRole", "RetrainRole"))
        assert statement["Condition"] == {
            "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
        }


@environments
def test_what_sagemaker_makes_carries_environment_and_pipeline(
    assembly: Assembly, environment: str
) -> None:
    for role, statement in statements(assembly, environment):
        actions = as_list(statement["Action"])
        if not any(action.startswith("sagemaker:") for action in actions):
            continue
        for resource in as_list(statement["Resource"]):
            text = json.dumps(resource)
            assert any(
                f"{environment}-{pipeline.name.replace('_', '-')}" in text
                for pipeline in WITH_A_MODEL
            ), (role, text)


@environments
def test_nobody_here_writes_or_erases_the_event_log(
    assembly: Assembly, environment: str
) -> None:
    writes = {"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}
    denied = set()
    for role, statement in statements(assembly, environment):
        about_the_log = "EventLogBucket" in json.dumps(statement["Resource"])
        if about_the_log and statement["Effect"] == "Allow":
            assert not writes & {*as_list(statement["Action"])}, role
        if about_the_log and statement["Effect"] == "Deny":
            denied.add(role)

    functions = resources(assembly, environment, "AWS::Lambda::Function").values()
    roles = {f["Properties"]["Role"]["Fn::GetAtt"][0] for f in functions}
    assert denied == roles
    assert len(roles) == len(functions)


@environments
def test_a_mapping_loses_nothing_quietly(assembly: Assembly, environment: str) -> None:
    mappings = resources(assembly, environment, "AWS::Lambda::EventSourceMapping")

    assert len(mappings) == 3
    for logical_id, mapping in mappings.items():
        properties = mapping["Properties"]
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert properties["BisectBatchOnFunctionError"] is True
        assert properties["MaximumRetryAttempts"] == 10_000
        assert properties["ParallelizationFactor"] == 1
        assert properties["StartingPosition"] == "TRIM_HORIZON"
        assert "QuarantineBucket" in json.dumps(properties["DestinationConfig"])
        watched = {
            alarm["MetricName"]
            for alarm in alarms(assembly, environment)
            if {"Ref": logical_id} in [d["Value"] for d in alarm["Dimensions"]]
        }
        assert watched == {
            "OnFailureDestinationDeliveredEventCount",
            "DroppedEventCount",
            "PolledEventCount",
        }


@environments
def test_what_a_rule_could_not_do_ends_in_a_queue_that_rings(
    assembly: Assembly, environment: str
) -> None:
    [queue] = resources(assembly, environment, "AWS::SQS::Queue")
    dead = {"Fn::GetAtt": [queue, "Arn"]}
    rules = resources(assembly, environment, "AWS::Events::Rule").values()
    invoked = resources(assembly, environment, "AWS::Lambda::EventInvokeConfig")

    targets = [t for rule in rules for t in rule["Properties"]["Targets"]]
    assert [t["DeadLetterConfig"]["Arn"] for t in targets] == [dead] * 3
    for config in invoked.values():
        on_failure = config["Properties"]["DestinationConfig"]["OnFailure"]
        assert on_failure == {"Destination": dead}
    assert {t["Arn"]["Fn::GetAtt"][0] for t in targets} == {
        c["Properties"]["FunctionName"]["Ref"] for c in invoked.values()
    }
    [rung] = [a for a in alarms(assembly, environment) if a["Namespace"] == "AWS/SQS"]
    assert rung["AlarmActions"]


@environments
def test_every_column_of_every_model_has_an_alarm_that_comes_back_as_an_event(
    assembly: Assembly, environment: str
) -> None:
    rules = resources(assembly, environment, "AWS::Events::Rule").values()
    [pattern] = [
        EventPattern(rule["Properties"]["EventPattern"])
        for rule in rules
        if "EventPattern" in rule["Properties"]
    ]
    watched = {}
    for alarm in alarms(assembly, environment):
        if alarm["MetricName"] not in {"DriftRatio", "DriftShare"}:
            continue
        about = {d["Name"]: d["Value"] for d in alarm["Dimensions"]}
        watched[about["pipeline"], about.get("feature"), about.get("statistic")] = alarm
        assert (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (3, 2)
        event = _state_change(alarm, "ALARM")
        assert pattern.matches(event)
        assert not pattern.matches(_state_change(alarm, "OK"))
        told = alarm_of(event)
        assert told is not None
        assert told[0].name == alarm["AlarmName"]
        assert told[0].dimensions["pipeline"] == about["pipeline"]

    assert watched.keys() == {
        (pipeline.name, feature, statistic)
        for pipeline in WITH_A_MODEL
        if pipeline.model is not None
        for feature, statistic in [
            (None, None),
            *(
                (f, s)
                for f in (*pipeline.model.names, SCORE)
                for s in DEFAULTS
            ),
        ]
    }  # fmt: skip
    other = {"detail": {"alarmName": "another", "state": {"value": "ALARM"}}}
    rung = _state_change(next(iter(watched.values())), "ALARM")
    assert not pattern.matches({**rung, **other})


def _state_change(alarm: dict[str, Any], state: str) -> dict[str, Any]:
    metric = {
        "namespace": alarm["Namespace"],
        "name": alarm["MetricName"],
        "dimensions": {d["Name"]: d["Value"] for d in alarm["Dimensions"]},
    }
    stat = {"metric": metric, "period": alarm["Period"], "stat": alarm["Statistic"]}
    return {
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "time": "2026-01-05T12:00:00Z",
        "detail": {
            "alarmName": alarm["AlarmName"],
            "state": {"value": state, "timestamp": "2026-01-05T12:00:00.000+0000"},
            "configuration": {"metrics": [{"id": "m", "metricStat": stat}]},
        },
    }


@environments
def test_the_alarms_that_end_a_rollout_exist(
    assembly: Assembly, environment: str
) -> None:
    names = {alarm.get("AlarmName") for alarm in alarms(assembly, environment)}

    for pipeline in WITH_A_MODEL:
        endpoint = endpoint_name(environment, pipeline.name)
        assert {*rollback_alarms(endpoint)} <= names


@environments
def test_state_machines_and_functions_keep_their_logs_encrypted_for_a_while(
    assembly: Assembly, environment: str
) -> None:
    for group in resources(assembly, environment, "AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] > 0
        assert "KmsKeyId" in group["Properties"]
    machines = resources(assembly, environment, "AWS::StepFunctions::StateMachine")
    assert len(machines) == 2
    for machine in machines.values():
        assert machine["Properties"]["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["Properties"]["TracingConfiguration"] == {"Enabled": True}
    failed = {
        json.dumps(alarm["Dimensions"])
        for alarm in alarms(assembly, environment)
        if alarm["Namespace"] == "AWS/States"
    }
    assert len(failed) == len(machines)
