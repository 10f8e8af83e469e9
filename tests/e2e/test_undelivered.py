"""Nothing that was acknowledged is lost while mappings rest, and somebody is told."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.e2e.twin import ask, client, run, running

START = "2026-01-05T00:00:00Z"
MINUTE_S = 60
HOUR_S = 3_600
CONSUMERS = ("ArchiveEvents", "WriteFeatures", "ScoreEvents")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty folder that commands run in."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def twin(home: Path) -> Iterator[dict[str, Any]]:
    """Start one twin for the module; every test leaves it at rest."""
    with running(home, "--start-at", START) as state:
        yield state


def post(twin: dict[str, Any], path: str, **body: object) -> None:
    request = Request(
        f"{twin['endpoint_url']}/_retrodict/{path}",
        method="POST",
        data=json.dumps(body).encode(),
    )
    with urlopen(request, timeout=300) as answer:
        assert answer.status == 200


def advance(twin: dict[str, Any], seconds: float) -> None:
    post(twin, "advance", seconds=seconds)


def now(twin: dict[str, Any]) -> datetime:
    with urlopen(f"{twin['endpoint_url']}/_retrodict/status") as answer:
        return datetime.fromisoformat(json.load(answer)["clock"]["now"])


def send(twin: dict[str, Any], key: str, *values: float) -> None:
    """Send readings that happen now, a second apart."""
    begin = now(twin)
    records = []
    for place, value in enumerate(values):
        time = begin + timedelta(seconds=place - len(values))
        document = {
            "specversion": "1.0",
            "id": f"{time.timestamp():.0f}",
            "source": "plant",
            "type": "sensor.reading",
            "subject": key,
            "time": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "dataschema": "sensor.reading/v1",
            "data": {"sensor_id": key, "value": value},
        }
        records.append({"PartitionKey": key, "Data": json.dumps(document).encode()})
    answer = client("kinesis", twin).put_records(
        StreamName=twin["outputs"]["IngestStreamName"], Records=records
    )
    assert answer["FailedRecordCount"] == 0


def switch(twin: dict[str, Any], *functions: str, is_on: bool) -> None:
    """Enable or disable the mappings of functions."""
    lambda_ = client("lambda", twin)
    for page in lambda_.get_paginator("list_event_source_mappings").paginate():
        for mapping in page["EventSourceMappings"]:
            if any(name in mapping["FunctionArn"] for name in functions):
                lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=is_on)


def ringing(twin: dict[str, Any]) -> list[str]:
    """Return what those alarms say that ring."""
    found = client("cloudwatch", twin).describe_alarms(StateValue="ALARM")
    return sorted(alarm["AlarmDescription"] for alarm in found["MetricAlarms"])


def subscribed(twin: dict[str, Any]) -> str:
    """Let a queue be told what the topic of the stack Compute's alarms is told."""
    sqs, sns = client("sqs", twin), client("sns", twin)
    alarms = client("cloudwatch", twin).describe_alarms()["MetricAlarms"]
    [topic] = {
        action
        for alarm in alarms
        if "IngestToValidateRecords does not read" in alarm["AlarmDescription"]
        for action in alarm["AlarmActions"]
    }
    url = str(sqs.create_queue(QueueName="told")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"]
    )
    return url


def told(twin: dict[str, Any], url: str) -> list[str]:
    """Return the descriptions of the alarms that a queue was told of."""
    found = client("sqs", twin).receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    messages = [json.loads(one["Body"]) for one in found.get("Messages", [])]
    return [json.loads(one["Message"])["AlarmDescription"] for one in messages]


def test_a_mapping_that_is_switched_off_rings_and_goes_on_where_it_was(
    twin: dict[str, Any], home: Path
) -> None:
    url = subscribed(twin)
    send(twin, "valve", 20.0)
    advance(twin, 24 * HOUR_S)  # nobody sends
    quiet = ringing(twin)

    switch(twin, "ValidateRecords", is_on=False)
    send(twin, "valve", 21.0, 22.0)
    advance(twin, 10 * MINUTE_S)
    not_yet = ringing(twin)
    advance(twin, 25 * MINUTE_S)
    rang = ringing(twin)
    switch(twin, "ValidateRecords", is_on=True)
    advance(twin, 10 * MINUTE_S)
    ended = ringing(twin)

    assert (quiet, not_yet) == ([], [])
    assert len(rang) == 1
    assert rang[0].startswith("IngestToValidateRecords does not read its stream")
    assert rang[0] in told(twin, url)
    assert not any("does not read" in one for one in ended)
    known = ask("features", "sensor_anomaly", "--entity", "valve", cwd=home)
    assert known["features"]["latest"] == 22.0
    assert ask("undelivered", "list", cwd=home) == []
    assert ask("rebuild", "online", "--verify", cwd=home)["differing"] == []


