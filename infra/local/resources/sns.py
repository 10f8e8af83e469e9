"""SNS topics, their subscriptions and their policies."""

import json
from typing import Any

from infra.local.resources.registry import APPLIED, TAGS, Only, Site, creates
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


@creates(
    "AWS::SNS::Subscription",
    {
        "Endpoint": APPLIED,
        "FilterPolicy": APPLIED,
        "FilterPolicyScope": APPLIED,
        # An address of the protocol email is kept, and nobody is written to: no mail
        # leaves the twin. What is published is in the topic's other subscriptions.
        "Protocol": Only(("sqs", "lambda", "email")),
        "RawMessageDelivery": APPLIED,
        "TopicArn": APPLIED,
    },
)
def subscription(site: Site, properties: dict[str, Any]) -> Created:
    """Subscribe a queue, a function or an address to a topic."""
    attributes: dict[str, str] = {}
    if "FilterPolicy" in properties:
        attributes["FilterPolicy"] = json.dumps(properties["FilterPolicy"])
    if "FilterPolicyScope" in properties:
        attributes["FilterPolicyScope"] = properties["FilterPolicyScope"]
    if str(properties.get("RawMessageDelivery", False)).lower() == "true":
        attributes["RawMessageDelivery"] = "true"
    arn = site.client("sns").subscribe(
        TopicArn=properties["TopicArn"],
        Protocol=properties["Protocol"],
        Endpoint=properties["Endpoint"],
        Attributes=attributes,
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    return Created(arn, {"Arn": arn})


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
