"""`retrain`: ask for a new champion, and tell what became of it."""

import json
import uuid

import click
from retrodict.pipeline import Pipeline
from retrodict.stamps import to_text
from retrodict.system_events import RetrainingRequested
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

from cli.lifecycle import line, recorded
from cli.options import PipelineName, json_option, target_options
from cli.output import emit
from cli.target import Target


def request(
    target: Target, pipeline: Pipeline, reason: str, options: str = "{}"
) -> str:
    """Put a request on the ingest stream, and return its id."""
    contract = RetrainingRequested.contract()
    number = uuid.uuid4().hex
    event = {
        "specversion": "1.0",
        "id": number,
        "source": "urn:retrodict:command",
        "type": contract.type,
        "subject": pipeline.name,
        "time": to_text(target.now_us()),
        "dataschema": contract.schema_name(),
        "data": {
            "pipeline": pipeline.name,
            "trigger": "person",
            "reason": reason,
            "options": options,
        },
    }
    KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    ).put([(pipeline.name, json.dumps(event).encode())])
    return number


@click.command()
@click.argument("pipeline", type=PipelineName())
@click.option("--reason", required=True, help="Why; it is kept with the decision.")
@click.option(
    "--options",
    default="{}",
    show_default=True,
    help="Options of the model's fit, a JSON object.",
)
@json_option
@target_options
def retrain(
    *, pipeline: Pipeline, reason: str, options: str, as_json: bool, target: Target
) -> None:
    """Ask for a new champion of PIPELINE; the policy decides, and its reason is kept.

    \b
    Examples
      retrodict retrain sensor_anomaly --reason "first model"
      retrodict retrain sensor_anomaly --reason "deeper" --options '{"trees": 200}'
    """
    try:
        if not isinstance(json.loads(options), dict):
            raise click.UsageError("--options must be a JSON object")
    except ValueError as error:
        raise click.UsageError(f"--options is no JSON: {error}") from error
    before = len(recorded(target, pipeline.name))
    asked = request(target, pipeline, reason, options)
    target.wait_idle()
    decisions = recorded(target, pipeline.name)[before:]
    document = {
        "request": asked,
        "decisions": [
            {"kind": d.kind, "time": to_text(d.time_us), "data": dict(d.data)}
            for d in decisions
        ],
    }
    told = "\n".join(line(d.kind, dict(d.data), d.time_us) for d in decisions)
    emit(
        document,
        as_json=as_json,
        table=told or f"asked for it ({asked}); `retrodict report` tells what became",
    )
