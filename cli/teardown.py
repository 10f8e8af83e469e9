"""`teardown`: remove what rollouts created, which no stack knows of."""

from collections.abc import Iterator
from typing import Any

import click
from botocore.exceptions import ClientError
from retrodict.pipeline import load_pipelines
from retrodict.rollout import dashed

from cli.options import json_option, target_options
from cli.output import emit, pairs
from cli.predict import endpoint_of
from cli.target import Target

_GONE = {"ValidationException", "ValidationError"}


def _pages(client: Any, operation: str, key: str, contains: str) -> Iterator[str]:
    """Yield the names that contain a text."""
    name = f"{key}Name"
    for page in client.get_paginator(operation).paginate(NameContains=contains):
        for found in page[f"{key}s"]:
            yield found[name]


def _delete(delete: Any, **name: str) -> bool:
    """Delete one thing; False if it is gone already."""
    try:
        delete(**name)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return False
        raise
    return True


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@target_options
def teardown(*, yes: bool, as_json: bool, target: Target) -> None:
    """Delete the endpoints, their configs and models that rollouts created.

    Run it before the stacks are destroyed. The log, the artifacts and the model
    registry stay; the next rollout creates what it needs again.

    \b
    Examples
      retrodict teardown
      retrodict teardown --yes --aws --env dev
    """
    names = [
        endpoint
        for pipeline in load_pipelines().values()
        if pipeline.model is not None
        for base in [endpoint_of(target, pipeline)]
        for endpoint in (base, f"{base}-async")
    ]
    if not yes:
        click.confirm(
            f"delete the endpoints {', '.join(names)} of {target.environment}?",
            abort=True,
        )
    sagemaker = target.client("sagemaker")
    deleted: dict[str, list[str]] = {"endpoints": [], "configs": [], "models": []}
    for name in names:
        if _delete(sagemaker.delete_endpoint, EndpointName=name):
            deleted["endpoints"].append(name)
    for pipeline in load_pipelines().values():
        prefix = f"{target.environment}-{dashed(pipeline.name)}-"
        for config in _pages(
            sagemaker, "list_endpoint_configs", "EndpointConfig", prefix
        ):
            if config.startswith(prefix) and _delete(
                sagemaker.delete_endpoint_config, EndpointConfigName=config
            ):
                deleted["configs"].append(config)
        for model in _pages(sagemaker, "list_models", "Model", prefix):
            if model.startswith(prefix) and _delete(
                sagemaker.delete_model, ModelName=model
            ):
                deleted["models"].append(model)
    emit(deleted, as_json=as_json, table=pairs(deleted))
