"""The twin reads a template as CloudFormation does, and refuses the rest by name."""

from pathlib import Path
from typing import Any

import pytest

from infra.local.errors import AssemblyError, UnsupportedByTwinError
from infra.local.names import physical_name
from infra.local.template import (
    Created,
    Deployment,
    ResourceId,
    Stack,
    read_assembly,
)
from tests.contract.twin.assembly import att, ref, resource, write_assembly
from tests.contract.twin.conftest import Start

QUEUE = resource("AWS::SQS::Queue")


def resolved(value: Any, **sections: Any) -> Any:
    template = {"Resources": {"Queue": QUEUE}, **sections}
    deployment = Deployment((Stack("App", template),), "eu-west-1")
    deployment.add(ResourceId("App", "Queue"), Created("url", {"Arn": "arn:q"}))
    return deployment.resolve("App", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ref("Queue"), "url"),
        (att("Queue"), "arn:q"),
        ({"Fn::GetAtt": "Queue.Arn"}, "arn:q"),
        ({"Fn::Join": ["-", ["a", ref("Queue")]]}, "a-url"),
        ({"Fn::Sub": "${AWS::Region}/${Queue}/${Queue.Arn}"}, "eu-west-1/url/arn:q"),
        ({"Fn::Sub": ["${x}${!Literal}", {"x": ref("Queue")}]}, "url${Literal}"),
        ({"Fn::Select": [1, {"Fn::Split": [":", att("Queue")]}]}, "q"),
        ({"Fn::Base64": "a"}, "YQ=="),
        ([{"a": ref("AWS::NoValue"), "b": 1}, ref("AWS::NoValue")], [{"b": 1}]),
        (ref("AWS::Partition"), "aws"),
        (ref("AWS::StackName"), "App"),
    ],
)
def test_an_intrinsic_function_is_what_cloudformation_makes_of_it(
    value: Any, expected: Any
) -> None:
    assert resolved(value) == expected


def test_conditions_choose_values_and_resources() -> None:
    conditions = {
        "Yes": {"Fn::Equals": [ref("AWS::Region"), "eu-west-1"]},
        "No": {"Fn::Not": [{"Condition": "Yes"}]},
        "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
        "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
    }

    chosen = [
        resolved({"Fn::If": [name, 1, 0]}, Conditions=conditions) for name in conditions
    ]
    unwanted = {"Type": "AWS::SQS::Queue", "Condition": "No"}
    template = {"Resources": {"Queue": unwanted}, "Conditions": conditions}

    assert chosen == [1, 0, 0, 1]
    assert Deployment((Stack("App", template),), "eu-west-1").order() == []


def test_an_unknown_function_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedByTwinError, match="Fn::Cidr"):
        resolved({"Fn::Cidr": ["10.0.0.0/16", 1, 8]})


def test_a_resource_comes_after_all_it_refers_to_in_other_stacks_too() -> None:
    state = {
        "Resources": {"Store": QUEUE},
        "Outputs": {"Out": {"Value": att("Store"), "Export": {"Name": "App:Store"}}},
    }
    compute = {
        "Resources": {
            "Last": {**QUEUE, "DependsOn": "Middle"},
            "Middle": resource(
                "AWS::SQS::Queue", QueueName={"Fn::ImportValue": "App:Store"}
            ),
        }
    }
    stacks = (Stack("Compute", compute), Stack("State", state))

    order = Deployment(stacks, "eu-west-1").order()

    assert [item.logical_id for item in order] == ["Store", "Middle", "Last"]


def test_resources_that_refer_to_each_other_are_an_error() -> None:
    template = {
        "Resources": {
            "A": resource("AWS::SQS::Queue", QueueName=ref("B")),
            "B": resource("AWS::SQS::Queue", QueueName=ref("A")),
        }
    }
    deployment = Deployment((Stack("App", template),), "eu-west-1")

    with pytest.raises(AssemblyError, match="refer to each other: App/"):
        deployment.order()


@pytest.mark.parametrize(
    ("template", "feature"),
    [
        ({"Transform": "AWS::Serverless-2016-10-31"}, "Transform"),
        ({"Rules": {"Mine": {}}}, "Rules.Mine"),
        ({"Resources": {"Q": {**QUEUE, "CreationPolicy": {}}}}, "CreationPolicy"),
    ],
)
def test_an_unknown_section_or_attribute_is_refused_by_name(
    template: dict[str, Any], feature: str
) -> None:
    with pytest.raises(UnsupportedByTwinError) as caught:
        Deployment((Stack("App", template),), "eu-west-1")

    assert caught.value.feature == feature


def test_an_unknown_environment_is_told_from_those_that_exist(tmp_path: Path) -> None:
    folder = write_assembly(tmp_path / "cdk.out", {"App": {"Resources": {}}})

    with pytest.raises(AssemblyError, match=r"'prod'.*App-dev"):
        read_assembly(folder, "prod")
    with pytest.raises(AssemblyError, match="no manifest"):
        read_assembly(tmp_path, "dev")


@pytest.mark.parametrize(
    ("kind", "properties", "feature"),
    [
        ("AWS::EC2::VPC", {}, "the type AWS::EC2::VPC"),
        ("AWS::SQS::Queue", {"FifoQueue": True}, "the property FifoQueue"),
        (
            "AWS::S3::Bucket",
            {"VersioningConfiguration": {"Status": "Enabled", "MfaDelete": "On"}},
            "the property VersioningConfiguration.MfaDelete",
        ),
        (
            "AWS::S3::Bucket",
            {"LifecycleConfiguration": {"Rules": [{"Transitions": []}]}},
            "the property LifecycleConfiguration.Rules[0].Transitions",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {"ParallelizationFactor": 2},
            "the property ParallelizationFactor = 2",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {"TumblingWindowInSeconds": 60},
            "the property TumblingWindowInSeconds",
        ),
        (
            "AWS::DynamoDB::Table",
            {"BillingMode": "PROVISIONED"},
            "the property BillingMode = 'PROVISIONED'",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_stack_id_type_and_property(
    start: Start, kind: str, properties: dict[str, Any], feature: str
) -> None:
    with pytest.raises(UnsupportedByTwinError) as caught:
        start({"Thing": resource(kind, **properties)})

    assert caught.value.args == ("App/Thing", kind, feature)
    assert feature in str(caught.value)


def test_the_twin_can_start_again_after_it_refused_a_template(start: Start) -> None:
    with pytest.raises(UnsupportedByTwinError):
        Deployment((Stack("App", {"Resources": {}, "Hooks": {}}),), "eu-west-1").order()

    twin = start({"Queue": QUEUE}, outputs={"Url": {"Value": ref("Queue")}})

    assert twin.client("sqs").list_queues()["QueueUrls"] == [twin.outputs()["Url"]]


def test_a_name_fits_its_service_and_is_the_same_at_every_start() -> None:
    long = ResourceId("Retrodict-staging-Compute", "X" * 80)

    names = {physical_name(long, limit=64) for _ in range(2)}
    bucket = physical_name(long, limit=63, lower=True)

    assert len(names) == 1
    assert len(names.pop()) <= 64
    assert bucket == bucket.lower()
    assert len(bucket) <= 63
