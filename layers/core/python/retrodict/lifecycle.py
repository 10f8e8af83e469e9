"""What was decided about a pipeline's models: events of one aggregate, and their fold.

The events are contracts like any other: they are appended to the lifecycle store with
optimistic concurrency, flow from there through ingest into the log, and say by
themselves which artifact serves, what runs, and why.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import Any, Final

from retrodict.contracts import Event, Key, field
from retrodict.errors import DecisionRefusedError, EventFormatError
from retrodict.reasons import Violation
from retrodict.stamps import to_text
from retrodict.system_events import ARTIFACT_DIGEST, PIPELINE_NAME

SOURCE: Final = "urn:retrodict:lifecycle"
PREFIX: Final = "retrodict.lifecycle."
SILENT_RUN_US: Final = 86_400 * 1_000_000
"""A run that was silent for a day counts as ended, so none can block for ever."""

_NO_CAUSE: Final = "none given"
_EXAMPLE_DIGEST: Final = f"sha256:{'0' * 64}"
_DEFINITION: Final = r"[0-9a-f]{64}"
_EXAMPLE_DEFINITION: Final = "0" * 64
_RUN: Final = r"[A-Za-z0-9-]{1,48}"


def _pipeline() -> Any:
    return field(pattern=PIPELINE_NAME, example="sensor_anomaly")


def _run() -> Any:
    return field(pattern=_RUN, example="run-0123456789abcdef")


def _digest() -> Any:
    return field(pattern=ARTIFACT_DIGEST, example=_EXAMPLE_DIGEST)


def _maybe_digest() -> Any:
    return field(default=None, pattern=ARTIFACT_DIGEST, example=_EXAMPLE_DIGEST)


def _definition() -> Any:
    return field(pattern=_DEFINITION, example=_EXAMPLE_DEFINITION)


class RetrainingStarted(Event, type=f"{PREFIX}retraining_started", version=1):
    """The policy said yes; a run begins."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    trigger: str = field(max_length=64, description="What asked: drift, person, …")
    reason: str = field(max_length=1_024)
    until_us: int = field(ge=0, unit="us", description="Cut of the training set.")
    options: str = field(max_length=4_096, example="{}")


class RetrainingDeclined(Event, type=f"{PREFIX}retraining_declined", version=1):
    """The policy said no, and why."""

    pipeline: Key[str] = _pipeline()
    trigger: str = field(max_length=64)
    reason_code: str = field(
        enum=("cool_down", "daily_budget", "already_running", "no_model")
    )
    reason: str = field(max_length=1_024)


class TrainingSetBuilt(Event, type=f"{PREFIX}training_set_built", version=1):
    """The rows of a run are frozen."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    training_set: str = field(pattern=ARTIFACT_DIGEST, example=_EXAMPLE_DIGEST)
    uri: str = field(max_length=1_024)
    fit_rows: int = field(ge=0)
    held_out_rows: int = field(ge=0)
    judging_rows: int = field(ge=0)
    from_us: int = field(ge=0, unit="us")
    until_us: int = field(ge=0, unit="us")
    last_position: str = field(max_length=128)


class TrainingSetRefused(Event, type=f"{PREFIX}training_set_refused", version=1):
    """The rows cannot carry a model; no job was started."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    gate: str = field(max_length=64)
    reason: str = field(max_length=1_024)


class CandidateJudged(Event, type=f"{PREFIX}candidate_judged", version=1):
    """A candidate was compared with the champion on the same frozen rows."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    champion_digest: str | None = _maybe_digest()
    passed: bool
    reason: str = field(max_length=1_024)
    basis: str = field(max_length=64, description="Whose anomalies: injected, labels.")
    roc_auc: float
    pr_auc: float
    alert_rate: float
    champion_roc_auc: float | None = None
    champion_pr_auc: float | None = None
    agreement: float | None = field(
        default=None, description="Share of rows both decide alike."
    )


class CandidateRegistered(Event, type=f"{PREFIX}candidate_registered", version=1):
    """A candidate that passed is in the model registry."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    artifact_uri: str = field(max_length=1_024)
    model_package_arn: str = field(max_length=512)


