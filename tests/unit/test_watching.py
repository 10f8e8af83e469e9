"""A window is what the log holds of it, and an alarm is said once."""

import json
from dataclasses import replace
from typing import Any

import pytest
from retrodict.drift import Profile
from retrodict.envelope import StampedEvent
from retrodict.lifecycle import Lifecycle
from retrodict.model import SCORE, Model
from retrodict.pipeline import load_catalog
from retrodict.system_events import PredictionMade
from retrodict.validation import Accepted, Arrival, validate
from retrodict.watching import drift_record, is_current, measure_window

from tests.artifacts import NAMES, PIPELINE, artifact
from tests.events import NOON_US, place, reading

MINUTE_US = 60_000_000
DAY_US = 1_440 * MINUTE_US
UNTIL_US = NOON_US + DAY_US
STEP_US = 20 * MINUTE_US
ROWS = DAY_US // STEP_US

assert PIPELINE.model is not None
MODEL: Model = PIPELINE.model
TIMES_US = [NOON_US + n * STEP_US for n in range(1, ROWS + 1)]
PROFILE = Profile.of(
    {name: [float(n % 7) for n in range(ROWS)] for name in (*NAMES, SCORE)},
    TIMES_US,
    MODEL.monitor,
)
CHAMPION = artifact(profile=PROFILE.to_json())


def prediction(at_us: int, number: int, **changes: Any) -> StampedEvent:
    features = {name: float(number % 7) for name in NAMES}
    data = {
        "entity": "s-1", "prediction_id": f"{number:032x}", "pipeline": PIPELINE.name,
        "mode": "stream", "score": float(number % 7), "threshold": 9.0,
        "is_alert": False, "is_onset": False, "artifact_digest": CHAMPION.digest,
        "as_of_us": at_us, "position": place(number),
        "features": json.dumps(features), "latency_us": None,
    }  # fmt: skip
    return replace(
        reading(0.0, number=number),
        type=PredictionMade.contract().type,
        data={**data, **changes},
    )


WINDOW = [prediction(at_us, n) for n, at_us in enumerate(TIMES_US, start=1)]


def measured(predictions: list[StampedEvent]) -> dict[str, int]:
    """Return how many values each column was measured on."""
    window = measure_window(predictions, CHAMPION, MODEL, UNTIL_US)
    return {m.feature: m.sample_size for m in window.measures}


def test_a_window_holds_its_end_and_not_its_beginning() -> None:
    outside = [prediction(NOON_US, 901), prediction(UNTIL_US + 1, 902)]

    assert measured([*WINDOW, *outside]) == dict.fromkeys((*NAMES, SCORE), ROWS)


def test_a_prediction_that_was_delivered_twice_counts_once() -> None:
    assert measured([*WINDOW, *WINDOW[:30]]) == dict.fromkeys((*NAMES, SCORE), ROWS)


@pytest.mark.parametrize(
    "changes", [{"mode": "realtime"}, {"mode": "probe"}, {"pipeline": "another"}]
)
def test_answers_on_request_and_other_pipelines_are_not_the_stream(
    changes: dict[str, str],
) -> None:
    more = [prediction(at, 500 + n, **changes) for n, at in enumerate(TIMES_US)]

    assert measured([*WINDOW, *more]) == dict.fromkeys((*NAMES, SCORE), ROWS)


def test_a_feature_counts_whoever_scored_it_and_a_score_only_the_champions() -> None:
    half = [
        replace(p, data={**p.data, "artifact_digest": f"sha256:{'9' * 64}"})
        if n % 2
        else p
        for n, p in enumerate(WINDOW)
    ]

    assert measured(half) == {**dict.fromkeys(NAMES, ROWS), SCORE: ROWS // 2}


@pytest.mark.parametrize(
    ("kept", "is_measured"),
    [
        (slice(ROWS // 4 - 1, None), True),
        (slice(ROWS // 4 + 1, None), False),
        (slice(None, ROWS - ROWS // 4 + 1), True),
        (slice(None, ROWS - ROWS // 4 - 1), False),
    ],
    ids=["begins late", "begins too late", "ends early", "ends too early"],
)
def test_a_column_that_does_not_reach_through_the_window_is_not_measured(
    kept: slice, *, is_measured: bool
) -> None:
    assert bool(measured(WINDOW[kept])) is is_measured


def test_too_few_values_are_not_measured() -> None:
    few = WINDOW[:: ROWS // (MODEL.monitor.min_rows - 1) + 1]

    assert len(few) < MODEL.monitor.min_rows
    assert measured(few) == {}


def test_a_null_takes_no_part() -> None:
    null = json.dumps(dict.fromkeys(NAMES))
    some = [
        replace(p, data={**p.data, "features": null}) if n % 3 == 1 else p
        for n, p in enumerate(WINDOW)
    ]

    assert measured(some) == {**dict.fromkeys(NAMES, ROWS - ROWS // 3), SCORE: ROWS}


ABOUT = {
    "feature": "residual", "statistic": "psi", "value": 0.4, "threshold": 0.2,
    "sample_size": 70, "window_until_us": UNTIL_US,
}  # fmt: skip


def test_a_drift_event_is_valid_and_saying_it_twice_is_once() -> None:
    key, raw = drift_record(PIPELINE.name, "alarm", NOON_US, ABOUT)
    verdict = validate(raw, Arrival(place(1), key, NOON_US), load_catalog())

    assert isinstance(verdict, Accepted)
    assert drift_record(PIPELINE.name, "alarm", NOON_US, ABOUT) == (key, raw)
    other = drift_record(PIPELINE.name, "alarm", NOON_US + 1, ABOUT)[1]
    assert json.loads(other)["id"] != json.loads(raw)["id"]


@pytest.mark.parametrize(("value", "is_over"), [(0.19, False), (0.2, True), (9, True)])
def test_an_alarm_asks_again_only_while_it_is_still_so(
    value: float, *, is_over: bool
) -> None:
    assert is_current({**ABOUT, "value": value}, Lifecycle()) is is_over
