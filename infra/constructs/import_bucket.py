"""The import bucket: drop a file, and its rows enter by the same door as records."""

from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.bucket import KeptBucket


class ImportBucket(KeptBucket):
    """A bucket that tells EventBridge about every new object."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        access_logs: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id, key=key, access_logs=access_logs)
        # Not `event_bridge_enabled=True`: that adds a Lambda function of the CDK's
        # own which calls the API that this property has been able to replace.
        bucket = self._bucket.node.default_child
        if not isinstance(bucket, s3.CfnBucket):
            raise TypeError(f"{self.node.path}: expected a CfnBucket, got {bucket!r}")
        bucket.notification_configuration = (
            s3.CfnBucket.NotificationConfigurationProperty(
                event_bridge_configuration=(
                    s3.CfnBucket.EventBridgeConfigurationProperty(
                        event_bridge_enabled=True
                    )
                )
            )
        )

    @property
    def new_objects(self) -> events.EventPattern:
        """What EventBridge sees when an object is created."""
        return events.EventPattern(
            source=["aws.s3"],
            detail_type=["Object Created"],
            detail={"bucket": {"name": [self.bucket_name]}},
        )

    def grant_read(self, grantee: iam.IRole) -> None:
        """Let `grantee` read the files, and not change them."""
        self._allow_objects(grantee, ["s3:GetObject", "s3:GetObjectVersion"], "*")
        self._allow_list(grantee)
        self._allow_decrypt(grantee)
