"""Keep validated events in the log.

Invoked by
    The event source mapping of the Kinesis stream `events`.
Reads, then appends to
    The event log bucket, one Parquet segment an event type and batch; the quarantine
    bucket what is no event.
Fails with
    ``SegmentCollisionError`` when a segment's name holds other events. Where AWS
    refuses, the batch is asked for again: a segment's name belongs to its records.

Environment variables
---------------------
EVENT_LOG_BUCKET_NAME : str
    Name of the log's bucket.
QUARANTINE_BUCKET_NAME : str
    Name of the quarantine bucket.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.envelope import StampedEvent
from retrodict.errors import TransientError
from retrodict.pipeline import load_catalog
from retrodict.ports import EventLog, Quarantine
from retrodict_aws.clients import client
from retrodict_aws.kinesis_batch import (
    BatchResponse,
    DeliveredRecord,
    again_from,
    delivered,
    done,
    segment_name,
)
from retrodict_aws.kinesis_event_stream import read_batches
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[EventLog, Quarantine]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        S3EventLog(
            client("s3"),
            os.environ["EVENT_LOG_BUCKET_NAME"],
            contracts=load_catalog().contracts,
        ),
        S3Quarantine(client("s3"), os.environ["QUARANTINE_BUCKET_NAME"]),
    )


def handle(
    records: list[DeliveredRecord], log: EventLog, quarantine: Quarantine
) -> int:
    """Append one segment an event type and return the number of events."""
    batches, unreadable = read_batches(records)
    if unreadable:
        quarantine.put(f"{segment_name(records)}-log", unreadable)
    by_type: dict[str, list[StampedEvent]] = {}
    for _, batch in batches:
        for event in batch.events:
            by_type.setdefault(event.type, []).append(event)
    for event_type, events in sorted(by_type.items()):
        log.append(f"type={event_type}/{segment_name(records)}", events)
    return sum(map(len, by_type.values()))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    records = delivered(event)
    metrics.set_timestamp(records[-1].arrived_at_us // 1000)
    try:
        count = handle(records, *ports())
    except TransientError as error:
        logger.warning("batch not finished", extra={"cause": str(error)})
        metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
        return again_from(records[0].sequence_number)
    metrics.add_metric("ArchivedEvents", MetricUnit.Count, count)
    return done()
