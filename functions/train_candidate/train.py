"""Fit a candidate on frozen rows, on SageMaker's training contract.

Reads ``input/config/hyperparameters.json`` and the channel ``training`` below
``SAGEMAKER_BASE_DIR`` (``/opt/ml``), and writes ``model/artifact.json``, or a sentence
to ``output/failure`` and exit code 1. Needs no network. The same rows, seed, code and
libraries give the same bytes, so nothing that differs from run to run is written there.

Environment variables
---------------------
SAGEMAKER_BASE_DIR : str
    Folder of the container contract; ``/opt/ml`` if unset.
"""

import hashlib
import json
import math
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd
import pipelines
import retrodict
from retrodict.artifact import MEMBER, Artifact
from retrodict.drift import Profile
from retrodict.errors import PermanentError
from retrodict.model import SCORE, Model, Scorer
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.training_sets import Row, TrainingSet
from retrodict_aws.training_set_files import (
    FIT,
    HELD_OUT,
    JUDGING,
    MANIFEST,
    from_files,
)

FAILURE_CHARACTERS: Final = 1_024
"""What SageMaker keeps of a failure."""

LIBRARIES: Final = ("numpy", "pandas", "scikit-learn")
"""Whose versions can change a bit of what is fitted."""


class TrainingError(PermanentError):
    """The job was given what no candidate can be made of."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the job was told; see ``retrodict.training_run.hyperparameters``."""

    pipeline: Pipeline
    model: Model
    run_id: str
    training_set: str
    seed: int
    options: Mapping[str, Any]

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """Read hyperparameters, which are nothing but text.

        Raises
        ------
        TrainingError
            One is missing, or not what it should be.
        """
        names = ("pipeline", "run_id", "training_set", "seed", "options")
        missing = [name for name in names if not parameters.get(name)]
        if missing:
            raise TrainingError(f"hyperparameter {missing[0]!r} is missing")
        pipeline = load_pipelines().get(parameters["pipeline"])
        if pipeline is None or pipeline.model is None:
            raise TrainingError(
                f"pipeline {parameters['pipeline']!r} is not in this image, or has no "
                f"model; there is {', '.join(load_pipelines())}"
            )
        try:
            seed, options = int(parameters["seed"]), json.loads(parameters["options"])
        except ValueError as error:
            raise TrainingError(
                f"expected a whole number as seed and a JSON object as options: {error}"
            ) from error
        if not isinstance(options, dict):
            raise TrainingError(f"options must be a JSON object, got {options!r}")
        return cls(
            pipeline, pipeline.model, parameters["run_id"],
            parameters["training_set"], seed, options,
        )  # fmt: skip


def train(base: Path) -> Artifact:
    """Fit, calibrate and profile a candidate from the files below `base`.

    Raises
    ------
    TrainingError
        The rows are not those the job was told of, or of other features, or too few.
    """
    path = base / "input/config/hyperparameters.json"
    told = Told.of(json.loads(path.read_text()))
    folder = base / "input/data/training"
    names = (MANIFEST, FIT, HELD_OUT, JUDGING)
    rows = from_files({name: (folder / name).read_bytes() for name in names})
    if rows.digest != told.training_set:
        raise TrainingError(
            f"the channel holds {rows.digest}, the job was told {told.training_set}"
        )
    definition = told.pipeline.trained_on.digest
    if (rows.pipeline, rows.definition) != (told.pipeline.name, definition):
        raise TrainingError(
            f"the rows are of {rows.pipeline!r}, definition {rows.definition[:12]}; "
            f"this image has {told.pipeline.name!r}, {definition[:12]}: build the "
            "training set again with the code that is deployed"
        )
    if rows.features != told.model.names:
        raise TrainingError(
            f"the rows hold {list(rows.features)}, the model reads "
            f"{list(told.model.names)}: build the training set again"
        )
    return fit(told, rows)


def fit(told: Told, rows: TrainingSet) -> Artifact:
    """Return the candidate of a pipeline's model on `rows`.

    Raises
    ------
    TrainingError
        No row to fit on, or none to calibrate on, has every feature.
    """
    model, names = told.model, list(rows.features)
    fitted, held_out = _complete(rows.fit, names), _complete(rows.held_out, names)
    for name, frame in (("fit", fitted), ("held-out", held_out)):
        if frame.empty:
            raise TrainingError(f"no {name} row has every feature of {names}")
    scorer = model.fit(_values(fitted, names).tolist(), told.seed, told.options)
    learned = scores_of(scorer, _values(fitted, names))
    calm = scores_of(scorer, _values(held_out, names))
    threshold = calibrate(calm, model.alert_budget)
    everything = pd.concat([fitted, held_out])
    profile = Profile.of(
        {**{n: everything[n].tolist() for n in names}, SCORE: [*learned, *calm]},
        everything["time_us"].tolist(),
        model.monitor,
    )
    return Artifact(
        pipeline=told.pipeline.name,
        feature_set=told.pipeline.trained_on.name,
        definition=rows.definition,
        features=rows.features,
        model=scorer.to_json(),
        threshold=threshold,
        alert_budget=model.alert_budget,
        training_set=rows.digest,
        code=code_digest(),
        seed=told.seed,
        run_id=told.run_id,
        profile=profile.to_json(),
        metrics={
            "fit_rows": len(fitted),
            "fit_rows_incomplete": len(rows.fit) - len(fitted),
            "held_out_rows": len(held_out),
            "held_out_rows_incomplete": len(rows.held_out) - len(held_out),
            "fit_alert_rate": alert_rate(learned, threshold),
            "held_out_alert_rate": alert_rate(calm, threshold),
        },
        options=dict(told.options),
        card=card(told, rows),
    )


