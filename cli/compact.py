"""`compact`: merge the log's small segments now, instead of tonight."""

import click
from retrodict.compaction import compact_log
from retrodict.pipeline import load_catalog
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine

from cli.options import json_option, target_options
from cli.output import emit, pairs
from cli.target import Target


@click.command()
@click.option(
    "--lookback-days",
    default=35,
    show_default=True,
    type=click.IntRange(min=0),
    help="How far a reused identity is looked for beside its own day.",
)
@json_option
@target_options
def compact(*, lookback_days: int, as_json: bool, target: Target) -> None:
    """Merge the segments of each day that is over, by part of the keys.

    Does what the schedule does daily: writes merged segments, reads them back, and a
    day later deletes what they replace. Exits with 1 if a day was left as it is.

    \b
    Example
      retrodict compact --json
    """
    target.wait_idle()
    s3 = target.client("s3")
    report = compact_log(
        S3EventLog(
            s3,
            target.outputs["EventLogBucketName"],
            contracts=load_catalog().contracts,
        ),
        S3Quarantine(s3, target.outputs["QuarantineBucketName"]),
        target.now_us(),
        lookback_days=lookback_days,
    )
    document = {
        "partitions": [
            {
                "type": done.event_type, "arrived": done.arrived,
                "events": done.events, "digest": done.digest,
                "written": len(done.written), "deleted": len(done.deleted),
                "waiting": done.waiting,
            }
            for done in report.compacted
        ],
        "reused_identities": report.conflicts,
        "identities_across_keys": report.across_keys,
        "failures": report.failures,
    }  # fmt: skip
    short = {**document, "partitions": len(report.compacted)}
    emit(document, as_json=as_json, table=pairs(short))
    if report.failures:
        click.get_current_context().exit(1)
