"""An artifact takes over only if it is what was judged, and is seen serving.

The functions run over ports in memory, S3 in moto, and a SageMaker in memory that says
what a test lets it say.
"""

import base64
import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.artifact import Artifact, write_package
from retrodict.errors import (
    DecisionRefusedError,
    EndpointBusyError,
    ProjectionNotVerifiedError,
    StoreUnavailableError,
    StreamUnavailableError,
    WrongDigestError,
)
from retrodict.features import features
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.lifecycle import (
    CandidateJudged,
    Decided,
    ProjectionVerified,
    Recorded,
    RetrainingStarted,
    decided,
    replay,
    run_id_of,
)
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import KeyedBatch
from retrodict.rollout import Serving, outcome, probe_of, run_name
from retrodict.vocabulary import last, mean
from retrodict_aws.dynamodb_lifecycle_store import to_item
from retrodict_aws.kinesis_event_stream import encode
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.sagemaker_endpoints import SageMakerEndpoints
from retrodict_aws.sagemaker_registry import SageMakerRegistry, properties

from tests.events import NOON_US, place, reading
from tests.fakes import FakeIngestStream, FakeLifecycleStore, FakeWorkflow

FUNCTIONS = Path(__file__).parents[2] / "functions"
PIPELINE = load_pipelines()["sensor_anomaly"]
RUN = "run-0123456789abcdef"
ENDPOINT = "retrodict-dev-sensor-anomaly"
CONFIG = run_name("dev", "sensor_anomaly", RUN)
REGION = "eu-west-1"
pytestmark = pytest.mark.filterwarnings("ignore:This metric doesn't meet:UserWarning")
STUMP = Tree((0, LEAF, LEAF), (0.5, 1.0, 2.0), (1, 0, 0), (2, 0, 0))


def artifact(threshold: float = 0.6, **changes: Any) -> Artifact:
    assert PIPELINE.model is not None
    names = PIPELINE.model.names
    return replace(
        Artifact(
            pipeline=PIPELINE.name,
            feature_set=PIPELINE.trained_on.name,
            definition=PIPELINE.trained_on.digest,
            features=names,
            model=IsolationForest(len(names), 2.0, (STUMP,)).to_json(),
            threshold=threshold,
            alert_budget=0.01,
            training_set=f"sha256:{'1' * 64}",
            code=f"sha256:{'2' * 64}",
            seed=1,
            run_id=RUN,
            metrics={"roc_auc": 0.97, "alerts": {"rate": 0.01}, "note": "{x}"},
            card={"summary": "finds what is odd"},
        ),
        **changes,
    )


CANDIDATE = artifact()
BEFORE = artifact(0.7)


