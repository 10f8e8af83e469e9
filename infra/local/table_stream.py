"""A moto gap: the stream of a DynamoDB table, which moto empties as it delivers.

moto 5.2.5 calls Lambda inside the write, with every record so far, and then forgets
them all, so that sequence numbers repeat and readers find nothing. It makes two records
of an update that makes an item, one of a write that changes nothing, and those of a
transaction that is then cancelled. `close_gap` replaces ``StreamShard.add``, so that
records stay, and readers inside the twin are told of new ones; ``update_item`` and
``transact_write_items`` hold their records back until it is known what they did.
A stream has one shard here; DynamoDB keeps it for 24 hours.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.table import StreamRecord, StreamShard

from infra.local.errors import TwinError
from infra.local.mending import mend, original
from infra.local.template import ACCOUNT

_LOCK = threading.RLock()
_HOURS: Final = 24
_listeners: list[Callable[[str], None]] = []
_held = threading.local()


@dataclass(frozen=True)
class TableRecord:
    """One change of a table, as a reader of an event source mapping needs it.

    Attributes
    ----------
    sequence_number
        Place in the shard, 1 for the first.
    shown
        The record as a Lambda event has it.
    data
        The same as JSON.
    """

    sequence_number: int
    created_at: float
    shown: dict[str, Any]
    data: str


@dataclass(frozen=True)
class _Change:
    """A record that has no place in its shard yet."""

    shard: StreamShard
    record: StreamRecord


def close_gap() -> None:
    """Replace the methods named above."""
    update = original(DynamoDBBackend, "update_item")
    transact = original(DynamoDBBackend, "transact_write_items")

    def update_item(backend: DynamoDBBackend, *request: Any, **more: Any) -> Any:
        with _holding() as held:
            item = update(backend, *request, **more)
        for change in held[-1:]:  # moto tells of the bare key of a new item before
            _put(change)
        return item

    def transact_write_items(
        backend: DynamoDBBackend, transact_items: list[dict[str, Any]]
    ) -> None:
        with _holding() as held:
            transact(backend, transact_items)
        for change in held:
            _put(change)

    mend(StreamShard, "add", _add)
    mend(DynamoDBBackend, "update_item", update_item)
    mend(DynamoDBBackend, "transact_write_items", transact_write_items)
    # A transaction copies its tables, to have them back if it is cancelled; the records
    # of others stay.
    StreamShard.__deepcopy__ = lambda shard, _: shard  # type: ignore[attr-defined]


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
    return [
        _record(stream_arn, place, item)
        for place, item in enumerate(items, start=after + 1)
    ]


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


def payload(records: Sequence[TableRecord]) -> bytes:
    """Return the Lambda event of some records."""
    return f'{{"Records":[{",".join(record.data for record in records)}]}}'.encode()


def _record(stream_arn: str, place: int, item: StreamRecord) -> TableRecord:
    told = item.to_json()
    made: datetime = told["dynamodb"]["ApproximateCreationDateTime"]
    created_at = made.replace(tzinfo=UTC).timestamp()
    shown = {
        **told,
        "dynamodb": {
            **told["dynamodb"],
            "ApproximateCreationDateTime": int(created_at),
        },
        "eventSourceARN": stream_arn,
    }
    data = json.dumps(shown, separators=(",", ":"), default=_as_text)
    return TableRecord(place, created_at, shown, data)


def _as_text(value: Any) -> str:
    """Write the bytes that moto keeps inside of maps and lists as DynamoDB does."""
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, got {value!r}")
    return base64.b64encode(value).decode()


def _shard(stream_arn: str) -> StreamShard:
    region, resource = stream_arn.split(":")[3], stream_arn.split(":", 5)[5]
    table = dynamodb_backends[ACCOUNT][region].get_table(resource.split("/")[1])
    if table.stream_shard is None:
        raise TwinError(f"table {table.name!r} has no stream")
    return table.stream_shard


def _add(self: StreamShard, old: Any, new: Any) -> None:
    if old is not None and new is not None and old == new:
        return  # a write that changes nothing is no change
    kind = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    view = (self.table.stream_specification or {})["StreamViewType"]
    record = StreamRecord(self.table, view, kind, old, new, 0)
    record.record["awsRegion"] = self.table.table_arn.split(":")[3]
    _put(_Change(self, record))


@contextmanager
def _holding() -> Iterator[list[_Change]]:
    """Hold back what this thread puts, until the block has ended well."""
    outer = getattr(_held, "changes", None)
    changes: list[_Change] = []
    _held.changes = changes
    try:
        yield changes
    finally:
        _held.changes = outer


def _put(change: _Change) -> None:
    held: list[_Change] | None = getattr(_held, "changes", None)
    if held is not None:
        held.append(change)
        return
    shard, told = change.shard, change.record.record["dynamodb"]
    with _LOCK:
        number = len(shard.items) + shard.starting_sequence_number
        told["SequenceNumber"] = str(number)
        shard.items.append(change.record)
    arn = f"{shard.table.table_arn}/stream/{shard.table.latest_stream_label}"
    for listener in tuple(_listeners):
        listener(arn)
