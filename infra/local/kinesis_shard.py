"""A moto gap: shards that lose records, slow down, and forget what a split means.

moto 5.2.5 gives two concurrent writers one sequence number, so that acknowledged
records vanish; it reads from the first record at every call; it moves the records of a
shard that is split into its children, and then still writes to the closed parent; it
never tells a reader that a closed shard is drained; and it calls Lambda inside the
write. No public setting changes that, so `close_gap` replaces these methods:

- ``Shard``: `put_record`, `get_records`, `get_min_sequence_number`,
  `get_max_sequence_number`; records stand in a list behind a lock,
- ``Stream``: `get_shard_for_key`, `put_record`, `split_shard`, `merge_shards`,
- ``KinesisBackend``: `get_records` gives no next iterator after the last record of a
  closed shard, as in AWS; `put_records` is as moto wrote it, but nobody reads before
  its last record stands.

Readers inside the twin are told of new records and shards instead of asking.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from moto.kinesis.exceptions import InvalidArgumentError
from moto.kinesis.models import (
    KinesisBackend,
    Record,
    Shard,
    Stream,
    kinesis_backends,
)
from moto.kinesis.utils import compose_shard_iterator, decompose_shard_iterator
from moto.utilities.utils import md5_hash

from infra.local.template import ACCOUNT

_LOCK = threading.RLock()
_MAXIMUM_KEY = 256
_MAXIMUM_RECORDS = 10_000
_listeners: list[Callable[[str], None]] = []
_call = threading.local()
_is_closed = False


class _Records(OrderedDict[int, Record]):
    """Records by sequence number 1, 2, 3 …, also reachable by place."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[Record] = []

    def add(self, record: Record) -> None:
        self.listed.append(record)
        self[record.sequence_number] = record


def close_gap() -> None:
    """Replace the methods named above, once a process."""
    global _is_closed  # noqa: PLW0603 - moto's classes are process-wide too
    if _is_closed:
        return
    _is_closed = True
    for owner, replacement in (
        (Shard, _put_in_shard),
        (Shard, _get_from_shard),
        (Shard, _minimum),
        (Shard, _maximum),
        (Stream, _shard_for_key),
        (Stream, _put_in_stream),
        (Stream, _split),
        (Stream, _merge),
        (KinesisBackend, _get_records),
        (KinesisBackend, _put_records),
    ):
        setattr(owner, _REPLACED[replacement.__name__], replacement)


_REPLACED = {
    "_put_in_shard": "put_record",
    "_get_from_shard": "get_records",
    "_minimum": "get_min_sequence_number",
    "_maximum": "get_max_sequence_number",
    "_shard_for_key": "get_shard_for_key",
    "_put_in_stream": "put_record",
    "_split": "split_shard",
    "_merge": "merge_shards",
    "_get_records": "get_records",
    "_put_records": "put_records",
}


