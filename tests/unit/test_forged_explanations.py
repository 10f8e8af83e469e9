"""Whatever was changed, left out or put in, an explanation names what differs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from retrodict.artifact import Artifact
from retrodict.envelope import StampedEvent
from retrodict.explanation import Explanation, as_document, explain
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.online import features_json
from retrodict.scoring import score
from retrodict.state import KeyState
from retrodict.system_events import PredictionMade

from tests.artifacts import LIMIT, NAMES, PIPELINE, artifact
from tests.events import place, reading

CHAMPION = artifact()
HOUR_S = 3_600
COUNT = 50
EVENTS = [
    reading(20 + n % 5 / 10, at_s=n * HOUR_S, id=str(n), number=10 * n + 10)
    for n in range(COUNT)
]


def made() -> StampedEvent:
    """Return the prediction that the champion made of the newest event."""
    _, folded = KeyState(PIPELINE.trained_on).fold(EVENTS, emit=True)
    features = folded[-1].features or {}
    scored = score(CHAMPION, features)
    data = {
        "entity": "s-1", "prediction_id": "a" * 32, "pipeline": PIPELINE.name,
        "mode": "stream", "score": scored.score, "threshold": CHAMPION.threshold,
        "is_alert": scored.is_alert, "artifact_digest": CHAMPION.digest,
        "as_of_us": EVENTS[-1].time_us, "position": EVENTS[-1].position,
        "features": features_json(features),
    }  # fmt: skip
    event = reading(0.0, number=9_000)
    return replace(event, type=PredictionMade.contract().type, data=data)


MADE = made()


def explained(
    events: list[StampedEvent],
    prediction: StampedEvent = MADE,
    by: Artifact = CHAMPION,
) -> Explanation:
    return explain(prediction, events, PIPELINE, by)


def differs(found: Explanation) -> set[str]:
    """Return what an explanation's document says is not equal."""
    document = as_document(found)
    named = {name for name in ("features", "score") if not document[name]["equal"]}
    assert document["equal"] is found.is_equal
    return named if document["equal"] else named | {"whole"}


def other_model(**changes: float) -> Artifact:
    weights = Tree((0, LEAF, LEAF), (LIMIT, 0.7, 0.2), (1, 0, 0), (2, 0, 0))
    model = IsolationForest(len(NAMES), 1.0, (weights,)).to_json()
    return artifact(model=model, **changes)


def test_untouched_everything_is_equal() -> None:
    assert differs(explained(EVENTS)) == set()


def test_another_artifact_gives_another_score_and_the_same_features() -> None:
    assert differs(explained(EVENTS, by=other_model())) == {"score", "whole"}


def test_another_threshold_gives_another_decision_and_the_same_score() -> None:
    found = explained(EVENTS, by=artifact(threshold=0.1))

    assert differs(found) == {"whole"}
    assert as_document(found)["is_alert"] is False
    assert as_document(found)["threshold"] == 0.1


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"score": MADE.data["score"] + 2**-53}, {"score", "whole"}),
        ({"is_alert": True}, {"whole"}),
        (
            {"features": MADE.data["features"].replace(",", ", ")},
            {"features", "whole"},
        ),
    ],
    ids=["one bit of the score", "the decision", "a blank in the features"],
)
def test_a_record_that_was_changed_is_named(
    data: dict[str, Any], named: set[str]
) -> None:
    forged = replace(MADE, data={**MADE.data, **data})

    assert differs(explained(EVENTS, forged)) == named


def valued(event: StampedEvent, value: float) -> StampedEvent:
    return replace(event, data={**event.data, "value": value})


Forge = Callable[[list[StampedEvent]], list[StampedEvent]]


@pytest.mark.parametrize(
    "forge",
    [
        lambda log: [*log[:-1], valued(log[-1], 20.0)],
        lambda log: [*log[:-2], log[-1]],
        lambda log: [*log, reading(99.0, at_s=48.5 * HOUR_S, id="in", number=495)],
        lambda log: [*log[:-2], replace(log[-2], late=True), log[-1]],
        lambda log: [*log[:-2], replace(log[-2], position=place(999)), log[-1]],
    ],
    ids=["changed", "missing", "put in", "called late", "known only later"],
)
def test_another_log_is_named_by_its_features(forge: Forge) -> None:
    found = explained(forge(EVENTS))

    assert "features" in differs(found)
    document = as_document(found)
    assert document["features"]["recorded"] == MADE.data["features"]
    assert document["features"]["recomputed"] != MADE.data["features"]


@pytest.mark.parametrize(
    "more",
    [
        reading(99.0, at_s=48.5 * HOUR_S, id="later", number=600),
        reading(99.0, at_s=60 * HOUR_S, id="next", number=601),
        reading(99.0, at_s=48.5 * HOUR_S, id="late", number=495, late=True),
        reading(99.0, at_s=49 * HOUR_S, id=str(COUNT - 1), number=602),
    ],
    ids=["came later", "happened later", "was late", "was a copy"],
)
def test_what_was_not_seen_explains_nothing(more: StampedEvent) -> None:
    found = explained([*EVENTS, more])

    assert differs(found) == set()
    assert more.position not in {e["position"] for e in as_document(found)["events"]}


def test_the_events_that_are_named_are_those_that_were_held() -> None:
    found = explained([*EVENTS, *EVENTS[:5]][::-1])

    named = as_document(found)["events"]
    positions = [e["position"] for e in named]
    assert positions == sorted(set(positions))
    assert named[-1] == {
        "source": "plant",
        "id": str(COUNT - 1),
        "time_us": EVENTS[-1].time_us,
        "position": EVENTS[-1].position,
        "data": EVENTS[-1].data,
    }


def test_an_explanation_says_where_the_model_came_from() -> None:
    document = as_document(explained(EVENTS))

    assert document["artifact_digest"] == CHAMPION.digest
    assert document["training_set"] == CHAMPION.training_set
    assert document["code"] == CHAMPION.code
    assert document["entity"] == "s-1"
