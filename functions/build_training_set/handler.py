"""Freeze the rows that a candidate is fitted on and judged by.

Invoked by
    The state machine `retrain`.
Reads, then writes to
    The event log; the artifact bucket, three Parquet files and a manifest under the
    digest of the rows; the lifecycle store, ``training_set_built`` or
    ``training_set_refused``.
Fails with
    ``StreamConflictError`` and ``StoreUnavailableError``, also where the log grew while
    it was read; both may be tried again.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME, ENVIRONMENT_NAME, EVENT_LOG_BUCKET_NAME,
LIFECYCLE_TABLE_NAME : str
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.pipeline import load_pipelines
from retrodict.ports import ColumnLog, LifecycleStore
from retrodict.rollout import run_name
from retrodict.training_build import build_set
from retrodict.training_run import hyperparameters, record_built
from retrodict.training_sets import Refusal
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_training_sets import S3TrainingSets

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[ColumnLog, LifecycleStore, S3TrainingSets]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        S3EventLog(client("s3"), os.environ["EVENT_LOG_BUCKET_NAME"]),
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        S3TrainingSets(client("s3"), os.environ["ARTIFACT_BUCKET_NAME"]),
    )


def handle(
    request: dict[str, Any], log: ColumnLog, store: LifecycleStore, sets: S3TrainingSets
) -> dict[str, Any]:
    """Build, keep and record the set; say what the training job needs."""
    pipeline = load_pipelines()[request["pipeline"]]
    found = build_set(pipeline, log, request["until_us"])
    if isinstance(found, Refusal):
        record_built(store, request, found, uri="")
        return {"accepted": False, "reason": found.reason}
    uri = sets.store(found)
    record_built(store, request, found, uri)
    bucket = os.environ["ARTIFACT_BUCKET_NAME"]
    return {
        "accepted": True,
        "reason": "",
        "training_set": found.digest,
        "training_set_uri": uri,
        "job_name": run_name(
            os.environ["ENVIRONMENT_NAME"], pipeline.name, request["run_id"]
        ),
        "output_uri": f"s3://{bucket}/training-jobs/{request['run_id']}",
        "hyperparameters": hyperparameters(request, found),
    }


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    return handle(event, *ports())