def listen(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call `listener` with the stream's ARN whenever it gets records or shards.

    Returns
    -------
    callable
        Stops the calls.
    """
    with _LOCK:
        _listeners.append(listener)

    def stop() -> None:
        with _LOCK:
            _listeners.remove(listener)

    return stop


def shards(stream_arn: str) -> list[Shard]:
    """Return the shards of a stream, open and closed, parents first."""
    with _LOCK:
        return sorted(_stream(stream_arn).shards.values(), key=attrgetter("shard_id"))


def read(stream_arn: str, shard_id: str, after: int, limit: int) -> list[Record]:
    """Return up to `limit` records after a sequence number, in order."""
    with _LOCK:
        shard = _stream(stream_arn).shards[shard_id]
        return _records(shard).listed[after : after + limit]


def is_drained(stream_arn: str, shard_id: str, after: int) -> bool:
    """Return whether nothing will ever follow a sequence number in a shard."""
    with _LOCK:
        shard = _stream(stream_arn).shards[shard_id]
        return not shard.is_open and after >= len(_records(shard).listed)


def last_sequence_number(stream_arn: str, shard_id: str) -> int:
    """Return the sequence number of the newest record, 0 if there is none."""
    with _LOCK:
        return len(_records(_stream(stream_arn).shards[shard_id]).listed)


def name_of(record: Record) -> str:
    """Return what a partial answer calls a record."""
    return str(record.sequence_number)


def retention_hours(stream_arn: str) -> int:
    """Return for how long the stream keeps a record."""
    return int(_stream(stream_arn).retention_period_hours)


def _stream(stream_arn: str) -> Stream:
    backend = kinesis_backends[ACCOUNT][stream_arn.split(":")[3]]
    return backend.describe_stream(stream_arn=stream_arn, stream_name=None)


def _records(shard: Shard) -> _Records:
    if not isinstance(shard.records, _Records):
        shard.records = _Records()
    return shard.records


def _tell(stream_arn: str) -> None:
    for listener in tuple(_listeners):
        listener(stream_arn)


def _put_in_shard(
    self: Shard, partition_key: str, data: str, explicit_hash_key: str
) -> str:
    with _LOCK:
        records = _records(self)
        number = len(records.listed) + 1
        records.add(Record(partition_key, data, number, explicit_hash_key))
        return str(number)


def _get_from_shard(
    self: Shard, last_sequence_id: str, limit: int | None
) -> tuple[list[Record], int, int]:
    with _LOCK:
        after = int(last_sequence_id)
        listed = _records(self).listed
        found = listed[after : after + min(limit or _MAXIMUM_RECORDS, _MAXIMUM_RECORDS)]
        if not found:
            return [], after, 0
        behind = listed[-1].created_at - found[-1].created_at
        return found, found[-1].sequence_number, int(behind * 1000)


def _minimum(self: Shard) -> int:
    with _LOCK:
        return 1 if _records(self).listed else 0


def _maximum(self: Shard) -> int:
    with _LOCK:
        return len(_records(self).listed)


def _shard_for_key(self: Stream, partition_key: Any, explicit_hash_key: Any) -> Shard:
    if not isinstance(partition_key, str) or len(partition_key) > _MAXIMUM_KEY:
        raise InvalidArgumentError("partition_key")
    if explicit_hash_key:
        place = int(explicit_hash_key)
    else:
        place = int(md5_hash(partition_key.encode()).hexdigest(), 16)
    for shard in self.shards.values():
        if shard.is_open and shard.starting_hash <= place <= shard.ending_hash:
            return shard
    raise InvalidArgumentError("explicit_hash_key")


def _put_in_stream(
    self: Stream, partition_key: str, explicit_hash_key: str, data: str
) -> tuple[str, str]:
    with _LOCK:
        shard = _shard_for_key(self, partition_key, explicit_hash_key)
        number = shard.put_record(partition_key, data, explicit_hash_key)
    if not getattr(_call, "is_of_many", False):
        _tell(self.arn)
    return number, shard.shard_id


_put_many = KinesisBackend.put_records


def _put_records(
    self: KinesisBackend,
    stream_arn: str,
    stream_name: str,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    _call.is_of_many = True
    try:
        answer = _put_many(self, stream_arn, stream_name, records)
    finally:
        _call.is_of_many = False
        stream = self.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
        _tell(stream.arn)
    return answer


def _split(self: Stream, shard_to_split: str, new_starting_hash_key: str) -> None:
    with _LOCK:
        shard = self.shards[shard_to_split]
        middle = int(new_starting_hash_key)
        if not shard.is_open or not shard.starting_hash < middle <= shard.ending_hash:
            raise InvalidArgumentError(
                message=f"{shard_to_split} cannot be split at {new_starting_hash_key}"
            )
        shard.is_open = False
        for start, end in (
            (shard.starting_hash, middle - 1),
            (middle, shard.ending_hash),
        ):
            _add_shard(self, start, end, parent=shard.shard_id)
    _tell(self.arn)


def _merge(self: Stream, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
    with _LOCK:
        first = self.shards[shard_to_merge]
        second = self.shards[adjacent_shard_to_merge]
        low, high = sorted((first, second), key=attrgetter("starting_hash"))
        if (
            low.ending_hash + 1 != high.starting_hash
            or not low.is_open
            or not high.is_open
        ):
            raise InvalidArgumentError(adjacent_shard_to_merge)
        first.is_open = second.is_open = False
        _add_shard(
            self,
            low.starting_hash,
            high.ending_hash,
            parent=first.shard_id,
            adjacent_parent=second.shard_id,
        )
    _tell(self.arn)


def _add_shard(
    stream: Stream,
    start: int,
    end: int,
    *,
    parent: str,
    adjacent_parent: str | None = None,
) -> None:
    number = max(int(shard_id.split("-")[1]) for shard_id in stream.shards) + 1
    shard = Shard(number, start, end, parent=parent, adjacent_parent=adjacent_parent)
    stream.shards[shard.shard_id] = shard


def _get_records(
    self: KinesisBackend, stream_arn: str | None, shard_iterator: str, limit: int | None
) -> tuple[str | None, list[Record], int]:
    stream_name, shard_id, after = decompose_shard_iterator(shard_iterator)
    stream = self.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
    with _LOCK:
        shard = stream.get_shard(shard_id)
        found, last, behind_ms = shard.get_records(after, limit)
        is_over = not shard.is_open and last >= len(_records(shard).listed)
    following = None if is_over else compose_shard_iterator(stream_name, shard, last)
    return following, found, behind_ms
