"""DynamoDB and S3 in memory, behind the calls that the adapters make of them."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from typing import Any, Final

from tests.simulation.faults import Fault
from tests.simulation.world import World, refusal

PAGE_ENTRIES: Final = 50

Item = dict[str, Any]


class Pages:
    """A paginator of small pages, so that there is often another."""

    def __init__(self, world: World, service: str, name: str, entries: Any) -> None:
        self._world = world
        self._service = service
        self._name = name
        self._entries = entries

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield page after page, each a call that may fail."""
        label, found = self._entries(**request)
        for start in range(0, max(len(found), 1), PAGE_ENTRIES):
            page = {label: found[start : start + PAGE_ENTRIES]}
            yield self._world.read(self._service, self._name, partial(dict, page))


KEYS: Final = re.compile(
    r"(?:segments/type=[a-z._]+|rejected)/[A-Za-z0-9=_./-]{1,900}\.(?:parquet|jsonl)"
)
"""What an object may be called, whatever producers send."""

HEAD: Final = "current"
ITEM_BYTES: Final = 400 * 1024
LONGEST_LAG_US: Final = 1_000_000
"""How long a replica may be behind after a write."""


class DynamoDBClient:
    """One table with conditional writes; it remembers every version of every item.

    Attributes
    ----------
    versions
        Every head that was ever written, by entity.
    chunks
        The other parts as they are now, by entity and sort key.
    written
        The bytes of every other part that was ever written.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.versions: dict[str, list[Item]] = {}
        self.chunks: dict[tuple[str, str], Item] = {}
        self.written: dict[tuple[str, str], bytes] = {}
        self._lagging: dict[str, int] = {}

    def puts(self) -> int:
        """Return how many writes of other content were applied."""
        return sum(map(len, self.versions.values())) + len(self.written)

    def put_item(
        self,
        *,
        TableName: str,
        Item: Item,
        ConditionExpression: str = "",
        ExpressionAttributeValues: Item | None = None,
    ) -> dict[str, Any]:
        """Write an item if its condition holds when the write is applied."""
        entity, part = Item["entity"]["S"], Item["part"]["S"]
        if size_of(Item) > ITEM_BYTES:
            self._world.violate(f"{entity} {part} is larger than an item may be")
        values = ExpressionAttributeValues or {}

        def keep() -> dict[str, Any]:
            place, raw = (entity, part), Item["state"]["B"]
            if self.written.setdefault(place, raw) != raw:
                self._world.violate(f"{entity} {part} became another")
            self.chunks[place] = Item
            self._world.note(f"{TableName} {entity} {part}")
            return {}

        def effect() -> dict[str, Any]:
            versions = self.versions.setdefault(entity, [])
            if not _holds(ConditionExpression, values, versions):
                self._world.fire(Fault.LOST_RACE, entity)
                raise refusal("ConditionalCheckFailedException", "PutItem")
            before = int(versions[-1]["version"]["N"]) if versions else 0
            after = int(Item["version"]["N"])
            if after != before + 1:
                self._world.violate(f"{entity} went from version {before} to {after}")
            versions.append(Item)
            lag_us = self._world.random.randint(0, LONGEST_LAG_US)
            self._lagging[entity] = self._world.now_us + lag_us
            sha = hashlib.sha256(Item["state"]["B"]).hexdigest()[:8]
            self._world.note(f"{TableName} {entity} v{after} {sha}")
            return {}

        write = effect if part == HEAD else keep
        place = entity if part == HEAD else f"{entity} {part}"
        return self._world.write("dynamodb", f"PutItem {place}", write)

    def delete_item(self, *, TableName: str, Key: Item) -> dict[str, Any]:
        """Delete a part; never a head."""
        entity, part = Key["entity"]["S"], Key["part"]["S"]

        def effect() -> dict[str, Any]:
            if part == HEAD:
                self._world.violate(f"the head of {entity} was deleted")
            self.chunks.pop((entity, part), None)
            self._world.note(f"{TableName} {entity} without {part}")
            return {}

        return self._world.write("dynamodb", f"DeleteItem {entity} {part}", effect)

    def batch_get_item(self, *, RequestItems: Item) -> dict[str, Any]:
        """Read items; some keys may be left for another call."""
        ((table, request),) = RequestItems.items()
        is_consistent = request.get("ConsistentRead", False)
        names = request.get("ExpressionAttributeNames", {})
        only = [
            names[name]
            for name in request.get("ProjectionExpression", "").split(",")
            if name
        ]

        if self._world.invocation is not None:
            self._world.invocation.items_read |= {
                (key["entity"]["S"], key["part"]["S"]) for key in request["Keys"]
            }

        def answer() -> dict[str, Any]:
            found: list[Item] = []
            left: list[Item] = []
            for key in request["Keys"]:
                place = key["entity"]["S"], key["part"]["S"]
                versions = self._versions(*place)
                if self._world.chance(Fault.UNPROCESSED_KEYS):
                    self._world.fire(Fault.UNPROCESSED_KEYS, key["entity"]["S"])
                    left.append(key)
                elif versions:
                    several = self._seen(*place, versions, is_consistent=is_consistent)
                    found += [{n: item[n] for n in only or item} for item in several]
            unread = {table: {**request, "Keys": left}} if left else {}
            return {"Responses": {table: found}, "UnprocessedKeys": unread}

        return self._world.read("dynamodb", "BatchGetItem", answer)

    def _seen(
        self, entity: str, part: str, versions: list[Item], *, is_consistent: bool
    ) -> list[Item]:
        """Return the item as a replica has it, which may lag unless asked not to."""
        if part != HEAD or self._lagging.get(entity, 0) <= self._world.now_us:
            return versions[-1:]
        self._world.fire(Fault.STALE_REPLICA, entity)
        return versions[-1:] if is_consistent else versions[-2:-1]

    def _versions(self, entity: str, part: str) -> list[Item]:
        if part == HEAD:
            return self.versions.get(entity, [])
        found = self.chunks.get((entity, part))
        return [] if found is None else [found]

    def get_paginator(self, name: str) -> Pages:
        """Return the paginator of ``scan``."""

        def entries(
            *, ConsistentRead: bool = False, **_request: Any
        ) -> tuple[str, list[Item]]:
            heads = [
                ((entity, HEAD), head)
                for entity, versions in self.versions.items()
                for head in self._seen(
                    entity, HEAD, versions, is_consistent=ConsistentRead
                )
            ]
            return "Items", [
                item for _, item in sorted([*heads, *self.chunks.items()], key=_name)
            ]

        return Pages(self._world, "dynamodb", name, entries)


def size_of(item: Item) -> int:
    """Return about how many bytes DynamoDB counts of an item."""
    kept = (held for value in item.values() for held in value.values())
    return sum(map(len, item)) + sum(len(v) for v in kept if isinstance(v, str | bytes))


def _name(found: tuple[tuple[str, str], Item]) -> tuple[str, str]:
    return found[0]


def _holds(expression: str, values: Item, versions: list[Item]) -> bool:
    match expression:
        case "":
            return True
        case "attribute_not_exists(entity)":
            return not versions
        case "version = :before":
            return bool(versions) and versions[-1]["version"] == values[":before"]
        case _:
            raise NotImplementedError(f"condition {expression!r}")


@dataclass(frozen=True, slots=True)
class Object:
    """What lies under one key."""

    body: bytes
    metadata: dict[str, str]
    written_us: int


def _instant(time_us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=time_us)


class S3Client:
    """Buckets of objects.

    Parameters
    ----------
    immutable
        Buckets in which an object must never become another.

    Attributes
    ----------
    before_delete
        Called with the bucket and the key of an object that is about to go.
    """

    def __init__(self, world: World, immutable: tuple[str, ...]) -> None:
        self._world = world
        self._immutable = immutable
        self.before_delete: Callable[[str, str], None] = lambda _bucket, _key: None
        self.buckets: dict[str, dict[str, Object]] = {}

    def put_object(  # noqa: PLR0913 - the client's parameters
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        IfNoneMatch: str | None = None,
        Metadata: dict[str, str] | None = None,
        ContentType: str = "",  # noqa: ARG002 - kept by S3, read by nobody here
    ) -> dict[str, Any]:
        """Write an object, over none where the request says so."""
        if not KEYS.fullmatch(Key):
            self._world.violate(f"an object has the name {Key!r}")

        def effect() -> dict[str, Any]:
            objects = self.buckets.setdefault(Bucket, {})
            if IfNoneMatch == "*":
                if Key in objects:
                    raise refusal("PreconditionFailed", "PutObject")
                if self._world.chance(Fault.WRITE_CONFLICT):
                    self._world.fire(Fault.WRITE_CONFLICT, Key)
                    raise refusal("ConditionalRequestConflict", "PutObject")
            new = Object(Body, Metadata or {}, self._world.now_us)
            if Bucket in self._immutable and objects.get(Key, new).body != Body:
                self._world.violate(f"object {Key} was overwritten")
            objects[Key] = new
            sha = hashlib.sha256(Body).hexdigest()[:8]
            self._world.note(f"{Bucket} {Key} {sha}")
            return {}

        return self._world.write("s3", f"PutObject {Bucket}/{Key}", effect)

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """Remove an object; one that has gone is no error."""

        def effect() -> dict[str, Any]:
            objects = self.buckets.get(Bucket, {})
            if Key in objects:
                self.before_delete(Bucket, Key)
                del objects[Key]
                self._world.note(f"{Bucket} without {Key}")
            return {}

        return self._world.write("s3", f"DeleteObject {Bucket}/{Key}", effect)

    def _found(self, bucket: str, key: str, operation: str) -> Object:
        found = self.buckets.get(bucket, {}).get(key)
        if found is None:
            raise refusal("NoSuchKey", operation)
        return found

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """Return the metadata of an object."""

        def answer() -> dict[str, Any]:
            found = self._found(Bucket, Key, "HeadObject")
            return {"Metadata": found.metadata, "ContentLength": len(found.body)}

        return self._world.read("s3", f"HeadObject {Bucket}/{Key}", answer)

    def get_object(self, *, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        """Return an object, or some of its bytes."""

        def answer() -> dict[str, Any]:
            found = self._found(Bucket, Key, "GetObject")
            body = found.body
            if Range:
                first, last = Range.removeprefix("bytes=").split("-")
                body = body[int(first) : int(last) + 1]
            return {"Body": BytesIO(body), "Metadata": found.metadata}

        return self._world.read("s3", "GetObject", answer)

    def get_paginator(self, name: str) -> Pages:
        """Return the paginator of ``list_objects_v2``."""

        def entries(
            *, Bucket: str, Prefix: str = "", StartAfter: str = ""
        ) -> tuple[str, list[dict[str, Any]]]:
            keys = sorted(self.buckets.get(Bucket, {}))
            return "Contents", [
                {
                    "Key": key,
                    "Size": len(self.buckets[Bucket][key].body),
                    "LastModified": _instant(self.buckets[Bucket][key].written_us),
                }
                for key in keys
                if key.startswith(Prefix) and key > StartAfter
            ]

        return Pages(self._world, "s3", name, entries)
