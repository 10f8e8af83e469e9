"""`score_events` scores with the champion of the moment, and asks for the rest."""

import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws
from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.artifact import Artifact, write_package
from retrodict.errors import ArtifactRefusedError, StreamUnavailableError
from retrodict.features import features
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.lifecycle import ChampionPromoted, decided
from retrodict.pipeline import Pipeline
from retrodict.ports import KeyedBatch, OnlineItem
from retrodict.vocabulary import last, mean
from retrodict_aws.kinesis_batch import DeliveredRecord
from retrodict_aws.kinesis_event_stream import encode
from retrodict_aws.s3_artifacts import S3Artifacts

from tests.artifacts import NAMES, PIPELINE, RUN, artifact
from tests.deployments import deployed
from tests.events import NOON_US, place, reading
from tests.fakes import FakeIngestStream, FakeLifecycleStore, FakeOnlineStore

ROOT = Path(__file__).parents[2]
SHARD = "shardId-000000000000"
REGION = "eu-west-1"
DAY_S = 86_400.0
STUMP = Tree((0, LEAF, LEAF), (25.0, 0.8, 0.2), (1, 0, 0), (2, 0, 0))
pytestmark = pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")


class Context:
    """What Powertools reads of a Lambda context."""

    function_name = "test"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:test"
    aws_request_id = "1"


class World:
    """The ports of the function, and who is champion."""

    def __init__(self, *champions: Artifact) -> None:
        self.store = FakeOnlineStore()
        self.lifecycles = FakeLifecycleStore()
        self.streams = FakeIngestStream(), FakeIngestStream()
        self.loaded: list[str] = []
        self.known: dict[str, Artifact] = {}
        for champion in champions:
            self.promote(champion)

    def promote(self, champion: Artifact) -> None:
        self.known[champion.digest] = champion
        promoted = decided(
            ChampionPromoted,
            NOON_US,
            pipeline=PIPELINE.name,
            run_id=RUN,
            artifact_digest=champion.digest,
            artifact_uri="s3://bucket/artifacts/x/model.tar.gz",
            endpoint_name="endpoint",
            config_name="config",
        )
        version = len(self.lifecycles.read(PIPELINE.name))
        self.lifecycles.append(PIPELINE.name, [promoted], expected_version=version)

    def load(self, digest: str) -> Artifact:
        self.loaded.append(digest)
        return self.known[digest]

    @property
    def ports(self) -> tuple[Any, ...]:
        return self.store, self.lifecycles, self.streams

    def predictions(self) -> list[dict[str, Any]]:
        return [json.loads(data)["data"] for _, data in self.streams[0].records]


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "test")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Retrodict")
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    name = "handler_of_score_events"
    path = ROOT / "functions/score_events/handler.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def records(*, today: Iterable[float] = (20, 20, 30)) -> list[DeliveredRecord]:
    """Return one record a reading: two of yesterday's noon, then today's."""
    readings = [
        reading(20.0, at_s=-DAY_S, id="y0", number=1),
        reading(21.0, at_s=60 - DAY_S, id="y1", number=2),
        *(
            reading(float(value), at_s=60 * n, id=f"t{n}", number=3 + n)
            for n, value in enumerate(today)
        ),
    ]
    return [
        DeliveredRecord(SHARD, str(number), "s-1", NOON_US, data)
        for number, event in enumerate(readings, start=1)
        for data in encode(KeyedBatch("s-1", [event]))
    ]


def lambda_event(delivered: Iterable[DeliveredRecord]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"{r.shard_id}:{r.sequence_number}",
                "kinesis": {
                    "partitionKey": r.partition_key,
                    "sequenceNumber": r.sequence_number,
                    "approximateArrivalTimestamp": r.arrived_at_us / 1e6,
                    "data": base64.b64encode(r.data).decode(),
                },
            }
            for r in delivered
        ]
    }


def test_the_stream_is_scored_by_the_champion(handler: ModuleType) -> None:
    world = World(artifact())

    scored = handler.handle(records(), *world.ports, world.load)

    assert [p["is_alert"] for p in world.predictions()] == [False, False, True]
    assert (scored.predictions, scored.alerts, scored.onsets, scored.unscored) == (
        3, 1, 1, 2,
    )  # fmt: skip
    assert world.streams[0].records == world.streams[1].records


