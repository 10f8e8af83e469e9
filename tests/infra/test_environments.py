"""Three environments from one description, the same bytes on every machine."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.aws_s3_assets import Asset

from infra.constructs.layers import NOT_CODE
from infra.settings import (
    CONTEXT_KEY,
    DEPENDENCIES_KEY,
    REPOSITORY,
    SettingsError,
    environments,
    read_context,
    stages_dependencies,
)
from tests.infra.conftest import ENVIRONMENTS, LOCKS_ONLY, Assembly

OUTPUTS = {
    "ArtifactBucketName",
    "EventLogBucketName",
    "EventsStreamName",
    "GlueDatabaseName",
    "ImportBucketName",
    "IngestStreamName",
    "LifecycleTableName",
    "OnlineStoreTableName",
    "PredictionsStreamName",
    "QuarantineBucketName",
}
# Which property each setting decides.
SET_BY_ENVIRONMENT = {
    "MaximumBatchingWindowInSeconds",  # archive_window_seconds
    "MaximumRecordAgeInSeconds",  # stream_retention_hours
    "RetentionInDays",  # log_retention_days
    "RetentionPeriodHours",  # stream_retention_hours
}
VALID = {
    "stream_retention_hours": 24,
    "archive_window_seconds": 5,
    "feature_window_seconds": 1,
    "score_window_seconds": 1,
    "log_retention_days": 14,
    "drift_every_minutes": 60,
    "instance_type": "ml.m5.large",
    "instance_count": 1,
    "training_instance_type": "ml.m5.xlarge",
}


def differences(left: Any, right: Any, key: str = "") -> Iterator[str]:
    """Yield the innermost property name of each place where two templates differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in left.keys() | right.keys():
            yield from differences(left.get(name), right.get(name), name)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for one, other in zip(left, right, strict=True):
            yield from differences(one, other, key)
    elif left != right:
        yield key


def nameless(template: str, environment: str) -> str:
    """Return `template` without the name of its environment."""
    # What the CDK derives from a construct's whole path, with a hash of it.
    template = re.sub(r"AllowEventRuleRetrodict\w+", "AllowEventRule", template)
    return re.sub(rf"(?<![a-z]){environment}(?![a-z])", "<environment>", template)


