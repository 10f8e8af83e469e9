"""From a record to an exact feature, through the template that ships."""

import base64
import json
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest
from pipelines.sensor_anomaly.fleet import Kind, Plan, simulate
from retrodict.stamps import to_text

from tests.e2e.twin import ask, client, run, running

KILLED = ("ValidateRecords", "WriteFeatures", "ArchiveEvents")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty folder that commands run in."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def twin(home: Path) -> Any:
    """Start one twin for the module."""
    with running(home) as state:
        yield state


def put(twin: dict[str, Any], records: list[tuple[str, bytes]]) -> None:
    kinesis = client("kinesis", twin)
    for start in range(0, len(records), 500):
        answer = kinesis.put_records(
            StreamName=twin["outputs"]["IngestStreamName"],
            Records=[
                {"PartitionKey": key, "Data": data}
                for key, data in records[start : start + 500]
            ],
        )
        assert answer["FailedRecordCount"] == 0


def post(twin: dict[str, Any], path: str, **body: object) -> None:
    request = Request(
        f"{twin['endpoint_url']}/_retrodict/{path}",
        method="POST",
        data=json.dumps(body).encode(),
    )
    with urlopen(request, timeout=300) as answer:
        assert answer.status == 200


def csv(home: Path, name: str, *lines: str) -> Path:
    path = home / name
    path.write_text("\n".join(["timestamp,temperature", *lines]) + "\n")
    return path


SEND = ("--map", "time=timestamp", "--map", "value=temperature", "--set")


def test_a_file_becomes_features_and_the_rebuild_is_equal(
    twin: dict[str, Any], home: Path
) -> None:
    path = csv(
        home,
        "office.csv",
        "2026-01-05 10:00:00,20.5",
        "2026-01-05 10:05:00,21.0",
        "2026-01-05 10:10:00,hot",
        "2026-01-05 10:12:00,21.75",
    )

    sent = ask("send", str(path), *SEND, "sensor_id=office", cwd=home)
    known = ask("features", "sensor_anomaly", "--entity", "office", cwd=home)
    rejected = ask("quarantine", "list", "--code", "wrong_type", cwd=home)

    assert (sent["sent"], sent["quarantined"]) == (4, 1)
    assert known["time"] == "2026-01-05T10:12:00.000000Z"
    assert known["features"]["mean_3"] == (20.5 + 21.0 + 21.75) / 3
    assert known["features"]["count_10m"] == 2
    assert [d["partition_key"] for d in rejected] == ["office"]
    assert ask("rebuild", "online", "--verify", cwd=home)["differing"] == []


def test_sending_a_file_twice_changes_nothing(twin: dict[str, Any], home: Path) -> None:
    path = csv(home, "twice.csv", "2026-01-05 10:00:00,1", "2026-01-05 10:01:00,2")
    ask("send", str(path), *SEND, "sensor_id=twice", cwd=home)
    once = ask("features", "sensor_anomaly", "--entity", "twice", cwd=home)

    ask("send", str(path), *SEND, "sensor_id=twice", cwd=home)

    assert ask("features", "sensor_anomaly", "--entity", "twice", cwd=home) == once


@pytest.mark.parametrize("options", [(), ("--replay",)], ids=["sent", "replayed"])
def test_a_row_that_fits_no_stream_is_told_and_the_others_are_sent(
    twin: dict[str, Any], home: Path, options: tuple[str, ...]
) -> None:
    name = f"wide{len(options)}"
    value = ("20", "2" + "0" * (1 << 20), "22")
    path = csv(
        home, f"{name}.csv", *(f"2026-01-05 10:0{n}:00,{value[n]}" for n in range(3))
    )
    arguments = ("send", str(path), *SEND, f"sensor_id={name}", *options)

    sent = ask(*arguments, cwd=home, expect=1)
    known = ask("features", "sensor_anomaly", "--entity", name, cwd=home)

    assert (sent["sent"], sent["too_large"]) == (2, [2])
    assert known["features"]["mean_3"] == 21.0


def test_a_dropped_file_is_imported_through_the_same_door(
    twin: dict[str, Any], home: Path
) -> None:
    bucket = twin["outputs"]["ImportBucketName"]
    client("s3", twin).put_object(
        Bucket=bucket,
        Key="sensor.reading/hall.csv",
        Body=b"timestamp,value\n2026-01-05 10:00:00,20\n2026-01-05 10:01:00,22\n",
        Metadata={"map": "time=timestamp", "set": "sensor_id=hall"},
    )
    post(twin, "idle?timeout=60")

    known = ask("features", "sensor_anomaly", "--entity", "hall", cwd=home)

    assert known["features"]["mean_3"] == 21.0


def test_a_dropped_file_that_is_none_is_quarantined(
    twin: dict[str, Any], home: Path
) -> None:
    client("s3", twin).put_object(
        Bucket=twin["outputs"]["ImportBucketName"],
        Key="sensor.reading/broken.parquet",
        Body=b"PAR1 is not all it takes",
    )
    post(twin, "idle?timeout=60")

    found = ask("quarantine", "list", "--code", "unreadable_file", cwd=home)

    assert len(found) == 1


