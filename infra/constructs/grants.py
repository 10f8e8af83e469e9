"""How a construct lets somebody do something: exact actions on exact resources."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import IConstruct


def allow(
    grantee: iam.IGrantable,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Let `grantee` perform `actions` on `resources`."""
    grantee.grant_principal.add_to_principal_policy(
        iam.PolicyStatement(
            actions=list(actions), resources=list(resources), conditions=conditions
        )
    )


def deny(
    grantee: iam.IGrantable, actions: Sequence[str], resources: Sequence[str]
) -> None:
    """Forbid `grantee` `actions` on `resources`, whatever else allows them."""
    grantee.grant_principal.add_to_principal_policy(
        iam.PolicyStatement(
            effect=iam.Effect.DENY, actions=list(actions), resources=list(resources)
        )
    )


def allow_key(
    grantee: iam.IGrantable, key: kms.IKey, service: str, actions: Sequence[str]
) -> None:
    """Let `grantee` use `key` with `actions`, only on its way through `service`."""
    region = Stack.of(key).region
    allow(
        grantee,
        actions,
        [key.key_arn],
        {"StringEquals": {"kms:ViaService": f"{service}.{region}.amazonaws.com"}},
    )


def of_this_account(service: str, scope: IConstruct) -> iam.ServicePrincipal:
    """Return an AWS service, only while it works for the account of `scope`."""
    return iam.ServicePrincipal(
        service,
        conditions={"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}},
    )


def accept_finding(construct: IConstruct, finding: str, reason: str) -> None:
    """Accept one cdk-nag `finding` on `construct`, for a `reason` that can be read."""
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))
