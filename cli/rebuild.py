"""`rebuild`: replay the log, and compare or repair what was folded online."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import click
from retrodict.deciding import record
from retrodict.errors import StateConflictError
from retrodict.lifecycle import Decided, Lifecycle, Recorded
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.replaying import compare, digest_of, projection_of, replay_log
from retrodict.verifying import (
    Judgement,
    judge,
    judgements_in,
    newest_us,
    told_of,
    verdicts,
)
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.s3_event_log import S3EventLog

from cli.options import json_option, target_options
from cli.output import emit, pairs
from cli.target import Target

POLL_SECONDS: Final = 2.0


@click.group()
def rebuild() -> None:
    """Replay the log into a projection.

    \b
    Example
      retrodict rebuild online --verify
    """


@rebuild.command()
@click.option(
    "--verify", is_flag=True, help="Compare only; exit with 1 on a difference."
)
@click.option(
    "--distributed",
    is_flag=True,
    help="By the state machine `rebuild`, the parts of the keys side by side.",
)
@json_option
@target_options
def online(*, verify: bool, distributed: bool, as_json: bool, target: Target) -> None:
    """Fold the whole log again and compare it with, or write it to, the online store.

    Position, time, features and state are compared byte for byte, and so are the
    states that the stream is scored from. Without --verify, items that differ or are
    missing are written, and items that the log does not explain are named; an item
    that is ahead of the log is left, since what it applied has not been archived yet.
    With --verify, a projection that equals the log is recorded as verified; that of a
    changed feature definition is read from then on. Archive first what archive_events
    gave up: what the log lacks, items that are written lack too.

    With --distributed the same code runs in AWS, past what one machine can fold. It
    gives the same digest and records the same; items are counted, not named, and those
    that the log does not explain are looked for with --verify only.

    \b
    Examples
      retrodict rebuild online --verify
      retrodict rebuild online
      retrodict rebuild online --distributed
    """
    target.wait_idle()
    document = (
        _by_machine(target, write=not verify)
        if distributed
        else _here(target, write=not verify)
    )
    if verify:
        judged = judgements_in(document["projections"])
        _record(target, judged, document.pop("newest_us"))
    told = {k: v for k, v in document.items() if k != "projections"}
    told |= {
        f"projection {name}": f"{one['state']}, {one['items']} items"
        for name, one in document.get("projections", {}).items()
    }
    emit(document, as_json=as_json, table=pairs(told))
    apart = ("differing", "scoring_differing", "unexplained")
    if verify and any(document.get(name) for name in apart):
        click.get_current_context().exit(1)


def _here(target: Target, *, write: bool) -> dict[str, Any]:
    """Rebuild in this process."""
    log = S3EventLog(target.client("s3"), target.outputs["EventLogBucketName"])
    store = DynamoDBOnlineStore(
        target.client("dynamodb"), target.outputs["OnlineStoreTableName"]
    )
    replayed, outcomes = replay_log(log)
    found = compare(replayed, store.scan(), lambda keys: log.read(keys=keys))
    judged: dict[str, Any] = {}
    if not write:
        projections = judge(found, lambda keys: log.read(keys=keys))
        judged = {
            "newest_us": newest_us(found),
            "projections": told_of(
                projections, Counter(map(projection_of, found.retired))
            ),
        }
    written = 0
    for item in found.repairs() if write else ():
        try:
            store.put(item)
        except StateConflictError as error:
            raise click.UsageError(
                f"{error}; data is flowing: rebuild again when it has settled"
            ) from error
        written += 1
    swept = store.sweep() if write else 0
    return {
        "events": sum(outcomes.values()), "outcomes": dict(outcomes),
        "items": len(found.replayed),
        "equal": len(found.replayed) - len(found.differing),
        "log_digest": digest_of(found.replayed),
        "store_digest": digest_of(
            {e: i for e, i in found.stored.items() if e not in found.retired}
        ),
        "differing": [*found.differing], "unexplained": [*found.unexplained],
        "scoring_items": len(found.scoring), "scoring_differing": [*found.apart],
        "ahead": sorted(found.ahead), "written": written,
        "swept_chunks": swept, **judged,
    }  # fmt: skip


def _record(target: Target, judged: Mapping[str, Judgement], newest_us: int) -> None:
    """Record what the comparison says of each pipeline's projections."""
    store = DynamoDBLifecycleStore(
        target.client("dynamodb"), target.outputs["LifecycleTableName"]
    )
    for pipeline in load_pipelines().values():
        told: Recorded | None = None

        def decide(lifecycle: Lifecycle, of: Pipeline = pipeline) -> Decided | None:
            return next(verdicts(of, judged, newest_us, lifecycle), None)

        while True:
            _, told = record(store, pipeline.name, decide)
            if told is None:
                break


def _by_machine(target: Target, *, write: bool) -> dict[str, Any]:
    """Start the state machine, wait for its end, and return what it says."""
    machines = target.client("stepfunctions")
    arn = machines.start_execution(
        stateMachineArn=target.outputs["RebuildStateMachineArn"],
        name=f"rebuild-{uuid.uuid4().hex}",
        input=json.dumps({"write": write}),
    )["executionArn"]
    target.wait_idle()
    while (shown := machines.describe_execution(executionArn=arn))["status"] == (
        "RUNNING"
    ):
        time.sleep(POLL_SECONDS)
    if shown["status"] != "SUCCEEDED":
        raise click.ClickException(
            f"execution {arn} ended as {shown['status']}: {shown.get('cause', '')}"
        )
    told: dict[str, Any] = json.loads(shown["output"])
    return told
