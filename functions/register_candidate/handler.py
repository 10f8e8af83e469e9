"""Put a candidate that passed into the model registry.

Invoked by
    The state machine `retrain`.
Reads, then writes to
    The artifact bucket, a card beside the artifact; the model package group of the
    pipeline; the lifecycle store, one ``candidate_registered`` a run.
Fails with
    ``ArtifactRefusedError`` where the artifact is not what its digest says;
    ``DecisionRefusedError`` where it has not passed judgement in this run;
    ``StreamConflictError`` and ``StoreUnavailableError``, which may be tried again.
Needs
    dynamodb:Query and dynamodb:PutItem on the lifecycle table; s3:GetObject on
    ``artifacts/*/model.tar.gz`` and s3:PutObject on ``artifacts/*/card.json``;
    sagemaker:ListModelPackages; sagemaker:CreateModelPackage on the group and on its
    packages.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME : str
    Name of the bucket that keeps the artifacts.
ENVIRONMENT_NAME : str
    Name of the environment, part of the name of the model package group.
LIFECYCLE_TABLE_NAME : str
    Name of the table of the lifecycle store.
SERVING_IMAGE_URI : str
    Image that serves the artifacts.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.deciding import record
from retrodict.lifecycle import (
    CandidateRegistered,
    Decided,
    Lifecycle,
    check_follows,
    decided,
    replay,
)
from retrodict.ports import LifecycleStore
from retrodict.rollout import endpoint_name
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.sagemaker_registry import SageMakerRegistry

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[LifecycleStore, S3Artifacts]:
    """Build the real ports on first use, so that importing this module does nothing."""
    return (
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        S3Artifacts(client("s3"), os.environ["ARTIFACT_BUCKET_NAME"]),
    )


def registry(pipeline: str) -> SageMakerRegistry:
    """Return the registry of a pipeline's models."""
    group = endpoint_name(os.environ["ENVIRONMENT_NAME"], pipeline)
    return SageMakerRegistry(client("sagemaker"), client("s3"), group)


def handle(
    request: dict[str, Any],
    store: LifecycleStore,
    artifacts: S3Artifacts,
    models: SageMakerRegistry,
) -> str:
    """Register the artifact, record that, and return the ARN of its package."""
    stream_id, run_id = request["pipeline"], request["run_id"]
    lifecycle = replay(store.read(stream_id))
    if not lifecycle.has(run_id, "candidate_registered"):
        check_follows(lifecycle, _registered(request, arn="not yet"))
    artifact = artifacts.read(request["artifact_uri"], request["artifact_digest"])
    arn = models.register(
        artifact,
        request["artifact_uri"],
        os.environ["SERVING_IMAGE_URI"],
        run_id=run_id,
    )

    def decide(found: Lifecycle) -> Decided | None:
        if found.has(run_id, "candidate_registered"):
            return None
        return _registered(request, arn)

    record(store, stream_id, decide)
    return arn


def _registered(request: dict[str, Any], arn: str) -> Decided:
    return decided(
        CandidateRegistered,
        request["until_us"],
        pipeline=request["pipeline"],
        run_id=request["run_id"],
        artifact_digest=request["artifact_digest"],
        artifact_uri=request["artifact_uri"],
        model_package_arn=arn,
    )


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    arn = handle(event, *ports(), registry(event["pipeline"]))
    return {"model_package_arn": arn}
