"""`send`: put the rows of a file on the ingest stream."""

import csv
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import pyarrow as pa
import pyarrow.parquet as pq
from retrodict.contracts import Event
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import LARGEST_RECORD_BYTES, fits
from retrodict.rows import RowMapping, partition_key_of
from retrodict.stamps import from_datetime
from retrodict_aws.kinesis_event_stream import KinesisIngestStream
from retrodict_aws.s3_quarantine import S3Quarantine
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from cli.options import PipelineName, json_option, target_options
from cli.output import emit
from cli.replaying import DECLARED_BYTES, Arrived, replay
from cli.target import Target

REPLAY_STRIDE: Final = timedelta(hours=6)
CHUNK_ROWS: Final = 500
LONGEST_CELL: Final = (1 << 31) - 1
"""Characters; a cell that fits no stream is told of with its row, as any other."""

ENDINGS: Final = (".csv", ".jsonl", ".ndjson", ".parquet")

Row = Mapping[str, object] | bytes
"""A row of columns, or a line that travels as it is."""


def _pairs(
    _: click.Context, param: click.Parameter, values: Sequence[str]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals and text):
            raise click.BadParameter(f"expected NAME=VALUE, got {value!r}", param=param)
        found[name] = text
    return found


def read_rows(path: Path) -> tuple[list[str] | None, Iterator[Row]]:
    """Return the columns of a file, None where each line has its own, and its rows.

    Raises
    ------
    UsageError
        The file's name or content is none of CSV, JSON lines and Parquet.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            file = pq.ParquetFile(path)
            batches = file.iter_batches(CHUNK_ROWS)
            return file.schema_arrow.names, (
                row for b in batches for row in b.to_pylist()
            )
        if ending == ".csv":
            return _csv(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise click.UsageError(
            f"{path} is not readable as {ending[1:]}: {error}"
        ) from error
    if ending in {".jsonl", ".ndjson"}:
        return None, _lines(path)
    raise click.UsageError(f"{path}: expected a file that ends in {', '.join(ENDINGS)}")


def _csv(path: Path) -> tuple[list[str], Iterator[Row]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        columns = next(csv.reader(file), None)
    if not columns:
        raise click.UsageError(f"{path} is empty: expected a line of column names")

    csv.field_size_limit(LONGEST_CELL)

    def rows() -> Iterator[Row]:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file)

    return columns, rows()


def _lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in file:
            text = line.rstrip(b"\r\n")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) and "specversion" not in row else text


def record_of(row: Row, mapping: RowMapping, number: int) -> tuple[str, bytes]:
    """Return partition key and bytes of a row; a CloudEvent keeps its own."""
    if not isinstance(row, bytes):
        return mapping.to_cloudevent(row, number)
    try:
        subject = json.loads(row).get("subject")
    except (ValueError, AttributeError, RecursionError):
        subject = None
    return partition_key_of(subject), row


def fitting(
    records: Iterable[tuple[str, bytes]], too_large: list[int], growth: int = 0
) -> Iterator[tuple[str, bytes]]:
    """Yield what a stream takes, and note the number of each other row, 1 the first.

    Parameters
    ----------
    growth
        How many bytes longer a record is put.

    Examples
    --------
    >>> found = []
    >>> [*fitting([("s-1", b"{}"), ("s-1", bytes(1 << 20)), ("s-2", b"{}")], found)]
    [('s-1', b'{}'), ('s-2', b'{}')]
    >>> found
    [2]
    """
    for number, (key, data) in enumerate(records, start=1):
        if fits(key, data, growth):
            yield key, data
        else:
            too_large.append(number)


def _count_rows(path: Path) -> int:
    if path.suffix.lower() == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    with path.open("rb") as file:
        lines = sum(
            chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")
        )
    return lines - (path.suffix.lower() == ".csv")


def _event_of(pipeline: Pipeline, event_type: str | None) -> type[Event]:
    events = {event.contract().type: event for event in pipeline.events}
    if event_type is None:
        return pipeline.events[0]
    if event_type not in events:
        raise click.UsageError(
            f"pipeline {pipeline.name!r} reads no {event_type!r}; it reads "
            f"{', '.join(events)}"
        )
    return events[event_type]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--pipeline",
    type=PipelineName(),
    help="Whose event the rows are; default: the only pipeline.",
)
@click.option(
    "--event", "event_type", help="Event type; default: the pipeline's first."
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    callback=_pairs,
    metavar="FIELD=COLUMN",
    help="Which column holds a field, `time` or `id`.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    callback=_pairs,
    metavar="FIELD=VALUE",
    help="A field that is the same in every row.",
)
@click.option(
    "--time-zone",
    default="UTC",
    show_default=True,
    help="Zone of times that name none.",
)
@click.option("--source", help="Source of the events; default: the file's digest.")
@click.option("--limit", type=click.IntRange(min=1), help="Send the first rows only.")
@click.option(
    "--replay",
    "is_replayed",
    is_flag=True,
    help="The twin's clock goes with the rows: each arrives when it happened.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until the twin has worked.")
@json_option
@target_options
def send(  # noqa: PLR0913 - one argument an option
    *,
    file: Path,
    pipeline: Pipeline | None,
    event_type: str | None,
    columns: dict[str, str],
    constants: dict[str, str],
    time_zone: str,
    source: str | None,
    limit: int | None,
    is_replayed: bool,
    no_wait: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Put the rows of FILE (CSV, JSON lines, Parquet) on the ingest stream.

    Rows are sent as an import: they count as observed when they happened. A row's
    identity is the file's digest and the row's number, so sending a file twice
    changes nothing. JSON lines that are CloudEvents are sent as they are.

    \b
    Examples
      retrodict send readings.csv --map time=timestamp --set sensor_id=office
      retrodict send readings.parquet --pipeline sensor_anomaly --json
      retrodict send years.csv --map time=timestamp --set sensor_id=office --replay
    """
    pipeline = pipeline or _only_pipeline()
    event = _event_of(pipeline, event_type)
    present, rows = read_rows(file)
    _check_columns(event, present, columns, constants)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    mapping = RowMapping(
        event=event,
        columns=columns,
        constants=constants,
        source=source or f"urn:retrodict:file:{digest[:32]}",
        time_zone=time_zone,
    )
    total = min(_count_rows(file), limit or 1 << 62)
    stream = KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    )
    began = time.monotonic()
    too_large: list[int] = []
    records = fitting(
        (
            record_of(row, mapping, number)
            for number, row in enumerate(islice(rows, limit), start=1)
        ),
        too_large,
        DECLARED_BYTES if is_replayed else 0,
    )
    if is_replayed:
        sent = replay(target, arrivals(records), stride=REPLAY_STRIDE, to_the_end=False)
    else:
        sent = _send(records, stream, total, hidden=as_json)
    seconds = time.monotonic() - began
    document: dict[str, Any] = {
        "file": str(file),
        "source": mapping.source,
        "sent": sent,
        "send_seconds": round(seconds, 2),
    }
    if target.is_twin and not no_wait:
        target.wait_idle()
        document["seconds"] = round(time.monotonic() - began, 2)
        kept = S3Quarantine(target.client("s3"), target.outputs["QuarantineBucketName"])
        rejected = {
            (d["position"], d["sha256"])
            for d in kept.read()
            if d["source"] == mapping.source
        }
        document["quarantined"] = len(rejected)
    if too_large:
        document["too_large"] = too_large
    emit(document, as_json=as_json, table=_sentence(document))
    if too_large:
        shown = ", ".join(map(str, too_large[:10]))
        raise click.ClickException(
            f"{len(too_large)} rows have more than {LARGEST_RECORD_BYTES} bytes with "
            f"their key and were not sent: {shown}; all others were"
        )


