"""The event log: what this system cannot afford to lose, or to change."""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.bucket import KeptBucket
from infra.constructs.grants import deny

SEGMENTS = "segments/"
# What would take an older version of an object away, or stop keeping them.
FOR_EVER = [
    "s3:DeleteObjectVersion",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
]


class EventLog(KeptBucket):
    """Parquet segments of accepted events, each written once.

    It offers a grant to append and none to overwrite or delete. The bucket itself
    refuses a put of a segment without ``If-None-Match``, so that a writer with too
    many rights, or a person with a console, cannot replace one either.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        access_logs: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id, key=key, access_logs=access_logs)
        self._bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid="SegmentsAreWrittenOnce",
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["s3:PutObject"],
                resources=[self._bucket.arn_for_objects(f"{SEGMENTS}*")],
                conditions={
                    "Null": {"s3:if-none-match": "true"},
                    # The parts of a multipart upload carry no such header.
                    "Bool": {"s3:ObjectCreationOperation": "true"},
                },
            )
        )

    @property
    def segments_uri(self) -> str:
        """Where the segments are, as the catalog writes it."""
        return self._bucket.s3_url_for_object(SEGMENTS)

    def grant_append(self, grantee: iam.IRole) -> None:
        """Let `grantee` add segments, and read one back to compare it."""
        self._allow_objects(grantee, ["s3:GetObject", "s3:PutObject"], f"{SEGMENTS}*")
        self._allow_encrypt(grantee)

    def grant_read(self, grantee: iam.IRole) -> None:
        """Let `grantee` list and read segments."""
        self._allow_objects(grantee, ["s3:GetObject"], f"{SEGMENTS}*")
        self._allow_list(grantee)
        self._allow_decrypt(grantee)

    def grant_compact(self, grantee: iam.IRole) -> None:
        """Let `grantee` replace segments by merged ones, and nothing for ever.

        The bucket keeps what is deleted as an older version, which `grantee` can
        neither remove nor switch off.
        """
        actions = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        self._allow_objects(grantee, actions, f"{SEGMENTS}*")
        self._allow_list(grantee)
        self._allow_encrypt(grantee)
        deny(grantee, FOR_EVER, self._everything)

    def forbid_erasure(self, grantee: iam.IGrantable) -> None:
        """Deny `grantee` to delete or unversion anything, whatever else allows it."""
        deny(grantee, ["s3:DeleteObject", *FOR_EVER], self._everything)

    @property
    def _everything(self) -> list[str]:
        return [self._bucket.bucket_arn, self._bucket.arn_for_objects("*")]
