"""Judge a candidate against the champion on the same frozen rows.

Invoked by
    The state machine `retrain`.
Reads, then writes to
    The artifact bucket: rows, candidate and champion, and the verified candidate under
    the digest of its content; the lifecycle store, one ``candidate_judged`` a run.
Fails with
    ``ArtifactRefusedError`` where the job left anything but one artifact of this run;
    ``TrainingSetChangedError``; ``StreamConflictError`` and ``StoreUnavailableError``,
    which may be tried again.

Environment variables
---------------------
ARTIFACT_BUCKET_NAME, LIFECYCLE_TABLE_NAME : str
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from retrodict.judging import judge
from retrodict.model import Gates
from retrodict.pipeline import load_pipelines
from retrodict.ports import LifecycleStore
from retrodict.training_run import champion_digest, check_candidate, record_verdict
from retrodict_aws.clients import client
from retrodict_aws.dynamodb_lifecycle_store import DynamoDBLifecycleStore
from retrodict_aws.s3_artifacts import S3Artifacts
from retrodict_aws.s3_training_sets import S3TrainingSets

logger, tracer = Logger(), Tracer()


@cache
def ports() -> tuple[LifecycleStore, S3Artifacts, S3TrainingSets]:
    """Build the real ports on first use, so that importing this module does nothing."""
    bucket = os.environ["ARTIFACT_BUCKET_NAME"]
    return (
        DynamoDBLifecycleStore(client("dynamodb"), os.environ["LIFECYCLE_TABLE_NAME"]),
        S3Artifacts(client("s3"), bucket),
        S3TrainingSets(client("s3"), bucket),
    )


def handle(
    request: dict[str, Any],
    store: LifecycleStore,
    artifacts: S3Artifacts,
    sets: S3TrainingSets,
) -> dict[str, Any]:
    """Verify the candidate, judge it, keep it, record the verdict, and return it."""
    pipeline = load_pipelines()[request["pipeline"]]
    candidate = artifacts.read(request["candidate_uri"], None)
    check_candidate(candidate, pipeline, request)
    rows = sets.load(request["training_set_uri"], request["training_set"])
    serving = champion_digest(store, pipeline.name)
    champion = artifacts.load(serving) if serving else None
    comparable = champion if champion and _reads(champion, candidate) else None
    verdict = judge(
        candidate,
        comparable,
        rows.judging,
        rows.held_out,
        pipeline.model.gates if pipeline.model else Gates(),
    )
    uri = artifacts.store(candidate)
    record_verdict(store, request, candidate, serving, verdict)
    return {
        "passed": verdict.passed,
        "reason": verdict.reason,
        "artifact_digest": candidate.digest,
        "artifact_uri": uri,
    }


def _reads(champion: Any, candidate: Any) -> bool:
    """Return whether the champion can read the candidate's rows."""
    return bool(
        champion.definition == candidate.definition
        and champion.features == candidate.features
    )


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Translate the Lambda event; everything else is in `handle`."""
    return handle(event, *ports())
