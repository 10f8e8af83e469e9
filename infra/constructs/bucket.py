"""Buckets that keep what they are given: private, versioned, encrypted, logged."""

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.grants import accept_finding, allow, allow_key


class AccessLogBucket(s3.Bucket):
    """Where S3 writes who read and wrote the other buckets, kept for a year.

    It is encrypted by S3, because S3 cannot deliver access logs into a bucket whose
    default is a customer managed key, and it does not log its own deliveries.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(365))],
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.RETAIN,
        )


class KeptBucket(Construct):
    """A private bucket whose objects survive a mistake and the stack.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    key
        Customer managed key that encrypts the objects, once a bucket and not once
        an object (an S3 bucket key).
    access_logs
        Bucket that receives the access log, under the construct's id.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        access_logs: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        self._key = key
        self._bucket = s3.Bucket(
            self,
            "Bucket",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            bucket_key_enabled=True,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.RETAIN,
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix=f"{construct_id}/",
            versioned=True,
        )

    @property
    def bucket_name(self) -> str:
        """Name to hand to a function."""
        return self._bucket.bucket_name

    def _allow_objects(self, grantee: iam.IRole, actions: list[str], keys: str) -> None:
        allow(grantee, actions, [self._bucket.arn_for_objects(keys)])
        accept_finding(
            grantee,
            f"AwsSolutions-IAM5[Resource::{self._exported_arn}/{keys}]",
            f"objects of {self.node.id} are named by their content, so the resource "
            f"is every name under {keys!r}; the test of wildcards knows each of them",
        )

    @property
    def _exported_arn(self) -> str:
        """Name under which another stack imports the ARN."""
        stack = Stack.of(self)
        imported = stack.resolve(stack.export_value(self._bucket.bucket_arn))
        return str(imported["Fn::ImportValue"])

    def _allow_list(self, grantee: iam.IGrantable) -> None:
        allow(grantee, ["s3:ListBucket"], [self._bucket.bucket_arn])

    def _allow_decrypt(self, grantee: iam.IGrantable) -> None:
        allow_key(grantee, self._key, "s3", ["kms:Decrypt"])

    def _allow_encrypt(self, grantee: iam.IGrantable) -> None:
        # A multipart upload decrypts its own parts.
        allow_key(grantee, self._key, "s3", ["kms:Decrypt", "kms:GenerateDataKey"])