def test_what_consumers_gave_up_is_redriven_and_the_store_is_the_fold_of_the_log(
    twin: dict[str, Any], home: Path
) -> None:
    send(twin, "pump", 20.0, 21.0)
    advance(twin, 10 * MINUTE_S)
    before = ask("rebuild", "online", "--verify", cwd=home)["events"]
    switch(twin, *CONSUMERS, is_on=False)
    send(twin, "pump", 22.0, 23.0)
    send(twin, "fan", 5.0)
    advance(twin, 23 * HOUR_S + 30 * MINUTE_S)
    switch(twin, *CONSUMERS, is_on=True)
    advance(twin, MINUTE_S)
    rang = ringing(twin)
    send(twin, "pump", 24.0)
    advance(twin, MINUTE_S)

    listed = ask("undelivered", "list", cwd=home)
    features = ("--function", "write_features", "--pause")
    waiting = ask("undelivered", "redrive", *features, cwd=home, expect=1)
    broken = ask("rebuild", "online", "--verify", cwd=home, expect=1)
    done = ask("undelivered", "redrive", "--all", "--pause", cwd=home)
    verified = ask("rebuild", "online", "--verify", cwd=home)
    again = ask("undelivered", "redrive", "--all", cwd=home)

    assert len([one for one in rang if "gave up on records" in one]) == 3
    assert {one["condition"] for one in listed} == {"RecordAgeExceeded"}
    assert {one["error"] for one in listed} == {None}
    assert {one["function"] for one in listed} == {
        "archive_events", "write_features", "score_events",
    }  # fmt: skip
    assert sum(one["records"] for one in listed) == done["records"] >= len(listed)
    assert (waiting["redriven"], len(waiting["left"])) == (0, waiting["chosen"])
    assert all("the log does not hold" in why for why in waiting["left"].values())
    assert broken["events"] == before + 1
    assert [entity.split("#")[1] for entity in broken["unexplained"]] == ["fan"]
    assert (done["chosen"], done["redriven"]) == (len(listed), len(listed))
    assert done["left"] == {}
    assert verified["differing"] == verified["scoring_differing"] == []
    assert verified["unexplained"] == verified["ahead"] == []
    assert verified["events"] == before + 4
    assert (again["chosen"], again["redriven"], again["restored"]) == (0, 0, 0)
    assert ask("undelivered", "list", cwd=home) == []
    states = {one["state"] for one in ask("status", cwd=home)["mappings"].values()}
    assert states == {"Enabled"}


def test_what_was_never_validated_comes_in_as_late_as_it_is(
    twin: dict[str, Any], home: Path
) -> None:
    send(twin, "motor", 20.0)
    advance(twin, 10 * MINUTE_S)
    before = ask("rebuild", "online", "--verify", cwd=home)
    switch(twin, "ValidateRecords", is_on=False)
    send(twin, "motor", 21.0, 22.0)
    advance(twin, 23 * HOUR_S + 30 * MINUTE_S)
    switch(twin, "ValidateRecords", is_on=True)
    advance(twin, MINUTE_S)

    lost = ask("rebuild", "online", "--verify", cwd=home)
    [batch] = ask("undelivered", "list", cwd=home)
    done = ask("undelivered", "redrive", batch["name"], cwd=home)
    verified = ask("rebuild", "online", "--verify", cwd=home)

    assert lost["events"] == before["events"]
    assert done["records"] == 2
    assert verified["events"] == before["events"] + 2
    late = before["outcomes"].get("late", 0) + 2
    assert verified["outcomes"] == {**before["outcomes"], "late": late}
    assert verified["differing"] == verified["unexplained"] == []


def test_what_cannot_be_read_is_left_and_named(
    twin: dict[str, Any], home: Path
) -> None:
    s3, bucket = client("s3", twin), twin["outputs"]["QuarantineBucketName"]
    s3.put_object(Bucket=bucket, Key="aws/lambda/m/s/cut", Body=b'{"requestContext')

    done = ask("undelivered", "redrive", "--all", cwd=home, expect=1)
    [listed] = ask("undelivered", "list", cwd=home)
    unknown = run("undelivered", "redrive", "m/s/no", cwd=home, expect=2)
    nothing = run("undelivered", "redrive", cwd=home, expect=2)
    s3.delete_object(Bucket=bucket, Key="aws/lambda/m/s/cut")

    assert list(done["left"]) == ["m/s/cut"] == [listed["name"]]
    assert "expected what Lambda leaves" in done["left"]["m/s/cut"]
    assert "no batch 'm/s/no' was given up" in unknown.stderr
    assert "name batches, or --function, or --all" in nothing.stderr
