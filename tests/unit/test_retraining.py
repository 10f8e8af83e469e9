"""Who asks for retraining is answered once, with a reason that can be read."""

from dataclasses import replace
from typing import Any

import pytest
from retrodict.envelope import StampedEvent
from retrodict.lifecycle import Lifecycle, Recorded, replay, run_id_of
from retrodict.model import Model, Retraining
from retrodict.pipeline import load_pipelines
from retrodict.retraining import DAY_US, Ask, ask_of, decide, run_input

from tests.events import NOON_US, reading

PIPELINE = "sensor_anomaly"
HOUR_US = DAY_US // 24
ASK = Ask(PIPELINE, "alarm-1", NOON_US, "drift", "psi of deviation is 0.3")
DRIFT = {
    "pipeline": PIPELINE,
    "alarm": "retrodict-dev-sensor-anomaly-drift-deviation-psi",
    "feature": "deviation",
    "statistic": "psi",
    "value": 0.31234,
    "threshold": 0.2,
    "sample_size": 420,
    "window_until_us": NOON_US,
}
REQUEST = {
    "pipeline": PIPELINE,
    "trigger": "person",
    "reason": "a new sensor",
    "options": '{"trees": 50}',
}


def model(cool_down: str = "6h", daily_budget: int = 2) -> Model:
    known = load_pipelines()[PIPELINE].model
    assert known is not None
    policy = Retraining(cool_down=cool_down, daily_budget=daily_budget)
    return Model(
        features=known.features, fit=known.fit, inject=known.inject, retraining=policy
    )


def event(kind: str, data: dict[str, Any]) -> StampedEvent:
    found = reading(0.0, id="alarm-1")
    return replace(found, key=PIPELINE, type=f"retrodict.{kind}", data=data)


def stream(*starts_us: int, is_running: bool = False) -> Lifecycle:
    """Return a lifecycle with retrainings that started then, ended unless running."""
    events: list[Recorded] = []
    for number, start_us in enumerate(starts_us):
        run = {"run_id": f"run-{number}"}
        for kind in ("retraining_started", "run_failed"):
            version = len(events) + 1
            events.append(Recorded(version, kind, start_us, run, f"ask-{number}"))
    return replay(events[:-1] if is_running else events)


def test_a_drift_event_asks_in_a_sentence_with_figures() -> None:
    ask = ask_of(event("drift.detected", DRIFT))

    assert ask is not None
    assert ask.trigger == "drift"
    assert ask.options == "{}"
    assert ask.observed_at_us == NOON_US
    assert ask.reason == ("psi of deviation is 0.3123 over 420 rows, the threshold 0.2")


def test_a_request_brings_its_own_reason_and_options() -> None:
    ask = ask_of(event("retraining.requested", REQUEST))

    assert ask is not None
    assert (ask.trigger, ask.reason, ask.options) == (
        "person",
        "a new sensor",
        '{"trees": 50}',
    )


def test_a_reading_asks_for_nothing() -> None:
    assert ask_of(reading(1.0)) is None


def test_the_first_request_of_a_pipeline_starts_a_run() -> None:
    said = decide(ASK, Lifecycle(), model())

    assert said is not None
    assert said.kind == "retraining_started"
    assert said.time_us == NOON_US
    assert said.causation_id == "alarm-1"
    assert said.data["run_id"] == run_id_of(PIPELINE, "alarm-1")
    assert said.data["until_us"] == NOON_US


@pytest.mark.parametrize(
    ("lifecycle", "code", "words"),
    [
        (stream(NOON_US - HOUR_US, is_running=True), "already_running", "run-0 runs"),
        (stream(NOON_US - 6 * HOUR_US + 1), "cool_down", "less than 6h ago"),
        (
            stream(NOON_US - DAY_US + 1, NOON_US - 6 * HOUR_US),
            "daily_budget",
            "2 began in the last 24 h, the budget is 2",
        ),
    ],
    ids=["already_running", "cool_down", "daily_budget"],
)
def test_a_no_has_a_code_to_count_and_a_sentence_to_read(
    lifecycle: Lifecycle, code: str, words: str
) -> None:
    said = decide(ASK, lifecycle, model())

    assert said is not None
    assert said.kind == "retraining_declined"
    assert said.data["reason_code"] == code
    assert words in said.data["reason"]


@pytest.mark.parametrize(
    "lifecycle",
    [
        stream(NOON_US - 6 * HOUR_US),
        stream(NOON_US - DAY_US, NOON_US - 6 * HOUR_US),
        stream(NOON_US - DAY_US - 1, is_running=True),
    ],
    ids=["the cool-down is over", "a start left the day", "the run was silent"],
)
def test_a_bound_that_is_just_reached_holds_no_longer(lifecycle: Lifecycle) -> None:
    said = decide(ASK, lifecycle, model())

    assert said is not None
    assert said.kind == "retraining_started"


def test_a_request_older_than_the_last_start_does_not_slip_past_it() -> None:
    said = decide(ASK, stream(NOON_US + HOUR_US), model())

    assert said is not None
    assert said.data["reason_code"] == "cool_down"


def test_a_request_that_has_its_answer_gets_no_other() -> None:
    said = decide(ASK, Lifecycle(answered={"alarm-1": None}), model())

    assert said is None


def test_a_no_starts_no_execution() -> None:
    declined = Recorded(
        1, "retraining_declined", NOON_US, {"reason_code": "cool_down"}, "alarm-1"
    )

    assert run_input(ASK, Lifecycle(), declined) is None
    assert run_input(ASK, replay([declined]), None) is None
