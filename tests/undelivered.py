"""Batches that a mapping gave up, as Lambda leaves them in S3."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from retrodict.envelope import StampedEvent
from retrodict.ports import KeyedBatch
from retrodict_aws.kinesis_batch import DeliveredRecord
from retrodict_aws.kinesis_event_stream import encode
from retrodict_aws.s3_undelivered import Undelivered, read_undelivered

from tests.events import reading

SHARD = "shardId-000000000000"
MAPPING = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"


def numbered(count: int) -> list[StampedEvent]:
    """Return readings of one sensor, ten seconds apart, at positions from 1 on."""
    return [
        reading(float(n), at_s=10 * n, id=str(n), number=n) for n in range(1, count + 1)
    ]


def records_of(*events: StampedEvent) -> list[DeliveredRecord]:
    """Return records of the validated stream, numbered as their events are."""
    return [
        DeliveredRecord(
            SHARD,
            str(int(event.position.rpartition("-")[2])),
            event.key,
            event.observed_at_us,
            data,
        )
        for event in events
        for data in encode(KeyedBatch(event.key, [event]))
    ]


def event_of(records: Sequence[DeliveredRecord]) -> dict[str, Any]:
    """Return the Lambda event of Kinesis records."""
    return {
        "Records": [
            {
                "eventID": f"{record.shard_id}:{record.sequence_number}",
                "eventSource": "aws:kinesis",
                "kinesis": {
                    "partitionKey": record.partition_key,
                    "sequenceNumber": record.sequence_number,
                    "approximateArrivalTimestamp": record.arrived_at_us / 1_000_000,
                    "data": base64.b64encode(record.data).decode(),
                },
            }
            for record in records
        ]
    }


def document_of(function: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Lambda says of a batch of a Kinesis stream that it gave up."""
    records = event["Records"]
    shard_id = records[0]["eventID"].partition(":")[0]
    numbers = [record["kinesis"]["sequenceNumber"] for record in records]
    return {
        "requestContext": {
            "requestId": "316aa6d0-8154-4f3a-9af7-85d5f4a6bc81",
            "functionArn": f"arn:aws:lambda:eu-west-1:123456789012:function:{function}",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 10_001,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "version": "1.0",
        "timestamp": "2026-01-05T12:00:00.000Z",
        "KinesisBatchInfo": {
            "shardId": shard_id,
            "startSequenceNumber": numbers[0],
            "endSequenceNumber": numbers[-1],
            "approximateArrivalOfFirstRecord": "2026-01-05T12:00:00.000Z",
            "approximateArrivalOfLastRecord": "2026-01-05T12:00:00.000Z",
            "batchSize": len(records),
            "streamArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/events",
        },
        "payload": json.dumps(event),
    }


def given_up(function: str, event: Mapping[str, Any]) -> Undelivered:
    """Return the batch of a Lambda event that a function's mapping gave up."""
    document = document_of(function, event)
    info = document["KinesisBatchInfo"]
    name = f"aws/lambda/{MAPPING}/{info['shardId']}/{info['startSequenceNumber']}"
    return read_undelivered(name, json.dumps(document).encode())
