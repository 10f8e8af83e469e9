"""What a template says is what the services then describe."""

from typing import Any

import pytest

from infra.local.twin import Twin
from tests.contract.twin.assembly import (
    ASSETS,
    ROLE,
    att,
    function,
    mapping,
    ref,
    resource,
)
from tests.contract.twin.conftest import Start

TLS_ONLY = {
    "Action": "s3:*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Resource": [att("Bucket"), {"Fn::Join": ["", [att("Bucket"), "/*"]]}],
}
ENCRYPTION = {
    "BucketKeyEnabled": True,
    "ServerSideEncryptionByDefault": {
        "KMSMasterKeyID": att("Key"),
        "SSEAlgorithm": "aws:kms",
    },
}
TABLE = {
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "N"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
    "KeySchema": [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ],
    "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
}
ROW = {
    "DeletionProtectionEnabled": True,
    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
}


@pytest.fixture
def twin(start: Start) -> Twin:
    """Return a twin with one of everything that carries a promise."""
    resources: dict[str, Any] = {
        "Role": ROLE,
        "Key": resource("AWS::KMS::Key", EnableKeyRotation=True, Description="data"),
        "Stream": resource(
            "AWS::Kinesis::Stream",
            RetentionPeriodHours=168,
            StreamEncryption={"EncryptionType": "KMS", "KeyId": att("Key")},
            StreamModeDetails={"StreamMode": "ON_DEMAND"},
        ),
        "Bucket": resource(
            "AWS::S3::Bucket",
            BucketEncryption={"ServerSideEncryptionConfiguration": [ENCRYPTION]},
            LifecycleConfiguration={
                "Rules": [{"ExpirationInDays": 365, "Status": "Enabled"}]
            },
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            VersioningConfiguration={"Status": "Enabled"},
        ),
        "Policy": resource(
            "AWS::S3::BucketPolicy",
            Bucket=ref("Bucket"),
            PolicyDocument={"Version": "2012-10-17", "Statement": [TLS_ONLY]},
        ),
        "Table": resource(
            "AWS::DynamoDB::Table",
            **TABLE,
            **ROW,
            SSESpecification={
                "KMSMasterKeyId": att("Key"),
                "SSEEnabled": True,
                "SSEType": "KMS",
            },
        ),
        "Global": resource(
            "AWS::DynamoDB::GlobalTable",
            **TABLE,
            SSESpecification={"SSEEnabled": True, "SSEType": "KMS"},
            Replicas=[
                {
                    **ROW,
                    "Region": ref("AWS::Region"),
                    "SSESpecification": {"KMSMasterKeyId": att("Key")},
                }
            ],
        ),
        "Logs": resource("AWS::Logs::LogGroup", RetentionInDays=14),
        "Layer": resource(
            "AWS::Lambda::LayerVersion",
            Content={"S3Bucket": {"Fn::Sub": ASSETS}, "S3Key": "layer.zip"},
        ),
        "Function": function(
            "code",
            Environment={"Variables": {"TABLE": ref("Table")}},
            Layers=[ref("Layer")],
            LoggingConfig={"LogGroup": ref("Logs")},
            MemorySize=1024,
            Timeout=60,
            TracingConfig={"Mode": "Active"},
            Architectures=["arm64"],
        ),
        "Mapping": mapping(
            "Stream",
            "Function",
            BatchSize=500,
            BisectBatchOnFunctionError=True,
            DestinationConfig={"OnFailure": {"Destination": att("Bucket")}},
            FunctionResponseTypes=["ReportBatchItemFailures"],
            MaximumBatchingWindowInSeconds=5,
            MaximumRecordAgeInSeconds=82_800,
            MaximumRetryAttempts=10_000,
            ParallelizationFactor=1,
        ),
    }
    return start(
        resources,
        {
            "code": {"handler.py": "def lambda_handler(event, context):\n    pass\n"},
            "layer": {"python/shared.py": ""},
        },
        outputs={
            **{name: {"Value": ref(name)} for name in resources},
            "KeyArn": {"Value": att("Key")},
            "BucketArn": {"Value": att("Bucket")},
        },
    )


