"""Kinesis data streams."""

from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Only, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 128
_DEFAULT_RETENTION_HOURS = 24


@creates(
    "AWS::Kinesis::Stream",
    {
        "Name": APPLIED,
        "RetentionPeriodHours": APPLIED,
        "ShardCount": APPLIED,
        "StreamEncryption": {"EncryptionType": Only(("KMS",)), "KeyId": APPLIED},
        "StreamModeDetails": {"StreamMode": APPLIED},
        "Tags": TAGS,
    },
)
def stream(site: Site, properties: dict[str, Any]) -> Created:
    """Create a stream; one on demand starts with four shards, as in AWS."""
    kinesis = site.client("kinesis")
    name = properties.get("Name") or site.name(limit=_NAME_LIMIT)
    request: dict[str, Any] = {"StreamName": name}
    if "StreamModeDetails" in properties:
        request["StreamModeDetails"] = properties["StreamModeDetails"]
    if "ShardCount" in properties:
        request["ShardCount"] = int(properties["ShardCount"])
    kinesis.create_stream(**request)
    hours = int(properties.get("RetentionPeriodHours", _DEFAULT_RETENTION_HOURS))
    if hours > _DEFAULT_RETENTION_HOURS:
        kinesis.increase_stream_retention_period(
            StreamName=name, RetentionPeriodHours=hours
        )
    if "StreamEncryption" in properties:
        kinesis.start_stream_encryption(
            StreamName=name, **properties["StreamEncryption"]
        )
    return Created(name, {"Arn": site.arn("kinesis", f"stream/{name}")})
