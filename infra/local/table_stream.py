"""A moto gap: the stream of a DynamoDB table, which moto empties as it delivers.

moto 5.2.5 calls Lambda inside the write, with every record so far, and then forgets
them all, so that sequence numbers repeat and readers find nothing. `close_gap` replaces
``StreamShard.add``: records stay, and readers inside the twin are told of new ones.
A stream has one shard here; DynamoDB keeps it for 24 hours.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import StreamRecord, StreamShard

from infra.local.errors import TwinError
from infra.local.template import ACCOUNT

_LOCK = threading.RLock()
_HOURS: Final = 24
_listeners: list[Callable[[str], None]] = []


@dataclass(frozen=True)
class TableRecord:
    """One change of a table, as a reader of an event source mapping needs it.

    Attributes
    ----------
    sequence_number
        Place in the shard, 1 for the first.
    shown
        The record as DynamoDB shows it.
    """

    sequence_number: int
    created_at: float
    data: str
    partition_key: str
    shown: dict[str, Any]


def close_gap() -> None:
    """Replace the method named above."""
    StreamShard.add = _add  # type: ignore[method-assign]


def listen(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call `listener` with the stream's ARN whenever it gets a record.

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


def shards(stream_arn: str) -> list[Any]:
    """Return the one shard of a stream."""
    shard = _shard(stream_arn)
    return [SimpleNamespace(shard_id=shard.id, parent=None, adjacent_parent=None)]


def read(
    stream_arn: str, shard_id: str, after: int, limit: int
) -> Sequence[TableRecord]:
    """Return up to `limit` records after a place, in order."""
    del shard_id
    with _LOCK:
        items = _shard(stream_arn).items[after : after + limit]
    return [_record(place, item) for place, item in enumerate(items, start=after + 1)]


def is_drained(stream_arn: str, shard_id: str, after: int) -> bool:
    """Return False: a table's shard is never closed here."""
    del stream_arn, shard_id, after
    return False


def last_sequence_number(stream_arn: str, shard_id: str) -> int:
    """Return the place of the newest record, 0 if there is none."""
    del shard_id
    with _LOCK:
        return len(_shard(stream_arn).items)


def retention_hours(stream_arn: str) -> int:
    """Return for how long a record is kept."""
    del stream_arn
    return _HOURS


def name_of(record: TableRecord) -> str:
    """Return what a partial answer calls a record."""
    return str(record.shown["dynamodb"]["SequenceNumber"])


def _record(place: int, item: StreamRecord) -> TableRecord:
    shown = item.to_json()
    made: datetime = shown["dynamodb"]["ApproximateCreationDateTime"]
    created_at = made.replace(tzinfo=UTC).timestamp()
    change = {**shown["dynamodb"], "ApproximateCreationDateTime": int(created_at)}
    return TableRecord(place, created_at, "", "", {**shown, "dynamodb": change})


def _shard(stream_arn: str) -> StreamShard:
    region, resource = stream_arn.split(":")[3], stream_arn.split(":", 5)[5]
    table = dynamodb_backends[ACCOUNT][region].get_table(resource.split("/")[1])
    if table.stream_shard is None:
        raise TwinError(f"table {table.name!r} has no stream")
    return table.stream_shard


def _add(self: StreamShard, old: Any, new: Any) -> None:
    table = self.table
    kind = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    view = (table.stream_specification or {})["StreamViewType"]
    with _LOCK:
        number = len(self.items) + self.starting_sequence_number
        self.items.append(StreamRecord(table, view, kind, old, new, number))
    arn = f"{table.table_arn}/stream/{table.latest_stream_label}"
    for listener in tuple(_listeners):
        listener(arn)
