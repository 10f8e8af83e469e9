"""`quarantine`: what was turned away, why, and how to bring it in again."""

import base64
from collections.abc import Iterable
from typing import Any

import click
from retrodict.rejection import redrivable
from retrodict.stamps import to_text
from retrodict_aws.kinesis_event_stream import KinesisIngestStream
from retrodict_aws.s3_quarantine import S3Quarantine

from cli.options import json_option, target_options
from cli.output import emit, table_of
from cli.target import Target

REDRIVABLE_STREAM = "record"


@click.group()
def quarantine() -> None:
    """List, show and re-drive what broke its contract.

    \b
    Examples
      retrodict quarantine list
      retrodict quarantine show 000000000000-0000000000000042
      retrodict quarantine redrive --code out_of_range
    """


def _documents(target: Target) -> list[dict[str, Any]]:
    kept = S3Quarantine(target.client("s3"), target.outputs["QuarantineBucketName"])
    unique = {(d["position"], d["sha256"]): d for d in kept.read()}
    return sorted(unique.values(), key=lambda d: str(d["position"]))


def _short(position: str) -> str:
    """Return a position without the zeros that only make it sort."""
    shard, _, sequence = position.partition("-")
    return f"{shard.lstrip('0') or '0'}-{sequence.lstrip('0') or '0'}"


@quarantine.command("list")
@click.option("--code", help="Only rejects with this reason code.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@json_option
@target_options
def list_(*, code: str | None, limit: int, as_json: bool, target: Target) -> None:
    """List rejected records with their reason codes, oldest first.

    \b
    Example
      retrodict quarantine list --code out_of_range --json
    """
    found = [d for d in _documents(target) if code is None or code in d["codes"]]
    rows = [
        (_short(d["position"]), to_text(d["arrival_us"])[:19], d["partition_key"],
         ", ".join(d["codes"]))
        for d in found[:limit]
    ]  # fmt: skip
    title = f"{len(found)} rejected records" + (
        f", the first {limit}" if len(found) > limit else ""
    )
    columns = ["position", "arrived", "partition key", "codes"]
    documents = [
        {
            k: d[k]
            for k in ("position", "arrival_us", "partition_key", "codes", "sha256")
        }
        for d in found
    ]
    emit(documents, as_json=as_json, table=table_of(columns, rows, title=title))


def _find(documents: Iterable[dict[str, Any]], position: str) -> dict[str, Any]:
    for document in documents:
        if position in (document["position"], _short(document["position"])):
            return document
    raise click.UsageError(
        f"no rejected record has position {position!r}: `retrodict quarantine list` "
        "shows those there are"
    )


@quarantine.command()
@click.argument("position")
@json_option
@target_options
def show(*, position: str, as_json: bool, target: Target) -> None:
    """Show one rejected record: every reason, and its bytes.

    \b
    Example
      retrodict quarantine show 3-42
    """
    document = _find(_documents(target), position)
    rows = [
        (r["code"], r["field"], r["expected"], r["got"]) for r in document["reasons"]
    ]
    raw = base64.b64decode(document["bytes_base64"])
    title = (
        f"{document['position']}\narrived {to_text(document['arrival_us'])}, partition "
        f"key {document['partition_key']!r}\n{len(raw)} bytes: {raw[:400]!r}"
    )
    columns = ["code", "field", "expected", "got"]
    emit(document, as_json=as_json, table=table_of(columns, rows, title=title))


@quarantine.command()
@click.argument("positions", nargs=-1)
@click.option("--code", help="Every reject with this reason code.")
@click.option("--all", "everything", is_flag=True, help="Every reject there is.")
@json_option
@target_options
def redrive(
    *,
    positions: tuple[str, ...],
    code: str | None,
    everything: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Put rejected records on the ingest stream again, byte for byte.

    What the contract now accepts comes in; the rest is rejected once more. An event
    that is too old by now comes in as an explicit late one. What was not folded only,
    for its identity or its rate, is in the log already and is left out.

    \b
    Examples
      retrodict quarantine redrive 3-42
      retrodict quarantine redrive --code out_of_range
    """
    if sum((bool(positions), code is not None, everything)) != 1:
        raise click.UsageError("name positions, or --code, or --all")
    documents = _documents(target)
    if positions:
        chosen = [_find(documents, position) for position in positions]
    else:
        chosen = [d for d in documents if everything or code in d["codes"]]
    wanted = redrivable(chosen)
    stream = KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    )
    sent = stream.put(
        (d["partition_key"], base64.b64decode(d["bytes_base64"])) for d in wanted
    )
    target.wait_idle()
    emit(
        {"chosen": len(chosen), "sent": sent},
        as_json=as_json,
        table=f"{sent} of {len(chosen)} rejects are on the ingest stream again",
    )
