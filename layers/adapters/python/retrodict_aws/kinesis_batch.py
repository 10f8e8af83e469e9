"""A Lambda event of Kinesis records, read once, and the answer it expects."""

import hashlib
from array import array
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Final, TypedDict

import msgspec
from retrodict.stamps import position
from retrodict.validation import Arrival

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_DIGEST_BYTES: Final = 8


class ItemFailure(TypedDict):
    """The record from which a batch must be delivered again."""

    itemIdentifier: str


class BatchResponse(TypedDict):
    """Answer of a function with partial batch response; empty means all is done."""

    batchItemFailures: list[ItemFailure]


class DeliveredRecord(msgspec.Struct, frozen=True, gc=False):
    """One Kinesis record as an event source mapping delivers it.

    Attributes
    ----------
    arrived_at_us
        Approximate arrival, microseconds since the epoch, exact to the millisecond.
    """

    shard_id: str
    sequence_number: str
    partition_key: str
    arrived_at_us: int
    data: bytes

    @property
    def position(self) -> str:
        """Place of the record in the order of knowing."""
        return position(self.shard_id, self.sequence_number)


def delivered(event: Mapping[str, Any]) -> list[DeliveredRecord]:
    """Return the records of a Lambda event, in order, shape (n,)."""
    return [
        DeliveredRecord(
            record["eventID"].partition(":")[0],
            (kinesis := record["kinesis"])["sequenceNumber"],
            kinesis["partitionKey"],
            round(float(kinesis["approximateArrivalTimestamp"]) * 1000) * 1000,
            a2b_base64(kinesis["data"]),
        )
        for record in event["Records"]
    ]


class DeliveredBatch:
    """The records of a Lambda event in columns, each of shape (n,).

    See `retrodict.fast_lane.Columns`.
    """

    def __init__(self, event: Mapping[str, Any]) -> None:
        records = event["Records"]
        held = [record["kinesis"] for record in records]
        self.event_ids: list[str] = [record["eventID"] for record in records]
        self.sequence_numbers: list[str] = [one["sequenceNumber"] for one in held]
        self.partition_keys: list[str] = [one["partitionKey"] for one in held]
        self.texts: list[str] = [one["data"] for one in held]
        self.arrived_s = array(
            "d", [one["approximateArrivalTimestamp"] for one in held]
        )

    def __len__(self) -> int:
        return len(self.texts)

    def arrived_at_us(self, place: int) -> int:
        """Return when a record arrived, exact to the millisecond."""
        arrived_s: float = self.arrived_s[place]
        return round(arrived_s * 1000) * 1000

    def arrival(self, place: int) -> Arrival:
        """Return how a record came."""
        return Arrival(
            position(self._shard_id(place), self.sequence_numbers[place]),
            self.partition_keys[place],
            self.arrived_at_us(place),
        )

    def segment_name(self, places: Sequence[int]) -> str:
        """Return the name of some of these records; see the function `segment_name`."""
        first = places[0]
        numbers = [self.sequence_numbers[place] for place in places]
        return _name(self.arrived_at_us(first), self._shard_id(first), numbers)

    def _shard_id(self, place: int) -> str:
        return self.event_ids[place].partition(":")[0]

    def raw(self, place: int) -> bytes:
        """Return the bytes of a record."""
        return a2b_base64(self.texts[place])


def done() -> BatchResponse:
    """Return the answer that moves the checkpoint behind the batch."""
    return {"batchItemFailures": []}


def again_from(sequence_number: str) -> BatchResponse:
    """Return the answer that has the batch delivered again from `sequence_number`.

    Raises
    ------
    ValueError
        The sequence number is empty: Lambda would take that for another meaning.
    """
    if not sequence_number:
        raise ValueError("an empty sequence number would fail the whole batch")
    return {"batchItemFailures": [{"itemIdentifier": sequence_number}]}


def segment_name(records: Sequence[DeliveredRecord]) -> str:
    """Return the name that belongs to exactly these records, in this order.

    The first and the last do not say which are between: where batches of a shard are
    handled side by side, or some records have become too old, it is not all of them.
    """
    first = records[0]
    numbers = [record.sequence_number for record in records]
    return _name(first.arrived_at_us, first.shard_id, numbers)


def _name(arrived_at_us: int, shard_id: str, numbers: Sequence[str]) -> str:
    day = _day(arrived_at_us // _DAY_US)
    said = ",".join(numbers).encode()
    digest = hashlib.blake2b(said, digest_size=_DIGEST_BYTES).hexdigest()
    return f"arrived={day}/{shard_id}-{numbers[0]}-{numbers[-1]}-{digest}"


@lru_cache(maxsize=8)
def _day(days: int) -> str:
    """Return a day by its number since the epoch."""
    return date.fromordinal(_EPOCH + days).isoformat()