def synthesised(folder: Path) -> dict[str, bytes]:
    """Return every template and asset manifest below `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("*.template.json", "*.assets.json")
        for path in folder.rglob(pattern)
    }


def test_the_app_writes_the_same_bytes_in_another_process(
    assembly: Assembly, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, str(REPOSITORY / "app.py")],
        cwd=tmp_path,
        env={
            **os.environ,
            "CDK_CONTEXT_JSON": json.dumps(LOCKS_ONLY),
            "CDK_OUTDIR": str(tmp_path / "cdk.out"),
            "CDK_VALIDATION": "false",
            "PYTHONHASHSEED": "1",
            "PYTHONPATH": str(REPOSITORY),
            "TZ": "Pacific/Kiritimati",
        },
        check=True,
    )

    again = synthesised(tmp_path / "cdk.out")

    assert len(again) == 2 * 3 * len(ENVIRONMENTS)
    assert again == synthesised(assembly.folder)


def test_bytecode_that_a_machine_left_behind_is_no_code(tmp_path: Path) -> None:
    source = tmp_path / "layer"
    source.mkdir()
    (source / "module.py").write_text("", encoding="utf-8")
    stack = Stack(App(outdir=str(tmp_path / "cdk.out")), "Stack")
    before = Asset(stack, "Before", path=str(source), exclude=NOT_CODE)

    (source / "package" / "__pycache__").mkdir(parents=True)
    (source / "package" / "__pycache__" / "module.cpython-312.pyc").touch()
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "module.cpython-312.pyc").touch()
    after = Asset(stack, "After", path=str(source), exclude=NOT_CODE)

    assert after.asset_hash == before.asset_hash


def test_each_environment_has_its_three_stacks(assembly: Assembly) -> None:
    for environment in ENVIRONMENTS:
        assert assembly.artifacts(environment).keys() == {
            f"Retrodict-{environment}-State",
            f"Retrodict-{environment}-Compute",
            f"Retrodict-{environment}-Learning",
        }


def test_the_state_stack_tells_the_names_that_people_and_tools_need(
    assembly: Assembly,
) -> None:
    for environment in ENVIRONMENTS:
        outputs = assembly.template(environment, "State")["Outputs"]
        for_people = {
            name for name, output in outputs.items() if "Export" not in output
        }

        assert for_people == OUTPUTS


@pytest.mark.parametrize("stack", ["State", "Compute"])
@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_environments_differ_by_their_settings_only(
    assembly: Assembly, environment: str, stack: str
) -> None:
    dev, other = (
        json.loads(nameless(assembly.path_of(name, stack).read_text("utf-8"), name))
        for name in ("dev", environment)
    )

    assert set(differences(dev, other)) <= SET_BY_ENVIRONMENT


def test_the_database_is_the_only_name_of_ours(assembly: Assembly) -> None:
    for environment in ENVIRONMENTS:
        [database] = assembly.resources("AWS::Glue::Database", environment=environment)

        assert database.properties["DatabaseInput"]["Name"] == (
            f"retrodict_{environment}"
        )


def test_templates_use_only_intrinsics_that_the_twin_resolves(
    assembly: Assembly,
) -> None:
    used: set[str] = set()
    for environment in ENVIRONMENTS:
        for stack in ("State", "Compute", "Learning"):
            text = assembly.path_of(environment, stack).read_text(encoding="utf-8")
            used |= set(re.findall(r'"(Fn::\w+|Ref)":', text))

    assert used == {"Fn::GetAtt", "Fn::ImportValue", "Fn::Join", "Fn::Sub", "Ref"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_export_has_a_reader(assembly: Assembly, environment: str) -> None:
    exported = {
        output["Export"]["Name"]
        for output in assembly.template(environment, "State")["Outputs"].values()
        if "Export" in output
    }
    readers = "".join(
        assembly.path_of(environment, stack).read_text(encoding="utf-8")
        for stack in ("Compute", "Learning")
    )

    assert set(re.findall(r'"Fn::ImportValue": "([^"]+)"', readers)) == exported


def test_settings_are_what_cdk_json_says() -> None:
    settings = {found.name: found for found in environments(read_context())}

    assert tuple(settings) == ENVIRONMENTS
    assert settings["dev"].archive_window_seconds == 5
    assert settings["prod"].archive_window_seconds == 60


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"stream_retention_hours": 12},
            "stream_retention_hours must be an integer from 24 to 8760, got 12",
        ),
        (
            {"archive_window_seconds": True},
            "archive_window_seconds must be an integer from 0 to 300, got True",
        ),
        (
            {"archive_window_seconds": "60"},
            "archive_window_seconds must be an integer from 0 to 300, got '60'",
        ),
        ({"log_retention_days": 15}, "log_retention_days must be one of 1, 3, 5"),
        ({"account": 123456789012}, "account must be 12 digits in quotes, or null"),
        ({"region": "Europe"}, "region must be a region, or null, got 'Europe'"),
        ({"retention": 1}, "unknown retention; expected only account"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_expected(
    change: dict[str, Any], sentence: str
) -> None:
    context = {CONTEXT_KEY: {"dev": VALID | change}}

    with pytest.raises(SettingsError) as caught:
        environments(context)

    assert str(caught.value).startswith("cdk.json, retrodict:environments, 'dev': ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({}, "an object with one entry per environment, got None"),
        ({CONTEXT_KEY: {"dev": None}}, "'dev': must be an object, got None"),
        ({CONTEXT_KEY: {"dev": {}}}, "missing archive_window_seconds"),
        ({CONTEXT_KEY: {"Dev!": VALID}}, "name must be a short lower-case name"),
    ],
)
def test_a_description_with_a_hole_is_refused(
    context: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        environments(context)


def test_a_misspelt_wish_about_dependencies_is_refused() -> None:
    assert stages_dependencies({}) is True
    assert stages_dependencies(LOCKS_ONLY) is False
    with pytest.raises(SettingsError, match="must be 'trees' or 'locks', got 'lock'"):
        stages_dependencies({DEPENDENCIES_KEY: "lock"})
