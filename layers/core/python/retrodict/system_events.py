"""The events that every pipeline shares: drift, requests, predictions and labels.

They enter by the same door as readings, and are validated, logged and replayed alike.
Lifecycle decisions, which are events too, are in `retrodict.lifecycle`.
"""

from typing import Final

from retrodict.contracts import Event, Key, field

PIPELINE_NAME: Final = r"[a-z][a-z0-9_]{0,62}"
ARTIFACT_DIGEST: Final = r"sha256:[0-9a-f]{64}"

MODES: Final = ("realtime", "async", "batch", "stream", "probe")
"""How a prediction was asked for; a probe is the pipeline's own look at a rollout."""


class DriftDetected(Event, type="retrodict.drift.detected", version=1):
    """An alarm says that the log has moved away from what the champion learned."""

    pipeline: Key[str] = field(pattern=PIPELINE_NAME, example="sensor_anomaly")
    alarm: str = field(max_length=255, description="Name of the CloudWatch alarm.")
    feature: str = field(max_length=255, description="Feature, or `score`.")
    statistic: str = field(max_length=64, example="psi")
    value: float = field(description="Statistic of the window, see its definition.")
    threshold: float = field(description="Calibrated on past windows of the log.")
    sample_size: int = field(ge=0, unit="{event}", description="Rows of the window.")
    window_until_us: int = field(ge=0, unit="us", description="End of the window.")


class RetrainingRequested(Event, type="retrodict.retraining.requested", version=1):
    """A person or a schedule asks for a new champion."""

    pipeline: Key[str] = field(pattern=PIPELINE_NAME, example="sensor_anomaly")
    trigger: str = field(enum=("person", "schedule", "performance", "volume"))
    reason: str = field(max_length=1_024)
    options: str = field(
        default="{}",
        max_length=4_096,
        description="Options of the model's `fit`, a JSON object.",
        example="{}",
    )


class PredictionMade(Event, type="retrodict.prediction.made", version=1):
    """One answer of a model, and everything needed to make it again."""

    entity: Key[str] = field(max_length=256, description="Key the score is about.")
    prediction_id: str = field(pattern=r"[0-9a-f]{32}", example="0" * 32)
    pipeline: str = field(pattern=PIPELINE_NAME, example="sensor_anomaly")
    mode: str = field(enum=MODES)
    score: float = field(description="Greater is more anomalous.")
    threshold: float = field(description="Decision boundary: score >= threshold.")
    is_alert: bool = field(description="The decision.")
    is_onset: bool | None = field(
        default=None, description="First alert of a stretch; null where not known."
    )
    artifact_digest: str = field(pattern=ARTIFACT_DIGEST, example=f"sha256:{'0' * 64}")
    as_of_us: int = field(ge=0, unit="us", description="Time the features are at.")
    position: str | None = field(
        default=None,
        max_length=128,
        description="Applied position; null where features came with the request.",
    )
    features: str = field(
        max_length=65_536, description="Feature values, a JSON object.", example="{}"
    )
    latency_us: int | None = field(
        default=None, ge=0, unit="us", description="From request to answer."
    )


class LabelGiven(Event, type="retrodict.label.given", version=1):
    """The truth about one reading, as somebody found out later.

    It names a prediction, or the time of an event of its key.
    """

    entity: Key[str] = field(max_length=256)
    is_anomaly: bool = field(description="The truth.")
    prediction_id: str | None = field(
        default=None, pattern=r"[0-9a-f]{32}", example="0" * 32
    )
    at_us: int | None = field(
        default=None, ge=0, unit="us", description="Time of the event it is about."
    )


class RateExceeded(Event, type="retrodict.rate.exceeded", version=1):
    """A key sent more than its feature set declared, so events were not folded.

    They are in the log, and whole in the quarantine.
    """

    entity: Key[str] = field(max_length=256, description="Key that sent too fast.")
    pipeline: str = field(pattern=PIPELINE_NAME, example="sensor_anomaly")
    feature_set: str = field(max_length=255, example="Sensor")
    event_type: str = field(max_length=255, example="sensor.reading")
    max_rate: str = field(max_length=64, description="As declared.", example="2/s")
    events: int = field(ge=1, unit="{event}", description="How many were not folded.")
    first_position: str = field(max_length=128, description="Position of the first.")


SYSTEM_EVENTS: Final[tuple[type[Event], ...]] = (
    DriftDetected,
    RetrainingRequested,
    PredictionMade,
    LabelGiven,
    RateExceeded,
)
