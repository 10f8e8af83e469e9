"""The one policy that decides whether to retrain; every "no" is an event too."""

from dataclasses import dataclass
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.lifecycle import (
    Decided,
    Lifecycle,
    Recorded,
    RetrainingDeclined,
    RetrainingStarted,
    decided,
    run_id_of,
)
from retrodict.model import Model
from retrodict.stamps import to_text
from retrodict.system_events import DriftDetected, RetrainingRequested

DAY_US: Final = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for retraining.

    Attributes
    ----------
    event_id
        Id of the event that asks.
    observed_at_us
        When it became known, microseconds; the policy's only clock.
    trigger
        Kind of asker: ``drift``, ``person``, ``schedule``, …
    options
        Options of the fit, a JSON object.
    """

    pipeline: str
    event_id: str
    observed_at_us: int
    trigger: str
    reason: str
    options: str = "{}"


def decide(ask: Ask, lifecycle: Lifecycle, model: Model | None) -> Decided | None:
    """Answer a request; None if it has its answer already.

    A retraining starts unless one is under way, one started within the cool-down, or
    the budget of the last 24 hours is used up. A run that was silent for a day
    (`SILENT_RUN_US`) is under way no longer. A pipeline without a champion is asked
    about like any other: it has no cool-down until its first run has started.

    "Now" is when the asking event became known, never a clock: the same request gives
    the same answer however often and however late it is delivered.

    Parameters
    ----------
    model
        What the pipeline declares; None where it has no model, or is not deployed.

    Returns
    -------
    Decided | None
        ``retraining_started`` or ``retraining_declined``.
    """
    if ask.event_id in lifecycle.answered:
        return None
    refusal = _refusal(ask.observed_at_us, lifecycle, model)
    if refusal is not None:
        code, reason = refusal
        return decided(
            RetrainingDeclined,
            ask.observed_at_us,
            ask.event_id,
            pipeline=ask.pipeline,
            trigger=ask.trigger,
            reason_code=code,
            reason=reason,
        )
    return decided(
        RetrainingStarted,
        ask.observed_at_us,
        ask.event_id,
        pipeline=ask.pipeline,
        run_id=run_id_of(ask.pipeline, ask.event_id),
        trigger=ask.trigger,
        reason=ask.reason,
        until_us=ask.observed_at_us,
        options=ask.options,
    )


def _refusal(
    now_us: int, lifecycle: Lifecycle, model: Model | None
) -> tuple[str, str] | None:
    """Return code and sentence of a "no", or None for a yes."""
    if model is None:
        return "no_model", "no pipeline of that name with a model is deployed"
    policy = model.retraining
    run = lifecycle.active_run(now_us)
    if run is not None:
        return (
            "already_running",
            f"{run.run_id} runs since {to_text(run.started_us)[:19]}",
        )
    if lifecycle.starts_us and now_us - lifecycle.starts_us[-1] < policy.cool_down_us:
        began = to_text(lifecycle.starts_us[-1])[:19]
        return (
            "cool_down",
            f"the last one began {began}, less than {policy.cool_down} ago",
        )
    today = [start for start in lifecycle.starts_us if now_us - start < DAY_US]
    if len(today) >= policy.daily_budget:
        return (
            "daily_budget",
            f"{len(today)} began in the last 24 h, the budget is {policy.daily_budget}",
        )
    return None


ASKS: Final = tuple(
    event.contract().type for event in (DriftDetected, RetrainingRequested)
)
"""Types of the events that ask for retraining."""


def ask_of(event: StampedEvent) -> Ask | None:
    """Return what an event asks for, or None if it asks for no retraining."""
    data = event.data
    if event.type == DriftDetected.contract().type:
        return Ask(
            pipeline=event.key,
            event_id=event.id,
            observed_at_us=event.observed_at_us,
            trigger="drift",
            reason=f"{data['statistic']} of {data['feature']} is {data['value']:.4g} "
            f"over {data['sample_size']} rows, the threshold {data['threshold']:.4g}",
        )
    if event.type == RetrainingRequested.contract().type:
        return Ask(
            pipeline=event.key,
            event_id=event.id,
            observed_at_us=event.observed_at_us,
            trigger=data["trigger"],
            reason=data["reason"],
            options=data["options"],
        )
    return None


def run_input(
    ask: Ask, before: Lifecycle, recorded: Recorded | None
) -> dict[str, Any] | None:
    """Return the input of the run that a request started, now or when it came before.

    A crash between the decision and the start of the execution is healed by
    redelivery: the request has its answer then, and the run is started again under
    its own name. None where the answer was no, or the run has ended.
    """
    if recorded is not None:
        is_started = recorded.kind == "retraining_started"
    else:
        run_id = before.answered.get(ask.event_id)
        is_started = before.run is not None and before.run.run_id == run_id
    if not is_started:
        return None
    return {
        "pipeline": ask.pipeline,
        "run_id": run_id_of(ask.pipeline, ask.event_id),
        "until_us": ask.observed_at_us,
        "options": ask.options,
    }
