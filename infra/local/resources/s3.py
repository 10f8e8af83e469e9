"""S3 buckets and their policies."""

import json
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Site, creates
from infra.local.template import PARTITION, URL_SUFFIX, Created

_NAME_LIMIT = 63
_HOME = "us-east-1"  # the one region that must not be named as a constraint


@creates(
    "AWS::S3::Bucket",
    {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {
                    "BucketKeyEnabled": APPLIED,
                    "ServerSideEncryptionByDefault": {
                        "KMSMasterKeyID": APPLIED,
                        "SSEAlgorithm": APPLIED,
                    },
                }
            ]
        },
        "BucketName": APPLIED,
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": APPLIED},
                    "ExpirationInDays": APPLIED,
                    "Id": APPLIED,
                    "NoncurrentVersionExpiration": {"NoncurrentDays": APPLIED},
                    "Prefix": APPLIED,
                    "Status": APPLIED,
                }
            ]
        },
        "LoggingConfiguration": Inert(
            "S3 writes access logs hours later; nothing here reads them"
        ),
        "NotificationConfiguration": {
            "EventBridgeConfiguration": {"EventBridgeEnabled": Only((True,))}
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": APPLIED}]},
        "PublicAccessBlockConfiguration": APPLIED,
        "Tags": TAGS,
        "VersioningConfiguration": {"Status": APPLIED},
    },
)
def bucket(site: Site, properties: dict[str, Any]) -> Created:
    """Create a bucket with its versioning, encryption, lifecycle and notifications."""
    s3 = site.client("s3")
    name = properties.get("BucketName") or site.name(limit=_NAME_LIMIT, lower=True)
    place = {"LocationConstraint": site.region}
    s3.create_bucket(
        Bucket=name,
        **({} if site.region == _HOME else {"CreateBucketConfiguration": place}),
    )
    if "VersioningConfiguration" in properties:
        s3.put_bucket_versioning(
            Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"]
        )
    if "BucketEncryption" in properties:
        s3.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [
                    _encryption_rule(rule)
                    for rule in properties["BucketEncryption"][
                        "ServerSideEncryptionConfiguration"
                    ]
                ]
            },
        )
    if "PublicAccessBlockConfiguration" in properties:
        s3.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"],
        )
    if "OwnershipControls" in properties:
        s3.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls=properties["OwnershipControls"]
        )
    if "LifecycleConfiguration" in properties:
        s3.put_bucket_lifecycle_configuration(
            Bucket=name,
            LifecycleConfiguration={
                "Rules": [
                    _lifecycle_rule(rule)
                    for rule in properties["LifecycleConfiguration"]["Rules"]
                ]
            },
        )
    if "NotificationConfiguration" in properties:
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
    domain = f"{name}.s3.{URL_SUFFIX}"
    regional = f"{name}.s3.{site.region}.{URL_SUFFIX}"
    return Created(
        name,
        {
            "Arn": f"arn:{PARTITION}:s3:::{name}",
            "DomainName": domain,
            "RegionalDomainName": regional,
        },
    )


def _encryption_rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
        **{key: rule[key] for key in ("BucketKeyEnabled",) if key in rule},
    }


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    request = {
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
    }
    if "Id" in rule:
        request["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        request["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    for key in ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"):
        if key in rule:
            request[key] = {name: int(days) for name, days in rule[key].items()}
    return request


@creates("AWS::S3::BucketPolicy", {"Bucket": APPLIED, "PolicyDocument": APPLIED})
def bucket_policy(site: Site, properties: dict[str, Any]) -> Created:
    """Put the policy without its conditional denials.

    moto enforces bucket policies but ignores their conditions, so that "deny what does
    not come over TLS" would deny everything. Those statements are left out; the tests
    of the template prove that they are there.
    """
    document = dict(properties["PolicyDocument"])
    document["Statement"] = [
        statement
        for statement in document["Statement"]
        if not (statement["Effect"] == "Deny" and "Condition" in statement)
    ]
    if document["Statement"]:
        site.client("s3").put_bucket_policy(
            Bucket=properties["Bucket"], Policy=json.dumps(document)
        )
    return Created(properties["Bucket"])
