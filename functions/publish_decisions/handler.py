"""Put every decision about models on the ingest stream, so that the log has it.

Invoked by
    The event source mapping of the lifecycle table's DynamoDB stream.
Reads, then writes to
    The Kinesis stream `ingest`, one CloudEvent a decision; its id is its place in the
    stream of its pipeline, so putting it again adds nothing.
Fails with
    Nothing of its own. Where Kinesis refuses, the batch is asked for again from the
    first record that was not put.
Needs
    kinesis:PutRecords on the stream; what the event source mapping needs on the
    table's DynamoDB stream.

Environment variables
---------------------
INGEST_STREAM_NAME : str
    Name of the ingest stream.
"""

import json
import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.errors import StreamUnavailableError
from retrodict.lifecycle import to_cloudevent
from retrodict.ports import IngestStream
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import from_item
from retrodict_aws.kinesis_batch import BatchResponse, again_from, done
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

logger, tracer = Logger(), Tracer()


@cache
def ports() -> IngestStream:
    """Build the real port on first use, so that importing this module does nothing."""
    return KinesisIngestStream(client("kinesis"), os.environ["INGEST_STREAM_NAME"])


def handle(image: dict[str, Any], stream: IngestStream) -> None:
    """Publish one new item of the table."""
    pipeline, event = from_item(image)
    document = json.dumps(to_cloudevent(pipeline, event), sort_keys=True)
    stream.put([(pipeline, document.encode())])


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    for record in event["Records"]:
        if record["eventName"] != "INSERT":
            # Nothing of ours changes or removes a decision; a person's edit of the
            # table is no decision, and what the log says of it stays.
            logger.error(
                "a decision was edited", extra={"keys": record["dynamodb"]["Keys"]}
            )
            continue
        try:
            handle(record["dynamodb"]["NewImage"], ports())
        except StreamUnavailableError as error:
            logger.warning("batch not finished", extra={"cause": str(error)})
            return again_from(record["dynamodb"]["SequenceNumber"])
    return done()
