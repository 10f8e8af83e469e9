"""Merge the log's small segments, a day of arrival at a time.

Invoked by
    An EventBridge schedule, daily.
Reads, then appends to
    The event log bucket: merged segments, and a day later, when they were read back
    once more, deletes what they replace; the quarantine bucket, events whose identity
    had another payload; CloudWatch, by the embedded metric format.
Fails with
    ``LogConflictError`` after everything else was done, when a day was left as it is;
    ``StoreUnavailableError``, which may be tried again.

Environment variables
---------------------
EVENT_LOG_BUCKET_NAME, QUARANTINE_BUCKET_NAME : str
IDENTITY_LOOKBACK_DAYS : int
    How far a reused identity is looked for beside its own day, d.
"""

import os
from datetime import datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.compaction import CompactionReport, compact_log
from retrodict.errors import LogConflictError
from retrodict.pipeline import load_catalog
from retrodict.ports import Quarantine, SegmentStore
from retrodict.stamps import from_datetime
from retrodict_aws.clients import client
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine

logger, metrics, tracer = Logger(), Metrics(), Tracer()
LEFT_MS = 300_000
"""A day of arrival is not begun with less time than this left, ms."""


@cache
def ports() -> tuple[SegmentStore, Quarantine]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        S3EventLog(
            client("s3"),
            os.environ["EVENT_LOG_BUCKET_NAME"],
            contracts=load_catalog().contracts,
        ),
        S3Quarantine(client("s3"), os.environ["QUARANTINE_BUCKET_NAME"]),
    )


def emit(report: CompactionReport) -> None:
    """Write what was done as metrics and lines of the log."""
    for done in report.compacted:
        about = {
            "type": done.event_type,
            "arrived": done.arrived,
            "sha256": done.digest,
        }
        logger.info("compacted", extra={**about, "events": done.events})
    for name, count in {
        "MergedSegments": sum(len(done.written) for done in report.compacted),
        "DeletedSegments": sum(len(done.deleted) for done in report.compacted),
        "ReusedIdentities": report.conflicts,
        "IdentitiesAcrossKeys": report.across_keys,
        "UnfinishedPartitions": report.unfinished,
    }.items():
        metrics.add_metric(name, MetricUnit.Count, count)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Translate the Lambda event; everything else is in `compact_log`."""
    now_us = from_datetime(datetime.fromisoformat(event["time"]))
    metrics.set_timestamp(now_us // 1000)
    report = compact_log(
        *ports(),
        now_us,
        lookback_days=int(os.environ["IDENTITY_LOOKBACK_DAYS"]),
        has_time=lambda: context.get_remaining_time_in_millis() > LEFT_MS,
    )
    emit(report)
    if report.failures:
        raise LogConflictError("; ".join(report.failures[:10]))
    return {"partitions": len(report.compacted), "unfinished": report.unfinished}
