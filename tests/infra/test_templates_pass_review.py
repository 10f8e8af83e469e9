"""CloudFormation's rules and cdk-nag find nothing that is not answered in writing."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Resource, Stack, Validations
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from cdk_nag import AwsSolutionsChecks

from infra.settings import read_context
from infra.stacks.environment import build_app
from tests.infra.conftest import LOCKS_ONLY

ACKNOWLEDGED = "aws:cdk:acknowledged-rules"


def findings(app: App) -> list[tuple[str, str]]:
    """Return (rule, path) of each finding of a synth of `app`, warnings too."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
    report = Path(app.outdir) / "validation-report.json"
    if not report.exists():
        return []
    plugins = json.loads(report.read_text(encoding="utf-8"))["pluginReports"]
    return sorted(
        (violation["ruleName"], construct["constructPath"])
        for plugin in plugins
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    return build_app(str(tmp_path_factory.mktemp("cdk.out")), context=LOCKS_ONLY)


@pytest.fixture
def bad_app(tmp_path: Path) -> App:
    """Return an empty app under the same rules, to put something bad in."""
    return App(context=read_context(), outdir=str(tmp_path))


def test_every_finding_has_been_answered(app: App) -> None:
    assert findings(app) == []


def test_an_answer_names_one_resource_and_gives_a_reason(app: App) -> None:
    answers: list[tuple[Any, str]] = [
        (construct, reason)
        for construct in app.node.find_all()
        for entry in construct.node.metadata
        if entry.type == ACKNOWLEDGED
        for reason in entry.data.values()
    ]

    assert answers
    for construct, reason in answers:
        assert isinstance(construct, Resource), construct.node.path
        assert len(reason.split()) >= 12, construct.node.path


def test_a_public_bucket_would_be_found(bad_app: App) -> None:
    s3.CfnBucket(Stack(bad_app, "Bad"), "Bucket")

    rules = {rule for rule, _ in findings(bad_app)}

    assert {"AwsSolutions-S1", "AwsSolutions-S2", "AwsSolutions-S10"} & rules


def test_a_value_that_cloudformation_refuses_would_be_found(bad_app: App) -> None:
    lambda_.CfnFunction(
        Stack(bad_app, "Bad"),
        "Function",
        code=lambda_.CfnFunction.CodeProperty(zip_file="pass"),
        handler="index.handler",
        memory_size=1_000_000,
        role="arn:aws:iam::123456789012:role/any",
        runtime="python3.12",
    )

    found = findings(bad_app)

    assert any("AwsSolutions" not in rule for rule, _ in found), found
