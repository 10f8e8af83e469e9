"""A function can do its own work and nothing else; nobody can edit the log."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.conftest import ENVIRONMENTS, Assembly

FUNCTIONS = {
    "ArchiveEvents": "archive_events",
    "CompactLog": "compact_log",
    "ImportFiles": "import_files",
    "RebuildKeys": "rebuild_keys",
    "ValidateRecords": "validate_records",
    "WriteFeatures": "write_features",
}
# Every action a function may ever perform, by the service it belongs to.
ALWAYS = {
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}
CONSUME = {
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
    "kinesis:ListStreams",
    "s3:ListBucket",
}
# How Step Functions is given a log group and traces; neither knows a resource.
LOG_DELIVERY = {
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
}
MACHINE = "AWS::StepFunctions::StateMachine"
KEYS = {"kms:Decrypt", "kms:GenerateDataKey"}
ALLOWED = {
    "archive_events": ALWAYS | CONSUME | KEYS | {"s3:GetObject", "s3:PutObject"},
    "compact_log": ALWAYS
    | KEYS
    | {
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:SendMessage",
    },
    "import_files": ALWAYS
    | KEYS
    | {
        "kinesis:PutRecords",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:PutObject",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:SendMessage",
    },
    "rebuild_keys": ALWAYS
    | KEYS
    | {
        "dynamodb:BatchGetItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Scan",
        "kms:DescribeKey",
        "kms:Encrypt",
        "s3:GetObject",
        "s3:ListBucket",
    },
    "validate_records": ALWAYS
    | CONSUME
    | KEYS
    | {"kinesis:PutRecords", "s3:PutObject"},
    "write_features": ALWAYS
    | CONSUME
    | KEYS
    | {
        "dynamodb:BatchGetItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "kinesis:PutRecords",
        "kms:DescribeKey",
        "kms:Encrypt",
        "s3:PutObject",
    },
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(
    assembly: Assembly, environment: str, function: str
) -> Iterator[dict[str, Any]]:
    """Yield what the role of `function` says, through every policy on it."""
    [role_id] = [
        role.logical_id
        for role in assembly.resources("AWS::IAM::Role", environment=environment)
        if role.logical_id.startswith(f"{function}Role")
    ]
    for policy in assembly.resources("AWS::IAM::Policy", environment=environment):
        if {"Ref": role_id} in policy.properties["Roles"]:
            yield from policy.properties["PolicyDocument"]["Statement"]


def actions(found: Iterator[dict[str, Any]], effect: str) -> set[str]:
    return {
        action
        for statement in found
        if statement["Effect"] == effect
        for action in as_list(statement["Action"])
    }


def test_each_function_has_a_role_of_its_own(assembly: Assembly) -> None:
    for environment in ENVIRONMENTS:
        functions = assembly.resources("AWS::Lambda::Function", environment=environment)
        roles = [json.dumps(function.properties["Role"]) for function in functions]

        assert len(functions) == len(FUNCTIONS)
        assert len(set(roles)) == len(roles)
        machines = assembly.resources(MACHINE, environment=environment)
        assert len(assembly.resources("AWS::IAM::Role", environment=environment)) == (
            len(roles) + len(machines)
        )


def test_a_policy_belongs_to_one_role(assembly: Assembly) -> None:
    for policy in assembly.resources("AWS::IAM::Policy"):
        assert len(policy.properties["Roles"]) == 1, policy


def test_no_role_has_a_managed_policy_or_another_caller(assembly: Assembly) -> None:
    for role in assembly.resources("AWS::IAM::Role"):
        [trust] = role.properties["AssumeRolePolicyDocument"]["Statement"]

        assert not role.properties.keys() & {"ManagedPolicyArns", "Policies"}, role
        of_a_machine = role.logical_id.startswith("RebuildRole")
        service = "states" if of_a_machine else "lambda"
        assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}, role
        assert ("Condition" in trust) is of_a_machine, role


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_exactly_what_its_work_needs(
    assembly: Assembly, environment: str, function: str
) -> None:
    allowed = actions(statements(assembly, environment, function), "Allow")

    assert allowed == ALLOWED[FUNCTIONS[function]]
    assert not any("*" in action for action in allowed)


def test_only_tracing_has_no_resource(assembly: Assembly) -> None:
    for policy in assembly.resources("AWS::IAM::Policy"):
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            if "*" in as_list(statement["Resource"]):
                of_a_machine = policy.logical_id.startswith("RebuildRole")
                delivery = LOG_DELIVERY if of_a_machine else set()
                assert set(statement["Action"]) == delivery | {
                    "xray:PutTelemetryRecords",
                    "xray:PutTraceSegments",
                }, policy


def test_wildcards_stand_only_for_the_names_of_objects_below_a_prefix(
    assembly: Assembly,
) -> None:
    wild = {
        (policy.logical_id.partition("Role")[0], resource["Fn::Join"][1][1])
        for policy in assembly.resources("AWS::IAM::Policy")
        for statement in policy.properties["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        for resource in as_list(statement["Resource"])
        if resource != "*"
        and "*" in json.dumps(resource)
        and not policy.logical_id.startswith("RebuildDistributedMap")
    }

    assert wild == {
        ("ArchiveEvents", "/aws/lambda/*"),
        ("ArchiveEvents", "/rejected/*"),
        ("ArchiveEvents", "/segments/*"),
        ("CompactLog", "/rejected/*"),
        ("CompactLog", "/segments/*"),
        ("ImportFiles", "/*"),
        ("ImportFiles", "/rejected/*"),
        ("RebuildKeys", "/segments/*"),
        ("ValidateRecords", "/aws/lambda/*"),
        ("ValidateRecords", "/rejected/*"),
        ("WriteFeatures", "/aws/lambda/*"),
        ("WriteFeatures", "/rejected/*"),
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_can_erase_from_the_log_even_by_a_later_mistake(
    assembly: Assembly, function: str
) -> None:
    denials = [
        statement
        for statement in statements(assembly, "prod", function)
        if statement["Effect"] == "Deny"
    ]

    # Compaction deletes what it has replaced; the bucket keeps the older version.
    replaced = set() if function == "CompactLog" else {"s3:DeleteObject"}
    assert actions(iter(denials), "Deny") == replaced | {
        "s3:DeleteObjectVersion",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
    }
    assert all("EventLog" in json.dumps(denial["Resource"]) for denial in denials)


def test_only_compaction_may_take_a_segment_out_of_the_log(
    assembly: Assembly,
) -> None:
    erasers = {
        policy.logical_id.partition("Role")[0]
        for policy in assembly.resources("AWS::IAM::Policy")
        for statement in policy.properties["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        and "s3:DeleteObject" in as_list(statement["Action"])
    }

    assert erasers == {"CompactLog"}


def test_only_the_archive_and_compaction_may_add_to_the_log(assembly: Assembly) -> None:
    writers = {
        function
        for function in FUNCTIONS
        for statement in statements(assembly, "prod", function)
        if statement["Effect"] == "Allow"
        and "s3:PutObject" in as_list(statement["Action"])
        and "EventLog" in json.dumps(statement["Resource"])
    }

    assert writers == {"ArchiveEvents", "CompactLog"}


def test_a_key_is_used_only_through_the_service_that_holds_the_data(
    assembly: Assembly,
) -> None:
    for policy in assembly.resources("AWS::IAM::Policy"):
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            if any(
                action.startswith("kms:") for action in as_list(statement["Action"])
            ):
                assert statement["Condition"].keys() == {"StringEquals"}, policy
                assert statement["Condition"]["StringEquals"].keys() == {
                    "kms:ViaService"
                }, policy


def test_a_consumer_may_leave_undelivered_records_in_the_quarantine(
    assembly: Assembly,
) -> None:
    for function in ("ValidateRecords", "WriteFeatures", "ArchiveEvents"):
        on_quarantine = actions(
            (
                statement
                for statement in statements(assembly, "prod", function)
                if "Quarantine" in json.dumps(statement["Resource"])
            ),
            "Allow",
        )

        assert on_quarantine == {"s3:ListBucket", "s3:PutObject"}


def test_a_rebuild_may_call_its_function_and_start_itself_and_nothing_else(
    assembly: Assembly,
) -> None:
    for environment in ENVIRONMENTS:
        [machine] = assembly.resources(MACHINE, environment=environment)
        allowed = list(statements(assembly, environment, "Rebuild"))
        named = {
            action: as_list(statement["Resource"])
            for statement in allowed
            for action in as_list(statement["Action"])
            if "*" not in as_list(statement["Resource"])
        }

        assert named.keys() == {
            "lambda:InvokeFunction",
            "states:DescribeExecution",
            "states:StartExecution",
            "states:StopExecution",
        }
        assert named["states:StartExecution"] == [{"Ref": machine.logical_id}]
        for arn in named["states:DescribeExecution"]:
            *_, name, end = arn["Fn::Join"][1]
            assert name == {"Fn::GetAtt": [machine.logical_id, "Name"]}
            assert end in {":*", "/*"}
        assert named["states:StopExecution"] == named["states:DescribeExecution"]
        assert "RebuildKeys" in json.dumps(named["lambda:InvokeFunction"])


def test_a_machines_policy_about_itself_does_not_hold_up_the_machine(
    assembly: Assembly,
) -> None:
    for machine in assembly.resources(MACHINE):
        assert not any("DistributedMap" in n for n in machine.body["DependsOn"])
