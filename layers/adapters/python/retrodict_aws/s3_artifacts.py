"""Artifacts in S3, each under the digest of its content, written once."""

from typing import Any, Final

from retrodict.artifact import MAX_BYTES, Artifact, read_package, write_package
from retrodict.errors import ArtifactRefusedError, StoreUnavailableError

from retrodict_aws.clients import AWS_ERRORS, error_code

PREFIX: Final = "artifacts/"
PACKAGE: Final = "model.tar.gz"
MAX_PACKAGE_BYTES: Final = MAX_BYTES
"""What is fetched at most; packed, an artifact is smaller than it is."""


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URI.

    Examples
    --------
    >>> split_uri("s3://bucket/a/b")
    ('bucket', 'a/b')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class S3Artifacts:
    """Packages of artifacts in one bucket."""

    def __init__(self, client: Any, bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def uri(self, digest: str) -> str:
        """Return where the artifact of a digest is kept."""
        return f"s3://{self._bucket_name}/{self._key(digest)}"

    def load(self, digest: str) -> Artifact:
        """Return the artifact of a digest, checked.

        Raises
        ------
        ArtifactRefusedError
            What is kept there is not that artifact.
        StoreUnavailableError
            There is none, or S3 refused.
        """
        return self.read(self.uri(digest), digest)

    def read(self, uri: str, expected_digest: str | None) -> Artifact:
        """Return the artifact of a package anywhere in S3; see `read_package`.

        Raises
        ------
        ArtifactRefusedError
            It is larger than any artifact, or none.
        StoreUnavailableError
            There is none, or S3 refused.
        """
        bucket, key = split_uri(uri)
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            size: int = answer["ContentLength"]
            if size > MAX_PACKAGE_BYTES:
                raise ArtifactRefusedError(
                    f"package {uri!r} has {size} bytes, at most {MAX_PACKAGE_BYTES} "
                    "are read"
                )
            package: bytes = answer["Body"].read()
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"package {uri!r} cannot be read: {error_code(error)}"
            ) from error
        return read_package(package, expected_digest)

    def store(self, artifact: Artifact) -> str:
        """Keep an artifact under its digest, and return where; again is no change.

        Raises
        ------
        StoreUnavailableError
            S3 refused.
        """
        try:
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=self._key(artifact.digest),
                Body=write_package(artifact),
                IfNoneMatch="*",
            )
        except AWS_ERRORS as error:
            if error_code(error) != "PreconditionFailed":
                raise StoreUnavailableError(
                    f"bucket {self._bucket_name!r} refused artifact "
                    f"{artifact.digest}: {error_code(error)}"
                ) from error
        return self.uri(artifact.digest)

    @staticmethod
    def _key(digest: str) -> str:
        return f"{PREFIX}{digest.removeprefix('sha256:')}/{PACKAGE}"