class FakeSageMaker:
    """A client of SageMaker and of its runtime, with the answers of a test."""

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self.answers: dict[str, str | Exception] = {}
        self.packages: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.asked: list[dict[str, Any]] = []

    def serve(self, config: str, digest: str, *, status: str = "InService") -> None:
        self.endpoints[ENDPOINT] = {
            "EndpointStatus": status,
            "EndpointConfigName": config,
        }
        self.configs[config] = config
        self.models[config] = digest
        self.answers[ENDPOINT] = digest

    def describe_endpoint(self, EndpointName: str) -> Any:  # noqa: N803
        return found(self.endpoints, EndpointName)

    def describe_endpoint_config(self, EndpointConfigName: str) -> Any:  # noqa: N803
        model = found(self.configs, EndpointConfigName)
        return {"ProductionVariants": [{"ModelName": model}]}

    def describe_model(self, ModelName: str) -> dict[str, Any]:  # noqa: N803
        digest = found(self.models, ModelName)
        return {"PrimaryContainer": {"Environment": {"ARTIFACT_DIGEST": digest}}}

    def delete_endpoint(self, EndpointName: str) -> dict[str, Any]:  # noqa: N803
        found(self.endpoints, EndpointName)
        self.endpoints[EndpointName] = {"EndpointStatus": "Deleting"}
        self.deleted.append(EndpointName)
        return {}

    def delete_endpoint_config(self, EndpointConfigName: str) -> Any:  # noqa: N803
        found(self.configs, EndpointConfigName)
        self.deleted.append(self.configs.pop(EndpointConfigName))
        return {}

    def delete_model(self, ModelName: str) -> dict[str, Any]:  # noqa: N803
        found(self.models, ModelName)
        del self.models[ModelName]
        return {}

    def invoke_endpoint(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        answer = self.answers[asked["EndpointName"]]
        if isinstance(answer, Exception):
            raise answer
        body = json.dumps({"predictions": [{"artifact_digest": answer}]})
        return {"Body": io.BytesIO(body.encode())}

    def create_model_package(self, **asked: Any) -> dict[str, Any]:
        self.packages.append(asked)
        return {"ModelPackageArn": f"arn:aws:sagemaker:package/{len(self.packages)}"}

    def list_model_packages(self, **_: Any) -> dict[str, Any]:
        shown = [
            {**p, "ModelPackageArn": f"arn:aws:sagemaker:package/{n}"}
            for n, p in enumerate(self.packages, start=1)
        ]
        return {"ModelPackageSummaryList": shown[::-1]}


def refusal(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


def found(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise refusal("ValidationException", f'Could not find "{name}".')
    return things[name]


class World:
    """Everything that a function reads and writes."""

    def __init__(self) -> None:
        self.store = FakeLifecycleStore()
        self.sagemaker = FakeSageMaker()
        self.endpoints = SageMakerEndpoints(self.sagemaker, self.sagemaker)
        self.s3 = boto3.client("s3", region_name=REGION)
        self.s3.create_bucket(
            Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self.artifacts = S3Artifacts(self.s3, "models")
        self.registry = SageMakerRegistry(self.sagemaker, self.s3, ENDPOINT)

    def request(self, artifact: Artifact = CANDIDATE, **more: Any) -> dict[str, Any]:
        return {
            "pipeline": PIPELINE.name,
            "run_id": RUN,
            "until_us": NOON_US,
            "artifact_digest": artifact.digest,
            "artifact_uri": self.artifacts.store(artifact),
            **more,
        }

    def judged(self, artifact: Artifact = CANDIDATE) -> None:
        """Record a run that trained and whose candidate passed."""
        about = {"pipeline": PIPELINE.name, "run_id": RUN}
        started = decided(
            RetrainingStarted,
            NOON_US,
            "ask-1",
            **about,
            trigger="drift",
            reason="psi",
            until_us=NOON_US,
            options="{}",
        )
        passed = decided(
            CandidateJudged,
            NOON_US,
            **about,
            artifact_digest=artifact.digest,
            champion_digest=None,
            passed=True,
            reason="better",
            basis="injected",
            roc_auc=0.9,
            pr_auc=0.5,
            alert_rate=0.01,
        )
        self.record(started, passed)

    def record(self, *decisions: Decided) -> None:
        version = len(self.store.read(PIPELINE.name))
        self.store.append(PIPELINE.name, decisions, expected_version=version)

    @property
    def kinds(self) -> list[str]:
        return [recorded.kind for recorded in self.store.read(PIPELINE.name)]

    @property
    def last(self) -> Recorded:
        return self.store.read(PIPELINE.name)[-1]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set what the functions and Powertools read, in an account of its own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "ENVIRONMENT_NAME": "dev",
        "INGEST_STREAM_NAME": "ingest",
        "ONLINE_STORE_TABLE_NAME": "online",
        "POWERTOOLS_METRICS_NAMESPACE": "Retrodict",
        "POWERTOOLS_SERVICE_NAME": "test",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "SERVING_IMAGE_URI": "1.dkr.ecr/image@sha256:1",
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
    name = f"handler_of_{request.param}"
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


def start(handler: ModuleType, world: World, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = handler.handle(
        world.request(**more), world.store, world.artifacts, world.endpoints
    )
    return answer


def verify(handler: ModuleType, world: World, **more: Any) -> dict[str, Any]:
    names = {"endpoint_name": ENDPOINT, "config_name": CONFIG, "refusal": {}}
    return start(handler, world, **{**names, **more})


def rolled(world: World, *, run_id: str = RUN, config: str = CONFIG) -> None:
    """Record that a rollout of the candidate started."""
    data = {
        "pipeline": PIPELINE.name,
        "run_id": run_id,
        "artifact_digest": CANDIDATE.digest,
        "endpoint_name": ENDPOINT,
        "config_name": config,
    }
    world.record(Decided("rollout_started", NOON_US, data))


# start_rollout


@of("start_rollout")
def test_the_first_rollout_creates_an_endpoint_of_the_verified_artifact(
    handler: ModuleType, world: World
) -> None:
    world.judged()

    answer = start(handler, world)

    assert answer["endpoint_name"] == ENDPOINT
    assert answer["config_name"] == answer["model_name"] == CONFIG
    assert (answer["exists"], answer["asynchronous"]["exists"]) == (False, False)
    assert answer["environment"] == {
        "PIPELINE": PIPELINE.name,
        "ARTIFACT_DIGEST": CANDIDATE.digest,
        "ENVIRONMENT_NAME": "dev",
        "INGEST_STREAM_NAME": "ingest",
        "ONLINE_STORE_TABLE_NAME": "online",
    }
    assert world.last.kind == "rollout_started"
    assert world.last.data["config_name"] == CONFIG


@of("start_rollout")
def test_an_update_is_a_canary_that_alarms_roll_back(
    handler: ModuleType, world: World
) -> None:
    world.judged()
    world.sagemaker.serve("dev-before", BEFORE.digest)

    answer = start(handler, world)

    assert PIPELINE.model is not None
    canary = PIPELINE.model.rollout
    routing = answer["deployment_config"]["BlueGreenUpdatePolicy"][
        "TrafficRoutingConfiguration"
    ]
    alarms = answer["deployment_config"]["AutoRollbackConfiguration"]["Alarms"]
    assert answer["exists"] is True
    assert routing["Type"] == "CANARY"
    assert routing["CanarySize"]["Value"] == canary.percent
    assert routing["WaitIntervalInSeconds"] == canary.bake_s
    assert [alarm["AlarmName"] for alarm in alarms] == [
        f"{ENDPOINT}-endpoint-errors",
        f"{ENDPOINT}-endpoint-latency",
        f"{ENDPOINT}-decision-rate",
    ]


@of("start_rollout")
def test_a_retry_gives_the_same_answer_and_records_nothing(
    handler: ModuleType, world: World
) -> None:
    world.judged()
    first = start(handler, world)
    recorded = world.kinds

    assert start(handler, world) == first
    assert world.kinds == recorded


@of("start_rollout")
def test_an_artifact_that_is_not_what_its_digest_says_is_refused_and_told(
    handler: ModuleType, world: World
) -> None:
    world.judged()
    request = world.request()
    _, _, key = request["artifact_uri"].partition("s3://models/")
    world.s3.put_object(Bucket="models", Key=key, Body=write_package(BEFORE))

    with pytest.raises(WrongDigestError):
        handler.handle(request, world.store, world.artifacts, world.endpoints)

    assert world.last.kind == "rollout_failed"
    assert "not what was registered" in world.last.data["reason"]
    assert "rollout_started" not in world.kinds


@of("start_rollout")
def test_an_artifact_of_another_feature_definition_is_refused_and_told(
    handler: ModuleType, world: World
) -> None:
    other = artifact(definition="0" * 64)
    world.judged(other)

    with pytest.raises(Exception, match="feature definition"):
        start(handler, world, artifact=other)

    assert world.last.kind == "rollout_failed"


@features(Reading, lateness="10m", max_rate="1/s")
class Changed:
    """The features of the next deployment."""

    mean_3 = mean(Reading.value, last(3))


@of("start_rollout")
def test_a_model_on_a_projection_that_is_not_verified_is_refused_and_told(
    handler: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: Any = Changed
    assert PIPELINE.model is not None
    during = Pipeline(
        PIPELINE.name, features=[Changed], retiring=[Sensor],
        model=replace(PIPELINE.model, features=[names.mean_3]),
    )  # fmt: skip
    monkeypatch.setitem(
        handler.__dict__, "load_pipelines", lambda: {during.name: during}
    )
    changed = artifact(
        feature_set="Changed",
        definition=during.trained_on.digest,
        features=("mean_3",),
        model=IsolationForest(1, 2.0, (STUMP,)).to_json(),
    )
    world.judged(changed)

    with pytest.raises(ProjectionNotVerifiedError, match="rebuild online --verify"):
        start(handler, world, artifact=changed)
    refused = world.last
    verified = decided(
        ProjectionVerified, NOON_US, pipeline=during.name, feature_set="Changed",
        definition=during.trained_on.digest, items=1, digest="0" * 64, position="1",
    )  # fmt: skip
    world.record(verified)
    start(handler, world, artifact=changed, run_id="by-hand-1")

    assert refused.kind == "rollout_failed"
    assert "has not verified the projection of 'Changed'" in refused.data["reason"]
    assert world.last.kind == "rollout_started"


@of("start_rollout")
def test_a_candidate_that_did_not_pass_is_refused_and_told(
    handler: ModuleType, world: World
) -> None:
    world.judged(BEFORE)

    with pytest.raises(DecisionRefusedError):
        start(handler, world)

    assert world.last.kind == "rollout_failed"
    assert "has not passed judgement" in world.last.data["reason"]


@of("start_rollout")
def test_a_person_may_roll_out_any_artifact_that_is_whole(
    handler: ModuleType, world: World
) -> None:
    answer = start(handler, world, run_id="by-hand-1")

    assert answer["config_name"] == "dev-sensor-anomaly-by-hand-1"
    assert world.kinds == ["rollout_started"]


@of("start_rollout")
@pytest.mark.parametrize("name", [ENDPOINT, f"{ENDPOINT}-async"])
@pytest.mark.parametrize(
    "status", ["Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"]
)
def test_an_endpoint_that_is_changing_is_waited_for(
    handler: ModuleType, world: World, status: str, name: str
) -> None:
    world.judged()
    world.sagemaker.endpoints[name] = {"EndpointStatus": status}

    with pytest.raises(EndpointBusyError, match=status):
        start(handler, world)

    assert "rollout_started" not in world.kinds


@of("start_rollout")
def test_a_failed_endpoint_is_deleted_and_made_again(
    handler: ModuleType, world: World
) -> None:
    world.judged()
    world.sagemaker.endpoints[ENDPOINT] = {"EndpointStatus": "Failed"}

    with pytest.raises(EndpointBusyError):
        start(handler, world)
    assert world.sagemaker.deleted == [ENDPOINT]
    del world.sagemaker.endpoints[ENDPOINT]

    assert start(handler, world)["exists"] is False


# verify_rollout


@of("verify_rollout")
def test_what_is_seen_serving_is_the_champion(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)

    answer = verify(handler, world)

    champion = replay(world.store.read(PIPELINE.name)).champion
    (asked,) = world.sagemaker.asked
    (instance,) = json.loads(asked["Body"])["instances"]
    assert answer == {"outcome": "promoted", "serving_digest": CANDIDATE.digest}
    assert champion is not None
    assert champion.artifact_digest == CANDIDATE.digest
    assert champion.config_name == CONFIG
    assert asked["CustomAttributes"] == "retrodict-mode=probe"
    assert instance["features"].keys() == set(CANDIDATE.features)


@of("verify_rollout")
def test_verifying_again_tells_the_outcome_again_and_records_it_once(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)

    assert verify(handler, world) == verify(handler, world)
    assert world.kinds == ["rollout_started", "champion_promoted"]


@of("verify_rollout")
def test_another_configuration_in_service_is_a_rollback(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve("dev-before", BEFORE.digest)

    answer = verify(handler, world)

    assert answer == {"outcome": "rolled_back", "serving_digest": BEFORE.digest}
    assert world.last.kind == "rollout_rolled_back"
    assert world.last.data["serving_digest"] == BEFORE.digest
    assert "dev-before serves again" in world.last.data["reason"]


@of("verify_rollout")
def test_an_update_that_sagemaker_refused_is_no_rollback(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve("dev-before", BEFORE.digest)
    said = {"Error": "SageMaker.SageMakerException", "Cause": "no capacity"}

    answer = verify(handler, world, refusal=said)

    assert answer["outcome"] == "failed"
    assert world.last.kind == "rollout_failed"
    assert world.last.data["reason"] == "the update was refused: no capacity"


@of("verify_rollout")
def test_an_update_that_took_in_spite_of_a_lost_answer_is_a_promotion(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)

    answer = verify(handler, world, refusal={"Error": "E", "Cause": "in progress"})

    assert answer["outcome"] == "promoted"


@of("verify_rollout")
@pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed"])
def test_an_endpoint_that_is_not_in_service_has_failed(
    handler: ModuleType, world: World, status: str
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest, status=status)
    world.sagemaker.endpoints[ENDPOINT]["FailureReason"] = "out of memory"

    assert verify(handler, world)["outcome"] == "failed"
    assert world.last.data["reason"] == f"the endpoint is {status}: out of memory"


@of("verify_rollout")
def test_an_endpoint_that_is_not_there_has_failed(
    handler: ModuleType, world: World
) -> None:
    rolled(world)

    answer = verify(handler, world, refusal={"Error": "E", "Cause": "limit exceeded"})

    assert answer == {"outcome": "failed", "serving_digest": None}
    assert world.last.data["reason"] == "the endpoint is not there: limit exceeded"


@of("verify_rollout")
@pytest.mark.parametrize(
    ("declared", "answering"),
    [(BEFORE.digest, CANDIDATE.digest), (CANDIDATE.digest, BEFORE.digest)],
    ids=["the model is of another", "another answers"],
)
def test_the_new_configuration_with_another_artifact_is_no_promotion(
    handler: ModuleType, world: World, declared: str, answering: str
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, declared)
    world.sagemaker.answers[ENDPOINT] = answering

    assert verify(handler, world)["outcome"] == "failed"
    assert BEFORE.digest in world.last.data["reason"]


@of("verify_rollout")
def test_a_model_that_answers_no_probe_is_no_promotion(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)
    world.sagemaker.answers[ENDPOINT] = refusal("ModelError")

    answer = verify(handler, world)

    assert answer == {"outcome": "failed", "serving_digest": None}
    assert "does not answer a probe" in world.last.data["reason"]


@of("verify_rollout")
def test_a_way_to_the_endpoint_that_is_blocked_decides_nothing(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)
    world.sagemaker.answers[ENDPOINT] = refusal("ThrottlingException")

    with pytest.raises(StoreUnavailableError):
        verify(handler, world)

    assert world.kinds == ["rollout_started"]


@of("verify_rollout")
def test_what_is_still_changing_decides_nothing(
    handler: ModuleType, world: World
) -> None:
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest, status="Updating")

    with pytest.raises(EndpointBusyError):
        verify(handler, world)

    assert world.kinds == ["rollout_started"]


@of("verify_rollout")
def test_long_superseded_configurations_go_and_those_in_use_stay(
    handler: ModuleType, world: World
) -> None:
    for number in range(6):
        rolled(world, run_id=f"by-hand-{number}", config=f"old-{number}")
        world.sagemaker.configs[f"old-{number}"] = f"old-{number}"
        world.sagemaker.models[f"old-{number}"] = BEFORE.digest
    rolled(world)
    world.sagemaker.serve(CONFIG, CANDIDATE.digest)
    world.sagemaker.endpoints[f"{ENDPOINT}-async"] = {
        "EndpointStatus": "InService",
        "EndpointConfigName": "old-1-async",
    }

    verify(handler, world)

    left = {"old-1", "old-4", "old-5", CONFIG}
    assert world.sagemaker.configs.keys() == left
    assert world.sagemaker.models.keys() == left


def test_a_probe_is_an_ordinary_row_unless_the_card_names_one() -> None:
    named = dict.fromkeys(CANDIDATE.features, 0.25)
    column = {
        "edges": [0.0],
        "counts": [1, 1],
        "quantiles": [1.0, 2.0, 4.0],
        "std": 1.0,
        "thresholds": {"psi": 0.2, "ks": 0.1, "wasserstein": 0.1},
    }
    profiled = artifact(profile={CANDIDATE.features[0]: column})

    assert probe_of(artifact(card={"probe": named})) == named
    assert probe_of(profiled)[CANDIDATE.features[0]] == 2.0
    assert set(probe_of(profiled)) == set(CANDIDATE.features)


def test_an_outcome_is_recorded_once_whatever_serves_later() -> None:
    lifecycle = replay(
        [Recorded(1, "rollout_failed", NOON_US, {"run_id": RUN, "reason": "-"})]
    )

    assert outcome({"run_id": RUN}, Serving("InService"), lifecycle) is None


# register_candidate


@of("register_candidate")
def test_a_candidate_that_passed_is_registered_with_figures_digests_and_card(
    handler: ModuleType, world: World
) -> None:
    world.judged()

    arn = handler.handle(world.request(), world.store, world.artifacts, world.registry)

    (package,) = world.sagemaker.packages
    shown = package["CustomerMetadataProperties"]
    statistics = package["ModelMetrics"]["ModelQuality"]["Statistics"]
    key = statistics["S3Uri"].removeprefix("s3://models/")
    card = json.loads(world.s3.get_object(Bucket="models", Key=key)["Body"].read())
    assert package["ModelPackageGroupName"] == ENDPOINT
    assert package["ModelApprovalStatus"] == "Approved"
    assert shown["artifact_digest"] == CANDIDATE.digest
    assert shown["training_set"] == CANDIDATE.training_set
    assert shown["metric.roc_auc"] == "0.97"
    assert shown["metric.alerts.rate"] == "0.01"
    assert card["card"] == {"summary": "finds what is odd"}
    assert card["metrics"]["roc_auc"] == 0.97
    assert world.last.kind == "candidate_registered"
    assert world.last.data["model_package_arn"] == arn


@of("register_candidate")
def test_a_step_that_is_retried_registers_nothing_twice(
    handler: ModuleType, world: World
) -> None:
    world.judged()
    ports = (world.store, world.artifacts, world.registry)

    first = handler.handle(world.request(), *ports)
    again = handler.handle(world.request(), *ports)
    world.store.streams[PIPELINE.name].pop()  # as if it broke before recording
    after_a_crash = handler.handle(world.request(), *ports)

    assert first == again == after_a_crash
    assert len(world.sagemaker.packages) == 1
    assert world.kinds.count("candidate_registered") == 1


@of("register_candidate")
def test_what_did_not_pass_is_not_registered(handler: ModuleType, world: World) -> None:
    world.judged(BEFORE)

    with pytest.raises(DecisionRefusedError):
        handler.handle(world.request(), world.store, world.artifacts, world.registry)

    assert world.sagemaker.packages == []


def test_a_property_is_short_and_has_only_what_sagemaker_takes() -> None:
    many = {f"metric {n} {{}}": n for n in range(80)}

    shown = properties(artifact(metrics=many))

    assert len(shown) == 50
    assert all(0 < len(value) <= 256 for value in shown.values())
    assert not any(c in "{}\"'" for text in (*shown, *shown.values()) for c in text)


# record_failure


@of("record_failure")
def test_a_step_that_broke_is_recorded_once(handler: ModuleType, world: World) -> None:
    world.judged()
    request = world.request(
        state="RegisterCandidate",
        failure={"Error": "KeyError", "Cause": '{"errorMessage": "\'x\'"}'},
    )

    handler.handle(request, world.store)
    handler.handle(request, world.store)

    assert world.kinds.count("run_failed") == 1
    assert world.last.data["state"] == "RegisterCandidate"
    assert (world.last.data["error"], world.last.data["cause"]) == ("KeyError", "'x'")


# decide_retraining


def asking(number: int = 1, pipeline: str = PIPELINE.name) -> dict[str, Any]:
    """Return a Kinesis record with a reading and a request for retraining."""
    stamps: dict[str, Any] = {
        "key": pipeline,
        "source": "urn:retrodict:command",
        "type": "retrodict.retraining.requested",
        "position": place(number),
        "data": {
            "pipeline": pipeline,
            "trigger": "person",
            "reason": "first model",
            "options": "{}",
        },
    }
    request = replace(reading(0.0, id=f"ask-{number}"), **stamps)
    return kinesis(KeyedBatch(pipeline, [request]), number)


def kinesis(batch: KeyedBatch, number: int) -> dict[str, Any]:
    (data,) = encode(batch)
    return {
        "eventID": f"shardId-000000000000:{number}",
        "kinesis": {
            "sequenceNumber": str(number),
            "partitionKey": batch.key,
            "approximateArrivalTimestamp": NOON_US / 1e6,
            "data": base64.b64encode(data).decode(),
        },
    }


class Context:
    """What Powertools reads of a Lambda context."""

    function_name = "f"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:f"
    aws_request_id = "1"


def invoke(handler: ModuleType, records: list[dict[str, Any]], *ports: Any) -> Any:
    vars(handler)["ports"] = lambda: ports if len(ports) > 1 else ports[0]
    return handler.lambda_handler({"Records": records}, Context())


@of("decide_retraining")
def test_a_request_starts_a_run_and_readings_start_nothing(
    handler: ModuleType, world: World
) -> None:
    workflow = FakeWorkflow()
    readings = kinesis(KeyedBatch("s-1", [reading(1.0)]), 1)

    answer = invoke(handler, [readings, asking(2)], world.store, workflow)

    run_id = run_id_of(PIPELINE.name, "ask-2")
    assert answer == {"batchItemFailures": []}
    assert world.kinds == ["retraining_started"]
    assert workflow.started == {
        run_id: {
            "pipeline": PIPELINE.name,
            "run_id": run_id,
            "until_us": NOON_US,
            "options": "{}",
        }
    }


@of("decide_retraining")
def test_a_request_delivered_twice_is_one_decision_and_one_run(
    handler: ModuleType, world: World
) -> None:
    workflow = FakeWorkflow()

    invoke(handler, [asking(), asking()], world.store, workflow)
    invoke(handler, [asking()], world.store, workflow)

    assert world.kinds == ["retraining_started"]
    assert len(workflow.started) == 1


@of("decide_retraining")
def test_a_run_that_could_not_be_started_is_started_on_redelivery(
    handler: ModuleType, world: World
) -> None:
    class Broken(FakeWorkflow):
        def start(self, *_: Any) -> None:
            raise StoreUnavailableError("Step Functions does not answer")

    refused = invoke(handler, [asking(7)], world.store, Broken())
    workflow = FakeWorkflow()
    answer = invoke(handler, [asking(7)], world.store, workflow)

    assert refused == {"batchItemFailures": [{"itemIdentifier": "7"}]}
    assert answer == {"batchItemFailures": []}
    assert world.kinds == ["retraining_started"]
    assert [*workflow.started] == [run_id_of(PIPELINE.name, "ask-7")]


@of("decide_retraining")
def test_a_name_that_no_pipeline_has_is_declined_in_its_own_stream(
    handler: ModuleType, world: World
) -> None:
    workflow = FakeWorkflow()

    invoke(handler, [asking(pipeline="typo")], world.store, workflow)

    (said,) = world.store.read("typo")
    assert said.data["reason_code"] == "no_model"
    assert workflow.started == {}


# publish_decisions


def inserted(number: int) -> dict[str, Any]:
    """Return a DynamoDB stream record of a decision."""
    event = Recorded(
        number, "rollout_failed", NOON_US, {"run_id": RUN, "reason": "-"}, "cause"
    )
    return {
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": str(number * 100),
            "NewImage": to_item(PIPELINE.name, event),
        },
    }


@of("publish_decisions")
def test_decisions_are_published_in_order_under_the_pipelines_key(
    handler: ModuleType,
) -> None:
    stream = FakeIngestStream()

    answer = invoke(handler, [inserted(1), inserted(2)], stream)

    documents = [json.loads(data) for _, data in stream.records]
    assert answer == {"batchItemFailures": []}
    assert [key for key, _ in stream.records] == [PIPELINE.name] * 2
    assert [d["id"] for d in documents] == ["sensor_anomaly-1", "sensor_anomaly-2"]
    assert documents[0]["type"] == "retrodict.lifecycle.rollout_failed"


@of("publish_decisions")
def test_a_stream_that_refuses_is_asked_again_from_the_first_that_is_missing(
    handler: ModuleType,
) -> None:
    class Full(FakeIngestStream):
        def put(self, records: Any) -> int:
            if self.records:
                raise StreamUnavailableError("full")
            return super().put(records)

    stream = Full()

    answer = invoke(handler, [inserted(1), inserted(2), inserted(3)], stream)

    assert answer == {"batchItemFailures": [{"itemIdentifier": "200"}]}
    assert len(stream.records) == 1


@of("publish_decisions")
def test_an_edit_of_the_table_is_no_decision_and_told_without_its_content(
    handler: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    stream = FakeIngestStream()
    edited = {**inserted(1), "eventName": "MODIFY"}
    edited["dynamodb"]["Keys"] = {"version": {"N": "1"}}

    assert invoke(handler, [edited], stream) == {"batchItemFailures": []}
    assert stream.records == []
    (told,) = caplog.records
    assert told.__dict__["keys"] == {"version": {"N": "1"}}
    assert RUN not in str(told.__dict__)
