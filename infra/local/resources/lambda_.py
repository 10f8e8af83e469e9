"""Lambda functions, layers, permissions, event source mappings and their settings."""

import uuid
from typing import Any

from moto.awslambda.utils import get_backend

from infra.local.event_pattern import EventPattern
from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Site, creates
from infra.local.template import ACCOUNT, Created

_NAME_LIMIT = 64
_LAYER_NAME_LIMIT = 140
_CODE = {"S3Bucket": APPLIED, "S3Key": APPLIED, "ZipFile": APPLIED}


@creates(
    "AWS::Lambda::LayerVersion",
    {
        "CompatibleArchitectures": Inert("a layer runs on this machine's processor"),
        "CompatibleRuntimes": APPLIED,
        "Content": {"S3Bucket": APPLIED, "S3Key": APPLIED},
        "Description": APPLIED,
        "LayerName": APPLIED,
        "LicenseInfo": APPLIED,
    },
)
def layer_version(site: Site, properties: dict[str, Any]) -> Created:
    """Publish the first version of a layer."""
    name = properties.get("LayerName") or site.name(limit=_LAYER_NAME_LIMIT)
    made = site.client("lambda").publish_layer_version(
        LayerName=name,
        **{
            key: properties[key]
            for key in ("CompatibleRuntimes", "Content", "Description", "LicenseInfo")
            if key in properties
        },
    )
    arn = made["LayerVersionArn"]
    return Created(arn, {"LayerVersionArn": arn})


@creates(
    "AWS::Lambda::Function",
    {
        "Architectures": APPLIED,
        "Code": _CODE,
        "Description": APPLIED,
        "Environment": {"Variables": APPLIED},
        "FunctionName": APPLIED,
        "Handler": APPLIED,
        "Layers": APPLIED,
        "LoggingConfig": {
            "ApplicationLogLevel": Inert("lines are kept as they are written"),
            "LogFormat": Inert("lines are kept as they are written"),
            "LogGroup": APPLIED,
            "SystemLogLevel": Inert("lines are kept as they are written"),
        },
        "MemorySize": APPLIED,
        "PackageType": Only(("Zip",)),
        "RecursiveLoop": Inert("nothing here loops through an unwatched service"),
        "Role": APPLIED,
        "Runtime": APPLIED,
        "Tags": TAGS,
        "Timeout": APPLIED,
        "TracingConfig": APPLIED,
    },
)
def function(site: Site, properties: dict[str, Any]) -> Created:
    """Create a function."""
    if not str(properties.get("Runtime", "")).startswith("python3."):
        raise site.refuse(
            "AWS::Lambda::Function", f"the runtime {properties.get('Runtime')!r}"
        )
    name = properties.get("FunctionName") or site.name(limit=_NAME_LIMIT)
    request: dict[str, Any] = {
        key: properties[key]
        for key in (
            "Architectures",
            "Code",
            "Description",
            "Environment",
            "Handler",
            "Layers",
            "LoggingConfig",
            "Role",
            "Runtime",
            "TracingConfig",
        )
        if key in properties
    }
    for key in ("MemorySize", "Timeout"):
        if key in properties:
            request[key] = int(properties[key])
    if "Environment" in request:
        variables = request["Environment"]["Variables"]
        request["Environment"] = {
            "Variables": {key: str(value) for key, value in variables.items()}
        }
    made = site.client("lambda").create_function(FunctionName=name, **request)
    if "LogGroup" in properties.get("LoggingConfig", {}):
        # moto forgets where a function writes its log
        known = get_backend(ACCOUNT, site.region).get_function(name)
        known.logs_group_name = properties["LoggingConfig"]["LogGroup"]
    return Created(name, {"Arn": made["FunctionArn"]})


@creates(
    "AWS::Lambda::EventSourceMapping",
    {
        "BatchSize": APPLIED,
        "BisectBatchOnFunctionError": APPLIED,
        "DestinationConfig": {"OnFailure": {"Destination": APPLIED}},
        "Enabled": APPLIED,
        "EventSourceArn": APPLIED,
        "FilterCriteria": {"Filters": [{"Pattern": APPLIED}]},
        "FunctionName": APPLIED,
        "FunctionResponseTypes": APPLIED,
        "MaximumBatchingWindowInSeconds": APPLIED,
        "MaximumRecordAgeInSeconds": APPLIED,
        "MaximumRetryAttempts": APPLIED,
        "MetricsConfig": APPLIED,
        "ParallelizationFactor": Only((1,)),
        "StartingPosition": Only(("TRIM_HORIZON", "LATEST")),
        "Tags": TAGS,
    },
)
def event_source_mapping(site: Site, properties: dict[str, Any]) -> Created:
    """Create the mapping of a stream to a function."""
    kind = "AWS::Lambda::EventSourceMapping"
    source = properties["EventSourceArn"]
    if source.split(":")[2] not in {"kinesis", "dynamodb"}:
        raise site.refuse(kind, f"the event source {source}")
    destination = (
        properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    )
    if destination and destination.split(":")[2] not in {"s3", "sqs", "sns"}:
        raise site.refuse(kind, f"the destination {destination}")
    for pattern in properties.get("FilterCriteria", {}).get("Filters", []):
        EventPattern.of_json(pattern["Pattern"], place=str(site.resource))
    request = {key: value for key, value in properties.items() if key != "Tags"}
    made = site.client("lambda").create_event_source_mapping(**request)
    arn = site.arn("lambda", f"event-source-mapping:{made['UUID']}")
    return Created(made["UUID"], {"Id": made["UUID"], "EventSourceMappingArn": arn})


@creates(
    "AWS::Lambda::Permission",
    {
        "Action": APPLIED,
        "FunctionName": APPLIED,
        "Principal": APPLIED,
        "SourceAccount": APPLIED,
        "SourceArn": APPLIED,
    },
)
def permission(site: Site, properties: dict[str, Any]) -> Created:
    """Add a statement to the function's policy; moto does not enforce it."""
    statement = f"{site.resource.logical_id}-{uuid.uuid4().hex[:12]}"
    site.client("lambda").add_permission(
        StatementId=statement[-100:],
        **properties,
    )
    return Created(statement)


@creates(
    "AWS::Lambda::EventInvokeConfig",
    {
        "DestinationConfig": {"OnFailure": {"Destination": APPLIED}},
        "FunctionName": APPLIED,
        "MaximumEventAgeInSeconds": APPLIED,
        "MaximumRetryAttempts": APPLIED,
        "Qualifier": Only(("$LATEST",)),
    },
)
def event_invoke_config(site: Site, properties: dict[str, Any]) -> Created:
    """Set how often an asynchronous invocation is tried and where it ends."""
    request = {key: value for key, value in properties.items() if key != "Qualifier"}
    if "DestinationConfig" in request:
        request["DestinationConfig"] = {
            "OnSuccess": {},
            **request["DestinationConfig"],
        }
    site.client("lambda").put_function_event_invoke_config(**request)
    return Created(f"{properties['FunctionName']}|$LATEST")
