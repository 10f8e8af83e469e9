"""Verify an artifact before anything of it is created, and say how it is rolled out.

Invoked by
    The state machine `roll_out`: after a candidate was registered, or for a person who
    rolls out an artifact of the bucket under a run id of their own.
Reads, then writes to
    The artifact bucket; SageMaker, where an endpoint in the state Failed is deleted,
    since nothing else can be done with it; the lifecycle store, one
    ``rollout_started`` or, where the artifact is refused, ``rollout_failed``.
Fails with
    ``ArtifactRefusedError`` (by its subclasses), ``DecisionRefusedError``,
    ``ProjectionNotVerifiedError`` or another ``PermanentError`` after recording why;
    ``EndpointBusyError`` while SageMaker changes the endpoint, and
    ``StreamConflictError`` and ``StoreUnavailableError``, which may be tried again.
Needs
    dynamodb:Query and dynamodb:PutItem on the lifecycle table; s3:GetObject on
    ``artifacts/*/model.tar.gz``; sagemaker:DescribeEndpoint and
    sagemaker:DeleteEndpoint on ``retrodict-<environment>-*``.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME : str
    Name of the bucket that keeps the artifacts.
ENVIRONMENT_NAME : str
    Name of the environment, part of every name that a rollout makes.
INGEST_STREAM_NAME, ONLINE_STORE_TABLE_NAME : str
    What the serving container puts predictions on, and reads features from.
LIFECYCLE_TABLE_NAME : str
    Name of the table of the lifecycle store.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.artifact import Artifact
from retrodict.deciding import record
from retrodict.errors import EndpointBusyError, PermanentError
from retrodict.lifecycle import replay
from retrodict.model import Canary
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import LifecycleStore
from retrodict.rollout import (
    Step,
    asynchronous_name,
    check_deployable,
    deployment_config,
    endpoint_name,
    first_step,
    refused,
    rollback_alarms,
    run_name,
    started,
)
from retrodict.switching import check_readable
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.sagemaker_endpoints import SageMakerEndpoints

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[LifecycleStore, S3Artifacts, SageMakerEndpoints]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        S3Artifacts(client("s3"), os.environ["ARTIFACT_BUCKET_NAME"]),
        SageMakerEndpoints(client("sagemaker"), client("sagemaker-runtime")),
    )


def handle(
    request: dict[str, Any],
    store: LifecycleStore,
    artifacts: S3Artifacts,
    endpoints: SageMakerEndpoints,
) -> dict[str, Any]:
    """Verify, record, and return names, environment and deployment of the rollout."""
    pipeline = load_pipelines()[request["pipeline"]]
    environment = os.environ["ENVIRONMENT_NAME"]
    endpoint = endpoint_name(environment, pipeline.name)
    config = run_name(environment, pipeline.name, request["run_id"])
    names = {"endpoint_name": endpoint, "config_name": config}
    try:
        candidate = artifacts.read(request["artifact_uri"], request["artifact_digest"])
        check_deployable(candidate, pipeline)
        _check_readable(candidate, pipeline, store, artifacts)
        exists = _settled(endpoints, endpoint)
        exists_asynchronous = _settled(endpoints, asynchronous_name(endpoint))
        record(store, pipeline.name, lambda found: started(request, names, found))
    except PermanentError as error:
        _refuse(request, store, str(error))
        raise
    canary = pipeline.model.rollout if pipeline.model else Canary()
    return {
        **names,
        "exists": exists,
        "model_name": config,
        "environment": container_environment(request),
        "deployment_config": deployment_config(canary, rollback_alarms(endpoint)),
        "asynchronous": {
            "endpoint_name": asynchronous_name(endpoint),
            "config_name": asynchronous_name(config),
            "exists": exists_asynchronous,
        },
    }


def _check_readable(
    candidate: Artifact, pipeline: Pipeline, store: LifecycleStore, kept: S3Artifacts
) -> None:
    lifecycle = replay(store.read(pipeline.name))
    champion = lifecycle.champion
    serving = kept.load(champion.artifact_digest).definition if champion else None
    definition = candidate.definition_in(pipeline)
    check_readable(pipeline, definition, lifecycle, serving)


def container_environment(request: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of the serving container."""
    return {
        "PIPELINE": request["pipeline"],
        "ARTIFACT_DIGEST": request["artifact_digest"],
        "ENVIRONMENT_NAME": os.environ["ENVIRONMENT_NAME"],
        "INGEST_STREAM_NAME": os.environ["INGEST_STREAM_NAME"],
        "ONLINE_STORE_TABLE_NAME": os.environ["ONLINE_STORE_TABLE_NAME"],
    }


def _settled(endpoints: SageMakerEndpoints, name: str) -> bool:
    """Return whether there is an endpoint to update; delete a failed one first.

    Raises
    ------
    EndpointBusyError
        SageMaker is changing it, or deletes it now.
    """
    status = endpoints.status(name)
    step = first_step(status)
    if step is Step.DELETE:
        endpoints.delete(name)
    if step in {Step.DELETE, Step.WAIT}:
        raise EndpointBusyError(
            f"endpoint {name!r} is {status}: look again when SageMaker has finished"
        )
    return step is Step.UPDATE


def _refuse(request: dict[str, Any], store: LifecycleStore, why: str) -> None:
    record(store, request["pipeline"], lambda found: refused(request, why, found))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    return handle(event, *ports())
