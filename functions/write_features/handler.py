"""Fold validated events into the online store.

Invoked by
    The event source mapping of the Kinesis stream `events`.
Reads, then writes to
    The quarantine bucket what reuses an identity for another payload, what a key sends
    beyond its rate, and what is no event; the ingest stream an event that says a key
    did; then one item a key of the online store.
Fails with
    Nothing on bad input. Where AWS refuses, the batch is asked for again from the
    lowest record that was not folded.

Environment variables
---------------------
INGEST_STREAM_NAME : str
    Name of the stream that everything enters by.
ONLINE_STORE_TABLE_NAME : str
    Name of the table of the online store.
QUARANTINE_BUCKET_NAME : str
    Name of the quarantine bucket.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.errors import TransientError
from retrodict.excess import excess_records
from retrodict.online import Projected, Work, plan, project
from retrodict.ports import IngestStream, OnlineStore, Quarantine
from retrodict.rejection import rejections_of
from retrodict.state import Folded
from retrodict_aws.clients import client, online_store_client
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_batch import (
    BatchResponse,
    DeliveredRecord,
    again_from,
    delivered,
    done,
    segment_name,
)
from retrodict_aws.kinesis_event_stream import KinesisIngestStream, read_batches
from retrodict_aws.s3_quarantine import S3Quarantine

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[OnlineStore, Quarantine, IngestStream]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        DynamoDBOnlineStore(
            online_store_client(), os.environ["ONLINE_STORE_TABLE_NAME"]
        ),
        S3Quarantine(client("s3"), os.environ["QUARANTINE_BUCKET_NAME"]),
        KinesisIngestStream(client("kinesis"), os.environ["INGEST_STREAM_NAME"]),
    )


def handle(
    records: list[DeliveredRecord],
    store: OnlineStore,
    quarantine: Quarantine,
    stream: IngestStream,
) -> Projected:
    """Fold what can be read; keep what cannot, or must not, be folded."""
    batches, unreadable = read_batches(records)

    def tell(found: Sequence[tuple[Work, Sequence[Folded]]]) -> None:
        folded = [one for _, several in found for one in several]
        rejected = unreadable + rejections_of(folded)
        if rejected:
            # A redelivery tells only what is not behind the state: it must not replace
            # what was told before.
            told = hashlib.sha256(json.dumps(rejected).encode()).hexdigest()[:12]
            quarantine.put(f"{segment_name(records)}-features-{told}", rejected)
        stream.put(excess_records((w.entity, w.definition, f) for w, f in found))

    return project(plan(batches), store, tell)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    records = delivered(event)
    metrics.set_timestamp(records[-1].arrived_at_us // 1000)
    try:
        projected = handle(records, *ports())
    except TransientError as error:
        logger.warning("batch not finished", extra={"cause": str(error)})
        metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
        return again_from(records[0].sequence_number)
    metrics.add_metric("OnlinePuts", MetricUnit.Count, projected.puts)
    for outcome, count in Counter(f.outcome for f in projected.folded).items():
        name = f"{outcome.title().replace('_', '')}Events"
        metrics.add_metric(name, MetricUnit.Count, count)
    if projected.unfinished is None:
        return done()
    logger.warning("batch not finished", extra={"cause": projected.failure})
    metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
    return again_from(projected.unfinished)
