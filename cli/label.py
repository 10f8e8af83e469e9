"""`label`: the truth about predictions or readings, as somebody found out later."""

import csv
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from retrodict.stamps import from_datetime, to_text
from retrodict.system_events import LabelGiven
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

from cli.options import json_option, target_options
from cli.output import emit
from cli.target import Target

COLUMNS: Final = ("prediction_id", "entity", "time", "is_anomaly")
_TRUTH: Final = {"1": True, "true": True, "yes": True,
                 "0": False, "false": False, "no": False}  # fmt: skip


def read_labels(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the labels of a CSV file: `entity`, and `prediction_id` or `time`.

    Raises
    ------
    UsageError
        A column is missing, or a row says neither, or no truth.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = set(reader.fieldnames or ())
        if not {"entity", "is_anomaly"} <= names or not names & set(COLUMNS[:3:2]):
            raise click.UsageError(
                f"{path} has columns {sorted(names)}; expected entity, is_anomaly, and "
                "prediction_id or time"
            )
        for number, row in enumerate(reader, start=2):
            yield _label(row, f"{path}, line {number}")


def _label(row: dict[str, str], place: str) -> dict[str, Any]:
    truth = _TRUTH.get((row.get("is_anomaly") or "").strip().lower())
    if truth is None:
        raise click.UsageError(
            f"{place}: is_anomaly is {row.get('is_anomaly')!r}; expected true or false"
        )
    if not row.get("entity"):
        raise click.UsageError(f"{place}: no entity")
    found: dict[str, Any] = {"entity": row["entity"], "is_anomaly": truth}
    if row.get("prediction_id"):
        found["prediction_id"] = row["prediction_id"]
    elif row.get("time"):
        try:
            moment = datetime.fromisoformat(row["time"])
        except ValueError as error:
            raise click.UsageError(f"{place}: {error}") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        found["at_us"] = from_datetime(moment)
    else:
        raise click.UsageError(f"{place}: neither a prediction_id nor a time")
    return found


def to_event(label: dict[str, Any], now_us: int, source: str) -> tuple[str, bytes]:
    """Return partition key and bytes of a label; the same label has the same id."""
    contract = LabelGiven.contract()
    about = label.get("prediction_id") or label["at_us"]
    identity = f"{label['entity']}\n{about}\n{label['is_anomaly']}"
    event = {
        "specversion": "1.0",
        "id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "source": source,
        "type": contract.type,
        "subject": label["entity"],
        "time": to_text(now_us),
        "dataschema": contract.schema_name(),
        "data": label,
    }
    return label["entity"], json.dumps(event).encode()


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@target_options
def label(*, file: Path, as_json: bool, target: Target) -> None:
    """Send the labels of a CSV FILE: entity, is_anomaly, and prediction_id or time.

    A label is an event like any other: it is validated, logged, and joins its
    prediction by id, or the event of that key and time. Sending a file again changes
    nothing.

    \b
    Example
      retrodict label labels.csv
    """
    labels = list(read_labels(file))
    now_us = target.now_us()
    stream = KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    )
    sent = stream.put(to_event(one, now_us, "urn:retrodict:labels") for one in labels)
    target.wait_idle()
    emit({"sent": sent}, as_json=as_json, table=f"sent {sent} labels")
