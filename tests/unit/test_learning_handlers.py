"""Each step of learning answers the same when it is asked twice, and records once.

The functions run over ports in memory and S3 in moto.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws
from retrodict.artifact import Artifact, write_package
from retrodict.drift import DEFAULTS, Profile
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    ArtifactRefusedError,
    IncompatibleArtifactError,
    StoreUnavailableError,
)
from retrodict.lifecycle import ChampionPromoted, decided
from retrodict.model import SCORE, Model
from retrodict.system_events import PredictionMade
from retrodict.training_sets import ASSUMED, INJECTED, JudgedRow, Row, TrainingSet
from retrodict_aws.cloudwatch_drift import DriftAlarm, NoMeasurementError
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.s3_training_sets import S3TrainingSets, TrainingSetChangedError

from tests.artifacts import LIMIT, NAMES, PIPELINE, RUN, artifact
from tests.events import NOON_US, SECOND_US, place, reading
from tests.fakes import FakeEventLog, FakeIngestStream, FakeLifecycleStore

FUNCTIONS = Path(__file__).parents[2] / "functions"
REGION = "eu-west-1"
HOUR_S = 3_600
MINUTE_US = 60 * SECOND_US
DAY_US = 1_440 * MINUTE_US
DAY_LATER_US = NOON_US + DAY_US
DAY_LATER = "2026-01-06T12:00:00Z"
pytestmark = pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")

assert PIPELINE.model is not None
MODEL: Model = PIPELINE.model


class Context:
    """What Powertools reads of a Lambda context."""

    function_name = "test"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:test"
    aws_request_id = "1"


class ReadLog(FakeEventLog):
    """An event log that remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[tuple[str, ...], date | None]] = []

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[StampedEvent]:
        self.asked.append((tuple(types or ()), arrived_from))
        return super().read(
            types, arrived_from=arrived_from, keys=keys, buckets=buckets
        )


