"""Training sets in S3, each under the digest of its rows, written once."""

from typing import Any, Final

from retrodict.errors import PermanentError, StoreUnavailableError
from retrodict.training_sets import TrainingSet

from retrodict_aws.clients import AWS_ERRORS, error_code
from retrodict_aws.s3_artifacts import split_uri
from retrodict_aws.training_set_files import (
    FIT,
    HELD_OUT,
    JUDGING,
    MANIFEST,
    from_files,
    to_files,
)

PREFIX: Final = "training-sets/"


class TrainingSetChangedError(PermanentError):
    """What is kept under a training set's digest has other rows."""


class S3TrainingSets:
    """Training sets in one bucket."""

    def __init__(self, client: Any, bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def store(self, found: TrainingSet) -> str:
        """Keep a set under its digest, and return where; again is no change.

        Raises
        ------
        StoreUnavailableError
            S3 refused.
        """
        folder = f"{PREFIX}{found.digest.removeprefix('sha256:')}/"
        for name, raw in to_files(found).items():
            try:
                self._client.put_object(
                    Bucket=self._bucket_name,
                    Key=f"{folder}{name}",
                    Body=raw,
                    IfNoneMatch="*",
                )
            except AWS_ERRORS as error:
                if error_code(error) != "PreconditionFailed":
                    raise StoreUnavailableError(
                        f"bucket {self._bucket_name!r} refused {folder}{name}: "
                        f"{error_code(error)}"
                    ) from error
        return f"s3://{self._bucket_name}/{folder}"

    def load(self, uri: str, expected_digest: str) -> TrainingSet:
        """Return the set of a URI, its rows checked against its digest.

        Raises
        ------
        TrainingSetChangedError
            The rows are others.
        StoreUnavailableError
            S3 refused.
        """
        bucket, folder = split_uri(uri)
        files: dict[str, bytes] = {}
        for name in (MANIFEST, FIT, HELD_OUT, JUDGING):
            try:
                answer = self._client.get_object(Bucket=bucket, Key=f"{folder}{name}")
                files[name] = answer["Body"].read()
            except AWS_ERRORS as error:
                raise StoreUnavailableError(
                    f"{uri}{name} cannot be read: {error_code(error)}"
                ) from error
        found = from_files(files)
        if found.digest != expected_digest:
            raise TrainingSetChangedError(
                f"{uri} holds {found.digest}, not {expected_digest}: it was changed "
                "after it was built; build it again"
            )
        return found
