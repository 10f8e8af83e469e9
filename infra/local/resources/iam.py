"""IAM roles and policies: kept and visible, not enforced.

moto asks no policy of a Lambda function's calls. What a role may do is checked on the
template, statically, where it is exact.
"""

import json
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Inert, Site, creates
from infra.local.template import PARTITION, Created

_NAME_LIMIT = 64


@creates(
    "AWS::IAM::Role",
    {
        "AssumeRolePolicyDocument": APPLIED,
        "Description": APPLIED,
        "ManagedPolicyArns": Inert("moto enforces no policy of a function's role"),
        "MaxSessionDuration": APPLIED,
        "Policies": [{"PolicyDocument": APPLIED, "PolicyName": APPLIED}],
        "RoleName": APPLIED,
        "Tags": TAGS,
    },
)
def role(site: Site, properties: dict[str, Any]) -> Created:
    """Create a role with its inline policies."""
    iam = site.client("iam")
    name = properties.get("RoleName") or site.name(limit=_NAME_LIMIT)
    made = iam.create_role(
        RoleName=name,
        AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]),
        **{
            key: properties[key]
            for key in ("Description", "MaxSessionDuration")
            if key in properties
        },
    )["Role"]
    for policy in properties.get("Policies", []):
        iam.put_role_policy(
            RoleName=name,
            PolicyName=policy["PolicyName"],
            PolicyDocument=json.dumps(policy["PolicyDocument"]),
        )
    arn = f"arn:{PARTITION}:iam::{made['Arn'].split(':')[4]}:role/{name}"
    return Created(name, {"Arn": arn, "RoleId": made["RoleId"]})


@creates(
    "AWS::IAM::Policy",
    {"PolicyDocument": APPLIED, "PolicyName": APPLIED, "Roles": APPLIED},
)
def policy(site: Site, properties: dict[str, Any]) -> Created:
    """Put an inline policy on every role it names."""
    for name in properties["Roles"]:
        site.client("iam").put_role_policy(
            RoleName=name,
            PolicyName=properties["PolicyName"],
            PolicyDocument=json.dumps(properties["PolicyDocument"]),
        )
    return Created(properties["PolicyName"])
