"""The quarantine in S3: JSON lines, one object a batch that held rejects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from retrodict.errors import StoreUnavailableError
from retrodict.wire import JsonLines

from retrodict_aws.clients import AWS_ERRORS, error_code

PREFIX: Final = "rejected/"


def body(documents: Sequence[Mapping[str, Any]]) -> bytes:
    """Return what an object of `documents` holds."""
    return JsonLines.of(documents).text


class S3Quarantine:
    """`Quarantine` over one bucket."""

    def __init__(self, client: Any, bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def put(self, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """Keep `documents`; see `Quarantine.put`."""
        try:
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=f"{PREFIX}{name}.jsonl",
                Body=body(documents),
                ContentType="application/x-ndjson",
            )
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"quarantine {self._bucket_name!r} refused {name!r}: "
                f"{error_code(error)}"
            ) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield every kept document, by object key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket_name, Prefix=PREFIX
        )
        for page in pages:
            for found in page.get("Contents", []):
                answer = self._client.get_object(
                    Bucket=self._bucket_name, Key=found["Key"]
                )
                for line in answer["Body"].read().splitlines():
                    yield json.loads(line)