class RolloutStarted(Event, type=f"{PREFIX}rollout_started", version=1):
    """An artifact was verified and begins to take over."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    endpoint_name: str = field(max_length=63)
    config_name: str = field(max_length=63)


class ChampionPromoted(Event, type=f"{PREFIX}champion_promoted", version=1):
    """The artifact was seen serving on the endpoint."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    artifact_uri: str = field(max_length=1_024)
    endpoint_name: str = field(max_length=63)
    config_name: str = field(max_length=63)


class RolloutRolledBack(Event, type=f"{PREFIX}rollout_rolled_back", version=1):
    """An alarm rang; what served before was seen serving again."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    serving_digest: str | None = _maybe_digest()
    reason: str = field(max_length=1_024)


class RolloutFailed(Event, type=f"{PREFIX}rollout_failed", version=1):
    """The artifact was refused, or the endpoint did not come up."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    artifact_digest: str = _digest()
    serving_digest: str | None = _maybe_digest()
    reason: str = field(max_length=1_024)


class RunFailed(Event, type=f"{PREFIX}run_failed", version=1):
    """A step of a run broke; its execution ends as failed."""

    pipeline: Key[str] = _pipeline()
    run_id: str = _run()
    state: str = field(max_length=128)
    error: str = field(max_length=256)
    cause: str = field(max_length=2_048)


class ProjectionVerified(Event, type=f"{PREFIX}projection_verified", version=1):
    """The online items of a feature definition were seen to equal the log."""

    pipeline: Key[str] = _pipeline()
    feature_set: str = field(max_length=128, example="Sensor")
    definition: str = _definition()
    items: int = field(ge=1)
    digest: str = field(
        pattern=_DEFINITION,
        example=_EXAMPLE_DEFINITION,
        description="Of every byte of the items, each the fold of the log up to its "
        "position.",
    )
    position: str = field(
        max_length=128, description="The newest that an item has applied."
    )


class ProjectionWithdrawn(Event, type=f"{PREFIX}projection_withdrawn", version=1):
    """What was verified of a projection holds no longer."""

    pipeline: Key[str] = _pipeline()
    definition: str = _definition()
    reason: str = field(max_length=1_024)