class World:
    """Everything that a function reads and writes."""

    def __init__(self) -> None:
        self.log = ReadLog()
        self.store = FakeLifecycleStore()
        self.s3 = boto3.client("s3", region_name=REGION)
        self.s3.create_bucket(
            Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self.artifacts = S3Artifacts(self.s3, "models")
        self.sets = S3TrainingSets(self.s3, "models")

    def promote(self, champion: Artifact) -> None:
        """Let an artifact serve."""
        promoted = decided(
            ChampionPromoted,
            NOON_US,
            pipeline=PIPELINE.name,
            run_id="run-before",
            artifact_digest=champion.digest,
            artifact_uri=self.artifacts.store(champion),
            endpoint_name="endpoint",
            config_name="config",
        )
        version = len(self.store.read(PIPELINE.name))
        self.store.append(PIPELINE.name, [promoted], expected_version=version)

    def archive(self, *events: StampedEvent) -> None:
        """Put events into the log, a segment for each type and day of arrival."""
        for event in events:
            day = date.fromordinal(
                date(1970, 1, 1).toordinal() + event.observed_at_us // DAY_US
            )
            name = f"type={event.type}/arrived={day.isoformat()}/1"
            self.log.segments.setdefault(name, []).append(event)

    def kept(self) -> list[str]:
        """Return the keys that the bucket holds."""
        found = self.s3.list_objects_v2(Bucket="models").get("Contents", [])
        return [one["Key"] for one in found]

    def recorded(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what this run recorded."""
        return [
            (r.kind, dict(r.data))
            for r in self.store.read(PIPELINE.name)
            if r.data["run_id"] == RUN
        ]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set what the functions and Powertools read, in an account of its own."""
    for name, value in {
        "ARTIFACT_BUCKET_NAME": "models",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "ENVIRONMENT_NAME": "dev",
        "POWERTOOLS_METRICS_NAMESPACE": "Retrodict",
        "POWERTOOLS_SERVICE_NAME": "test",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def world() -> World:
    """Make an empty world."""
    return World()


@pytest.fixture
def handler(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Import the handler of the function that the test names."""
    name = f"learning_handler_of_{request.param}"
    path = FUNCTIONS / request.param / "handler.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def of(function: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("handler", [function], indirect=True)


def run_of(handler: ModuleType, event: dict[str, Any], *ports: Any) -> Any:
    """Invoke a function as Lambda does, over ports of a test."""
    handler.__dict__["ports"] = lambda: ports
    return handler.lambda_handler(event, Context())


# measure_drift

STEP_US = 20 * MINUTE_US
TIMES_US = [NOON_US + n * STEP_US for n in range(1, DAY_US // STEP_US + 1)]
ROWS = len(TIMES_US)
USUAL = [float(n % 7) for n in range(ROWS)]
CHAMPION = artifact(
    profile=Profile.of(
        dict.fromkeys((*NAMES, SCORE), USUAL), TIMES_US, MODEL.monitor
    ).to_json()
)


def predictions(*, shift: float = 0.0, days: int = 0) -> list[StampedEvent]:
    """Return a day of predictions, their first feature moved by `shift`."""
    found = []
    for number, (at_us, value) in enumerate(zip(TIMES_US, USUAL, strict=True)):
        features = {**dict.fromkeys(NAMES, value), NAMES[0]: value + shift}
        data = {
            "prediction_id": f"{days}-{number}", "pipeline": PIPELINE.name,
            "mode": "stream", "score": value, "artifact_digest": CHAMPION.digest,
            "as_of_us": at_us + days * DAY_US, "features": json.dumps(features),
        }  # fmt: skip
        event = reading(0.0, id=f"{days}-{number}", number=number + 1)
        found.append(
            replace(
                event,
                type=PredictionMade.contract().type,
                time_us=at_us + days * DAY_US,
                observed_at_us=at_us + days * DAY_US,
                data=data,
            )
        )
    return found


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if "_aws" in line]


@of("measure_drift")
def test_before_the_first_champion_nothing_is_measured(
    handler: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.archive(*predictions())

    answer = run_of(
        handler, {"time": DAY_LATER}, world.log, world.store, world.artifacts
    )

    assert answer == {}
    assert told(capsys) == []
    assert world.log.asked == []


@of("measure_drift")
def test_a_calm_window_is_told_column_by_column_and_as_a_share(
    handler: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.promote(CHAMPION)
    world.archive(*predictions())

    answer = run_of(
        handler, {"time": DAY_LATER}, world.log, world.store, world.artifacts
    )

    *columns, whole = told(capsys)
    assert answer == {PIPELINE.name: ROWS}
    assert {(c["feature"], c["statistic"]) for c in columns} == {
        (name, statistic) for name in (*NAMES, SCORE) for statistic in DEFAULTS
    }
    for column in columns:
        assert (column["environment"], column["pipeline"]) == ("dev", PIPELINE.name)
        assert column["DriftRatio"][0] <= 1
        assert column["DriftSampleSize"] == [ROWS]
        assert column["_aws"]["Timestamp"] == DAY_LATER_US // 1000 - 1_000
    assert (whole["DriftWindowRows"], whole["DriftShare"]) == ([ROWS], [0.0])
    assert "feature" not in whole
    assert whole["_aws"]["Timestamp"] == DAY_LATER_US // 1000 - 1_000


@of("measure_drift")
def test_a_feature_that_moved_is_told_by_its_name(
    handler: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.promote(CHAMPION)
    world.archive(*predictions(shift=50.0))

    run_of(handler, {"time": DAY_LATER}, world.log, world.store, world.artifacts)

    *columns, whole = told(capsys)
    rung = {c["feature"] for c in columns if c["DriftRatio"][0] > 1}
    assert rung == {NAMES[0]}
    for column in columns:
        ratio = column["DriftValue"][0] / column["DriftThreshold"][0]
        assert column["DriftRatio"] == [ratio]
    assert whole["DriftShare"] == [1 / (len(NAMES) + 1)]


@of("measure_drift")
def test_a_window_without_rows_is_told_and_has_no_share(
    handler: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.promote(CHAMPION)

    answer = run_of(
        handler, {"time": DAY_LATER}, world.log, world.store, world.artifacts
    )

    (whole,) = told(capsys)
    assert answer == {PIPELINE.name: 0}
    assert whole["DriftWindowRows"] == [0]
    assert "DriftShare" not in whole


@of("measure_drift")
def test_a_window_is_that_of_the_event_and_is_read_from_its_first_day_on(
    handler: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.promote(CHAMPION)
    world.archive(*predictions(), *predictions(shift=50.0, days=1))
    ports = (world.log, world.store, world.artifacts)

    first = run_of(handler, {"time": DAY_LATER}, *ports)
    again = run_of(handler, {"time": "2026-01-06T13:00:00+01:00"}, *ports)

    told_twice = told(capsys)
    half = len(told_twice) // 2
    assert first == again == {PIPELINE.name: ROWS}
    assert told_twice[:half] == told_twice[half:]
    prediction = PredictionMade.contract().type
    assert world.log.asked == [((prediction,), date(2026, 1, 5))] * 2


@of("measure_drift")
def test_a_champion_that_is_not_what_it_was_is_not_measured_by(
    handler: ModuleType, world: World
) -> None:
    world.promote(CHAMPION)
    key = world.artifacts.uri(CHAMPION.digest).removeprefix("s3://models/")
    world.s3.put_object(Bucket="models", Key=key, Body=write_package(artifact()))

    with pytest.raises(ArtifactRefusedError):
        run_of(handler, {"time": DAY_LATER}, world.log, world.store, world.artifacts)


# publish_alarm


class Drift:
    """`CloudWatchDrift` with one alarm and one answer."""

    def __init__(self, answer: float | None = 0.4) -> None:
        self.answer = answer
        self.asked: list[tuple[DriftAlarm, int]] = []

    def ringing(self) -> Iterator[DriftAlarm]:
        dimensions = {"pipeline": PIPELINE.name, "feature": NAMES[0]}
        yield DriftAlarm("still", "DriftRatio", dimensions, NOON_US)

    def about(self, alarm: DriftAlarm, until_us: int) -> dict[str, Any]:
        self.asked.append((alarm, until_us))
        if self.answer is None:
            raise NoMeasurementError(alarm.name)
        return {
            "feature": NAMES[0], "statistic": "psi", "value": self.answer,
            "threshold": 0.2, "sample_size": 70, "window_until_us": NOON_US,
        }  # fmt: skip


def ring(state: str = "ALARM", metric: str = "DriftRatio") -> dict[str, Any]:
    """Return what EventBridge says of an alarm."""
    dimensions = {
        "environment": "dev", "pipeline": PIPELINE.name,
        "feature": NAMES[0], "statistic": "psi",
    }  # fmt: skip
    about = {"name": metric, "namespace": "Retrodict", "dimensions": dimensions}
    return {
        "detail-type": "CloudWatch Alarm State Change",
        "time": "2026-01-05T12:00:07Z",
        "detail": {
            "alarmName": "retrodict-dev-drift",
            "state": {"value": state, "timestamp": "2026-01-05T12:00:00.000+0000"},
            "configuration": {"metrics": [{"metricStat": {"metric": about}}]},
        },
    }


@of("publish_alarm")
def test_an_alarm_that_changes_to_ringing_is_one_event_of_that_moment(
    handler: ModuleType, world: World
) -> None:
    drift, stream = Drift(), FakeIngestStream()

    for _ in range(2):
        assert run_of(handler, ring(), drift, world.store, stream) == {}

    first, second = stream.records
    document = json.loads(first[1])
    assert first == second
    assert first[0] == document["subject"] == PIPELINE.name
    assert document["id"] == f"retrodict-dev-drift/{NOON_US}"
    assert document["data"]["value"] == 0.4
    assert drift.asked[0][0].dimensions["feature"] == NAMES[0]
    assert {until_us for _, until_us in drift.asked} == {NOON_US}


@of("publish_alarm")
@pytest.mark.parametrize(
    "event",
    [ring("OK"), ring("INSUFFICIENT_DATA"), ring(metric="EndpointErrors")],
    ids=["calm again", "silent", "another metric"],
)
def test_what_is_no_ring_of_drift_is_no_event(
    handler: ModuleType, world: World, event: dict[str, Any]
) -> None:
    drift, stream = Drift(), FakeIngestStream()

    run_of(handler, event, drift, world.store, stream)

    assert stream.records == []
    assert drift.asked == []


@of("publish_alarm")
def test_a_ring_whose_measurement_is_not_there_yet_is_tried_again(
    handler: ModuleType, world: World
) -> None:
    stream = FakeIngestStream()

    with pytest.raises(StoreUnavailableError):
        run_of(handler, ring(), Drift(None), world.store, stream)

    assert stream.records == []


@of("publish_alarm")
def test_the_schedule_asks_at_its_own_time_and_twice_is_once(
    handler: ModuleType, world: World
) -> None:
    event = {"detail-type": "Scheduled Event", "time": DAY_LATER}
    drift, stream = Drift(), FakeIngestStream()

    for _ in range(2):
        run_of(handler, event, drift, world.store, stream)

    first, second = stream.records
    assert first == second
    assert json.loads(first[1])["id"] == f"still/{DAY_LATER_US}"
    assert {until_us for _, until_us in drift.asked} == {DAY_LATER_US}


# build_training_set

HOURS = 32 * 24
LAST_US = NOON_US + (HOURS - 1) * HOUR_S * SECOND_US


def series() -> list[StampedEvent]:
    """Return hourly readings of one sensor, a month of them."""
    random = Random(1)
    return [
        reading(
            20 + 3 * (n % 24 > 7) + random.gauss(0, 0.5),
            at_s=n * HOUR_S,
            id=str(n),
            number=n + 1,
        )
        for n in range(HOURS)
    ]


BUILD = {
    "pipeline": PIPELINE.name, "run_id": RUN, "until_us": LAST_US,
    "options": '{"n_trees":50}',
}  # fmt: skip


def build(handler: ModuleType, world: World, **more: Any) -> dict[str, Any]:
    ports = (world.log, world.store, world.sets)
    answer: dict[str, Any] = run_of(handler, {**BUILD, **more}, *ports)
    return answer


@of("build_training_set")
def test_rows_are_frozen_recorded_and_named_to_the_job(
    handler: ModuleType, world: World
) -> None:
    world.archive(*series())

    answer = build(handler, world)

    kept = world.sets.load(answer["training_set_uri"], answer["training_set"])
    assert (answer["accepted"], answer["reason"]) == (True, "")
    assert answer["job_name"] == f"dev-sensor-anomaly-{RUN}"
    assert answer["output_uri"] == f"s3://models/training-jobs/{RUN}"
    assert answer["hyperparameters"] == {
        "pipeline": PIPELINE.name,
        "run_id": RUN,
        "training_set": answer["training_set"],
        "seed": "1",
        "options": BUILD["options"],
    }
    [(kind, data)] = world.recorded()
    assert kind == "training_set_built"
    assert data["training_set"] == kept.digest
    assert (data["fit_rows"], data["held_out_rows"], data["judging_rows"]) == (
        len(kept.fit), len(kept.held_out), len(kept.judging),
    )  # fmt: skip
    assert data["last_position"] == place(HOURS)


@of("build_training_set")
def test_a_build_that_is_retried_keeps_and_records_the_same_once(
    handler: ModuleType, world: World
) -> None:
    world.archive(*series())
    first = build(handler, world)
    kept, recorded = world.kept(), world.recorded()
    late = replace(series()[-1], id="later", observed_at_us=LAST_US + 1)
    world.archive(replace(late, position=place(HOURS + 1)))

    assert build(handler, world) == first
    assert world.kept() == kept
    assert world.recorded() == recorded
    assert len(kept) == 4


@of("build_training_set")
def test_a_build_that_broke_before_recording_is_healed_by_the_next(
    handler: ModuleType, world: World
) -> None:
    world.archive(*series())
    first = build(handler, world)
    world.store.streams[PIPELINE.name].pop()

    assert build(handler, world) == first
    assert [kind for kind, _ in world.recorded()] == ["training_set_built"]


@of("build_training_set")
def test_rows_that_cannot_carry_a_model_are_refused_once_and_nothing_is_kept(
    handler: ModuleType, world: World
) -> None:
    world.archive(*series()[:100])

    first, again = build(handler, world), build(handler, world)

    assert first == again
    assert set(first) == {"accepted", "reason"}
    assert first["accepted"] is False
    [(kind, data)] = world.recorded()
    assert (kind, data["gate"], data["reason"]) == (
        "training_set_refused", "min_rows", first["reason"],
    )  # fmt: skip
    assert world.kept() == []


@of("build_training_set")
def test_the_cut_of_the_request_is_the_cut_of_the_rows(
    handler: ModuleType, world: World
) -> None:
    world.archive(*series())

    answer = build(handler, world, until_us=LAST_US - DAY_US)

    found = world.sets.load(answer["training_set_uri"], answer["training_set"])
    assert found.until_us == LAST_US - DAY_US
    assert found.last_position == place(HOURS - 24)


# judge_candidate


def row(number: int, first: float) -> Row:
    rest = (0.0,) * (len(NAMES) - 1)
    return Row("s-1", NOON_US + number, place(number), (first, *rest))


ANOMALOUS = [JudgedRow(row(n, LIMIT + 1), True, INJECTED) for n in range(5)]  # noqa: FBT003
ORDINARY = [JudgedRow(row(100 + n, 0.0), False, ASSUMED) for n in range(20)]  # noqa: FBT003
FROZEN = TrainingSet(
    pipeline=PIPELINE.name,
    definition=PIPELINE.trained_on.digest,
    features=NAMES,
    from_us=NOON_US,
    split_us=NOON_US + 1,
    until_us=NOON_US + 200,
    last_position=place(200),
    fit=(),
    held_out=tuple(j.row for j in ORDINARY),
    judging=(*ANOMALOUS, *ORDINARY),
)
BLIND = {"threshold": 0.1}
"""An artifact that alerts on everything."""


def fitted(**changes: Any) -> Artifact:
    return artifact(**{"training_set": FROZEN.digest, **changes})


def judged(
    handler: ModuleType, world: World, candidate: Artifact, **more: Any
) -> dict[str, Any]:
    """Judge what a training job left."""
    key = f"training-jobs/{RUN}/output/model.tar.gz"
    world.s3.put_object(Bucket="models", Key=key, Body=write_package(candidate))
    request = {
        "pipeline": PIPELINE.name,
        "run_id": RUN,
        "until_us": NOON_US,
        "candidate_uri": f"s3://models/{key}",
        "training_set": FROZEN.digest,
        "training_set_uri": world.sets.store(FROZEN),
        **more,
    }
    ports = (world.store, world.artifacts, world.sets)
    answer: dict[str, Any] = run_of(handler, request, *ports)
    return answer


def artifact_keys(world: World) -> list[str]:
    return [key for key in world.kept() if key.startswith("artifacts/")]


@of("judge_candidate")
def test_a_candidate_that_passes_is_kept_under_its_digest_and_recorded(
    handler: ModuleType, world: World
) -> None:
    candidate = fitted()

    answer = judged(handler, world, candidate)

    assert answer["passed"] is True
    assert answer["artifact_digest"] == candidate.digest
    assert world.artifacts.read(answer["artifact_uri"], candidate.digest) == candidate
    [(kind, data)] = world.recorded()
    assert kind == "candidate_judged"
    assert (data["passed"], data["roc_auc"], data["basis"]) == (True, 1.0, "injected")
    assert data["champion_digest"] is None
    assert data["reason"] == answer["reason"]


@of("judge_candidate")
def test_a_verdict_that_is_asked_for_again_is_the_same_and_recorded_once(
    handler: ModuleType, world: World
) -> None:
    world.promote(fitted(seed=2))
    first = judged(handler, world, fitted())
    recorded, kept = world.recorded(), world.kept()

    assert judged(handler, world, fitted()) == first
    assert world.recorded() == recorded
    assert world.kept() == kept


@of("judge_candidate")
def test_a_candidate_that_fails_a_gate_is_recorded_with_the_reason(
    handler: ModuleType, world: World
) -> None:
    answer = judged(handler, world, fitted(**BLIND))

    assert answer["passed"] is False
    assert "100.00% of ordinary rows alert" in answer["reason"]
    [(_, data)] = world.recorded()
    assert (data["passed"], data["alert_rate"]) == (False, 1.0)


@of("judge_candidate")
def test_the_champion_is_judged_on_the_same_rows(
    handler: ModuleType, world: World
) -> None:
    champion = fitted(seed=2)
    world.promote(champion)

    judged(handler, world, fitted())

    [(_, data)] = world.recorded()
    assert data["champion_digest"] == champion.digest
    assert (data["champion_roc_auc"], data["agreement"]) == (1.0, 1.0)


@of("judge_candidate")
def test_a_champion_that_cannot_read_the_rows_is_named_and_not_compared(
    handler: ModuleType, world: World
) -> None:
    champion = fitted(definition="0" * 64)
    world.promote(champion)

    answer = judged(handler, world, fitted())

    assert answer["passed"] is True
    [(_, data)] = world.recorded()
    assert data["champion_digest"] == champion.digest
    assert (data["champion_roc_auc"], data["agreement"]) == (None, None)


@of("judge_candidate")
@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (artifact, ArtifactRefusedError, "fitted on"),
        (lambda: fitted(run_id="run-other"), ArtifactRefusedError, "is of run-other"),
        (lambda: fitted(definition="0" * 64), IncompatibleArtifactError, "definition"),
        (lambda: fitted(pipeline="other"), IncompatibleArtifactError, "belongs to"),
    ],
    ids=["other rows", "another run", "another definition", "another pipeline"],
)
def test_what_is_no_candidate_of_this_run_is_neither_kept_nor_recorded(
    handler: ModuleType,
    world: World,
    make: Callable[[], Artifact],
    error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        judged(handler, world, make())

    assert artifact_keys(world) == []
    assert world.recorded() == []


@of("judge_candidate")
def test_rows_that_were_changed_judge_nobody(handler: ModuleType, world: World) -> None:
    other = replace(FROZEN, judging=FROZEN.judging[:-1])

    with pytest.raises(TrainingSetChangedError, match="not sha256:"):
        judged(handler, world, fitted(), training_set_uri=world.sets.store(other))

    assert artifact_keys(world) == []
    assert world.recorded() == []


@of("judge_candidate")
def test_a_job_that_left_nothing_is_tried_again(
    handler: ModuleType, world: World
) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        judged(handler, world, fitted(), candidate_uri="s3://models/none")

    assert world.recorded() == []
