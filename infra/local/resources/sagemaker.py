"""SageMaker model package groups; models and endpoints are made at run time."""

from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 63


@creates(
    "AWS::SageMaker::ModelPackageGroup",
    {
        "ModelPackageGroupDescription": APPLIED,
        "ModelPackageGroupName": APPLIED,
        "Tags": TAGS,
    },
)
def model_package_group(site: Site, properties: dict[str, Any]) -> Created:
    """Create a group of the model registry; `Ref` gives its ARN, as in AWS."""
    name = properties.get("ModelPackageGroupName") or site.name(limit=_NAME_LIMIT)
    arn = site.client("sagemaker").create_model_package_group(
        ModelPackageGroupName=name,
        ModelPackageGroupDescription=properties.get("ModelPackageGroupDescription", ""),
    )["ModelPackageGroupArn"]
    return Created(
        arn, {"ModelPackageGroupArn": arn, "ModelPackageGroupStatus": "Completed"}
    )
