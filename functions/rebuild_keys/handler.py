"""Replay one part of the keys into the online store, or add the parts up.

Invoked by
    The state machine `rebuild`: once for each part of the keys, then once more with
    the results of all.
Reads, then writes to
    The event log bucket, only segments that may hold the part's keys; the online
    store, only items that differ, under the condition of their version. When it only
    compares, it also lists a share of the store.
Fails with
    ``StateConflictError`` and ``StoreUnavailableError``, which may be tried again;
    ``IncompleteRebuildError`` when a part has no result.

Environment variables
---------------------
EVENT_LOG_BUCKET_NAME, ONLINE_STORE_TABLE_NAME : str
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.ports import EventLog, OnlineStore
from retrodict.rebuilding import combine, rebuild_bucket
from retrodict_aws.clients import client, online_store_client
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.s3_event_log import S3EventLog

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[EventLog, OnlineStore]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        S3EventLog(client("s3"), os.environ["EVENT_LOG_BUCKET_NAME"]),
        DynamoDBOnlineStore(
            online_store_client(), os.environ["ONLINE_STORE_TABLE_NAME"]
        ),
    )


def handle(
    request: dict[str, Any], log: EventLog, store: OnlineStore
) -> dict[str, Any]:
    """Rebuild one part, or combine the parts of `request`."""
    if "parts" in request:
        return combine(request["parts"])
    return rebuild_bucket(request["bucket"], log, store, write=request["write"])


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    done = handle(event, *ports())
    logger.info("rebuilt", extra={"result": done})
    return done
