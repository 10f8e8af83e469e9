"""Answer every request for retraining, and start the run where the answer is yes.

Invoked by
    The event source mapping of the Kinesis stream `events`.
Reads, then writes to
    The lifecycle store, one decision a request; the retrain state machine, one
    execution a run, named after it.
Fails with
    Nothing on bad input. Where AWS refuses, the batch is asked for again: a request
    that was answered has its answer, and an execution that was started its name.
Needs
    dynamodb:Query and dynamodb:PutItem on the lifecycle table; states:StartExecution
    on the state machine; what the event source mapping needs on the stream.

Environment variables
---------------------
LIFECYCLE_TABLE_NAME : str
    Name of the table of the lifecycle store.
RETRAIN_STATE_MACHINE_ARN : str
    State machine that trains and judges.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.deciding import record
from retrodict.envelope import StampedEvent
from retrodict.errors import StreamConflictError, TransientError
from retrodict.pipeline import load_pipelines
from retrodict.ports import LifecycleStore, Workflow
from retrodict.retraining import ask_of, decide, run_input
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.kinesis_batch import (
    BatchResponse,
    again_from,
    delivered,
    done,
)
from retrodict_aws.kinesis_event_stream import read_batches
from retrodict_aws.step_functions import StateMachine

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[LifecycleStore, Workflow]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        StateMachine(client("stepfunctions"), os.environ["RETRAIN_STATE_MACHINE_ARN"]),
    )


def handle(
    event: StampedEvent, store: LifecycleStore, workflow: Workflow
) -> str | None:
    """Answer one event; return the kind of the decision, or None if it asks nothing."""
    ask = ask_of(event)
    if ask is None:
        return None
    pipeline = load_pipelines().get(ask.pipeline)
    model = pipeline.model if pipeline else None
    before, recorded = record(
        store, ask.pipeline, lambda lifecycle: decide(ask, lifecycle, model)
    )
    started = run_input(ask, before, recorded)
    if started is not None:
        workflow.start(started["run_id"], started)
    return recorded.kind if recorded else None


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> BatchResponse:
    """Translate the Lambda event; everything else is in `handle`."""
    records = delivered(event)
    metrics.set_timestamp(records[-1].arrived_at_us // 1000)
    # What cannot be read is quarantined by archive_events, which reads all of it.
    batches, _ = read_batches(records)
    metrics.add_metric("RetrainingRequestBatches", MetricUnit.Count, len(batches))
    for sequence_number, batch in batches:
        for stamped in batch.events:
            try:
                kind = handle(stamped, *ports())
            except (TransientError, StreamConflictError) as error:
                logger.warning("batch not finished", extra={"cause": str(error)})
                metrics.add_metric("UnfinishedBatches", MetricUnit.Count, 1)
                return again_from(sequence_number)
            if kind is not None:
                metrics.add_metric(kind.title().replace("_", ""), MetricUnit.Count, 1)
    return done()
