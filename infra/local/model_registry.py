"""Gaps of moto's SageMaker model registry.

moto 5.2.5 keeps model package groups and versions, but

- ``UpdateModelPackage`` replaces ApprovalDescription and CustomerMetadataProperties
  by nothing when the request does not name them, where AWS leaves them alone, and
  replaces the properties where AWS adds to them;
- ``CreateModelPackageGroup`` replaces a group of the same name and all it says;
- ``CreateModelPackage`` numbers by counting and knows a group by its name only, not by
  its ARN, makes a version of no approval status, where AWS says
  PendingManualApproval, and makes another one for the same ClientToken;
- a model package cannot be tagged or deleted: refused by name (see `sagemaker`).

`close_gap` replaces ``update_model_package``, ``create_model_package_group`` and
``create_model_package`` of its backend; what they do not change goes through moto's.
"""

from typing import Any

from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend

_create_group = SageMakerModelBackend.create_model_package_group
_create_package = SageMakerModelBackend.create_model_package
_update_package = SageMakerModelBackend.update_model_package


def close_gap() -> None:
    """Replace the methods named above."""
    backend: Any = SageMakerModelBackend
    backend.create_model_package_group = _group_created
    backend.create_model_package = _package_created
    backend.update_model_package = _package_updated


def _group_created(
    self: SageMakerModelBackend, model_package_group_name: str, **members: Any
) -> str:
    known = self.model_package_groups.get(model_package_group_name)
    if known is not None:
        raise ValidationError(f"Model Package Group already exists: {known.arn}")
    return _create_group(self, model_package_group_name, **members)


def _package_created(
    self: SageMakerModelBackend,
    *,
    model_package_group_name: str | None,
    model_approval_status: str | None,
    client_token: str | None,
    **members: Any,
) -> str:
    for known in self.model_packages.values():
        if client_token is not None and known.client_token == client_token:
            return known.arn
    if model_package_group_name is not None:
        model_package_group_name = model_package_group_name.split("/")[-1]
        model_approval_status = model_approval_status or "PendingManualApproval"
    return _create_package(
        self,
        model_package_group_name=model_package_group_name,
        model_approval_status=model_approval_status,
        client_token=client_token,
        **members,
    )


def _package_updated(  # noqa: PLR0913 - moto's signature
    self: SageMakerModelBackend,
    *,
    model_package_arn: str,
    model_approval_status: str | None,
    approval_description: str | None,
    customer_metadata_properties: dict[str, str] | None,
    customer_metadata_properties_to_remove: list[str],
    additional_inference_specifications_to_add: list[Any] | None,
) -> str:
    known = self.describe_model_package(model_package_arn)
    properties = {
        **(known.customer_metadata_properties or {}),
        **(customer_metadata_properties or {}),
    }
    return _update_package(
        self,
        model_package_arn=model_package_arn,
        model_approval_status=model_approval_status or known.model_approval_status,
        approval_description=approval_description or known.approval_description,
        customer_metadata_properties=properties,
        customer_metadata_properties_to_remove=customer_metadata_properties_to_remove,
        additional_inference_specifications_to_add=(
            additional_inference_specifications_to_add
        ),
    )
