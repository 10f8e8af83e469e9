"""`label`: the truth about predictions or readings, as somebody found out later."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from retrodict.pipeline import folded_types, load_pipelines
from retrodict.stamps import from_datetime, to_text
from retrodict.system_events import LabelGiven
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

from cli.history import History
from cli.options import json_option, target_options
from cli.output import emit
from cli.target import Target

_TRUTH: Final = {"1": True, "true": True, "yes": True,
                 "0": False, "false": False, "no": False}  # fmt: skip


def read_labels(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the labels of a CSV file: `entity`, and `prediction_id` or `time`.

    A row with `until` beside its `time` is about a stretch, and yields ``until_us``.

    Raises
    ------
    UsageError
        A column is missing, or a row says neither, or no truth.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = set(reader.fieldnames or ())
        places = {"prediction_id", "time"}
        if not {"entity", "is_anomaly"} <= names or not names & places:
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
        found["at_us"] = _moment(row["time"], place)
        if row.get("until"):
            found["until_us"] = _moment(row["until"], place)
            if found["until_us"] < found["at_us"]:
                raise click.UsageError(f"{place}: until lies before time")
    else:
        raise click.UsageError(f"{place}: neither a prediction_id nor a time")
    return found


def _moment(text: str, place: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{place}: {error}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return from_datetime(moment)


def spread(
    labels: Iterable[dict[str, Any]], times_us: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """Yield one label for each event of a stretch, and every other label as it is.

    Parameters
    ----------
    times_us
        Times of the events of each entity, microseconds, shape (n,).

    Raises
    ------
    UsageError
        No event of the entity lies in a stretch.
    """
    for one in labels:
        if "until_us" not in one:
            yield one
            continue
        about = {name: one[name] for name in ("entity", "is_anomaly")}
        first, last = one["at_us"], one["until_us"]
        inside = {t for t in times_us.get(one["entity"], ()) if first <= t <= last}
        if not inside:
            raise click.UsageError(
                f"the log has no event of {one['entity']!r} from {to_text(first)} to "
                f"{to_text(last)}: send the events first"
            )
        for time_us in sorted(inside):
            yield {**about, "at_us": time_us}


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


def _times_us(target: Target) -> dict[str, list[int]]:
    history = History.read(target, folded_types(load_pipelines().values()))
    found: dict[str, list[int]] = {}
    for event_type in history.types():
        for event in history.once(event_type):
            found.setdefault(event.key, []).append(event.time_us)
    return found


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@target_options
def label(*, file: Path, as_json: bool, target: Target) -> None:
    """Send the labels of a CSV FILE: entity, is_anomaly, and prediction_id or time.

    With a column until, a row is about every event of the entity from time to until.
    A label is an event like any other: it is validated, logged, and joins its
    prediction by id, or the event of that key and time. Sending a file again changes
    nothing.

    \b
    Example
      retrodict label labels.csv
    """
    labels = list(read_labels(file))
    if any("until_us" in one for one in labels):
        labels = list(spread(labels, _times_us(target)))
    now_us = target.now_us()
    stream = KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    )
    sent = stream.put(to_event(one, now_us, "urn:retrodict:labels") for one in labels)
    target.wait_idle()
    emit({"sent": sent}, as_json=as_json, table=f"sent {sent} labels")
