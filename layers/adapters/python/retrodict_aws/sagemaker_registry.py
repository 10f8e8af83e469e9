"""The model registry: every candidate that passed, with its figures and digests."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from retrodict.artifact import Artifact
from retrodict.errors import StoreUnavailableError

from retrodict_aws.clients import AWS_ERRORS, error_code
from retrodict_aws.s3_artifacts import split_uri

CARD: Final = "card.json"
"""Beside the package of an artifact: its card, metrics and origin, to be read."""

_MOST_PROPERTIES: Final = 50
_VALUE_LIMIT: Final = 256
_DESCRIPTION_LIMIT: Final = 1_024
_PAGE: Final = 50
_FOREIGN: Final = re.compile(r"[^\w .:/=+\-@]")
"""What SageMaker refuses in a property."""

_CONTENT_TYPES: Final = ["application/json", "text/csv"]


class SageMakerRegistry:
    """One model package group, and the cards beside the artifacts.

    Parameters
    ----------
    client, s3
        Of SageMaker, and of the bucket that keeps the artifacts.
    group_name
        Name of the group.
    """

    def __init__(self, client: Any, s3: Any, group_name: str) -> None:
        self._client = client
        self._s3 = s3
        self._group_name = group_name

    def register(
        self, artifact: Artifact, uri: str, image_uri: str, *, run_id: str
    ) -> str:
        """Register what a run made, and return the ARN; the same run, the same package.

        Parameters
        ----------
        uri
            Where the package of the artifact is kept; its card is put beside it.
        image_uri
            Image that serves it.

        Raises
        ------
        StoreUnavailableError
            SageMaker or S3 refused.
        """
        try:
            return self._find(run_id) or self._create(artifact, uri, image_uri, run_id)
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"group {self._group_name!r} refused {artifact.digest}: "
                f"{error_code(error)}"
            ) from error

    def _create(self, artifact: Artifact, uri: str, image_uri: str, run_id: str) -> str:
        summary = str(artifact.card.get("summary", "no summary"))
        answer = self._client.create_model_package(
            ModelPackageGroupName=self._group_name,
            ModelPackageDescription=f"{run_id}: {summary}"[:_DESCRIPTION_LIMIT],
            ModelApprovalStatus="Approved",
            InferenceSpecification={
                "Containers": [{"Image": image_uri, "ModelDataUrl": uri}],
                "SupportedContentTypes": _CONTENT_TYPES,
                "SupportedResponseMIMETypes": _CONTENT_TYPES,
            },
            ModelMetrics={
                "ModelQuality": {
                    "Statistics": {
                        "ContentType": "application/json",
                        "S3Uri": self._put_card(artifact, uri),
                    }
                }
            },
            CustomerMetadataProperties=properties(artifact),
            ClientToken=run_id[-36:],
        )
        return str(answer["ModelPackageArn"])

    def _put_card(self, artifact: Artifact, uri: str) -> str:
        """Put card and metrics beside the package, and return where."""
        bucket, key = split_uri(uri)
        card = f"{key.rpartition('/')[0]}/{CARD}"
        self._s3.put_object(
            Bucket=bucket,
            Key=card,
            ContentType="application/json",
            Body=json.dumps(
                {
                    **origin(artifact),
                    "card": artifact.card,
                    "metrics": artifact.metrics,
                },
                indent=2,
                sort_keys=True,
            ).encode(),
        )
        return f"s3://{bucket}/{card}"

    def _find(self, run_id: str) -> str | None:
        """Return the package of a run among the newest: a step that is retried.

        ``ClientToken`` says the same to SageMaker, which forgets it after a while.
        """
        answer = self._client.list_model_packages(
            ModelPackageGroupName=self._group_name,
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=_PAGE,
        )
        for found in answer["ModelPackageSummaryList"]:
            if found.get("ModelPackageDescription", "").startswith(f"{run_id}: "):
                return str(found["ModelPackageArn"])
        return None


def origin(artifact: Artifact) -> dict[str, str]:
    """Return what says where an artifact came from."""
    return {
        "artifact_digest": artifact.digest,
        "training_set": artifact.training_set,
        "code": artifact.code,
        "definition": artifact.definition,
        "run_id": artifact.run_id,
        "threshold": repr(artifact.threshold),
        "alert_budget": repr(artifact.alert_budget),
        "seed": str(artifact.seed),
    }


def properties(artifact: Artifact) -> dict[str, str]:
    """Return origin and figures as a registry can show them: few, short and plain."""
    figures = {f"metric.{k}": str(v) for k, v in _figures(artifact.metrics)}
    found = {**origin(artifact), **figures}
    return {
        _FOREIGN.sub("_", name)[:128]: _FOREIGN.sub("_", value)[:_VALUE_LIMIT]
        for name, value in [*found.items()][:_MOST_PROPERTIES]
        if value
    }


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | bool]]:
    for name, value in sorted(metrics.items()):
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", v) for inner, v in _figures(value))
        elif isinstance(value, bool | int | float):
            yield name, value
