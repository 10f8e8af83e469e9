"""KMS keys and aliases."""

from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Site, creates
from infra.local.template import Created


@creates(
    "AWS::KMS::Key",
    {
        "Description": APPLIED,
        "EnableKeyRotation": APPLIED,
        "KeyPolicy": Inert(
            "moto authorises nobody; the policy is checked in the tests"
        ),
        "KeySpec": Only(("SYMMETRIC_DEFAULT",)),
        "KeyUsage": Only(("ENCRYPT_DECRYPT",)),
        "PendingWindowInDays": Inert("a twin's keys end with it"),
        "Tags": TAGS,
    },
)
def key(site: Site, properties: dict[str, Any]) -> Created:
    """Create a symmetric key."""
    kms = site.client("kms")
    made = kms.create_key(Description=properties.get("Description", ""))["KeyMetadata"]
    if properties.get("EnableKeyRotation"):
        kms.enable_key_rotation(KeyId=made["KeyId"])
    return Created(made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]})


@creates("AWS::KMS::Alias", {"AliasName": APPLIED, "TargetKeyId": APPLIED})
def alias(site: Site, properties: dict[str, Any]) -> Created:
    """Give a key a name."""
    site.client("kms").create_alias(**properties)
    return Created(properties["AliasName"])
