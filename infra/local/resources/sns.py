"""SNS topics and their policies."""

import json
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Site, creates
from infra.local.template import Created

_NAME_LIMIT = 256


@creates(
    "AWS::SNS::Topic",
    {
        "DisplayName": APPLIED,
        "KmsMasterKeyId": APPLIED,
        "Tags": TAGS,
        "TopicName": APPLIED,
    },
)
def topic(site: Site, properties: dict[str, Any]) -> Created:
    """Create a topic."""
    name = properties.get("TopicName") or site.name(limit=_NAME_LIMIT)
    arn = site.client("sns").create_topic(
        Name=name,
        Attributes={
            key: properties[key]
            for key in ("DisplayName", "KmsMasterKeyId")
            if key in properties
        },
    )["TopicArn"]
    return Created(arn, {"TopicArn": arn, "TopicName": name})


@creates("AWS::SNS::TopicPolicy", {"PolicyDocument": APPLIED, "Topics": APPLIED})
def topic_policy(site: Site, properties: dict[str, Any]) -> Created:
    """Put the policy on every topic; moto keeps it and does not enforce it."""
    for arn in properties["Topics"]:
        site.client("sns").set_topic_attributes(
            TopicArn=arn,
            AttributeName="Policy",
            AttributeValue=json.dumps(properties["PolicyDocument"]),
        )
    return Created(site.name(limit=_NAME_LIMIT))
