"""Record that a step of a run broke, before its execution ends as failed.

Invoked by
    The state machines `retrain` and `roll_out`, on every failure path.
Reads, then writes to
    The lifecycle store, one ``run_failed`` a run; none where the run has recorded
    already how it failed.
Fails with
    ``StreamConflictError`` and ``StoreUnavailableError``; both may be tried again.
Needs
    dynamodb:Query and dynamodb:PutItem on the lifecycle table.

Environment variables
---------------------
LIFECYCLE_TABLE_NAME : str
    Name of the table of the lifecycle store.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.deciding import record
from retrodict.lifecycle import failed
from retrodict.ports import LifecycleStore
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore

logger, tracer = Logger(), Tracer()


@cache
def ports() -> LifecycleStore:
    """Build the real port on first use, so that importing this module does nothing."""
    return DynamoDBLifecycleStore(
        client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]
    )


def handle(request: dict[str, Any], store: LifecycleStore) -> None:
    """Record the failure once."""
    record(store, request["pipeline"], lambda lifecycle: failed(request, lifecycle))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    handle(event, ports())
    return {}
