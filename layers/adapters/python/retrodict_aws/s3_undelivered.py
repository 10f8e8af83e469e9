"""What event source mappings gave up, as Lambda leaves it in the quarantine bucket.

Lambda writes one JSON object a batch, named ``aws/lambda/<mapping>/<shard>/...``, with
where the records stood and the whole Lambda event as `payload`. An object that was
brought in again is moved below ``redriven/``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from retrodict.errors import StoreUnavailableError, UndeliveredFormatError

from retrodict_aws.clients import AWS_ERRORS, error_code
from retrodict_aws.kinesis_batch import DeliveredRecord, delivered

PREFIX: Final = "aws/lambda/"
REDRIVEN: Final = "redriven/"
_SEQUENCE_DIGITS: Final = 56


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One batch that a mapping gave up.

    Attributes
    ----------
    name
        Key of its object.
    mapping
        Id of the mapping.
    function_arn
        What was invoked, without version or alias.
    condition
        Why it was given up, as Lambda says it.
    given_up_at
        When, RFC 3339.
    first, last
        Sequence numbers of its first and last record.
    payload
        The Lambda event, to invoke with.
    records
        Its Kinesis records, in order; none of a DynamoDB stream.
    count
        How many records there are, of either kind.
    body
        The object as it is.
    """

    name: str
    mapping: str
    function_arn: str
    condition: str
    given_up_at: str
    shard_id: str
    first: str
    last: str
    payload: bytes
    records: tuple[DeliveredRecord, ...]
    count: int
    body: bytes

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands among other batches of its stream."""
        return self.shard_id, self.first.rjust(_SEQUENCE_DIGITS, "0")


def read_undelivered(name: str, body: bytes) -> Undelivered:
    """Read the object that Lambda wrote for a batch.

    Raises
    ------
    UndeliveredFormatError
        It is no such object, or not whole.
    """
    try:
        document = json.loads(body)
        context = document["requestContext"]
        is_table = "DDBStreamBatchInfo" in document
        info = document["DDBStreamBatchInfo" if is_table else "KinesisBatchInfo"]
        shard_id, first, last = (
            str(info[key])
            for key in ("shardId", "startSequenceNumber", "endSequenceNumber")
        )
        given = document.get("payload")
        if given is None:
            raise UndeliveredFormatError(
                f"{name}: holds no payload, only where it was: {info['batchSize']} "
                f"records of {shard_id} from {first} to {last} on {info['streamArn']}; "
                "read them there before the stream forgets them"
            )
        payload = given if isinstance(given, str) else json.dumps(given)
        event = json.loads(payload)
        numbers = _numbers(event, is_table=is_table)
        found = Undelivered(
            name=name,
            mapping=name.removeprefix(PREFIX).split("/", 1)[0],
            function_arn=":".join(context["functionArn"].split(":")[:7]),
            condition=str(context["condition"]),
            given_up_at=str(document["timestamp"]),
            shard_id=shard_id,
            first=first,
            last=last,
            payload=payload.encode(),
            records=() if is_table else tuple(delivered(event)),
            count=len(numbers),
            body=body,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UndeliveredFormatError(
            f"{name}: expected what Lambda leaves of a batch that it gave up, got "
            f"{body[:80]!r}: {error!r}"
        ) from error
    places = [int(number) for number in numbers]
    if not (
        int(first) <= places[0]
        and places[-1] <= int(last)
        and places == sorted({*places})
        # Of a mapping with a filter Lambda may tell what it read, not what it sent.
        and len(places) <= info["batchSize"]
        and {record.shard_id for record in found.records} <= {shard_id}
    ):
        raise UndeliveredFormatError(
            f"{name}: expected {info['batchSize']} records of {shard_id} from {first} "
            f"to {last} in their order, got {len(places)} from {numbers[0]} to "
            f"{numbers[-1]}: the object is not what was given up, and was left"
        )
    return found


def _numbers(event: Mapping[str, Any], *, is_table: bool) -> Sequence[str]:
    """Return the sequence numbers of an event's records, at least one."""
    kind, number = "kinesis", "sequenceNumber"
    if is_table:
        kind, number = "dynamodb", "SequenceNumber"
    found = [str(record[kind][number]) for record in event["Records"]]
    if not found:
        raise ValueError("there are no records")
    return found


class S3Undelivered:
    """The batches that mappings left in one bucket.

    Every method may raise `StoreUnavailableError`: the bucket refused.
    """

    def __init__(self, client: Any, bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def names(self) -> list[str]:
        """Return the key of every object that was not brought in again, in order."""
        with self._asking("to list"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket_name, Prefix=PREFIX
            )
            return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def read(self, name: str) -> Undelivered:
        """Read one batch.

        Raises
        ------
        UndeliveredFormatError
            It cannot be read whole.
        """
        with self._asking(name):
            answer = self._client.get_object(Bucket=self._bucket_name, Key=name)
            body = answer["Body"].read()
        return read_undelivered(name, body)

    def settle(self, batch: Undelivered) -> None:
        """Move a batch that was brought in again; its bytes are kept.

        A crash between the two steps leaves both objects: brought in again, and
        settled again, the batch changes nothing.
        """
        with self._asking(batch.name):
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=f"{REDRIVEN}{batch.name}",
                Body=batch.body,
                ContentType="application/json",
            )
            self._client.delete_object(Bucket=self._bucket_name, Key=batch.name)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"quarantine {self._bucket_name!r} refused {what}: {error_code(error)}"
            ) from error
