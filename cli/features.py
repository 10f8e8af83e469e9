"""`features`: what is known of an entity now."""

import json

import click
from retrodict.errors import ProjectionNotVerifiedError
from retrodict.lifecycle import replay
from retrodict.pipeline import Pipeline
from retrodict.stamps import to_text
from retrodict.switching import readable
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore

from cli.lifecycle import recorded
from cli.options import PipelineName, json_option, target_options
from cli.output import emit, table_of
from cli.target import Target


@click.command()
@click.argument("pipeline", type=PipelineName())
@click.option("--entity", required=True, help="Entity key, such as a sensor id.")
@json_option
@target_options
def features(*, pipeline: Pipeline, entity: str, as_json: bool, target: Target) -> None:
    """Show the online features of one entity of PIPELINE.

    Of a definition that was changed, those of the one before are shown until the new
    projection is verified.

    \b
    Examples
      retrodict features sensor_anomaly --entity office
      retrodict features sensor_anomaly --entity office --json
    """
    store = DynamoDBOnlineStore(
        target.client("dynamodb"), target.outputs["OnlineStoreTableName"]
    )
    try:
        current = readable(pipeline, replay(recorded(target, pipeline.name)))
    except ProjectionNotVerifiedError as error:
        raise click.UsageError(str(error)) from error
    entities = {pipeline.entity(d, entity): d for d in current}
    items = store.load([*entities], with_state=False)
    if not items:
        raise click.UsageError(
            f"pipeline {pipeline.name!r} knows no entity {entity!r}: nothing of it was "
            "accepted yet; `retrodict quarantine list` shows what was turned away"
        )
    for key, item in items.items():
        definition = entities[key]
        values = json.loads(item.features)
        document = {
            "pipeline": pipeline.name,
            "feature_set": definition.name,
            "entity": entity,
            "time": to_text(item.time_us),
            "position": item.position,
            "definition": item.definition,
            "features": values,
        }
        rows = [
            (name, value, getattr(definition.features[name].expression, "unit", None))
            for name, value in values.items()
        ]
        title = (
            f"{pipeline.name}.{definition.name} of {entity} at {document['time']}\n"
            f"position {item.position}"
        )
        table = table_of(["feature", "value", "unit"], rows, title=title)
        emit(document, as_json=as_json, table=table)