def test_a_batch_delivered_twice_is_scored_once(handler: ModuleType) -> None:
    world = World(artifact())
    handler.handle(records(), *world.ports, world.load)

    again = handler.handle(records(), *world.ports, world.load)

    assert again.predictions == 0
    assert len(world.predictions()) == 3
    assert world.store.puts == 1


def test_a_new_champion_scores_from_the_next_batch_on(handler: ModuleType) -> None:
    first, second = artifact(), artifact(threshold=0.1)
    world = World(first)
    handler.handle(records()[:3], *world.ports, world.load)
    world.promote(second)

    handler.handle(records()[3:], *world.ports, world.load)

    assert [p["artifact_digest"] for p in world.predictions()] == [
        first.digest, second.digest, second.digest,
    ]  # fmt: skip


def test_before_the_first_champion_nothing_is_scored(handler: ModuleType) -> None:
    world = World()

    scored = handler.handle(records(), *world.ports, world.load)

    assert scored.predictions == 0
    assert world.store.puts == 1
    assert world.predictions() == []


def test_a_champion_of_another_definition_scores_nothing(
    handler: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(artifact(definition="0" * 64))
    handler.__dict__["ports"] = lambda: world.ports
    handler.__dict__["artifact"] = world.load

    answer = handler.lambda_handler(lambda_event(records()), Context())

    assert answer == {"batchItemFailures": []}
    assert world.predictions() == []
    assert world.store.puts == 1
    assert metrics(capsys)["IncompatibleChampions"] == [1.0]


@features(Reading, lateness="10m", max_rate="1/s")
class Changed:
    """The features of the next deployment."""

    mean_3 = mean(Reading.value, last(3))


def test_while_a_definition_retires_each_event_is_scored_once_by_whoever_serves(
    handler: ModuleType,
) -> None:
    names: Any = Changed
    assert PIPELINE.model is not None
    during = Pipeline(
        PIPELINE.name, features=[Changed], retiring=[Sensor],
        model=replace(PIPELINE.model, features=[names.mean_3]),
    )  # fmt: skip
    old = artifact()
    new = artifact(
        feature_set="Changed",
        definition=during.trained_on.digest,
        features=("mean_3",),
        model=IsolationForest(1, 1.0, (STUMP,)).to_json(),
    )
    world = World(old)
    order: list[str] = []

    class Store(FakeOnlineStore):
        def put(self, item: OnlineItem) -> None:
            order.append(item.definition)
            super().put(item)

    world.store = Store()
    with deployed(during):
        handler.handle(records()[:4], *world.ports, world.load)
        world.promote(new)
        handler.handle(records()[2:], *world.ports, world.load)

    assert [(p["artifact_digest"], p["position"]) for p in world.predictions()] == [
        (old.digest, place(3)), (old.digest, place(4)), (new.digest, place(5)),
    ]  # fmt: skip
    assert json.loads(world.predictions()[-1]["features"]) == {"mean_3": 70 / 3}
    # Last comes the state of whoever serves: it says what has been predicted.
    assert order == [
        new.definition, old.definition, old.definition, new.definition,
    ]  # fmt: skip


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if "_aws" in line]
    return dict(found)


