"""Training sets in the simulation, and what they are compared with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pipelines.sensor_anomaly.features import Sensor
from pipelines.sensor_anomaly.model import model
from retrodict.envelope import StampedEvent
from retrodict.model import Gates
from retrodict.pipeline import Pipeline
from retrodict.training_sets import Refusal, TrainingSet
from retrodict_aws.s3_event_log import S3EventLog

from tests.simulation.stores import S3Client
from tests.simulation.world import World

LEARNER: Final = Pipeline(
    "sensor_anomaly",
    features=[Sensor],
    model=replace(
        model,
        features=[Sensor.mean_10m, Sensor.trend, Sensor.change],
        fit_window="1d",
        held_out="5m",
        held_out_rows=10,
        gates=Gates(min_rows=1, max_null_share=1.0),
    ),
)
"""The shipped pipeline, but that a few minutes of readings are enough for a set."""


def log_of(events: Sequence[StampedEvent], segment_events: int = 17) -> S3EventLog:
    """Return a log in which nothing ever failed, cut otherwise, the newest first."""
    log = S3EventLog(S3Client(World(0, {}), immutable=("log",)), "log")
    by_type: dict[str, list[StampedEvent]] = {}
    for event in reversed(events):
        by_type.setdefault(event.type, []).append(event)
    for event_type, several in by_type.items():
        for start in range(0, len(several), segment_events):
            name = f"type={event_type}/arrived=2026-01-05/{start:05}"
            log.append(name, several[start : start + segment_events])
    return log


def digest_of_set(found: TrainingSet | Refusal) -> str:
    """Return what says which set was built, or why none was."""
    return found.digest if isinstance(found, TrainingSet) else repr(found)