def test_the_store_is_repaired_from_the_log(twin: dict[str, Any], home: Path) -> None:
    path = csv(home, "repair.csv", "2026-01-05 10:00:00,1", "2026-01-05 10:01:00,2")
    ask("send", str(path), *SEND, "sensor_id=repair", cwd=home)
    dynamodb, table = client("dynamodb", twin), twin["outputs"]["OnlineStoreTableName"]
    items = [
        i for i in dynamodb.scan(TableName=table)["Items"]
        if i["entity"]["S"].endswith("#repair")
    ]  # fmt: skip
    for item in items:
        dynamodb.delete_item(
            TableName=table, Key={"entity": item["entity"], "part": item["part"]}
        )

    broken = ask("rebuild", "online", "--verify", cwd=home, expect=1)
    seen = ask("rebuild", "online", "--distributed", "--verify", cwd=home, expect=1)
    written = ask("rebuild", "online", "--distributed", cwd=home)["written"]
    far = ask("rebuild", "online", "--distributed", "--verify", cwd=home)
    table = twin["outputs"]["LifecycleTableName"]
    decisions = dynamodb.scan(TableName=table)["Items"]
    mended = ask("rebuild", "online", "--verify", cwd=home)
    afterwards = dynamodb.scan(TableName=table)["Items"]

    folded, scored = sorted(
        (i["entity"]["S"] for i in items), key=lambda entity: entity.startswith("score")
    )
    assert broken["differing"] == [folded]
    assert broken["scoring_differing"] == [scored]
    assert written == len(items) == len((folded, scored))
    assert mended["differing"] == mended["scoring_differing"] == []
    assert mended["log_digest"] == mended["store_digest"] == seen["log_digest"]
    assert (seen["differing"], seen["scoring_differing"]) == (1, 1)
    assert broken["log_digest"] == seen["log_digest"]
    assert broken["store_digest"] == seen["store_digest"]
    told = [json.loads(d["data"]["S"]) for d in decisions]
    verified = [d["digest"] for d in told if d.get("feature_set") == "Sensor"]
    assert mended["store_digest"] in verified
    assert far["projections"] == mended["projections"]
    assert decisions == afterwards


def test_a_reject_that_the_contract_still_refuses_is_rejected_again(
    twin: dict[str, Any], home: Path
) -> None:
    put(twin, [("redrive-me", b"not json")])
    post(twin, "idle?timeout=60")
    before = len(ask("quarantine", "list", cwd=home))
    mine = next(
        d for d in ask("quarantine", "list", cwd=home)
        if d["partition_key"] == "redrive-me"
    )  # fmt: skip

    again = ask("quarantine", "redrive", mine["position"], cwd=home)

    assert again["sent"] == 1
    assert len(ask("quarantine", "list", cwd=home)) == before + 1
    shown = ask("quarantine", "show", mine["position"], cwd=home)
    assert base64.b64decode(shown["bytes_base64"]) == b"not json"


@pytest.mark.parametrize(
    "arguments",
    [
        ("features", "no_such_pipeline", "--entity", "x"),
        ("features", "sensor_anomaly", "--entity", "nobody"),
        ("features", "sensor_anomaly"),
        ("send", "no-such-file.csv"),
        ("send", "office.csv"),
        ("send", "office.csv", "--map", "time=no_such_column"),
        ("send", "office.csv", "--map", "nonsense"),
        ("send", "office.csv", "--set", "no_such_field=1"),
        ("quarantine", "show", "7-7"),
        ("quarantine", "redrive"),
        ("up", "--detach"),
        ("rebuild", "online", "--no-such-flag"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_one_sentence_and_exit_code_2(
    twin: dict[str, Any], home: Path, arguments: tuple[str, ...]
) -> None:
    csv(home, "office.csv", "2026-01-05 10:00:00,20.5")

    said = run(*arguments, cwd=home, expect=2)

    assert "Traceback" not in said.stdout + said.stderr
    assert "Error: " in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("down",), ("features", "sensor_anomaly", "--entity", "x")],
    ids=" ".join,
)
def test_without_a_twin_a_command_says_how_to_start_one(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = run(*arguments, cwd=tmp_path, expect=2)

    assert "no twin is running here" in said.stderr


def test_twenty_kills_at_random_points_lose_and_double_nothing(
    home: Path, tmp_path: Path
) -> None:
    random = Random(7)
    with running(tmp_path) as twin:
        start_us = int(time.time() * 1e6)
        records = list(simulate(Plan(seed=7, sensors=10, days=0.5, start_us=start_us)))
        cuts = sorted(random.sample(range(1, len(records)), 20))
        names = [n for n in twin["functions"] if any(k in n for k in KILLED)]
        bounds = [0, *cuts, len(records)]
        for start, end in pairwise(bounds):
            chunk = records[start:end]
            post(twin, "advance", to=to_text(chunk[-1].arrival_us))
            put(twin, [(r.key, r.data) for r in chunk])
            if end != len(records):
                time.sleep(random.random() * 0.1)
                post(twin, f"kill?function={random.choice(names)}")
        post(twin, "idle?timeout=120")

        verified = ask("rebuild", "online", "--verify", cwd=tmp_path)
        rejected = ask("quarantine", "list", cwd=tmp_path)
        status = ask("status", cwd=tmp_path)
        log = read_log(twin)

    assert verified["differing"] == verified["unexplained"] == []
    assert verified["log_digest"] == verified["store_digest"]
    unreadable = {r.data for r in records if r.kind is Kind.BROKEN}
    sent_ids = {json.loads(r.data)["id"] for r in records if r.data not in unreadable}
    assert {event["id"] for event in log} == sent_ids
    refused = [d for d in rejected if "identity_conflict" not in d["codes"]]
    assert len(refused) == sum(r.data in unreadable for r in records)
    kills = sum(f["restarts"] for f in status["functions"].values())
    assert kills > 0


def read_log(twin: dict[str, Any]) -> list[dict[str, Any]]:
    s3, bucket = client("s3", twin), twin["outputs"]["EventLogBucketName"]
    rows = []
    for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="segments/"
    ):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
            rows += pq.ParquetFile(BytesIO(body)).read().to_pylist()
    return rows
