"""Everything a report tells of one pipeline, read once from the log and the metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from retrodict.envelope import StampedEvent
from retrodict.pipeline import Pipeline
from retrodict.rejection import NOT_FOLDED
from retrodict.stamps import from_datetime
from retrodict.system_events import DriftDetected, LabelGiven, PredictionMade
from retrodict_aws.s3_quarantine import S3Quarantine

from cli.history import History
from cli.target import Target

PREDICTION: Final = PredictionMade.contract().type
DRIFT: Final = DriftDetected.contract().type
LABEL: Final = LabelGiven.contract().type
LIFECYCLE: Final = "retrodict.lifecycle."
NAMESPACE: Final = "Retrodict"
_STRETCH: Final = timedelta(days=59)
"""As many hours as CloudWatch returns points in one answer."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One lifecycle event.

    Attributes
    ----------
    kind
        Without the common prefix, such as ``champion_promoted``.
    """

    kind: str
    time_us: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DriftSeries:
    """A drift statistic over time; `ratio` is value over threshold, shape (n,)."""

    feature: str
    statistic: str
    times_us: Sequence[int]
    ratio: Sequence[float]


@dataclass(frozen=True)
class Story:
    """What happened to one pipeline.

    Attributes
    ----------
    readings
        Events that the model's features read, as sent, shape (n,).
    predictions
        Each prediction once, shape (n,).
    quarantined
        Rejected records by reason code.
    rejected, refused
        How many there are, and how many of them the log does not hold: what reuses an
        identity or comes too fast is logged first and not folded.
    """

    pipeline: Pipeline
    history: History
    readings: Sequence[StampedEvent]
    predictions: Sequence[StampedEvent]
    decisions: Sequence[Decision]
    drift_events: Sequence[StampedEvent]
    labels: Sequence[StampedEvent]
    drift: Sequence[DriftSeries]
    quarantined: Counter[str]
    rejected: int
    refused: int

    def of(self, kind: str) -> list[Decision]:
        """Return the decisions of one kind, oldest first."""
        return [d for d in self.decisions if d.kind == kind]


def read_story(target: Target, pipeline: Pipeline, history: History) -> Story:
    """Read the story of `pipeline` from a deployment and its log."""
    read = pipeline.trained_on.event.contract().type
    own = [p for p in history.once(PREDICTION) if p.data["pipeline"] == pipeline.name]
    rejected = _rejected(target)
    readings = history.all(read)
    since_us = min((r.observed_at_us for r in readings), default=target.now_us())
    return Story(
        pipeline=pipeline,
        history=history,
        readings=readings,
        predictions=own,
        decisions=_decisions(history, pipeline.name),
        drift_events=[e for e in history.once(DRIFT) if e.key == pipeline.name],
        labels=history.once(LABEL),
        drift=_drift(target, pipeline.name, since_us),
        quarantined=Counter(code for codes in rejected for code in set(codes)),
        rejected=len(rejected),
        refused=sum(not NOT_FOLDED.intersection(codes) for codes in rejected),
    )


def _decisions(history: History, pipeline: str) -> list[Decision]:
    found = [
        Decision(event.type.removeprefix(LIFECYCLE), event.time_us, event.data)
        for event_type in history.types()
        if event_type.startswith(LIFECYCLE)
        for event in history.once(event_type)
        if event.key == pipeline
    ]
    order = {
        (e.type.removeprefix(LIFECYCLE), e.time_us): _version(e.id)
        for event_type in history.types()
        if event_type.startswith(LIFECYCLE)
        for e in history.once(event_type)
    }
    return sorted(found, key=lambda d: order[d.kind, d.time_us])


def _version(event_id: str) -> int:
    """Return the place of a decision in its stream: ids end with it."""
    return int(event_id.rpartition("-")[2])


def _rejected(target: Target) -> list[list[str]]:
    kept = S3Quarantine(target.client("s3"), target.outputs["QuarantineBucketName"])
    unique = {(d["position"], d["sha256"]): d["codes"] for d in kept.read()}
    return list(unique.values())


def _drift(target: Target, pipeline: str, since_us: int) -> list[DriftSeries]:
    """Return every drift ratio that was measured since then, from CloudWatch."""
    cloudwatch = target.client("cloudwatch")
    wanted = [
        {"Name": "environment", "Value": target.environment},
        {"Name": "pipeline", "Value": pipeline},
    ]
    metrics = [
        metric
        for page in cloudwatch.get_paginator("list_metrics").paginate(
            Namespace=NAMESPACE, MetricName="DriftRatio", Dimensions=wanted
        )
        for metric in page["Metrics"]
    ]
    since, until = (
        datetime.fromtimestamp(us / 1e6, UTC) for us in (since_us, target.now_us())
    )
    found = []
    for metric in metrics:
        about = {d["Name"]: d["Value"] for d in metric["Dimensions"]}
        points = _points(cloudwatch, metric, since, until)
        found.append(
            DriftSeries(
                feature=about["feature"],
                statistic=about["statistic"],
                times_us=[from_datetime(time) for time, _ in points],
                ratio=[value for _, value in points],
            )
        )
    return sorted(found, key=lambda s: (s.feature, s.statistic))


def _points(
    cloudwatch: Any, metric: Mapping[str, Any], since: datetime, until: datetime
) -> list[tuple[datetime, float]]:
    found = {}
    while since < until:
        points = cloudwatch.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=metric["MetricName"],
            Dimensions=metric["Dimensions"],
            StartTime=since,
            EndTime=min(since + _STRETCH, until),
            Period=3_600,
            Statistics=["Maximum"],
        )["Datapoints"]
        found.update({point["Timestamp"]: point["Maximum"] for point in points})
        since += _STRETCH
    return sorted(found.items())
