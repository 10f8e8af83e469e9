"""Bring drift alarms back into the pipeline, as events on the ingest stream.

Invoked by
    An EventBridge rule on state changes of the drift alarms, and a schedule,
    which asks again for what still rings and for champions that are too old.
Reads, then writes to
    CloudWatch, for what an alarm is about; the lifecycle store; the Kinesis stream
    `ingest`. An event's id names the alarm and the moment, so twice is once.
Fails with
    ``StoreUnavailableError`` and ``StreamUnavailableError``; both may be tried again.

Environment variables
---------------------
ENVIRONMENT_NAME, INGEST_STREAM_NAME, LIFECYCLE_TABLE_NAME : str
"""

import os
from datetime import datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.lifecycle import replay
from retrodict.pipeline import load_pipelines
from retrodict.ports import IngestStream, LifecycleStore
from retrodict.stamps import from_datetime
from retrodict.watching import age_request, drift_record, is_current
from retrodict_aws.clients import client
from retrodict_aws.cloudwatch_drift import (
    CloudWatchDrift,
    DriftAlarm,
    NoMeasurementError,
    alarm_of,
)
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[CloudWatchDrift, LifecycleStore, IngestStream]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        CloudWatchDrift(client("cloudwatch"), os.environ["ENVIRONMENT_NAME"]),
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        KinesisIngestStream(client("kinesis"), os.environ["INGEST_STREAM_NAME"]),
    )


def publish(
    alarm: DriftAlarm, asked_us: int, drift: CloudWatchDrift, stream: IngestStream
) -> None:
    """Put one drift event."""
    about = drift.about(alarm, asked_us)
    pipeline = alarm.dimensions["pipeline"]
    stream.put([drift_record(pipeline, alarm.name, asked_us, about)])


def ask_again(
    now_us: int, drift: CloudWatchDrift, store: LifecycleStore, stream: IngestStream
) -> None:
    """Put an event for what still rings and is still so, and for old champions.

    One alarm a pipeline is enough to ask. One that is not measured any more, or whose
    newest measurement is under the threshold or older than the champion, rings of the
    past only.
    """
    ringing = list(drift.ringing())
    for name, pipeline in load_pipelines().items():
        if pipeline.model is None:
            continue
        lifecycle = replay(store.read(name))
        for alarm in ringing:
            if alarm.dimensions["pipeline"] != name:
                continue
            try:
                about = drift.about(alarm, now_us)
            except NoMeasurementError as error:
                logger.info("an alarm is not measured", extra={"cause": str(error)})
                continue
            if is_current(about, lifecycle):
                stream.put([drift_record(name, alarm.name, now_us, about)])
                break
        request = age_request(name, lifecycle, pipeline.model, now_us)
        stream.put([request] if request else [])


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in the functions above."""
    drift, store, stream = ports()
    if event["detail-type"] == "Scheduled Event":
        now_us = from_datetime(datetime.fromisoformat(event["time"]))
        ask_again(now_us, drift, store, stream)
        return {}
    found = alarm_of(event)
    if found is not None and found[1]:
        publish(found[0], found[0].changed_us, drift, stream)
    return {}