def _sentence(document: Mapping[str, Any]) -> str:
    text = f"sent {document['sent']} records in {document['send_seconds']} s"
    if "quarantined" not in document:
        return text
    quarantined = document["quarantined"]
    why = ": `retrodict quarantine list` says why" if quarantined else ""
    return (
        f"{text}; worked on after {document['seconds']} s, "
        f"{quarantined} of them in quarantine{why}"
    )


def arrivals(records: Iterable[tuple[str, bytes]]) -> Iterator[Arrived]:
    """Yield records with the time they name; one that names none goes with the last.

    Examples
    --------
    >>> list(arrivals([("k", b'{"time":"1970-01-01T00:00:01Z"}'), ("?", b"broken")]))
    [Arrived(arrival_us=1000000, key='k', data=b'{"time":"1970-01-01T00:00:01Z"}'),
     Arrived(arrival_us=1000000, key='?', data=b'broken')]
    """
    newest_us = 0
    for key, data in records:
        try:
            told = json.loads(data)["time"]
            newest_us = max(newest_us, from_datetime(datetime.fromisoformat(told)))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # the validator judges it; here it only needs a place in the order
        yield Arrived(newest_us, key, data)


def _send(
    records: Iterator[tuple[str, bytes]],
    stream: KinesisIngestStream,
    total: int,
    *,
    hidden: bool,
) -> int:
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    sent = 0
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as progress:
        task = progress.add_task("sending", total=total)
        while chunk := list(islice(records, CHUNK_ROWS)):
            sent += stream.put(chunk)
            progress.update(task, completed=sent)
    return sent


def _only_pipeline() -> Pipeline:
    pipelines = load_pipelines()
    if len(pipelines) > 1:
        raise click.UsageError(f"name one with --pipeline: {', '.join(pipelines)}")
    return next(iter(pipelines.values()))


def _check_columns(
    event: type[Event],
    present: list[str] | None,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
) -> None:
    """Refuse a map that names what is not there, before anything is sent."""
    fields = {field.name: field for field in event.contract().fields}
    known = {*fields, "time", "id"}
    wrong = sorted({*columns, *constants} - known)
    if wrong:
        raise click.UsageError(
            f"{event.contract().type} has no field {wrong[0]!r}; it has "
            f"{', '.join(sorted(known))}"
        )
    if present is None:
        return
    missing = [c for c in columns.values() if c not in present]
    if missing:
        raise click.UsageError(
            f"no column {missing[0]!r}; the file has {', '.join(present)}"
        )
    needed = ["time", *(name for name, field in fields.items() if field.required)]
    for name in needed:
        if columns.get(name, name) not in present and name not in constants:
            raise click.UsageError(
                f"no column holds {name!r}; the file has {', '.join(present)}: add "
                f"--map {name}=COLUMN or --set {name}=VALUE"
            )
