"""SQS queues and their policies."""

import json
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 80


@creates(
    "AWS::SQS::Queue",
    {
        "KmsMasterKeyId": APPLIED,
        "MessageRetentionPeriod": APPLIED,
        "QueueName": APPLIED,
        "RedrivePolicy": APPLIED,
        "SqsManagedSseEnabled": APPLIED,
        "Tags": TAGS,
        "VisibilityTimeout": APPLIED,
    },
)
def queue(site: Site, properties: dict[str, Any]) -> Created:
    """Create a standard queue."""
    name = properties.get("QueueName") or site.name(limit=_NAME_LIMIT)
    url = site.client("sqs").create_queue(
        QueueName=name,
        Attributes={
            key: _text(value)
            for key, value in properties.items()
            if key not in {"QueueName", "Tags"}
        },
    )["QueueUrl"]
    arn = site.arn("sqs", name)
    return Created(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@creates("AWS::SQS::QueuePolicy", {"PolicyDocument": APPLIED, "Queues": APPLIED})
def queue_policy(site: Site, properties: dict[str, Any]) -> Created:
    """Put the policy on every queue; moto keeps it and does not enforce it."""
    for url in properties["Queues"]:
        site.client("sqs").set_queue_attributes(
            QueueUrl=url,
            Attributes={"Policy": json.dumps(properties["PolicyDocument"])},
        )
    return Created(site.name(limit=_NAME_LIMIT))
