"""How an artifact takes over an endpoint: names, steps, and what the outcome is.

The endpoint belongs to the rollout: no template names it. Names follow from
environment, pipeline and run, so that doing a step again does the same step.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from retrodict.artifact import Artifact
from retrodict.drift import Profile, quantile
from retrodict.lifecycle import (
    ChampionPromoted,
    Decided,
    Lifecycle,
    RolloutFailed,
    RolloutRolledBack,
    RolloutStarted,
    decided,
)
from retrodict.model import Canary
from retrodict.pipeline import Pipeline

VARIANT: Final = "champion"
IN_SERVICE: Final = "InService"
UNSETTLED: Final = frozenset(
    {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
)
"""Statuses that SageMaker leaves by itself."""

OUTCOMES: Final = ("champion_promoted", "rollout_rolled_back", "rollout_failed")
"""Kinds of decision that end a rollout."""

KEPT_CONFIGS: Final = 3
TIDIED_CONFIGS: Final = 8
_TERMINATION_WAIT_S: Final = 60
_LONGEST_S: Final = 14_400


def dashed(pipeline: str) -> str:
    """Return the name of a pipeline as SageMaker and CloudWatch allow it.

    Examples
    --------
    >>> dashed("sensor_anomaly")
    'sensor-anomaly'
    """
    return pipeline.replace("_", "-")


def endpoint_name(environment: str, pipeline: str) -> str:
    """Return the name of a pipeline's endpoint, and of its model package group.

    Examples
    --------
    >>> endpoint_name("dev", "sensor_anomaly")
    'retrodict-dev-sensor-anomaly'
    """
    return f"retrodict-{environment}-{dashed(pipeline)}"


def run_name(environment: str, pipeline: str, run_id: str) -> str:
    """Return the name of what one run creates: model, config, job; at most 63 letters.

    Examples
    --------
    >>> run_name("dev", "sensor_anomaly", "run-0123456789abcdef")
    'dev-sensor-anomaly-run-0123456789abcdef'
    """
    return f"{environment}-{dashed(pipeline)}"[: 62 - len(run_id)] + f"-{run_id}"


def rollback_alarms(endpoint: str) -> list[str]:
    """Return the alarms of an endpoint that end a rollout."""
    return [
        f"{endpoint}-{what}"
        for what in ("endpoint-errors", "endpoint-latency", "decision-rate")
    ]


def deployment_config(canary: Canary, alarms: list[str]) -> dict[str, Any]:
    """Return SageMaker's ``DeploymentConfig`` of a canary with automatic rollback."""
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": canary.percent},
                "WaitIntervalInSeconds": canary.bake_s,
            },
            "TerminationWaitInSeconds": _TERMINATION_WAIT_S,
            "MaximumExecutionTimeoutInSeconds": _LONGEST_S,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": a} for a in alarms]},
    }


def asynchronous_name(name: str) -> str:
    """Return the name of the endpoint or configuration that is asked by files on S3.

    Examples
    --------
    >>> asynchronous_name("retrodict-dev-sensor-anomaly")
    'retrodict-dev-sensor-anomaly-async'
    """
    return f"{name[:57]}-async"


