"""The steps of a run that need the log and the lifecycle, without knowing AWS."""

from collections.abc import Mapping
from typing import Any, Final

from retrodict.artifact import Artifact
from retrodict.deciding import record
from retrodict.errors import ArtifactRefusedError, IncompatibleArtifactError
from retrodict.judging import Verdict
from retrodict.lifecycle import (
    CandidateJudged,
    Decided,
    Lifecycle,
    TrainingSetBuilt,
    TrainingSetRefused,
    decided,
    replay,
)
from retrodict.pipeline import Pipeline
from retrodict.ports import LifecycleStore
from retrodict.training_sets import Refusal, TrainingSet

SEED: Final = 1
"""Of what is injected and of the fit, so that a run can be repeated to the bit."""


def record_built(
    store: LifecycleStore,
    request: Mapping[str, Any],
    found: TrainingSet | Refusal,
    uri: str,
) -> None:
    """Record once that the rows of a run are frozen, or why they cannot be used."""
    run_id, pipeline = request["run_id"], request["pipeline"]

    def decide(lifecycle: Lifecycle) -> Decided | None:
        if lifecycle.has(run_id, "training_set_built") or lifecycle.has(
            run_id, "training_set_refused"
        ):
            return None
        if isinstance(found, Refusal):
            return decided(
                TrainingSetRefused,
                request["until_us"],
                pipeline=pipeline,
                run_id=run_id,
                gate=found.gate,
                reason=found.reason,
            )
        return decided(
            TrainingSetBuilt,
            request["until_us"],
            pipeline=pipeline,
            run_id=run_id,
            training_set=found.digest,
            uri=uri,
            fit_rows=len(found.fit),
            held_out_rows=len(found.held_out),
            judging_rows=len(found.judging),
            from_us=found.from_us,
            until_us=found.until_us,
            last_position=found.last_position,
        )

    record(store, pipeline, decide)


def hyperparameters(request: Mapping[str, Any], found: TrainingSet) -> dict[str, str]:
    """Return what a training job is told; SageMaker takes nothing but text."""
    return {
        "pipeline": request["pipeline"],
        "run_id": request["run_id"],
        "training_set": found.digest,
        "seed": str(SEED),
        "options": request["options"],
    }


def check_candidate(
    candidate: Artifact, pipeline: Pipeline, request: Mapping[str, Any]
) -> None:
    """Refuse a candidate that is not of this run.

    Raises
    ------
    ArtifactRefusedError
        It was fitted on other rows, for another run, or on other features.
    """
    definition = candidate.definition_in(pipeline)
    if definition is not pipeline.trained_on:
        raise IncompatibleArtifactError(
            f"the candidate was trained on {definition.name!r} of definition "
            f"{definition.digest[:12]}, which is retiring: a candidate is trained on "
            f"the current one, {pipeline.trained_on.digest[:12]}"
        )
    if candidate.training_set != request["training_set"]:
        raise ArtifactRefusedError(
            f"the candidate was fitted on {candidate.training_set}, the rows of this "
            f"run are {request['training_set']}"
        )
    if candidate.run_id != request["run_id"]:
        raise ArtifactRefusedError(
            f"the candidate is of {candidate.run_id}, not of {request['run_id']}"
        )


def champion_digest(store: LifecycleStore, pipeline: str) -> str | None:
    """Return the digest of what serves, or None."""
    champion = replay(store.read(pipeline)).champion
    return champion.artifact_digest if champion else None


def record_verdict(
    store: LifecycleStore,
    request: Mapping[str, Any],
    candidate: Artifact,
    champion: str | None,
    verdict: Verdict,
) -> None:
    """Record once how a candidate was judged."""

    def decide(lifecycle: Lifecycle) -> Decided | None:
        if lifecycle.has(request["run_id"], "candidate_judged"):
            return None
        return decided(
            CandidateJudged,
            request["until_us"],
            pipeline=request["pipeline"],
            run_id=request["run_id"],
            artifact_digest=candidate.digest,
            champion_digest=champion,
            **verdict.as_event(),
        )

    record(store, request["pipeline"], decide)
