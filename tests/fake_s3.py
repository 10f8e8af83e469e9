"""An S3 client in a dict: conditions, ranges and listings, and crashes on demand."""
# ruff: noqa: ARG002, N803 - the parameters are boto3's

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = 3


class Crash(Exception):  # noqa: N818 - nothing of ours catches it
    """The process ended here."""


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "any")


class FakeS3:
    """Enough of S3 for the event log.

    Attributes
    ----------
    now_us
        What new objects are stamped with, microseconds.
    crash_at
        Number of the change (put or delete) to crash at, from 1; 0 for never.
    before
        Whether to crash before the change has its effect, or after.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str], int]] = {}
        self.now_us = 0
        self.changes = 0
        self.crash_at = 0
        self.before = True
        self.fetched: list[tuple[str, str]] = []
        self.watch: Callable[[], None] = lambda: None
        self.before_get: Callable[[str], None] = lambda _: None

    def _change(self, effect: Callable[[], object]) -> None:
        self.changes += 1
        crashes = self.changes == self.crash_at
        if crashes and self.before:
            raise Crash
        effect()
        self.watch()
        if crashes:
            raise Crash

    def put_object(  # noqa: PLR0913 - boto3's
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        IfNoneMatch: str = "",
        Metadata: Mapping[str, str] | None = None,
        ContentType: str = "",
    ) -> None:
        if IfNoneMatch and Key in self.objects:
            raise refusal("PreconditionFailed")
        entry = (Body, dict(Metadata or {}), self.now_us)
        self._change(lambda: self.objects.__setitem__(Key, entry))

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        self._change(lambda: self.objects.pop(Key, None))

    def head_object(self, *, Bucket: str, Key: str) -> Any:
        if Key not in self.objects:
            raise refusal("404")
        body, metadata, _ = self.objects[Key]
        return {"Metadata": metadata, "ContentLength": len(body)}

    def get_object(self, *, Bucket: str, Key: str, Range: str = "") -> Any:
        self.before_get(Key)
        if Key not in self.objects:
            raise refusal("NoSuchKey")
        body, metadata, _ = self.objects[Key]
        self.fetched.append((Key, Range))
        if Range:
            first, last = Range.removeprefix("bytes=").split("-")
            body = body[int(first) : int(last) + 1]
        return {"Body": io.BytesIO(body), "Metadata": metadata}

    def get_paginator(self, name: str) -> "FakeS3":
        assert name == "list_objects_v2"
        return self

    def paginate(
        self,
        *,
        Bucket: str,
        Prefix: str = "",
        StartAfter: str = "",
    ) -> Iterator[Any]:
        """Yield pages as S3 does: each as things are when it is asked for."""
        while True:
            keys = sorted(
                key
                for key in self.objects
                if key.startswith(Prefix) and key > StartAfter
            )[:PAGE]
            if not keys:
                return
            StartAfter = keys[-1]  # noqa: N806
            yield {
                "Contents": [
                    {
                        "Key": key,
                        "Size": len(self.objects[key][0]),
                        "LastModified": EPOCH
                        + timedelta(microseconds=self.objects[key][2]),
                    }
                    for key in keys
                ]
            }
