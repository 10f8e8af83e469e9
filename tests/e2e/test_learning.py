"""From a series to a judged model and back, through the template that ships."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.twin import ask, client, run, running

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 800
TRAINED_AT = 720
FAILING = range(760, 766)
MAP = ("--map", "time=timestamp", "--set", "sensor_id=office", "--replay")
ENDPOINT = "retrodict-dev-sensor-anomaly"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a month of hourly readings that fail for some hours."""
    folder = tmp_path_factory.mktemp("home")
    random = Random(7)
    lines = ["timestamp,value"]
    for hour in range(HOURS):
        time = FIRST + timedelta(hours=hour)
        usual = 20 + 3 * (time.hour > 7) + random.gauss(0, 0.3)
        value = usual + 12 if hour in FAILING else usual
        lines.append(f"{time:%Y-%m-%d %H:%M:%S},{value:.3f}")
    (folder / "series.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def twin(home: Path) -> Iterator[dict[str, Any]]:
    """Start a twin, train on the first month, and let the rest arrive."""
    with running(home, "--start-at", "2026-03-01") as state:
        sent = ask("send", "series.csv", *MAP, "--limit", str(TRAINED_AT), cwd=home)
        assert sent["quarantined"] == 0
        told = run("retrain", "sensor_anomaly", "--reason", "first model", cwd=home)
        assert "champion is" in told.stdout
        again = ask("send", "series.csv", *MAP, cwd=home)
        assert again["quarantined"] == 0
        yield state


def invoke(twin: dict[str, Any], body: bytes, content_type: str) -> dict[str, Any]:
    answer = client("sagemaker-runtime", twin).invoke_endpoint(
        EndpointName=ENDPOINT, ContentType=content_type, Body=body
    )
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def test_a_failure_that_the_stream_saw_is_labelled_explained_and_reported(
    twin: dict[str, Any], home: Path
) -> None:
    begin, end = (FIRST + timedelta(hours=h) for h in (FAILING[0], FAILING[-1]))
    (home / "labels.csv").write_text(
        f"entity,time,until,is_anomaly\noffice,{begin:%Y-%m-%dT%H:%M:%SZ},"
        f"{end:%Y-%m-%dT%H:%M:%SZ},true\n"
    )

    labelled = ask("label", "labels.csv", cwd=home)
    answer = ask("predict", "sensor_anomaly", "--entity", "office", cwd=home)
    told = ask("explain", answer["prediction_id"], cwd=home)
    run("report", "sensor_anomaly", "--entity", "office", cwd=home)

    assert labelled["sent"] == len(FAILING)
    assert told["equal"] is True
    page = (home / "out" / "report.html").read_text()
    assert "Shaded: stretches that labels call anomalous." in page
    assert "Scores and alerts of office" in page


@pytest.mark.parametrize(
    ("body", "content_type", "status", "why"),
    [
        (b'{"instances":[{"entity":"nobody"}]}', "application/json", 404, "nobody"),
        (b'{"instances":', "application/json", 400, "JSON"),
        (b'{"instances":[{"features":{}}]}', "application/json", 422, "residual"),
        (b"x", "text/plain", 415, "text/plain"),
        (b'{"instances":[' + b" " * 7_000_000 + b"]}", "application/json", 413, ""),
    ],
    ids=["unknown entity", "cut off", "missing feature", "content type", "oversized"],
)
def test_a_request_that_cannot_be_answered_says_why_and_the_endpoint_stays_up(
    twin: dict[str, Any], body: bytes, content_type: str, status: int, why: str
) -> None:
    with pytest.raises(ClientError) as refused:
        invoke(twin, body, content_type)

    told = refused.value.response
    # What SageMaker refuses itself never reaches the model.
    original = told.get("OriginalStatusCode", told["Error"]["Code"])
    assert int(original) == status
    assert why in str(refused.value)
    answer = invoke(twin, b'{"instances":[{"entity":"office"}]}', "application/json")
    assert len(answer["predictions"]) == 1


def test_teardown_leaves_nothing_of_the_rollouts(
    twin: dict[str, Any], home: Path
) -> None:
    deleted = ask("teardown", "--yes", cwd=home)

    assert deleted["endpoints"] == [ENDPOINT, f"{ENDPOINT}-async"]
    sagemaker = client("sagemaker", twin)
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert deleted["configs"]
    assert deleted["models"]


def test_the_days_that_are_over_were_merged_and_the_log_reads_the_same(
    twin: dict[str, Any], home: Path
) -> None:
    pages = (
        client("s3", twin)
        .get_paginator("list_objects_v2")
        .paginate(
            Bucket=twin["outputs"]["EventLogBucketName"],
            Prefix="segments/type=sensor.reading/",
        )
    )
    names = [found["Key"] for page in pages for found in page.get("Contents", [])]
    last = FIRST + timedelta(hours=HOURS)
    old = [n for n in names if f"{last - timedelta(days=4):arrived=%Y-%m-%d}" in n]

    compacted = ask("compact", cwd=home)
    verified = ask("rebuild", "online", "--verify", cwd=home)

    assert len(old) == 1
    assert "/bucket=" in old[0]
    assert compacted["failures"] == []
    assert verified["log_digest"] == verified["store_digest"]
