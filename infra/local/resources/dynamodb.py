"""DynamoDB tables, in both of CloudFormation's types."""

from typing import Any

from infra.local.resources.registry import (
    APPLIED,
    TAGS,
    Inert,
    Only,
    Shape,
    Site,
    creates,
)
from infra.local.template import Created

_NAME_LIMIT = 255
_INDEX: list[Shape] = [
    {
        "IndexName": APPLIED,
        "KeySchema": APPLIED,
        "Projection": APPLIED,
    }
]
_RECOVERY: dict[str, Shape] = {
    "PointInTimeRecoveryEnabled": APPLIED,
    "RecoveryPeriodInDays": APPLIED,
}
_COMMON: dict[str, Shape] = {
    "AttributeDefinitions": APPLIED,
    "BillingMode": Only(("PAY_PER_REQUEST",)),
    "GlobalSecondaryIndexes": _INDEX,
    "KeySchema": APPLIED,
    "LocalSecondaryIndexes": _INDEX,
    "TableName": APPLIED,
    "TimeToLiveSpecification": APPLIED,
}


@creates(
    "AWS::DynamoDB::Table",
    {
        **_COMMON,
        "DeletionProtectionEnabled": APPLIED,
        "PointInTimeRecoverySpecification": _RECOVERY,
        "SSESpecification": {
            "KMSMasterKeyId": APPLIED,
            "SSEEnabled": APPLIED,
            "SSEType": Only(("KMS",)),
        },
        "StreamSpecification": {"StreamViewType": APPLIED},
        "Tags": TAGS,
    },
)
def table(site: Site, properties: dict[str, Any]) -> Created:
    """Create a table with its encryption, recovery and stream."""
    return _create(site, properties, properties)


@creates(
    "AWS::DynamoDB::GlobalTable",
    {
        **_COMMON,
        "Replicas": [
            {
                "ContributorInsightsSpecification": Inert(
                    "insights are a console page"
                ),
                "DeletionProtectionEnabled": APPLIED,
                "PointInTimeRecoverySpecification": _RECOVERY,
                "Region": APPLIED,
                "SSESpecification": {"KMSMasterKeyId": APPLIED},
                "Tags": TAGS,
            }
        ],
        "SSESpecification": {"SSEEnabled": APPLIED, "SSEType": Only(("KMS",))},
        "StreamSpecification": {"StreamViewType": APPLIED},
    },
)
def global_table(site: Site, properties: dict[str, Any]) -> Created:
    """Create a global table that has its one replica here."""
    replicas = properties["Replicas"]
    if len(replicas) != 1 or replicas[0]["Region"] != site.region:
        raise site.refuse("AWS::DynamoDB::GlobalTable", "Replicas in other regions")
    replica = {key: value for key, value in replicas[0].items() if key != "Region"}
    sse = {
        **properties.get("SSESpecification", {}),
        **replica.get("SSESpecification", {}),
    }
    return _create(site, properties, {**replica, "SSESpecification": sse})


def _create(site: Site, properties: dict[str, Any], replica: dict[str, Any]) -> Created:
    dynamodb = site.client("dynamodb")
    name = properties.get("TableName") or site.name(limit=_NAME_LIMIT)
    request: dict[str, Any] = {
        key: properties[key]
        for key in (
            "AttributeDefinitions",
            "BillingMode",
            "GlobalSecondaryIndexes",
            "KeySchema",
            "LocalSecondaryIndexes",
        )
        if key in properties
    }
    if "BillingMode" not in request:
        raise site.refuse("AWS::DynamoDB::Table", "BillingMode = 'PROVISIONED'")
    if "StreamSpecification" in properties:
        request["StreamSpecification"] = {
            "StreamEnabled": True,
            **properties["StreamSpecification"],
        }
    sse = replica.get("SSESpecification")
    if sse:
        request["SSESpecification"] = {
            ("Enabled" if key == "SSEEnabled" else key): value
            for key, value in sse.items()
        }
    if "DeletionProtectionEnabled" in replica:
        request["DeletionProtectionEnabled"] = replica["DeletionProtectionEnabled"]
    made = dynamodb.create_table(TableName=name, **request)["TableDescription"]
    if "TimeToLiveSpecification" in properties:
        dynamodb.update_time_to_live(
            TableName=name,
            TimeToLiveSpecification=properties["TimeToLiveSpecification"],
        )
    if "PointInTimeRecoverySpecification" in replica:
        dynamodb.update_continuous_backups(
            TableName=name,
            PointInTimeRecoverySpecification=replica[
                "PointInTimeRecoverySpecification"
            ],
        )
    attributes = {"Arn": made["TableArn"], "TableId": made.get("TableId", "")}
    if "LatestStreamArn" in made:
        attributes["StreamArn"] = made["LatestStreamArn"]
    return Created(name, attributes)
