"""Explain a prediction: compute it again from the log, and compare bytes.

A prediction records the applied position of its key, the features it saw, the digest
of the artifact, and the score. Folding the log's events of the key up to that position
gives the features again, and the artifact's data the score. Nothing else is asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrodict.artifact import Artifact
from retrodict.envelope import StampedEvent
from retrodict.errors import PermanentError
from retrodict.expressions import Number
from retrodict.features import FeatureSet
from retrodict.online import features_json
from retrodict.pipeline import Pipeline
from retrodict.state import KeyState, Outcome, order_of_knowing
from retrodict.windows import identity_of

STREAM = "stream"


class UnexplainedError(PermanentError):
    """The log or the artifact store lacks what a prediction was made of."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction beside its recomputation.

    Attributes
    ----------
    prediction
        The PredictionMade event.
    events
        Applied events that the state held at the applied position, by time,
        shape (n,); empty where the features came with the request.
    features
        Recomputed features as text; equal to the recorded text byte for byte.
    score
        Recomputed score.
    """

    prediction: StampedEvent
    artifact: Artifact
    events: tuple[StampedEvent, ...]
    features: str
    score: float

    @property
    def features_equal(self) -> bool:
        """Whether the recomputed features are the recorded bytes."""
        return self.features == str(self.prediction.data["features"])

    @property
    def score_equal(self) -> bool:
        """Whether the recomputed score is the recorded one, bit for bit."""
        return self.score.hex() == float(self.prediction.data["score"]).hex()

    @property
    def is_equal(self) -> bool:
        """Whether everything that was recomputed is what was recorded."""
        alert = self.score >= self.artifact.threshold
        same_decision = alert == self.prediction.data["is_alert"]
        return self.features_equal and self.score_equal and same_decision


def explain(
    prediction: StampedEvent,
    events: Sequence[StampedEvent],
    pipeline: Pipeline,
    artifact: Artifact,
) -> Explanation:
    """Recompute a prediction.

    Parameters
    ----------
    prediction
        A PredictionMade event of `pipeline`.
    events
        All events in the log of the prediction's key and of the type that the model's
        features read, in any order, shape (n,).
    artifact
        The artifact that the prediction names, verified by its digest.

    Raises
    ------
    UnexplainedError
        The log holds no event that the prediction could have been made of.
    IncompatibleArtifactError
        The pipeline no longer has the definition that the artifact was trained on.
    """
    recorded: dict[str, Number | None] = json.loads(prediction.data["features"])
    position = prediction.data["position"]
    if position is None:
        seen: list[StampedEvent] = []
        found: Mapping[str, Number | None] = recorded
    else:
        known = [e for e in order_of_knowing(events) if e.position <= position]
        seen, found = _as_served(prediction, known, artifact.definition_in(pipeline))
    features = {name: found.get(name) for name in recorded}
    row = [_number(features, name) for name in artifact.features]
    return Explanation(
        prediction=prediction,
        artifact=artifact,
        events=tuple(seen),
        features=features_json(features),
        score=artifact.scorer.score(row),
    )


def _as_served(
    prediction: StampedEvent,
    known: Sequence[StampedEvent],
    definition: FeatureSet,
) -> tuple[list[StampedEvent], Mapping[str, Number | None]]:
    """Return the events behind a prediction, and the features they give."""
    before, folded = KeyState(definition).fold(known[:-1])
    state, newest = before.fold(known[-1:], emit=True)
    applied = [f for f in [*folded, *newest] if f.outcome is Outcome.APPLIED]
    if not applied:
        raise UnexplainedError(
            f"prediction {prediction.data['prediction_id']!r} names position "
            f"{prediction.data['position']!r}, but the log holds no applied event of "
            f"{prediction.key!r} up to there: has everything been archived?"
        )
    held = {entry.identity for entry in state.entries}
    seen = [f.event for f in applied if identity_of(f.event.source, f.event.id) in held]
    if prediction.data["mode"] != STREAM:
        return seen, state.features
    last = newest[0]
    if last.event.position != prediction.data["position"]:
        raise UnexplainedError(
            f"prediction {prediction.data['prediction_id']!r} scored the event at "
            f"{prediction.data['position']!r}, which is not in the log: has everything "
            "been archived?"
        )
    return seen, last.features or {}


def _number(features: Mapping[str, Number | None], name: str) -> float:
    value = features.get(name)
    if value is None:
        raise UnexplainedError(
            f"feature {name!r} is null when it is recomputed, so nothing could have "
            "been scored: the log is not the one the prediction was made of"
        )
    return float(value)


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON can say it."""
    prediction, artifact = explanation.prediction, explanation.artifact
    return {
        "prediction_id": prediction.data["prediction_id"],
        "pipeline": prediction.data["pipeline"],
        "entity": prediction.key,
        "mode": prediction.data["mode"],
        "position": prediction.data["position"],
        "as_of_us": prediction.data["as_of_us"],
        "artifact_digest": prediction.data["artifact_digest"],
        "training_set": artifact.training_set,
        "code": artifact.code,
        "events": [
            {
                "source": event.source,
                "id": event.id,
                "time_us": event.time_us,
                "position": event.position,
                "data": event.data,
            }
            for event in explanation.events
        ],
        "features": {
            "recorded": prediction.data["features"],
            "recomputed": explanation.features,
            "equal": explanation.features_equal,
        },
        "score": {
            "recorded": prediction.data["score"],
            "recomputed": explanation.score,
            "equal": explanation.score_equal,
        },
        "threshold": artifact.threshold,
        "is_alert": prediction.data["is_alert"],
        "equal": explanation.is_equal,
    }
