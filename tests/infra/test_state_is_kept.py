"""What holds events or models outlives every mistake with a stack."""

from tests.infra.conftest import ENVIRONMENTS, Assembly, Resource

STATEFUL = (
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::S3::Bucket",
)


def names(resources: list[Resource]) -> list[str]:
    return [str(resource) for resource in resources]


def test_neither_deleting_a_stack_nor_replacing_a_resource_deletes_state(
    assembly: Assembly,
) -> None:
    lost = [
        resource
        for resource in assembly.resources(*STATEFUL)
        if resource.body.get("DeletionPolicy") != "Retain"
        or resource.body.get("UpdateReplacePolicy") != "Retain"
    ]

    assert names(lost) == []


def test_all_state_but_a_key_of_operations_is_in_the_state_stack(
    assembly: Assembly,
) -> None:
    elsewhere = {
        resource.type
        for resource in assembly.resources(*STATEFUL)
        if resource.stack != "State"
    }

    assert elsewhere == {"AWS::KMS::Key"}


def test_the_state_stack_cannot_be_deleted_by_one_call(assembly: Assembly) -> None:
    for environment in ENVIRONMENTS:
        stack = assembly.artifacts(environment)[f"Retrodict-{environment}-State"]

        assert stack["properties"]["terminationProtection"] is True


def test_tables_can_be_restored_and_not_dropped(assembly: Assembly) -> None:
    for table in assembly.resources("AWS::DynamoDB::Table"):
        properties = table.properties

        assert properties["DeletionProtectionEnabled"] is True, table
        assert properties["PointInTimeRecoverySpecification"] == {
            "PointInTimeRecoveryEnabled": True
        }, table
        assert properties["BillingMode"] == "PAY_PER_REQUEST", table


def test_tables_have_the_keys_that_the_adapters_write(assembly: Assembly) -> None:
    keys = {
        tuple(key["AttributeName"] for key in table.properties["KeySchema"])
        for table in assembly.resources("AWS::DynamoDB::Table")
    }

    assert keys == {("entity", "part"), ("stream_id", "version")}


def test_only_new_lifecycle_events_flow_on(assembly: Assembly) -> None:
    for table in assembly.resources("AWS::DynamoDB::Table"):
        is_lifecycle = table.logical_id.startswith("LifecycleStore")

        assert table.properties.get("StreamSpecification") == (
            {"StreamViewType": "NEW_IMAGE"} if is_lifecycle else None
        ), table


def test_keys_rotate(assembly: Assembly) -> None:
    for key in assembly.resources("AWS::KMS::Key"):
        assert key.properties["EnableKeyRotation"] is True, key


def test_state_is_encrypted_with_our_own_key(assembly: Assembly) -> None:
    for resource in assembly.resources(*STATEFUL):
        match resource.type:
            case "AWS::Kinesis::Stream":
                encryption = resource.properties["StreamEncryption"]
                assert encryption["EncryptionType"] == "KMS", resource
                assert "Fn::GetAtt" in encryption["KeyId"], resource
            case "AWS::DynamoDB::Table":
                encryption = resource.properties["SSESpecification"]
                assert encryption["SSEType"] == "KMS", resource
                assert "Fn::GetAtt" in encryption["KMSMasterKeyId"], resource
            case "AWS::S3::Bucket" if not resource.logical_id.startswith("AccessLogs"):
                [rule] = resource.properties["BucketEncryption"][
                    "ServerSideEncryptionConfiguration"
                ]
                default = rule["ServerSideEncryptionByDefault"]
                assert default["SSEAlgorithm"] == "aws:kms", resource
                assert "Fn::GetAtt" in default["KMSMasterKeyID"], resource
                assert rule["BucketKeyEnabled"] is True, resource


def test_streams_keep_a_record_for_a_day_at_least(assembly: Assembly) -> None:
    for stream in assembly.resources("AWS::Kinesis::Stream"):
        assert stream.properties["RetentionPeriodHours"] >= 24, stream
        assert stream.properties["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}


def test_buckets_are_private_and_keep_every_version(assembly: Assembly) -> None:
    for bucket in assembly.resources("AWS::S3::Bucket"):
        properties = bucket.properties
        is_access_log = bucket.logical_id.startswith("AccessLogs")

        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties.get("VersioningConfiguration") == (
            None if is_access_log else {"Status": "Enabled"}
        ), bucket
        assert ("LoggingConfiguration" in properties) is not is_access_log, bucket


def test_no_policy_of_a_bucket_topic_or_queue_lets_plain_http_in(
    assembly: Assembly,
) -> None:
    stores = assembly.resources("AWS::S3::Bucket", "AWS::SNS::Topic", "AWS::SQS::Queue")
    policies = assembly.resources(
        "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"
    )

    assert len(policies) == len(stores)
    for policy in policies:
        conditions = [
            statement.get("Condition")
            for statement in policy.properties["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
        ]
        assert {"Bool": {"aws:SecureTransport": "false"}} in conditions, policy


def test_the_log_refuses_to_overwrite_a_segment_whoever_asks(
    assembly: Assembly,
) -> None:
    for policy in assembly.resources("AWS::S3::BucketPolicy"):
        statements = {
            statement.get("Sid"): statement
            for statement in policy.properties["PolicyDocument"]["Statement"]
        }
        if not policy.logical_id.startswith("EventLog"):
            assert "SegmentsAreWrittenOnce" not in statements
            continue
        written_once = statements["SegmentsAreWrittenOnce"]

        assert written_once["Effect"] == "Deny"
        assert written_once["Principal"] == {"AWS": "*"}
        assert written_once["Action"] == "s3:PutObject"
        assert written_once["Condition"] == {
            "Null": {"s3:if-none-match": "true"},
            "Bool": {"s3:ObjectCreationOperation": "true"},
        }


def test_names_are_made_by_cloudformation_so_that_nothing_blocks_a_replacement(
    assembly: Assembly,
) -> None:
    named = {
        (resource.type, key)
        for resource in assembly.resources()
        for key in (
            "AlarmName", "BucketName", "FunctionName", "LayerName", "LogGroupName",
            "Name", "QueueName", "RoleName", "TableName", "TopicName",
        )
        if isinstance(resource.properties.get(key), str)
    }  # fmt: skip

    assert named == set()


def test_the_cdk_deploys_no_function_of_its_own(assembly: Assembly) -> None:
    foreign = [
        resource
        for resource in assembly.resources()
        if resource.type.startswith(("Custom::", "AWS::CloudFormation::CustomResource"))
    ]
    functions = assembly.resources("AWS::Lambda::Function", environment="dev")

    assert names(foreign) == []
    assert {function.properties["Handler"] for function in functions} == {
        "handler.lambda_handler"
    }
