"""The artifact bucket: what training leaves behind, by the digest of its content."""

from aws_cdk import aws_iam as iam

from infra.constructs.bucket import KeptBucket

TRAINING_SETS = "training-sets/"
TRAINING_JOBS = "training-jobs/"
ARTIFACTS = "artifacts/"
ASYNCHRONOUS = "async/"


class ArtifactBucket(KeptBucket):
    """A bucket of models, training sets and answers to asynchronous requests."""

    def uri(self, prefix: str) -> str:
        """Return where a prefix is."""
        return self._bucket.s3_url_for_object(prefix)

    def grant_read(self, grantee: iam.IRole, *prefixes: str) -> None:
        """Let `grantee` read what is below some prefixes."""
        for prefix in prefixes:
            self._allow_objects(grantee, ["s3:GetObject"], f"{prefix}*")
        self._allow_list(grantee)
        self._allow_decrypt(grantee)

    def grant_write(self, grantee: iam.IRole, *prefixes: str) -> None:
        """Let `grantee` add objects below some prefixes, and not delete any."""
        for prefix in prefixes:
            self._allow_objects(grantee, ["s3:PutObject"], f"{prefix}*")
        self._allow_encrypt(grantee)
