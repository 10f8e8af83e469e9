"""Measure how far the log has moved from what each champion was trained on.

Invoked by
    An EventBridge schedule.
Reads, then writes to
    The lifecycle store and the artifact bucket, for the champion and its reference;
    streamed predictions in the event log; CloudWatch, by the embedded metric format.
Fails with
    ``StoreUnavailableError``, which may be tried again; ``ArtifactRefusedError``.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME, ENVIRONMENT_NAME, EVENT_LOG_BUCKET_NAME,
LIFECYCLE_TABLE_NAME : str
"""

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.drift import drifted_share
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import EventLog, LifecycleStore
from retrodict.stamps import from_datetime
from retrodict.system_events import PredictionMade
from retrodict.training_run import champion_digest
from retrodict.upcasting import all_newest
from retrodict.watching import Window, measure_window
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.s3_event_log import S3EventLog

logger, tracer = Logger(), Tracer()
PREDICTIONS = PredictionMade.contract().type
KEPT_EVENTS = 200_000
"""At some 3 KB an event, a fifth of the function's memory."""


@cache
def ports() -> tuple[EventLog, LifecycleStore, S3Artifacts]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        S3EventLog(
            client("s3"), os.environ["EVENT_LOG_BUCKET_NAME"], kept_events=KEPT_EVENTS
        ),
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        S3Artifacts(client("s3"), os.environ["ARTIFACT_BUCKET_NAME"]),
    )


def handle(
    pipeline: Pipeline,
    until_us: int,
    log: EventLog,
    store: LifecycleStore,
    artifacts: S3Artifacts,
) -> Window | None:
    """Measure one pipeline's window; None where nothing serves yet."""
    digest = champion_digest(store, pipeline.name)
    if pipeline.model is None or digest is None:
        return None
    width = timedelta(microseconds=pipeline.model.monitor.window_us)
    since = datetime.fromtimestamp(until_us / 1e6, UTC) - width
    predictions = all_newest(
        log.read([PREDICTIONS], arrived_from=since.date()),
        {PREDICTIONS: PredictionMade},
    )
    return measure_window(predictions, artifacts.load(digest), pipeline.model, until_us)


def emit(pipeline: str, window: Window) -> None:
    """Write the measurements as metrics of the window's last second.

    A period's values end before the next period begins, so an alarm that is evaluated
    at the window's end sees them.
    """
    time_ms = window.until_us // 1000 - 1_000
    told = {"environment": os.environ["ENVIRONMENT_NAME"], "pipeline": pipeline}
    for measure in window.measures:
        metrics = EphemeralMetrics(service="")
        metrics.set_timestamp(time_ms)
        about = {**told, "feature": measure.feature, "statistic": measure.statistic}
        for name, text in about.items():
            metrics.add_dimension(name, text)
        for name, value in {
            "DriftRatio": measure.ratio,
            "DriftValue": measure.value,
            "DriftThreshold": measure.threshold,
            "DriftSampleSize": measure.sample_size,
        }.items():
            metrics.add_metric(name, MetricUnit.NoUnit, value)
        metrics.flush_metrics()
    metrics = EphemeralMetrics(service="")
    metrics.set_timestamp(time_ms)
    for name, text in told.items():
        metrics.add_dimension(name, text)
    metrics.add_metric("DriftWindowRows", MetricUnit.Count, window.rows)
    if window.measures:
        metrics.add_metric(
            "DriftShare", MetricUnit.NoUnit, drifted_share(window.measures)
        )
    metrics.flush_metrics()


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, int]:
    """Translate the Lambda event; everything else is in `handle`."""
    until_us = from_datetime(datetime.fromisoformat(event["time"]))
    rows = {}
    for name, pipeline in load_pipelines().items():
        window = handle(pipeline, until_us, *ports())
        if window is not None:
            emit(name, window)
            rows[name] = window.rows
    return rows
