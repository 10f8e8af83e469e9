"""`predict`: ask the endpoint of a pipeline about one entity."""

import json
from typing import Any

import click
from botocore.exceptions import ClientError
from retrodict.pipeline import Pipeline

from cli.options import PipelineName, json_option, target_options
from cli.output import emit, table_of
from cli.target import Target, TargetError

REFUSED = 2


def endpoint_of(target: Target, pipeline: Pipeline) -> str:
    """Return the name of a pipeline's endpoint, whether it exists or not."""
    return f"retrodict-{target.environment}-{pipeline.name.replace('_', '-')}"


def invoke(target: Target, pipeline: Pipeline, request: Any) -> dict[str, Any]:
    """Send one request to the endpoint and return its answer.

    Raises
    ------
    TargetError
        There is no endpoint, or it refused; the sentence is the endpoint's own.
    """
    name = endpoint_of(target, pipeline)
    try:
        answer = target.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(request).encode(),
        )
    except ClientError as error:
        raise TargetError(_refusal(name, error)) from error
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def _refusal(name: str, error: ClientError) -> str:
    code = error.response.get("Error", {}).get("Code", "")
    if code == "ModelError":
        said = error.response.get("OriginalMessage", str(error))
        try:
            told = json.loads(said)["error"]
            return f"{told['message']}: {told.get('remedy', '')}".rstrip(": ")
        except (ValueError, KeyError, TypeError):
            return f"endpoint {name} refused: {said}"
    if code in {"ValidationError", "ValidationException"}:
        return (
            f"endpoint {name} does not answer ({error}): the first rollout creates it; "
            "ask for one with `retrodict retrain`"
        )
    return f"endpoint {name}: {error}"


@click.command()
@click.argument("pipeline", type=PipelineName())
@click.option("--entity", help="Entity key; the endpoint reads its online features.")
@click.option(
    "--features", "inline", help="Features as a JSON object instead of an entity's."
)
@json_option
@target_options
def predict(
    *,
    pipeline: Pipeline,
    entity: str | None,
    inline: str | None,
    as_json: bool,
    target: Target,
) -> None:
    """Ask the champion of PIPELINE for a score and a decision.

    \b
    Examples
      retrodict predict sensor_anomaly --entity office
      retrodict predict sensor_anomaly --features '{"deviation": 2.5}' --json
    """
    if (entity is None) == (inline is None):
        raise click.UsageError("name an --entity, or give --features")
    instance: dict[str, Any] = {} if entity is None else {"entity": entity}
    if inline is not None:
        try:
            instance["features"] = json.loads(inline)
        except ValueError as error:
            raise click.UsageError(f"--features is no JSON object: {error}") from error
    answer = invoke(target, pipeline, {"instances": [instance]})
    found = answer["predictions"][0]
    rows = [(k, v) for k, v in found.items() if k != "features"]
    rows += list((found.get("features") or {}).items())
    emit(found, as_json=as_json, table=table_of(["", ""], rows))
