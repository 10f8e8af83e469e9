"""See what really serves after a rollout, and record how it ended.

Invoked by
    The state machine `roll_out`, after success and after rollback alike.
Reads, then writes to
    SageMaker's description of the endpoint, its configuration and its model, and its
    answer to a probe; the lifecycle store, one of ``champion_promoted``,
    ``rollout_rolled_back``, ``rollout_failed``; SageMaker again, where configurations
    and models of long superseded rollouts are deleted.
Fails with
    ``ArtifactRefusedError`` where the artifact is not what its digest says;
    ``EndpointBusyError`` while SageMaker changes the endpoint, and
    ``StreamConflictError`` and ``StoreUnavailableError``, which may be tried again.
Needs
    dynamodb:Query and dynamodb:PutItem on the lifecycle table; s3:GetObject on
    ``artifacts/*/model.tar.gz``; sagemaker:DescribeEndpoint and
    sagemaker:InvokeEndpoint on the endpoints ``retrodict-<environment>-*``;
    sagemaker:DescribeEndpointConfig, sagemaker:DeleteEndpointConfig,
    sagemaker:DescribeModel and sagemaker:DeleteModel on configurations and models
    ``<environment>-*``.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME : str
    Name of the bucket that keeps the artifacts.
LIFECYCLE_TABLE_NAME : str
    Name of the table of the lifecycle store.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.deciding import record
from retrodict.errors import EndpointBusyError
from retrodict.lifecycle import replay
from retrodict.ports import LifecycleStore
from retrodict.rollout import (
    UNSETTLED,
    asynchronous_name,
    outcome,
    probe_of,
    spoken,
    superseded,
)
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
    """Probe the endpoint, record the outcome once, tidy up, and return the outcome."""
    artifact = artifacts.read(request["artifact_uri"], request["artifact_digest"])
    serving = endpoints.serving(request["endpoint_name"], probe_of(artifact))
    if serving.status in UNSETTLED:
        raise EndpointBusyError(
            f"endpoint {request['endpoint_name']!r} is {serving.status}: what serves "
            "is known when SageMaker has finished"
        )
    stream_id = request["pipeline"]
    record(store, stream_id, lambda found: outcome(request, serving, found))
    lifecycle = replay(store.read(stream_id))
    ended = spoken(lifecycle, request["run_id"])
    if ended == "promoted":
        _tidy_up(endpoints, request["endpoint_name"], lifecycle.configs)
    return {"outcome": ended, "serving_digest": serving.digest}


def _tidy_up(
    endpoints: SageMakerEndpoints, endpoint: str, configs: tuple[str, ...]
) -> None:
    """Delete what no endpoint names and nobody would go back to."""
    named = {
        endpoints.config_of(endpoint),
        endpoints.config_of(asynchronous_name(endpoint)),
    }
    for config in superseded(configs, named):
        endpoints.remove(config, asynchronous_name(config))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    return handle(event, *ports())
