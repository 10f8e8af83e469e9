"""An explanation that agrees is worth something only because another one would not."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from retrodict.envelope import StampedEvent
from retrodict.explanation import Explanation, UnexplainedError, as_document, explain
from retrodict.online import features_json
from retrodict.scoring import score
from retrodict.state import KeyState
from retrodict.system_events import PredictionMade

from tests.artifacts import NAMES, PIPELINE, artifact
from tests.events import place, reading

CHAMPION = artifact()
HOUR_S = 3_600
# Two days, so that the usual value of the hour is known.
EVENTS = [
    reading(20 + n % 5 / 10, at_s=n * HOUR_S, id=str(n), number=n + 1)
    for n in range(50)
]


def prediction(mode: str = "stream") -> StampedEvent:
    """Return the prediction that the champion made of the newest event."""
    _, folded = KeyState(PIPELINE.trained_on).fold(EVENTS, emit=True)
    features = folded[-1].features or {}
    scored = score(CHAMPION, features)
    data = {
        "entity": "s-1", "prediction_id": "a" * 32, "pipeline": PIPELINE.name,
        "mode": mode, "score": scored.score, "threshold": CHAMPION.threshold,
        "is_alert": scored.is_alert, "artifact_digest": CHAMPION.digest,
        "as_of_us": EVENTS[-1].time_us, "position": EVENTS[-1].position,
        "features": features_json(features),
    }  # fmt: skip
    made = reading(0.0, number=900)
    return replace(made, type=PredictionMade.contract().type, data=data)


def explained(
    events: list[StampedEvent], made: StampedEvent | None = None
) -> Explanation:
    return explain(made or prediction(), events, PIPELINE, CHAMPION)


@pytest.mark.parametrize("mode", ["stream", "realtime"])
def test_the_log_gives_the_same_bytes(mode: str) -> None:
    later = reading(60.0, at_s=60 * HOUR_S, id="later", number=950)
    found = explained([*reversed(EVENTS), EVENTS[3], later], prediction(mode))

    assert found.is_equal
    document = as_document(found)
    assert document["features"]["recorded"] == document["features"]["recomputed"]
    assert document["equal"] is True
    assert document["events"][-1]["position"] == EVENTS[-1].position


def test_features_that_came_with_the_request_are_scored_again() -> None:
    made = prediction("realtime")
    made = replace(made, data={**made.data, "position": None})

    found = explained([], made)

    assert found.is_equal
    assert found.events == ()


def changed(event: StampedEvent) -> StampedEvent:
    return replace(event, data={**event.data, "value": event.data["value"] + 1e-9})


@pytest.mark.parametrize(
    "forge",
    [
        lambda events: [*events[:-2], changed(events[-2]), events[-1]],
        lambda events: [*events[:-2], events[-1]],
        lambda events: [*events[:-25], changed(events[-25]), *events[-24:]],
    ],
    ids=["another value", "an event less", "another value the day before"],
)
def test_another_log_gives_other_features(
    forge: Callable[[list[StampedEvent]], list[StampedEvent]],
) -> None:
    found = explained(forge(EVENTS))

    assert not found.features_equal
    assert not found.is_equal


@pytest.mark.parametrize(
    ("name", "value"),
    [("score", 0.123), ("is_alert", True), ("features", '{"latest":1}')],
)
def test_a_record_that_was_changed_is_found(name: str, value: object) -> None:
    made = prediction()
    data = {**made.data, name: value}
    if name == "features":
        features = json.loads(str(made.data["features"]))
        data[name] = features_json({**features, NAMES[0]: features[NAMES[0]] + 1e-12})

    found = explained(EVENTS, replace(made, data=data))

    assert not found.is_equal


def test_a_log_that_lacks_the_event_explains_nothing() -> None:
    with pytest.raises(UnexplainedError, match="is not in the log"):
        explained(EVENTS[:-1])
    with pytest.raises(UnexplainedError, match="holds no applied event"):
        explained([replace(EVENTS[0], position=place(999))])
    with pytest.raises(UnexplainedError, match="null"):
        explained(EVENTS[-1:])