def test_what_was_scored_is_measured(
    handler: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(artifact())
    handler.__dict__["ports"] = lambda: world.ports
    handler.__dict__["artifact"] = world.load

    assert handler.lambda_handler(lambda_event(records()), Context()) == {
        "batchItemFailures": []
    }

    found = metrics(capsys)
    assert found["StreamPredictions"] == [3.0]
    assert found["StreamAlerts"] == [1.0]
    assert found["UnscoredEvents"] == [2.0]
    assert found["_aws"]["Timestamp"] == NOON_US // 1000


def test_what_a_stream_refuses_is_asked_for_again(handler: ModuleType) -> None:
    class Refusing(FakeIngestStream):
        def put(self, records: Any) -> int:  # noqa: ARG002 - the port's signature
            raise StreamUnavailableError("throttled")

    world = World(artifact())
    world.streams = world.streams[0], Refusing()
    handler.__dict__["ports"] = lambda: world.ports
    handler.__dict__["artifact"] = world.load

    answer = handler.lambda_handler(lambda_event(records()), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert world.store.puts == 0


def test_an_unreadable_record_does_not_hold_up_the_shard(handler: ModuleType) -> None:
    world = World(artifact())
    good = records()
    bad = DeliveredRecord(SHARD, "0", "s-1", NOON_US, b"\x80")

    scored = handler.handle([bad, *good], *world.ports, world.load)

    assert scored.predictions == 3


def test_events_that_no_model_reads_are_passed_over(handler: ModuleType) -> None:
    world = World(artifact())
    other = [
        DeliveredRecord(
            SHARD, "1", "s-1", NOON_US, r.data.replace(b"sensor.", b"other.")
        )
        for r in records()
    ]

    scored = handler.handle(other, *world.ports, world.load)

    assert (scored.predictions, world.store.puts, world.loaded) == (0, 0, [])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], None]]:
    """Put what an attacker, or a mistake, left under an artifact's digest."""
    for name, value in {
        "ARTIFACT_BUCKET_NAME": "artifacts",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        where = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration=where)

        def put(digest: str, package: bytes) -> None:
            key = f"artifacts/{digest.removeprefix('sha256:')}/model.tar.gz"
            s3.put_object(Bucket="artifacts", Key=key, Body=package)

        yield put


def test_the_champion_is_read_from_the_artifact_bucket_once(
    handler: ModuleType, bucket: Callable[[str, bytes], None]
) -> None:
    champion = artifact()
    world = World(champion)
    handler.__dict__["ports"] = lambda: world.ports
    bucket(champion.digest, write_package(champion))

    for batch in (records()[:3], records()[3:]):
        handler.lambda_handler(lambda_event(batch), Context())

    assert len(world.predictions()) == 3
    assert handler.artifact.cache_info().misses == 1


@pytest.mark.parametrize(
    "package",
    [write_package(artifact(threshold=0.999)), b"no package", b""],
    ids=["forged", "garbage", "empty"],
)
def test_a_forged_champion_is_refused_and_scores_nothing(
    handler: ModuleType, bucket: Callable[[str, bytes], None], package: bytes
) -> None:
    champion = artifact()
    world = World(champion)
    handler.__dict__["ports"] = lambda: world.ports
    bucket(champion.digest, package)

    with pytest.raises(ArtifactRefusedError):
        handler.lambda_handler(lambda_event(records()), Context())

    assert world.predictions() == []
    assert world.store.puts == 0


def test_a_champion_that_is_missing_is_asked_for_again(
    handler: ModuleType, bucket: Callable[[str, bytes], None]
) -> None:
    world = World(artifact())
    handler.__dict__["ports"] = lambda: world.ports

    answer = handler.lambda_handler(lambda_event(records()), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}


def test_an_artifact_is_stored_once_and_read_back(
    bucket: Callable[[str, bytes], None],
) -> None:
    artifacts = S3Artifacts(boto3.client("s3", region_name=REGION), "artifacts")
    champion = artifact()

    assert artifacts.store(champion) == artifacts.store(champion)
    assert artifacts.load(champion.digest) == champion
    assert artifacts.read(artifacts.uri(champion.digest), None) == champion


def test_an_oversized_package_is_not_even_fetched(
    bucket: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = artifact()
    bucket(champion.digest, b"x" * 2_000)
    monkeypatch.setattr("retrodict_aws.s3_artifacts.MAX_PACKAGE_BYTES", 1_000)
    artifacts = S3Artifacts(boto3.client("s3", region_name=REGION), "artifacts")

    with pytest.raises(ArtifactRefusedError, match="2000 bytes"):
        artifacts.load(champion.digest)


def test_the_function_starts_without_what_only_training_needs() -> None:
    layers = [
        str(ROOT / f"layers/{n}/python") for n in ("core", "adapters", "pipelines")
    ]
    folder = str(ROOT / "functions/score_events")
    program = (
        f"import sys; sys.path[:0] = {[*layers, folder]!r}\n"
        "import handler\n"
        "from retrodict.pipeline import load_pipelines; load_pipelines()\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"POWERTOOLS_TRACE_DISABLED": "true", "PATH": ""},
    )

    assert not set(done.stdout.split()) & {"numpy", "pandas", "pyarrow", "sklearn"}


def test_every_feature_of_the_model_is_in_the_test_artifact() -> None:
    assert artifact().features == NAMES
