"""`explain`: make a prediction again from the log, and compare byte for byte."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import click
from retrodict.artifact import Artifact
from retrodict.envelope import StampedEvent
from retrodict.explanation import Explanation, as_document
from retrodict.explanation import explain as explain_prediction
from retrodict.pipeline import load_pipelines
from retrodict.stamps import to_text
from retrodict.system_events import PredictionMade
from retrodict_aws.s3_artifacts import S3Artifacts

from cli.history import History
from cli.options import json_option, target_options
from cli.output import emit, table_of
from cli.target import Target

PREDICTION = PredictionMade.contract().type


class Explainer:
    """Explains predictions of one deployment, reading log and artifacts once."""

    def __init__(self, target: Target, history: History) -> None:
        self._history = history
        artifacts = S3Artifacts(
            target.client("s3"), target.outputs["ArtifactBucketName"]
        )

        @cache
        def load(digest: str) -> Artifact:
            return artifacts.load(digest)

        self._load = load

    def explain(self, prediction: StampedEvent) -> Explanation:
        """Recompute one prediction.

        Raises
        ------
        UnexplainedError
            The log lacks what the prediction was made of.
        """
        pipeline = load_pipelines()[prediction.data["pipeline"]]
        read = pipeline.trained_on.event.contract().type
        return explain_prediction(
            prediction,
            self._history.of_key(read, prediction.key),
            pipeline,
            self._load(prediction.data["artifact_digest"]),
        )


def find(predictions: Iterable[StampedEvent], prediction_id: str) -> StampedEvent:
    """Return the first prediction of that id."""
    for prediction in predictions:
        if prediction.data["prediction_id"] == prediction_id:
            return prediction
    raise click.UsageError(
        f"the log holds no prediction {prediction_id!r}: the id is in the endpoint's "
        "answer, and the log has it once it is archived"
    )


@click.command()
@click.argument("prediction_id")
@json_option
@target_options
def explain(*, prediction_id: str, as_json: bool, target: Target) -> None:
    """Make PREDICTION_ID again: its events, features, model, and score.

    The features are folded again from the log, the score computed again from the
    artifact's data, and both compared with what was answered then, byte for byte.
    Exits with 1 when something differs.

    \b
    Examples
      retrodict explain 0f3a5b…
      retrodict explain 0f3a5b… --json
    """
    target.wait_idle()
    history = History.read(target)
    prediction = find(history.once(PREDICTION), prediction_id)
    found = Explainer(target, history).explain(prediction)
    document = as_document(found)
    emit(document, as_json=True) if as_json else _tell(document)
    if not found.is_equal:
        click.get_current_context().exit(1)


def _tell(document: dict[str, Any]) -> None:
    shown = {
        "entity": document["entity"],
        "asked": document["mode"],
        "as of": to_text(document["as_of_us"]),
        "position": document["position"] or "none: features came with the request",
        "artifact": document["artifact_digest"],
        "training set": document["training_set"],
        "code": document["code"],
        "threshold": document["threshold"],
        "decision": "alert" if document["is_alert"] else "no alert",
    }
    emit(None, as_json=False, table=table_of(["", ""], [*shown.items()]))
    rows = [
        (to_text(e["time_us"]), e["id"], e["position"], e["data"])
        for e in document["events"]
    ]
    title = f"{len(rows)} events that the state held"
    emit(
        None,
        as_json=False,
        table=table_of(["time", "id", "position", "data"], rows, title=title),
    )
    compared = [
        (what, document[what]["recorded"], document[what]["recomputed"],
         "equal" if document[what]["equal"] else "DIFFERENT")
        for what in ("features", "score")
    ]  # fmt: skip
    emit(
        None,
        as_json=False,
        table=table_of(["", "recorded", "recomputed", ""], compared),
    )
