"""What the lifecycle store says of a pipeline, for commands that wait and tell."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from retrodict.lifecycle import Recorded
from retrodict.stamps import to_text
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore

from cli.target import Target


def recorded(target: Target, pipeline: str) -> Sequence[Recorded]:
    """Return every decision about a pipeline, oldest first."""
    store = DynamoDBLifecycleStore(
        target.client("dynamodb"), target.outputs["LifecycleTableName"]
    )
    return store.read(pipeline)


_SENTENCES: Final[Mapping[str, str]] = {
    "retraining_started": "retraining started ({trigger}): {reason}",
    "retraining_declined": "retraining declined ({reason_code}): {reason}",
    "training_set_built": "training set {training_set}: {fit_rows} rows to fit, "
    "{held_out_rows} held out, {judging_rows} to judge",
    "training_set_refused": "training set refused ({gate}): {reason}",
    "candidate_judged": "candidate {artifact_digest} {passed}: {reason}",
    "candidate_registered": "candidate {artifact_digest} registered",
    "rollout_started": "rollout of {artifact_digest} started on {endpoint_name}",
    "champion_promoted": "champion is {artifact_digest}: verified on {endpoint_name}",
    "rollout_rolled_back": "rollout of {artifact_digest} rolled back, {serving_digest} "
    "serves: {reason}",
    "rollout_failed": "rollout of {artifact_digest} failed: {reason}",
    "run_failed": "run failed in {state}: {error}: {cause}",
    "projection_verified": "projection of {feature_set} equals the log: {items} items, "
    "definition {definition}",
    "projection_withdrawn": "projection of definition {definition} is not read: "
    "{reason}",
}


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """Return one decision as a person would tell it; digests are shortened.

    Examples
    --------
    >>> sentence("candidate_registered", {"artifact_digest": "sha256:" + "ab" * 32})
    'candidate abababab registered'
    """
    return _SENTENCES[kind].format_map({k: _shown(v) for k, v in data.items()})


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "passed" if value else "refused"
    text = "nothing" if value is None else str(value)
    return text[7:15] if text.startswith("sha256:") else text


def line(kind: str, data: Mapping[str, Any], time_us: int) -> str:
    """Return one decision with its time."""
    return f"{to_text(time_us)[:19]}  {sentence(kind, data)}"
