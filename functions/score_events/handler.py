"""Score the validated stream with the champion of each pipeline.

Invoked by
    The event source mapping of the Kinesis stream `events`.
Reads, then writes to
    The lifecycle store and the artifact bucket, for the champion; scoring states in
    the online store; every prediction to the Kinesis streams `ingest` and
    `predictions`, before the states.
Fails with
    ``ArtifactRefusedError`` where the champion is not what its digest says. Where AWS
    refuses, the batch is asked for again from the lowest record that was not scored:
    the same predictions are made again under the same ids. Where there is no champion
    yet, or none of the deployed features, events are folded and not scored.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME, INGEST_STREAM_NAME, LIFECYCLE_TABLE_NAME,
ONLINE_STORE_TABLE_NAME, PREDICTIONS_STREAM_NAME : str
"""

import os
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.artifact import Artifact
from retrodict.errors import (
    ArtifactRefusedError,
    IncompatibleArtifactError,
    TransientError,
)
from retrodict.pipeline import Pipeline
from retrodict.ports import IngestStream, LifecycleStore, OnlineStore
from retrodict.scoring import StreamScored, plan, score_stream
from retrodict.training_run import champion_digest
from retrodict_aws.clients import client, online_store_client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_batch import (
    BatchResponse,
    DeliveredRecord,
    again_from,
    delivered,
    done,
)
from retrodict_aws.kinesis_event_stream import KinesisIngestStream, read_batches
from retrodict_aws.s3_artifacts import S3Artifacts

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[OnlineStore, LifecycleStore, tuple[IngestStream, ...]]:
    """Build the real ports on first use, so that importing this module does nothing."""
    kinesis = client("kinesis")
    names = ("INGEST_STREAM_NAME", "PREDICTIONS_STREAM_NAME")
    return (
        DynamoDBOnlineStore(
            online_store_client(), os.environ["ONLINE_STORE_TABLE_NAME"]
        ),
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        tuple(KinesisIngestStream(kinesis, os.environ[name]) for name in names),
    )


@lru_cache(maxsize=8)
def artifact(digest: str) -> Artifact:
    """Load an artifact once a process; its digest is its content."""
    return S3Artifacts(client("s3"), os.environ["ARTIFACT_BUCKET_NAME"]).load(digest)


def champions_of(
    pipelines: Collection[Pipeline],
    lifecycles: LifecycleStore,
    load: Callable[[str], Artifact],
) -> dict[str, Artifact]:
    """Return the artifact that serves each pipeline, where one can."""
    found = {}
    for pipeline in pipelines:
        digest = champion_digest(lifecycles, pipeline.name)
        if digest is None:
            continue
        champion = load(digest)
        try:
            champion.definition_in(pipeline)
        except IncompatibleArtifactError as error:
            logger.warning("events are not scored", extra={"cause": str(error)})
            metrics.add_metric("IncompatibleChampions", MetricUnit.Count, 1)
            continue
        found[pipeline.name] = champion
    return found


def handle(
    records: list[DeliveredRecord],
    store: OnlineStore,
    lifecycles: LifecycleStore,
    streams: tuple[IngestStream, ...],
    load: Callable[[str], Artifact],
) -> StreamScored:
    """Score what the champions can score; only fold where there is none."""
    batches, _ = read_batches(records)  # archive_events quarantines the unreadable
    works = plan(batches)
    pipelines = {work.pipeline.name: work.pipeline for work in works}
    champions = champions_of(pipelines.values(), lifecycles, load)
    return score_stream(works, champions, store, streams)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    records = delivered(event)
    metrics.set_timestamp(records[-1].arrived_at_us // 1000)
    try:
        scored = handle(records, *ports(), artifact)
    except TransientError as error:
        logger.warning("batch not finished", extra={"cause": str(error)})
        metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
        return again_from(records[0].sequence_number)
    except ArtifactRefusedError:
        metrics.add_metric("RefusedChampions", MetricUnit.Count, 1)
        raise
    for name, count in {
        "StreamPredictions": scored.predictions,
        "StreamAlerts": scored.alerts,
        "StreamOnsets": scored.onsets,
        "UnscoredEvents": scored.unscored,
    }.items():
        metrics.add_metric(name, MetricUnit.Count, count)
    if scored.unfinished is None:
        return done()
    logger.warning("batch not finished", extra={"cause": scored.failure})
    metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
    return again_from(scored.unfinished)