LIFECYCLE_EVENTS: Final[tuple[type[Event], ...]] = (
    RetrainingStarted,
    RetrainingDeclined,
    TrainingSetBuilt,
    TrainingSetRefused,
    CandidateJudged,
    CandidateRegistered,
    RolloutStarted,
    ChampionPromoted,
    RolloutRolledBack,
    RolloutFailed,
    RunFailed,
    ProjectionVerified,
    ProjectionWithdrawn,
)
_CONTRACTS: Final = {
    event.contract().type.removeprefix(PREFIX): event for event in LIFECYCLE_EVENTS
}
_TRAINS: Final = {"retraining_started", "training_set_built", "candidate_judged"}
_ENDS_A_RUN: Final = {
    "training_set_refused", "champion_promoted", "rollout_rolled_back",
    "rollout_failed", "run_failed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that is not recorded yet.

    Attributes
    ----------
    kind
        Type of the event without the common prefix, such as ``champion_promoted``.
    time_us
        Time of what it was decided on, microseconds.
    causation_id
        Id of the event that it was decided on.
    """

    kind: str
    time_us: int
    data: Mapping[str, Any]
    causation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision with its place in the stream of its pipeline; 1 is the first."""

    version: int
    kind: str
    time_us: int
    data: Mapping[str, Any]
    causation_id: str | None = None


def decided(
    event: type[Event], time_us: int, causation_id: str | None = None, **data: Any
) -> Decided:
    """Return a decision that keeps the contract of `event`.

    Texts longer than their field are cut: a cause may be a whole stack trace.

    Raises
    ------
    EventFormatError
        The data breaks the contract: a mistake of ours.
    """
    contract = event.contract()
    limits = {f.name: f.options.max_length for f in contract.fields}
    fitted = {
        name: value[: limits[name]]
        if isinstance(value, str) and limits.get(name) is not None
        else value
        for name, value in data.items()
    }
    wrong: list[Violation] = []
    values, _ = contract.check(fitted, wrong)
    if wrong:
        raise EventFormatError(f"{contract.type}: {wrong[0]}")
    return Decided(contract.type.removeprefix(PREFIX), time_us, values, causation_id)


def run_id_of(pipeline: str, event_id: str) -> str:
    """Return the id of the run that an event asks for; the same event, the same run.

    Examples
    --------
    >>> run_id_of("sensor_anomaly", "1")
    'run-950d26bd09b6f136'
    """
    digest = hashlib.sha256(f"{pipeline}\n{event_id}".encode()).hexdigest()
    return f"run-{digest[:16]}"


@dataclass(frozen=True, slots=True)
class Champion:
    """What serves, as far as the last verified rollout says."""

    artifact_digest: str
    artifact_uri: str
    endpoint_name: str
    config_name: str
    promoted_us: int


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that has not ended."""

    run_id: str
    started_us: int
    heard_us: int


@dataclass(frozen=True, slots=True)
class Decline:
    """The last "no" of the policy."""

    time_us: int
    reason_code: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The last word on a projection that equals the log.

    Attributes
    ----------
    digest
        Of its items.
    position
        The newest that an item had applied.
    """

    digest: str
    position: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The fold of a pipeline's decisions.

    Attributes
    ----------
    version
        Of the newest decision; 0 for none.
    run
        The retraining that has not ended, as far as it was heard of.
    starts_us
        When retrainings started, oldest first, microseconds, shape (n,).
    answered
        Ids of the requests that were answered, with the run they started or None.
    kinds
        Kinds of decision by run.
    passed
        Digest of the artifact that passed judgement, by run.
    rolling
        Digest of the artifact whose rollout started, by run.
    ended
        Kind of the decision that ended a run, by run.
    configs
        Endpoint configurations of the rollouts, oldest first, shape (n,).
    verified
        How the projection of a definition was seen to equal the log, by digest of the
        definition; None where that was withdrawn.
    """

    version: int = 0
    run: ActiveRun | None = None
    champion: Champion | None = None
    last_decline: Decline | None = None
    starts_us: tuple[int, ...] = ()
    answered: Mapping[str, str | None] = attribute(default_factory=dict)
    kinds: Mapping[str, frozenset[str]] = attribute(default_factory=dict)
    passed: Mapping[str, str] = attribute(default_factory=dict)
    rolling: Mapping[str, str] = attribute(default_factory=dict)
    ended: Mapping[str, str] = attribute(default_factory=dict)
    configs: tuple[str, ...] = ()
    verified: Mapping[str, Verified | None] = attribute(default_factory=dict)

    def has(self, run_id: str, kind: str) -> bool:
        """Return whether a run has a decision of a kind."""
        return kind in self.kinds.get(run_id, frozenset())

    def active_run(self, now_us: int) -> ActiveRun | None:
        """Return the run under way; one that was silent for a day has ended."""
        if self.run is None or now_us - self.run.heard_us > SILENT_RUN_US:
            return None
        return self.run


def replay(
    events: Iterable[Recorded], *, snapshot: Lifecycle | None = None
) -> Lifecycle:
    """Fold decisions, oldest first, onto `snapshot`.

    Examples
    --------
    >>> replay([]).champion is None
    True
    """
    fold = _Fold(snapshot or Lifecycle())
    for event in events:
        fold.absorb(event)
    return fold.lifecycle()


def evolve(lifecycle: Lifecycle, event: Recorded) -> Lifecycle:
    """Return the fold with one more decision; `lifecycle` stays as it is."""
    return replay([event], snapshot=lifecycle)


class _Fold:
    """A lifecycle while it is being folded: copied once, not once a decision."""

    def __init__(self, before: Lifecycle) -> None:
        self._version = before.version
        self._run = before.run
        self._champion = before.champion
        self._last_decline = before.last_decline
        self._starts_us = [*before.starts_us]
        self._answered = {**before.answered}
        self._kinds = {run: set(kinds) for run, kinds in before.kinds.items()}
        self._passed = {**before.passed}
        self._rolling = {**before.rolling}
        self._ended = {**before.ended}
        self._configs = dict.fromkeys(before.configs)
        self._verified = {**before.verified}

    def lifecycle(self) -> Lifecycle:
        return Lifecycle(
            version=self._version,
            run=self._run,
            champion=self._champion,
            last_decline=self._last_decline,
            starts_us=tuple(self._starts_us),
            answered=self._answered,
            kinds={run: frozenset(kinds) for run, kinds in self._kinds.items()},
            passed=self._passed,
            rolling=self._rolling,
            ended=self._ended,
            configs=tuple(self._configs),
            verified=self._verified,
        )

    def absorb(self, event: Recorded) -> None:
        self._version = event.version
        if event.kind == "projection_verified":
            found = Verified(event.data["digest"], event.data["position"])
            self._verified[event.data["definition"]] = found
            return
        if event.kind == "projection_withdrawn":
            self._verified[event.data["definition"]] = None
            return
        run_id = event.data.get("run_id")
        if run_id is None:
            self._last_decline = Decline(event.time_us, event.data["reason_code"])
            if event.causation_id is not None:
                self._answered[event.causation_id] = None
            return
        self._kinds.setdefault(run_id, set()).add(event.kind)
        if event.kind == "retraining_started":
            self._absorb_start(run_id, event)
            return
        if event.kind == "candidate_judged" and event.data["passed"]:
            self._passed[run_id] = event.data["artifact_digest"]
        elif event.kind == "rollout_started":
            self._rolling[run_id] = event.data["artifact_digest"]
            self._configs.pop(event.data["config_name"], None)
            self._configs[event.data["config_name"]] = None
        elif event.kind == "champion_promoted":
            self._absorb_promotion(event)
        self._absorb_end(run_id, event)

    def _absorb_start(self, run_id: str, event: Recorded) -> None:
        self._starts_us.append(event.time_us)
        self._run = ActiveRun(run_id, started_us=event.time_us, heard_us=event.time_us)
        if event.causation_id is not None:
            self._answered[event.causation_id] = run_id

    def _absorb_promotion(self, event: Recorded) -> None:
        self._champion = Champion(
            artifact_digest=event.data["artifact_digest"],
            artifact_uri=event.data["artifact_uri"],
            endpoint_name=event.data["endpoint_name"],
            config_name=event.data["config_name"],
            promoted_us=event.time_us,
        )

    def _absorb_end(self, run_id: str, event: Recorded) -> None:
        run = self._run
        is_heard = run is not None and run.run_id == run_id
        if _ends_a_run(event.kind, event.data):
            self._ended[run_id] = event.kind
            self._run = None if is_heard else run
        elif run is not None and is_heard:
            heard_us = max(run.heard_us, event.time_us)
            self._run = replace(run, heard_us=heard_us)


def _ends_a_run(kind: str, data: Mapping[str, Any]) -> bool:
    is_refused = kind == "candidate_judged" and not data["passed"]
    return is_refused or kind in _ENDS_A_RUN


def check_follows(lifecycle: Lifecycle, decision: Decided) -> None:
    """Refuse a decision that cannot follow from what was decided before.

    Nothing follows the end of a run, but that a step of it broke after the promotion.
    Only what passed judgement is registered. A run that trained rolls out only what
    passed in it, and no more once another run has started; a run that only rolls out
    is a person's, who may take any verified artifact. Only what was rolled out is
    promoted.

    Raises
    ------
    DecisionRefusedError
        The sentence says what is missing or came before.
    """
    why = _obstacle(lifecycle, decision)
    if why is not None:
        run_id = decision.data.get("run_id")
        raise DecisionRefusedError(
            f"{decision.kind} of {run_id} is refused: {why}; read the pipeline's "
            "decisions before asking again"
        )


def _obstacle(lifecycle: Lifecycle, decision: Decided) -> str | None:
    kind, data = decision.kind, decision.data
    run_id = data.get("run_id")
    if run_id is None:
        return None
    end = lifecycle.ended.get(run_id)
    if end is not None and not (end == "champion_promoted" and kind == "run_failed"):
        return f"the run ended with {end}"
    if kind == "retraining_started":
        return None if run_id not in lifecycle.kinds else "the run has started before"
    if kind in {"candidate_registered", "rollout_started"}:
        return _unproven(lifecycle, kind, run_id, data["artifact_digest"])
    if kind in {"champion_promoted", "rollout_rolled_back"} and (
        lifecycle.rolling.get(run_id) != data["artifact_digest"]
    ):
        return f"no rollout of {data['artifact_digest']} was started in it"
    return None


def _unproven(
    lifecycle: Lifecycle, kind: str, run_id: str, artifact_digest: str
) -> str | None:
    """Say what speaks against letting an artifact go on, None for nothing."""
    run = lifecycle.run
    is_superseded = (
        lifecycle.has(run_id, "retraining_started")
        and run is not None
        and run.run_id != run_id
    )
    if is_superseded and run is not None:
        return f"{run.run_id} has started since"
    is_trained = lifecycle.kinds.get(run_id, frozenset()) & _TRAINS
    if kind == "rollout_started" and not is_trained:
        return None
    if lifecycle.passed.get(run_id) != artifact_digest:
        return f"{artifact_digest} has not passed judgement in it"
    return None


def failed(request: Mapping[str, Any], lifecycle: Lifecycle) -> Decided | None:
    """Say that a step of a run broke; None where the run says how it ended already.

    A promotion is no such end: what came after it broke.

    Parameters
    ----------
    request
        ``pipeline``, ``run_id``, ``until_us``, ``state`` and ``failure``, which is
        what a state machine caught: ``Error``, and mostly ``Cause``.
    """
    run_id, failure = request["run_id"], request["failure"]
    if lifecycle.ended.get(run_id, "champion_promoted") != "champion_promoted":
        return None
    return decided(
        RunFailed,
        request["until_us"],
        pipeline=request["pipeline"],
        run_id=run_id,
        state=request["state"],
        error=failure.get("Error") or "unknown",
        cause=_sentence(failure.get("Cause")),
    )


def _sentence(cause: str | None) -> str:
    """Return the message of a cause; Lambda gives it inside a JSON document."""
    try:
        told = json.loads(cause or "null")
    except ValueError:
        return cause or _NO_CAUSE
    message = told.get("errorMessage") if isinstance(told, dict) else None
    return str(message or cause or _NO_CAUSE)


def to_cloudevent(pipeline: str, event: Recorded) -> dict[str, Any]:
    """Return a decision as the CloudEvent that enters by ingest."""
    contract = _CONTRACTS[event.kind].contract()
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{pipeline}-{event.version}",
        "source": SOURCE,
        "type": contract.type,
        "subject": pipeline,
        "time": to_text(event.time_us),
        "dataschema": contract.schema_name(),
        "data": dict(event.data),
    }
    if event.causation_id is not None:
        document["causationid"] = event.causation_id
    if event.data.get("run_id") is not None:
        document["correlationid"] = event.data["run_id"]
    return document
