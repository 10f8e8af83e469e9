"""CloudWatch log groups."""

from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 512


@creates(
    "AWS::Logs::LogGroup",
    {
        "KmsKeyId": APPLIED,
        "LogGroupName": APPLIED,
        "RetentionInDays": APPLIED,
        "Tags": TAGS,
    },
)
def log_group(site: Site, properties: dict[str, Any]) -> Created:
    """Create a log group."""
    logs = site.client("logs")
    name = properties.get("LogGroupName") or site.name(limit=_NAME_LIMIT)
    key = {"kmsKeyId": properties["KmsKeyId"]} if "KmsKeyId" in properties else {}
    logs.create_log_group(logGroupName=name, **key)
    if "RetentionInDays" in properties:
        logs.put_retention_policy(
            logGroupName=name, retentionInDays=int(properties["RetentionInDays"])
        )
    return Created(name, {"Arn": site.arn("logs", f"log-group:{name}:*")})
