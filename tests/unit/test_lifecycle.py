"""What was decided about models is a stream of facts; only what follows is added."""

import json
from typing import Any

import pytest
from retrodict.contracts import Event
from retrodict.deciding import LOST_RACES, record
from retrodict.envelope import open_envelope
from retrodict.errors import (
    DecisionRefusedError,
    EventFormatError,
    StreamConflictError,
)
from retrodict.lifecycle import (
    LIFECYCLE_EVENTS,
    CandidateJudged,
    CandidateRegistered,
    ChampionPromoted,
    Decided,
    Lifecycle,
    Recorded,
    RetrainingDeclined,
    RetrainingStarted,
    RolloutFailed,
    RolloutRolledBack,
    RolloutStarted,
    RunFailed,
    TrainingSetRefused,
    check_follows,
    decided,
    failed,
    replay,
    run_id_of,
    to_cloudevent,
)
from retrodict.pipeline import load_catalog

from tests.events import NOON_US
from tests.fakes import FakeLifecycleStore

PIPELINE = "sensor_anomaly"
RUN = "run-0123456789abcdef"
LATER_RUN = "run-00000000000000ff"
BY_HAND = "by-hand-1"
DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"
URI = "s3://bucket/artifacts/a/model.tar.gz"
NAMES = {"endpoint_name": "retrodict-dev-sensor-anomaly", "config_name": "dev-1"}


def say(event: type[Event], run_id: str = RUN, **data: Any) -> Decided:
    return decided(event, NOON_US, "cause", pipeline=PIPELINE, run_id=run_id, **data)


def start(run_id: str = RUN) -> Decided:
    return say(
        RetrainingStarted,
        run_id,
        trigger="drift",
        reason="psi is 0.3",
        until_us=NOON_US,
        options="{}",
    )


def judge(*, passed: bool = True, run_id: str = RUN) -> Decided:
    return say(
        CandidateJudged,
        run_id,
        artifact_digest=DIGEST,
        champion_digest=None,
        passed=passed,
        reason="better",
        basis="injected",
        roc_auc=0.97,
        pr_auc=0.6,
        alert_rate=0.01,
    )


def register(digest: str = DIGEST) -> Decided:
    return say(
        CandidateRegistered,
        artifact_digest=digest,
        artifact_uri=URI,
        model_package_arn="arn:aws:sagemaker:eu-west-1:1:model-package/p/1",
    )


def roll(run_id: str = RUN, digest: str = DIGEST) -> Decided:
    return say(RolloutStarted, run_id, artifact_digest=digest, **NAMES)


def promote(run_id: str = RUN, digest: str = DIGEST) -> Decided:
    return say(
        ChampionPromoted, run_id, artifact_digest=digest, artifact_uri=URI, **NAMES
    )


BROKE = say(RunFailed, state="TrainCandidate", error="States.TaskFailed", cause="-")
REFUSED_SET = say(TrainingSetRefused, gate="rows", reason="too few")
ROLLED_BACK = say(
    RolloutRolledBack, artifact_digest=DIGEST, serving_digest=OTHER, reason="an alarm"
)
ROLLOUT_FAILED = say(
    RolloutFailed, artifact_digest=DIGEST, serving_digest=None, reason="no capacity"
)
WHOLE_RUN = [start(), judge(), register(), roll(), promote()]


def recorded(*decisions: Decided) -> list[Recorded]:
    return [
        Recorded(version, d.kind, d.time_us, d.data, d.causation_id)
        for version, d in enumerate(decisions, start=1)
    ]


def after(*decisions: Decided) -> Lifecycle:
    return replay(recorded(*decisions))


def test_every_step_of_a_run_follows_from_the_one_before() -> None:
    for number, decision in enumerate(WHOLE_RUN):
        check_follows(after(*WHOLE_RUN[:number]), decision)


def test_a_promotion_makes_a_champion_and_ends_the_run() -> None:
    lifecycle = after(*WHOLE_RUN)

    assert lifecycle.champion is not None
    assert lifecycle.champion.artifact_digest == DIGEST
    assert lifecycle.champion.promoted_us == NOON_US
    assert lifecycle.run is None
    assert lifecycle.ended == {RUN: "champion_promoted"}


@pytest.mark.parametrize(
    "end",
    [
        [REFUSED_SET],
        [judge(passed=False)],
        [judge(), register(), roll(), ROLLED_BACK],
        [judge(), ROLLOUT_FAILED],
        [BROKE],
    ],
    ids=lambda decisions: decisions[-1].kind,
)
def test_a_run_that_ends_badly_leaves_the_champion_and_frees_the_pipeline(
    end: list[Decided],
) -> None:
    before = after(*WHOLE_RUN).champion
    second = [start(LATER_RUN)]
    theirs = [
        Decided(d.kind, d.time_us, {**d.data, "run_id": LATER_RUN}, d.causation_id)
        for d in end
    ]

    lifecycle = after(*WHOLE_RUN, *second, *theirs)

    assert lifecycle.champion == before
    assert lifecycle.run is None


@pytest.mark.parametrize(
    "end",
    [judge(passed=False), REFUSED_SET, ROLLOUT_FAILED, BROKE],
    ids=lambda decision: decision.kind,
)
@pytest.mark.parametrize(
    "next_one",
    [judge(), register(), roll(), promote(), BROKE, start()],
    ids=lambda decision: decision.kind,
)
def test_nothing_follows_the_end_of_a_run(end: Decided, next_one: Decided) -> None:
    with pytest.raises(DecisionRefusedError, match=f"ended with {end.kind}"):
        check_follows(after(start(), end), next_one)


def test_after_a_promotion_only_a_step_that_broke_is_told() -> None:
    promoted = after(*WHOLE_RUN)

    check_follows(promoted, BROKE)
    with pytest.raises(DecisionRefusedError, match="ended with champion_promoted"):
        check_follows(promoted, ROLLED_BACK)


