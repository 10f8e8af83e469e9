"""Feed a dropped file to the ingest stream, row by row.

Invoked by
    The rule on `Object Created` events of the import bucket.
Reads, then appends to
    The object ``<event type>/<any name>.csv``, ``.jsonl`` or ``.parquet``; the Kinesis
    stream `ingest` one event a row; the quarantine bucket a file that is none, and a
    row that fits no stream.
Fails with
    ``TransientError`` where AWS refuses: a row's identity comes from the file's
    content and the row's number, so importing again changes nothing.

Environment variables
---------------------
INGEST_STREAM_NAME : str
    Name of the ingest stream.
QUARANTINE_BUCKET_NAME : str
    Name of the quarantine bucket.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.errors import ImportFileError
from retrodict.pipeline import load_catalog
from retrodict.ports import Quarantine, fits
from retrodict.rejection import unreadable_file, unsendable_row
from retrodict_aws.clients import client
from retrodict_aws.import_bucket import DroppedFile, ImportBucket
from retrodict_aws.kinesis_event_stream import KinesisIngestStream
from retrodict_aws.s3_quarantine import S3Quarantine

logger, metrics, tracer = Logger(), Metrics(), Tracer()


@cache
def ports() -> tuple[ImportBucket, KinesisIngestStream, Quarantine]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        ImportBucket(client("s3")),
        KinesisIngestStream(client("kinesis"), os.environ["INGEST_STREAM_NAME"]),
        S3Quarantine(client("s3"), os.environ["QUARANTINE_BUCKET_NAME"]),
    )


def handle(
    file: DroppedFile,
    bucket: ImportBucket,
    stream: KinesisIngestStream,
    quarantine: Quarantine,
) -> int:
    """Put every row of `file` on the stream and return their number."""
    rows = bucket.records(file, load_catalog())
    try:
        return stream.put(fitting(rows, file, quarantine))
    except ImportFileError as error:
        # Why is in the document: a sentence about a file may quote what is in it.
        document = unreadable_file(file.uri, file.arrived_at_us, str(error))
        name = f"arrived={file.arrival_date}/file-{document['sha256'][:16]}"
        logger.warning("file not imported", extra={"quarantined": name})
        quarantine.put(name, [document])
        return 0


def fitting(
    rows: Iterable[tuple[str, bytes]], file: DroppedFile, quarantine: Quarantine
) -> Iterator[tuple[str, bytes]]:
    """Yield the rows that a stream takes; keep each other one."""
    for number, (key, raw) in enumerate(rows, start=1):
        if fits(key, raw):
            yield key, raw
            continue
        document = unsendable_row(file.uri, number, file.arrived_at_us, raw)
        name = f"arrived={file.arrival_date}/row-{number}-{document['sha256'][:16]}"
        logger.warning("row not imported", extra={"quarantined": name})
        quarantine.put(name, [document])


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, int]:
    """Translate the EventBridge event; everything else is in `handle`."""
    file = DroppedFile.from_event(event)
    metrics.set_timestamp(file.arrived_at_us // 1000)
    rows = handle(file, *ports())
    metrics.add_metric("ImportedRows", MetricUnit.Count, rows)
    return {"rows": rows}
