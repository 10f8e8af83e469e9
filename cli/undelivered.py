"""`undelivered`: what event source mappings gave up, and how to bring it in again."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import click
from retrodict.errors import StillUndeliveredError, UndeliveredFormatError
from retrodict.pipeline import load_catalog
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_event_stream import KinesisIngestStream
from retrodict_aws.lambda_functions import PATIENCE, LambdaFunctions
from retrodict_aws.redriving import FIRST, KEEPING_ITEMS, Redriven, Redriving
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine
from retrodict_aws.s3_undelivered import PREFIX, S3Undelivered, Undelivered

from cli.options import json_option, target_options
from cli.output import emit, pairs, table_of
from cli.target import Target

POLL_SECONDS: Final = 5.0
PAUSED_AT_MOST: Final = 900.0
"""How long mappings rest at most, s; their own alarm rings a little later."""


@click.group()
def undelivered() -> None:
    """List and redrive what event source mappings gave up.

    A batch that a function failed on until its records were too old, or too often, is
    kept whole, and an alarm tells.

    \b
    Examples
      retrodict undelivered list
      retrodict undelivered redrive --all
    """


class _Batches:
    """What one deployment's mappings gave up, by function."""

    def __init__(self, target: Target) -> None:
        self.kept = S3Undelivered(
            target.client("s3"), target.outputs["QuarantineBucketName"]
        )
        self.functions = LambdaFunctions(target.client("lambda", PATIENCE))
        self.names = self.kept.names()

    def read(
        self, names: Collection[str]
    ) -> tuple[dict[str, list[Undelivered]], dict[str, str]]:
        """Return batches by function, and why others cannot be read, by name."""
        found: dict[str, list[Undelivered]] = {}
        left: dict[str, str] = {}
        for name in names:
            try:
                batch = self.kept.read(name)
                function = self.functions.name_of(batch.function_arn)
            except (UndeliveredFormatError, StillUndeliveredError) as error:
                left[name] = str(error)
                continue
            found.setdefault(function, []).append(batch)
        return found, left


@undelivered.command("list")
@json_option
@target_options
def list_(*, as_json: bool, target: Target) -> None:
    """List the batches that were given up and not redriven, by function.

    \b
    Example
      retrodict undelivered list --json
    """
    batches = _Batches(target)
    by_function, left = batches.read(batches.names)
    found = [
        {
            "name": batch.name.removeprefix(PREFIX), "function": function,
            "given_up_at": batch.given_up_at, "condition": batch.condition,
            "records": batch.count, "error": None,
        }
        for function, several in sorted(by_function.items())
        for batch in several
    ]  # fmt: skip
    found += [
        {
            "name": name.removeprefix(PREFIX), "function": None, "given_up_at": None,
            "condition": None, "records": None, "error": reason,
        }
        for name, reason in left.items()
    ]  # fmt: skip
    columns = ["name", "function", "given up at", "condition", "records", "error"]
    rows = [tuple(one.values()) for one in found]
    title = f"{len(found)} batches were given up"
    emit(found, as_json=as_json, table=table_of(columns, rows, title=title))