def _complete(rows: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """Return the rows without nulls as a frame: stamps and one column a feature."""
    frame = pd.DataFrame(
        [(r.key, r.time_us, *r.values) for r in rows],  # noqa: PD011 - not pandas'
        columns=["key", "time_us", *names],
    )
    return frame.dropna(subset=list(names))


def _values(frame: pd.DataFrame, names: Sequence[str]) -> Any:
    """Return the features as an array of doubles, shape (n_samples, n_features)."""
    return frame[list(names)].to_numpy(dtype=float)


def scores_of(scorer: Scorer, values: Any) -> list[float]:
    """Return the score of every row, all at once where the model can."""
    many = getattr(scorer, "scores", None)
    found: list[float] = (
        many(values) if many else [scorer.score(row) for row in values.tolist()]
    )
    return found


def alert_rate(scores: Sequence[float], threshold: float) -> float:
    """Return the share of rows that alert.

    Examples
    --------
    >>> alert_rate([0.1, 0.4, 0.4, 0.9], 0.4)
    0.75
    """
    return sum(score >= threshold for score in scores) / len(scores)


def calibrate(scores: Sequence[float], budget: float) -> float:
    """Return the least score at which no more than `budget` of the rows alert.

    A row alerts when its score reaches the threshold. Rows with equal scores alert
    together or not at all; where even the greatest score belongs to too many rows, it
    is the next double above it.

    Parameters
    ----------
    scores
        Of held-out rows, shape (n,), at least one.
    budget
        Share of the rows, between 0 and 1.

    Examples
    --------
    >>> calibrate([0.1, 0.2, 0.3, 0.4], 0.25)
    0.4
    >>> calibrate([0.1, 0.4, 0.4, 0.4], 0.5)
    0.4000000000000001
    """
    ordered = sorted(scores, reverse=True)
    threshold = math.nextafter(ordered[0], math.inf)
    for place, score in enumerate(ordered, start=1):
        if place / len(ordered) > budget:
            break
        if place == len(ordered) or ordered[place] < score:
            threshold = score
    return threshold


def card(told: Told, rows: TrainingSet) -> dict[str, Any]:
    """Return the model card: what it is for, what it saw, what it must not be."""
    model, features = told.model, told.pipeline.trained_on.features
    return {
        "summary": f"Anomaly score of {told.pipeline.name}, of {len(rows.fit)} rows.",
        "intended_use": "Alert a person; the score orders rows, it is no probability.",
        "limits": "Fitted on rows that nobody labelled; what was anomalous and common "
        "in them is ordinary to the model.",
        "features": {n: features[n].expression.describe() for n in rows.features},
        "alert_budget": model.alert_budget,
        "fit_window": model.fit_window,
        "held_out": model.held_out,
        "fit_us": [rows.from_us, rows.split_us],
        "held_out_us": [rows.split_us, rows.until_us],
        "keys": len({row.key for row in rows.fit}),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def code_digest() -> str:
    """Return ``sha256:`` over every source that decides what a candidate is."""
    digest = hashlib.sha256()
    roots = [Path(str(retrodict.__file__)), Path(str(pipelines.__file__))]
    for root in (*(r.parent for r in roots), Path(__file__).parent):
        for source in sorted(root.rglob("*.py")):
            raw = source.read_bytes()
            name = source.relative_to(root.parent).as_posix().encode()
            digest.update(len(name).to_bytes(4, "big") + name)
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return f"sha256:{digest.hexdigest()}"


def main() -> int:
    """Run the job, and return its exit code."""
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    try:
        artifact = train(base)
        raw = artifact.encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, the job must say it
        if not isinstance(error, PermanentError):
            traceback.print_exc()
        return _fail(base, f"{type(error).__name__}: {error}")
    folder = base / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MEMBER).write_bytes(raw)
    told = {**artifact.metrics, "threshold": artifact.threshold, "bytes": len(raw)}
    for name, value in told.items():
        sys.stdout.write(f"{name}={value!r};\n")
    sys.stdout.write(f"artifact_digest={artifact.digest}\n")
    return 0


def _fail(base: Path, text: str) -> int:
    """Leave one sentence where SageMaker looks for it."""
    sentence = " ".join(text.split())[:FAILURE_CHARACTERS]
    (base / "output").mkdir(parents=True, exist_ok=True)
    (base / "output/failure").write_text(sentence)
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
