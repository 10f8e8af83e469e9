"""Validate what producers put on the ingest stream.

Invoked by
    The event source mapping of the Kinesis stream `ingest`.
Reads, then appends to
    The Kinesis stream `events`, and the quarantine bucket what breaks its contract.
Fails with
    Nothing on bad input. Where AWS refuses, the batch is asked for again from its
    first record: both effects are the same when repeated.

Environment variables
---------------------
EVENTS_STREAM_NAME : str
    Name of the validated stream.
QUARANTINE_BUCKET_NAME : str
    Name of the quarantine bucket.
"""

import os
from collections import Counter
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.errors import TransientError
from retrodict.pipeline import load_catalog
from retrodict.ports import EventStream, Quarantine
from retrodict.validation import validate_batch
from retrodict_aws.clients import client
from retrodict_aws.kinesis_batch import BatchResponse, DeliveredBatch, again_from, done
from retrodict_aws.kinesis_event_stream import KinesisEventStream
from retrodict_aws.s3_quarantine import S3Quarantine

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[EventStream, Quarantine]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        KinesisEventStream(client("kinesis"), os.environ["EVENTS_STREAM_NAME"]),
        S3Quarantine(client("s3"), os.environ["QUARANTINE_BUCKET_NAME"]),
    )


def handle(
    records: DeliveredBatch, stream: EventStream, quarantine: Quarantine
) -> Counter[str]:
    """Judge every record, keep the rejects, forward the rest in order per key."""
    judged = validate_batch(records, load_catalog())
    if judged.rejected:
        quarantine.put(records.segment_name(judged.places), judged.rejected)
    stream.put(judged.batches)
    return Counter(
        AcceptedRecords=judged.accepted, RejectedRecords=len(judged.rejected)
    )


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    records = DeliveredBatch(event)
    metrics.set_timestamp(records.arrived_at_us(-1) // 1000)
    try:
        counts = handle(records, *ports())
    except TransientError as error:
        logger.warning("batch not finished", extra={"cause": str(error)})
        metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
        return again_from(records.sequence_numbers[0])
    for name, count in counts.items():
        metrics.add_metric(name, MetricUnit.Count, count)
    return done()