@undelivered.command()
@click.argument("names", nargs=-1)
@click.option("--function", "of", help="Every batch of this function.")
@click.option("--all", "everything", is_flag=True, help="Every batch there is.")
@click.option(
    "--pause",
    is_flag=True,
    help="Let the mappings of write_features and score_events rest meanwhile.",
)
@json_option
@target_options
def redrive(  # noqa: PLR0913 - one argument an option
    *,
    names: tuple[str, ...],
    of: str | None,
    everything: bool,
    pause: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Bring batches in again that mappings gave up, and restore what missed them.

    Records that were never validated enter by the ingest stream again. Other functions
    are invoked with the batch as it was; features and scoring states of keys that have
    passed it are folded again from the log. Running it again changes nothing. A batch
    that cannot be brought in is left, with the reason, and the command exits with 1.

    A key that never rests is always ahead of the log: --pause lets the mappings rest
    until the log has caught up, at most a quarter of an hour. Nothing is lost by that.

    \b
    Examples
      retrodict undelivered redrive --all
      retrodict undelivered redrive --function write_features --pause
    """
    if sum((bool(names), of is not None, everything)) != 1:
        raise click.UsageError("name batches, or --function, or --all")
    target.wait_idle()
    batches = _Batches(target)
    chosen = [_find(batches.names, name) for name in names] or batches.names
    by_function, left = batches.read(chosen)
    if of is not None:
        by_function = {of: by_function.get(of, [])}
        left = {}
    done = {
        function: _redrive(target, batches, function, by_function[function], pause)
        for function in sorted(by_function, key=_turn)
    }
    document = {
        "chosen": sum(map(len, by_function.values())) + len(left),
        "redriven": sum(one.batches for one in done.values()),
        "records": sum(one.records for one in done.values()),
        "restored": sum(one.restored for one in done.values()),
        "unpredicted": sum(sum(one.unpredicted.values()) for one in done.values()),
        "left": {
            name.removeprefix(PREFIX): reason
            for several in (left, *(one.left for one in done.values()))
            for name, reason in several.items()
        },
    }
    emit(document, as_json=as_json, table=pairs(document))
    if document["left"]:
        click.get_current_context().exit(1)


def _find(known: Sequence[str], wanted: str) -> str:
    for name in known:
        if wanted in (name, name.removeprefix(PREFIX)):
            return name
    raise click.UsageError(
        f"no batch {wanted!r} was given up, or it was redriven: `retrodict undelivered "
        "list` shows those there are"
    )


def _turn(function: str) -> tuple[int, str]:
    place = FIRST.index(function) if function in FIRST else len(FIRST)
    return place, function


def _redrive(
    target: Target,
    batches: _Batches,
    function: str,
    several: Sequence[Undelivered],
    pause: bool,  # noqa: FBT001 - private
) -> Redriven:
    """Redrive the batches of one function, until the twin has nothing left to do."""
    redriving = Redriving(
        invoke=batches.functions.invoke,
        settle=batches.kept.settle,
        door=KinesisIngestStream(
            target.client("kinesis"), target.outputs["IngestStreamName"]
        ),
        log=S3EventLog(
            target.client("s3"),
            target.outputs["EventLogBucketName"],
            contracts=load_catalog().contracts,
        ),
        store=DynamoDBOnlineStore(
            target.client("dynamodb"), target.outputs["OnlineStoreTableName"]
        ),
        quarantine=S3Quarantine(
            target.client("s3"), target.outputs["QuarantineBucketName"]
        ),
    )
    paused = pause and function in KEEPING_ITEMS
    ends = time.monotonic() + PAUSED_AT_MOST

    def wait() -> bool:
        # A twin that rests has archived everything.
        if not paused or target.is_twin or time.monotonic() > ends:
            return False
        time.sleep(POLL_SECONDS)
        return True

    with ExitStack() as stack:
        for mapping in sorted({batch.mapping for batch in several}) if paused else ():
            stack.enter_context(_resting(target, mapping))
        done = redriving.persist(function, several, wait)
    target.wait_idle()
    return done


@contextmanager
def _resting(target: Target, mapping: str) -> Iterator[None]:
    """Let a mapping rest; whatever happens, it is enabled again."""
    client = target.client("lambda")
    if client.get_event_source_mapping(UUID=mapping)["State"] != "Enabled":
        yield  # somebody else lets it rest
        return
    try:
        _switch(client, mapping, enabled=False)
        target.wait_idle()
        yield
    finally:
        _switch(client, mapping, enabled=True)


def _switch(client: Any, mapping: str, *, enabled: bool) -> None:
    client.update_event_source_mapping(UUID=mapping, Enabled=enabled)
    wanted = "Enabled" if enabled else "Disabled"
    while client.get_event_source_mapping(UUID=mapping)["State"] != wanted:
        time.sleep(1)