@pytest.mark.parametrize("next_one", [register(), roll()], ids=lambda d: d.kind)
def test_what_has_not_passed_judgement_goes_no_further(next_one: Decided) -> None:
    with pytest.raises(DecisionRefusedError, match="has not passed judgement"):
        check_follows(after(start()), next_one)


def test_what_passed_is_that_artifact_and_no_other() -> None:
    with pytest.raises(DecisionRefusedError, match="has not passed judgement"):
        check_follows(after(start(), judge()), roll(digest=OTHER))


def test_what_was_not_rolled_out_is_not_promoted() -> None:
    with pytest.raises(DecisionRefusedError, match="no rollout"):
        check_follows(after(start(), judge(), register()), promote())


def test_a_run_that_was_overtaken_rolls_nothing_out() -> None:
    lifecycle = after(start(), judge(), start(LATER_RUN))

    with pytest.raises(DecisionRefusedError, match=f"{LATER_RUN} has started since"):
        check_follows(lifecycle, roll())


def test_a_person_may_roll_out_an_artifact_while_a_run_goes_on() -> None:
    lifecycle = after(start())

    check_follows(lifecycle, roll(BY_HAND, OTHER))
    promoted = after(start(), roll(BY_HAND, OTHER), promote(BY_HAND, OTHER))

    assert promoted.champion is not None
    assert promoted.champion.artifact_digest == OTHER
    assert promoted.run is not None
    assert promoted.run.run_id == RUN


def test_a_no_is_remembered_with_its_reason() -> None:
    no = decided(
        RetrainingDeclined,
        NOON_US,
        "ask-1",
        pipeline=PIPELINE,
        trigger="drift",
        reason_code="cool_down",
        reason="too soon",
    )

    lifecycle = after(no)

    assert lifecycle.last_decline is not None
    assert lifecycle.last_decline.reason_code == "cool_down"
    assert lifecycle.answered == {"ask-1": None}
    assert lifecycle.version == 1


def test_the_same_request_names_the_same_run_and_another_another() -> None:
    names = {run_id_of(p, e) for p in ("a", "b") for e in ("1", "2", "2")}

    assert len(names) == 4


def test_a_text_that_is_too_long_is_cut_and_wrong_data_is_refused() -> None:
    long = say(RunFailed, state="S", error="E", cause="x" * 10_000)

    assert len(long.data["cause"]) == 2_048
    with pytest.raises(EventFormatError, match="reason_code"):
        decided(
            RetrainingDeclined,
            NOON_US,
            pipeline=PIPELINE,
            trigger="drift",
            reason_code="mood",
            reason="-",
        )


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ('{"errorMessage": "bucket refused", "errorType": "X"}', "bucket refused"),
        ("the job ran out of memory", "the job ran out of memory"),
        ('["a list"]', '["a list"]'),
        (None, "none given"),
    ],
)
def test_a_failure_is_told_in_a_sentence(cause: str | None, told: str) -> None:
    failure = {"Error": "X"} if cause is None else {"Error": "X", "Cause": cause}
    request = {
        "pipeline": PIPELINE,
        "run_id": RUN,
        "until_us": NOON_US,
        "state": "TrainCandidate",
        "failure": failure,
    }

    said = failed(request, after(start()))

    assert said is not None
    assert said.data["cause"] == told
    assert failed(request, after(start(), said)) is None
    assert failed(request, after(*WHOLE_RUN)) is not None


def test_a_decision_enters_by_ingest_as_an_event_that_is_accepted() -> None:
    for number, event in enumerate(recorded(*WHOLE_RUN), start=1):
        document = json.loads(json.dumps(to_cloudevent(PIPELINE, event)))
        envelope, wrong = open_envelope(document)
        contract = load_catalog().contracts[document["type"]].contract()
        found: list[Any] = []
        contract.check(document["data"], found)

        assert wrong == []
        assert found == []
        assert envelope.id == f"{PIPELINE}-{number}"
        assert envelope.subject == PIPELINE
        assert envelope.source == "urn:retrodict:lifecycle"
        assert envelope.causation_id == "cause"
        assert envelope.correlation_id == RUN


def test_the_catalogue_knows_every_kind_of_decision() -> None:
    known = load_catalog().contracts

    assert {event.contract().type for event in LIFECYCLE_EVENTS} <= known.keys()
    assert len(LIFECYCLE_EVENTS) == 13


class Raced(FakeLifecycleStore):
    """A store in which another writer is first, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def append(
        self, stream_id: str, decisions: Any, *, expected_version: int
    ) -> list[Recorded]:
        if self.times:
            self.times -= 1
            no = Decided(
                "retraining_declined", NOON_US, {"reason_code": "cool_down"}, None
            )
            super().append(stream_id, [no], expected_version=expected_version)
        return super().append(stream_id, decisions, expected_version=expected_version)


def test_a_lost_race_is_decided_again_on_what_won() -> None:
    store, seen = Raced(2), list[int]()

    def decide(lifecycle: Lifecycle) -> Decided:
        seen.append(lifecycle.version)
        return start()

    _, won = record(store, PIPELINE, decide)

    assert seen == [0, 1, 2]
    assert won is not None
    assert won.version == 3


def test_races_lost_for_ever_are_given_back() -> None:
    store = Raced(LOST_RACES)

    with pytest.raises(StreamConflictError):
        record(store, PIPELINE, lambda _: start())


def test_a_decision_that_does_not_follow_is_not_recorded() -> None:
    store = FakeLifecycleStore()

    with pytest.raises(DecisionRefusedError):
        record(store, PIPELINE, lambda _: promote())

    assert store.read(PIPELINE) == []
