"""The quarantine: every rejected record, with its bytes and its reasons."""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from infra.constructs.bucket import KeptBucket

REJECTED = "rejected/"
# AWS writes the records of an on-failure destination under this prefix.
UNDELIVERED = "aws/lambda/"


class Quarantine(KeptBucket):
    """A bucket that functions and event source mappings add rejected records to."""

    @property
    def rejected_uri(self) -> str:
        """Where the rejected records are, as the catalog writes it."""
        return self._bucket.s3_url_for_object(REJECTED)

    @property
    def bucket_arn(self) -> str:
        """Destination of an event source mapping whose retries are exhausted."""
        return self._bucket.bucket_arn

    @property
    def bucket(self) -> s3.IBucket:
        """The bucket, for what only its reference can express."""
        return self._bucket

    def grant_quarantine(self, grantee: iam.IRole) -> None:
        """Let `grantee` add rejected records, and not read or remove them."""
        self._allow_objects(grantee, ["s3:PutObject"], f"{REJECTED}*")
        self._allow_encrypt(grantee)

    def grant_undelivered(self, grantee: iam.IRole) -> None:
        """Let `grantee`, the role of a mapping, leave here what it gave up on."""
        self._allow_objects(grantee, ["s3:PutObject"], f"{UNDELIVERED}*")
        self._allow_list(grantee)
        self._allow_encrypt(grantee)
