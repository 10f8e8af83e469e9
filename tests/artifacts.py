"""An artifact for tests, small enough to score in the head."""

from dataclasses import replace
from typing import Any

from retrodict.artifact import Artifact
from retrodict.forest import LEAF, IsolationForest, Tree
from retrodict.pipeline import Pipeline, load_pipelines

PIPELINE: Pipeline = load_pipelines()["sensor_anomaly"]
NAMES: tuple[str, ...] = PIPELINE.model.names if PIPELINE.model else ()
RUN = "run-0123456789abcdef"
LIMIT = 3.0
"""A first feature greater than this is an anomaly to the artifact."""

ORDINARY, ANOMALOUS = 2.0**-0.8, 2.0**-0.2


def artifact(**changes: Any) -> Artifact:
    """Return an artifact that alerts where its first feature exceeds `LIMIT`."""
    stump = Tree((0, LEAF, LEAF), (LIMIT, 0.8, 0.2), (1, 0, 0), (2, 0, 0))
    made = Artifact(
        pipeline=PIPELINE.name,
        feature_set=PIPELINE.trained_on.name,
        definition=PIPELINE.trained_on.digest,
        features=NAMES,
        model=IsolationForest(len(NAMES), 1.0, (stump,)).to_json(),
        threshold=0.75,
        alert_budget=0.01,
        training_set=f"sha256:{'1' * 64}",
        code=f"sha256:{'2' * 64}",
        seed=1,
        run_id=RUN,
    )
    return replace(made, **changes)
