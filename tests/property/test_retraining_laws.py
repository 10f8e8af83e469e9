"""However often it is asked, a pipeline is retrained as rarely as its policy says."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrodict.deciding import record
from retrodict.lifecycle import (
    SILENT_RUN_US,
    CandidateJudged,
    Decided,
    Lifecycle,
    Recorded,
    RunFailed,
    decided,
    evolve,
    replay,
)
from retrodict.model import Model, Retraining
from retrodict.pipeline import load_pipelines
from retrodict.retraining import DAY_US, Ask, decide, run_input

from tests.fakes import FakeLifecycleStore

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
MONDAY_US = 1_767_571_200_000_000
PIPELINE = "sensor_anomaly"


def model(cool_down: str = "6h", daily_budget: int = 3) -> Model:
    known = load_pipelines()[PIPELINE].model
    assert known is not None
    policy = Retraining(cool_down=cool_down, daily_budget=daily_budget)
    return Model(
        features=known.features, fit=known.fit, inject=known.inject, retraining=policy
    )


def ask(number: int, at_us: int) -> Ask:
    return Ask(PIPELINE, f"ask-{number}", at_us, "drift", "psi is 0.3")


def answer(store: FakeLifecycleStore, asked: Ask, to: Model | None) -> Recorded | None:
    return record(store, PIPELINE, lambda found: decide(asked, found, to))[1]


def end(store: FakeLifecycleStore, at_us: int) -> None:
    """End the run under way as one that broke."""

    def broke(lifecycle: Lifecycle) -> Decided | None:
        if lifecycle.run is None:
            return None
        return decided(
            RunFailed,
            at_us,
            pipeline=PIPELINE,
            run_id=lifecycle.run.run_id,
            state="TrainCandidate",
            error="States.TaskFailed",
            cause="out of memory",
        )

    record(store, PIPELINE, broke)


def starts(store: FakeLifecycleStore) -> list[int]:
    found = store.read(PIPELINE)
    return [r.time_us for r in found if r.kind == "retraining_started"]


def most_in_a_day(times_us: Iterable[int]) -> int:
    ordered = sorted(times_us)
    return max(
        (sum(0 <= t - start < DAY_US for t in ordered) for start in ordered), default=0
    )


@pytest.mark.parametrize("is_ended", [True, False], ids=["runs end", "runs hang"])
def test_an_alarm_that_flips_every_minute_costs_no_more_than_the_budget(
    *, is_ended: bool
) -> None:
    store, policy = FakeLifecycleStore(), model("1h", 3)

    for minute in range(1_440):
        now_us = MONDAY_US + minute * MINUTE_US
        answer(store, ask(minute, now_us), policy)
        if is_ended:
            end(store, now_us)

    assert len(starts(store)) == (3 if is_ended else 1)
    answers = [r for r in store.read(PIPELINE) if r.kind.startswith("retraining_")]
    assert len(answers) == 1_440
    reasons = {r.data["reason_code"] for r in answers if "reason_code" in r.data}
    wanted = {"cool_down", "daily_budget"} if is_ended else {"already_running"}
    assert reasons == wanted


def test_an_alarm_that_stays_on_is_answered_again_after_the_cool_down() -> None:
    store, policy = FakeLifecycleStore(), model("6h", 3)

    for hour in range(13):
        now_us = MONDAY_US + hour * HOUR_US
        answer(store, ask(hour, now_us), policy)
        end(store, now_us)

    assert starts(store) == [
        MONDAY_US,
        MONDAY_US + 6 * HOUR_US,
        MONDAY_US + 12 * HOUR_US,
    ]


def test_a_run_that_was_silent_for_a_day_blocks_no_longer() -> None:
    store, policy = FakeLifecycleStore(), model("6h", 3)
    answer(store, ask(0, MONDAY_US), policy)

    late = answer(store, ask(1, MONDAY_US + SILENT_RUN_US), policy)
    later = answer(store, ask(2, MONDAY_US + SILENT_RUN_US + 1), policy)

    assert late is not None
    assert late.data["reason_code"] == "already_running"
    assert later is not None
    assert later.kind == "retraining_started"


def test_a_pipeline_without_a_model_says_no_and_why() -> None:
    store = FakeLifecycleStore()

    said = answer(store, ask(0, MONDAY_US), None)

    assert said is not None
    assert (said.kind, said.data["reason_code"]) == ("retraining_declined", "no_model")


asks = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 5 * 24 * 60), st.booleans()),
    max_size=60,
)


@given(asks, st.integers(1, 3), st.sampled_from(["1h", "6h", "12h"]))
def test_cool_down_budget_and_one_at_a_time_hold_in_any_order_of_asking(
    told: Sequence[tuple[int, int, bool]], budget: int, cool_down: str
) -> None:
    store, policy = FakeLifecycleStore(), model(cool_down, budget)

    for number, minute, is_ended in told:
        now_us = MONDAY_US + minute * MINUTE_US
        before = replay(store.read(PIPELINE))
        said = answer(store, ask(number, now_us), policy)
        if said is not None and said.kind == "retraining_started":
            assert before.active_run(now_us) is None
        if is_ended:
            end(store, now_us)

    began = starts(store)
    gaps = [b - a for a, b in pairwise(began)]
    assert all(gap >= policy.retraining.cool_down_us for gap in gaps)
    assert most_in_a_day(began) <= budget


@given(asks)
def test_requests_that_are_delivered_again_change_nothing(
    told: Sequence[tuple[int, int, bool]],
) -> None:
    store, policy = FakeLifecycleStore(), model()
    asked = [ask(number, MONDAY_US + minute * MINUTE_US) for number, minute, _ in told]
    for one in asked:
        answer(store, one, policy)
    recorded = store.read(PIPELINE)

    again = [answer(store, one, policy) for one in asked]

    assert again == [None] * len(asked)
    assert store.read(PIPELINE) == recorded


@given(asks)
def test_the_same_requests_give_the_same_events(
    told: Sequence[tuple[int, int, bool]],
) -> None:
    streams = []
    for _ in range(2):
        store = FakeLifecycleStore()
        for number, minute, _ in told:
            answer(store, ask(number, MONDAY_US + minute * MINUTE_US), model())
        streams.append(store.read(PIPELINE))

    assert streams[0] == streams[1]


def test_a_crash_before_the_start_is_healed_until_the_run_has_ended() -> None:
    store, policy, asked = FakeLifecycleStore(), model(), ask(0, MONDAY_US)

    def inputs() -> dict[str, object] | None:
        before, recorded = record(
            store, PIPELINE, lambda found: decide(asked, found, policy)
        )
        return run_input(asked, before, recorded)

    first, second = inputs(), inputs()
    end(store, MONDAY_US)

    assert first is not None
    assert second == first
    assert inputs() is None


def events(told: Sequence[tuple[int, int, bool]]) -> list[Recorded]:
    """Return a stream with starts, declines, verdicts and ends in it."""
    store = FakeLifecycleStore()
    for number, minute, is_ended in told:
        now_us = MONDAY_US + minute * MINUTE_US
        said = answer(store, ask(number, now_us), model("1h", 9))
        if said is not None and said.kind == "retraining_started":
            judged = decided(
                CandidateJudged,
                now_us,
                pipeline=PIPELINE,
                run_id=said.data["run_id"],
                artifact_digest=f"sha256:{number:064x}",
                champion_digest=None,
                passed=number % 2 == 0,
                reason="as it is",
                basis="injected",
                roc_auc=0.9,
                pr_auc=0.5,
                alert_rate=0.01,
            )
            version = len(store.read(PIPELINE))
            store.append(PIPELINE, [judged], expected_version=version)
        if is_ended:
            end(store, now_us)
    return store.read(PIPELINE)


@given(asks, st.integers(0, 100))
def test_a_fold_can_be_cut_anywhere(
    told: Sequence[tuple[int, int, bool]], place: int
) -> None:
    stream = events(told)
    cut = min(place, len(stream))
    whole = replay(stream)

    half = replay(stream[:cut])
    one_by_one = Lifecycle()
    for event in stream:
        one_by_one = evolve(one_by_one, event)

    assert replay(stream[cut:], snapshot=half) == whole
    assert one_by_one == whole
    assert replay(stream[:cut]) == half