class Step(StrEnum):
    """What a rollout does to an endpoint first."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    WAIT = "wait"


def first_step(status: str | None) -> Step:
    """Return what a rollout does to an endpoint of a status, None for no endpoint.

    A failed endpoint can only be deleted. While SageMaker changes one, nothing can be
    done with it, and what will serve afterwards is not known.

    Examples
    --------
    >>> [first_step(status).value for status in (None, "InService", "Failed")]
    ['create', 'update', 'delete']
    """
    if status is None:
        return Step.CREATE
    if status == "Failed":
        return Step.DELETE
    return Step.WAIT if status in UNSETTLED else Step.UPDATE


def probe_of(artifact: Artifact) -> dict[str, float]:
    """Return features to ask a rollout about: the card's probe, or ordinary ones.

    The ordinary ones are the medians of the reference profile, and zero for what it
    does not describe.
    """
    chosen = artifact.card.get("probe")
    if isinstance(chosen, Mapping) and set(chosen) == set(artifact.features):
        return {name: float(chosen[name]) for name in artifact.features}
    known = Profile.from_json(artifact.profile).columns
    return {
        name: quantile(known[name].quantiles, 0.5) if name in known else 0.0
        for name in artifact.features
    }


@dataclass(frozen=True, slots=True)
class Serving:
    """What an endpoint says of itself, and what answered.

    Attributes
    ----------
    status
        Of the endpoint, as SageMaker names it; None if there is none.
    config_name
        The configuration that serves.
    declared
        Artifact digest that the configuration's model was created with.
    digest
        Artifact digest in a probe's answer; None if none answered.
    reason
        SageMaker's own reason of a failure.
    """

    status: str | None
    config_name: str | None = None
    declared: str | None = None
    digest: str | None = None
    reason: str | None = None


def outcome(
    request: Mapping[str, Any], serving: Serving, lifecycle: Lifecycle
) -> Decided | None:
    """Say how a rollout ended, from what really serves; None if that is recorded.

    Promoted only where the endpoint is in service on the new configuration, the model
    behind it was created with the new artifact, and that artifact answered a probe.
    Rolled back where it is in service and another configuration answered: SageMaker
    calls that InService too. Failed otherwise.

    Parameters
    ----------
    request
        Names and digest of the rollout; ``refusal`` is what the state machine caught
        when SageMaker was asked to create or update the endpoint: ``Error`` and
        ``Cause``, or nothing.
    """
    run_id = request["run_id"]
    if any(lifecycle.has(run_id, kind) for kind in OUTCOMES):
        return None
    about = {
        "pipeline": request["pipeline"],
        "run_id": run_id,
        "artifact_digest": request["artifact_digest"],
    }
    time_us = request["until_us"]
    is_new = serving.config_name == request["config_name"]
    fault = _fault(request, serving, is_new=is_new)
    if fault is not None:
        return decided(
            RolloutFailed,
            time_us,
            **about,
            serving_digest=serving.digest,
            reason=fault,
        )
    if is_new:
        return decided(
            ChampionPromoted,
            time_us,
            **about,
            artifact_uri=request["artifact_uri"],
            endpoint_name=request["endpoint_name"],
            config_name=request["config_name"],
        )
    why = (
        serving.reason
        or f"{serving.config_name} serves again instead of {request['config_name']}: "
        "SageMaker rolled the update back"
    )
    return decided(
        RolloutRolledBack, time_us, **about, serving_digest=serving.digest, reason=why
    )


def _fault(request: Mapping[str, Any], serving: Serving, *, is_new: bool) -> str | None:
    """Return why a rollout neither took over nor was rolled back; None if it did."""
    refusal = request["refusal"].get("Cause") or request["refusal"].get("Error")
    if serving.status != IN_SERVICE:
        where = f"the endpoint is {serving.status or 'not there'}"
        return ": ".join([where, *filter(None, [serving.reason, refusal])])
    if not is_new and refusal:
        return f"the update was refused: {refusal}"
    if serving.digest is None:
        return f"{serving.config_name} is in service, but does not answer a probe"
    if is_new and serving.declared != request["artifact_digest"]:
        return f"the model of {serving.config_name} was created for {serving.declared}"
    if is_new and serving.digest != request["artifact_digest"]:
        return f"{serving.config_name} is in service, but {serving.digest} answers"
    return None


def started(
    request: Mapping[str, Any], names: Mapping[str, str], lifecycle: Lifecycle
) -> Decided | None:
    """Say that a rollout begins; None if that is recorded.

    Parameters
    ----------
    names
        ``endpoint_name`` and ``config_name``.
    """
    if lifecycle.has(request["run_id"], "rollout_started"):
        return None
    return decided(
        RolloutStarted,
        request["until_us"],
        pipeline=request["pipeline"],
        run_id=request["run_id"],
        artifact_digest=request["artifact_digest"],
        **names,
    )


def refused(
    request: Mapping[str, Any], why: str, lifecycle: Lifecycle
) -> Decided | None:
    """Say that an artifact may not take over; None if the run has ended already."""
    if request["run_id"] in lifecycle.ended:
        return None
    champion = lifecycle.champion
    return decided(
        RolloutFailed,
        request["until_us"],
        pipeline=request["pipeline"],
        run_id=request["run_id"],
        artifact_digest=request["artifact_digest"],
        serving_digest=champion.artifact_digest if champion else None,
        reason=why,
    )


def spoken(lifecycle: Lifecycle, run_id: str) -> str:
    """Return how a rollout ended: ``promoted``, ``rolled_back`` or ``failed``."""
    if lifecycle.has(run_id, "champion_promoted"):
        return "promoted"
    if lifecycle.has(run_id, "rollout_rolled_back"):
        return "rolled_back"
    return "failed"


def superseded(configs: Sequence[str], named: Collection[str | None]) -> list[str]:
    """Return configurations of earlier rollouts that may be removed, oldest first.

    The newest `KEPT_CONFIGS` stay, to go back to by hand, and so does whatever an
    endpoint names. Of the rest only the newest `TIDIED_CONFIGS` are told: those before
    them were told at earlier promotions.

    Examples
    --------
    >>> superseded(["a", "b", "c", "d", "e", "f"], {"f", "b-async", "c"})
    ['a']
    """
    return [
        name
        for name in configs[:-KEPT_CONFIGS][-TIDIED_CONFIGS:]
        if name not in named and asynchronous_name(name) not in named
    ]


def check_deployable(artifact: Artifact, pipeline: Pipeline) -> None:
    """Refuse an artifact that this deployment could not serve.

    Raises
    ------
    ArtifactRefusedError
        It is another pipeline's, of another feature definition, or no model.
    """
    artifact.definition_in(pipeline)
    artifact.scorer.score([probe_of(artifact)[name] for name in artifact.features])