def test_a_stream_has_its_mode_encryption_and_retention(twin: Twin) -> None:
    outputs = twin.outputs()
    kinesis = twin.client("kinesis")

    shown = kinesis.describe_stream_summary(StreamName=outputs["Stream"])
    summary = shown["StreamDescriptionSummary"]

    assert summary["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert summary["EncryptionType"] == "KMS"
    assert summary["KeyId"] == outputs["KeyArn"]
    assert summary["RetentionPeriodHours"] == 168
    assert len(kinesis.list_shards(StreamName=outputs["Stream"])["Shards"]) == 4


def test_a_key_is_rotated(twin: Twin) -> None:
    status = twin.client("kms").get_key_rotation_status(KeyId=twin.outputs()["Key"])

    assert status["KeyRotationEnabled"] is True


def test_a_bucket_is_versioned_encrypted_closed_and_still_writable(twin: Twin) -> None:
    outputs, s3 = twin.outputs(), twin.client("s3")
    name = outputs["Bucket"]

    written = s3.put_object(Bucket=name, Key="k", Body=b"x")
    encryption = s3.get_bucket_encryption(Bucket=name)
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    closed = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    (lifecycle,) = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]

    assert written["VersionId"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "KMSMasterKeyID": outputs["KeyArn"],
        "SSEAlgorithm": "aws:kms",
    }
    assert all(closed.values())
    assert lifecycle["Expiration"] == {"Days": 365}


@pytest.mark.parametrize("table", ["Table", "Global"])
def test_a_table_has_its_keys_stream_recovery_and_encryption(
    twin: Twin, table: str
) -> None:
    outputs, dynamodb = twin.outputs(), twin.client("dynamodb")

    shown = dynamodb.describe_table(TableName=outputs[table])["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=outputs[table])

    assert shown["KeySchema"] == TABLE["KeySchema"]
    assert shown["AttributeDefinitions"] == TABLE["AttributeDefinitions"]
    assert shown["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert shown["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    assert shown["DeletionProtectionEnabled"] is True
    assert shown["SSEDescription"]["Status"] == "ENABLED"
    assert shown["SSEDescription"]["KMSMasterKeyArn"] == outputs["KeyArn"]
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_function_has_its_environment_limits_and_layers(twin: Twin) -> None:
    outputs = twin.outputs()

    shown = twin.client("lambda").get_function_configuration(
        FunctionName=outputs["Function"]
    )

    assert shown["Environment"]["Variables"] == {"TABLE": outputs["Table"]}
    assert (shown["MemorySize"], shown["Timeout"]) == (1024, 60)
    assert [layer["Arn"] for layer in shown["Layers"]] == [outputs["Layer"]]
    assert shown["Architectures"] == ["arm64"]
    assert shown["TracingConfig"] == {"Mode": "Active"}
    assert shown["Runtime"] == "python3.12"


def test_a_mapping_has_its_configuration(twin: Twin) -> None:
    outputs = twin.outputs()

    (shown,) = twin.client("lambda").list_event_source_mappings()["EventSourceMappings"]

    assert shown["UUID"] == outputs["Mapping"]
    assert shown["State"] == "Enabled"
    assert shown["BatchSize"] == 500
    assert shown["BisectBatchOnFunctionError"] is True
    assert shown["DestinationConfig"]["OnFailure"] == {
        "Destination": outputs["BucketArn"]
    }
    assert shown["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert shown["MaximumBatchingWindowInSeconds"] == 5
    assert shown["MaximumRecordAgeInSeconds"] == 82_800
    assert shown["MaximumRetryAttempts"] == 10_000
    assert shown["StartingPosition"] == "TRIM_HORIZON"


def test_a_log_group_keeps_its_retention(twin: Twin) -> None:
    groups = twin.client("logs").describe_log_groups(
        logGroupNamePrefix=twin.outputs()["Logs"]
    )["logGroups"]

    assert [group["retentionInDays"] for group in groups] == [14]
