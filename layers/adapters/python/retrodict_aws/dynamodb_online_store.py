"""The online store in DynamoDB: a head and perhaps chunks a key, one version of both.

A large state is kept as a head, which every write replaces under a version condition,
and chunks, which are written once under a name that no other write uses. Chunks go
first; the head names those that belong to it, so what is not named was never there.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from time import sleep as real_sleep
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from retrodict.chunks import SMALL_BYTES, Parts, ends_with, join, oldest, split
from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.ports import OnlineItem

from retrodict_aws.clients import AWS_ERRORS, error_code

CURRENT: Final = "current"
"""Sort key of the head: position, features, and what a write changes of the state."""

GET_KEYS: Final = 100
ATTEMPTS: Final = 6
KNOWN_ENTITIES: Final = 2_000
"""Of how many entities it is remembered which chunks they have."""

_DIGEST_DIGITS: Final = 16
_NONE: Final = {"N": "0"}

Refs = dict[str, str]
"""Sort key of each chunk by its name: the name, the version that wrote it, a digest."""


def _part(name: str, version: int, raw: bytes) -> str:
    digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_DIGITS]
    return f"{name}@{version}-{digest}"


def _is_same(part: str, raw: bytes) -> bool:
    return part.endswith("-" + hashlib.sha256(raw).hexdigest()[:_DIGEST_DIGITS])


class _Known(NamedTuple):
    """What the store has of an entity: its version, its chunks, the oldest of them."""

    version: int = 0
    refs: Mapping[str, str] = MappingProxyType({})
    oldest: bytes | None = None


def _to_attributes(item: OnlineItem, parts: Parts, refs: Refs) -> dict[str, Any]:
    found = {
        "entity": {"S": item.entity},
        "part": {"S": CURRENT},
        "version": {"N": str(item.version)},
        "definition": {"S": item.definition},
        "position": {"S": item.position},
        "time_us": {"N": str(item.time_us)},
        "features": {"S": item.features},
        "state": {"B": parts.head},
    }
    if refs:
        found["events"] = {"N": str(parts.events)}
        found["chunks"] = {"L": [{"S": part} for part in refs.values()]}
    return found


def _refs(head: dict[str, Any]) -> Refs:
    parts = [part["S"] for part in head.get("chunks", {}).get("L", [])]
    return {part.rpartition("@")[0]: part for part in parts}


def _from_attributes(head: dict[str, Any], chunks: dict[str, bytes]) -> OnlineItem:
    return OnlineItem(
        entity=head["entity"]["S"],
        version=int(head["version"]["N"]),
        definition=head["definition"]["S"],
        position=head["position"]["S"],
        time_us=int(head["time_us"]["N"]),
        features=head["features"]["S"],
        state=join(
            Parts(
                bytes(head["state"]["B"]), chunks, int(head.get("events", _NONE)["N"])
            )
        ),
    )


class DynamoDBOnlineStore:
    """`OnlineStore` over one table.

    Parameters
    ----------
    small_bytes
        States up to this size stay one item.
    """

    def __init__(
        self,
        client: Any,
        table_name: str,
        *,
        sleep: Callable[[float], None] = real_sleep,
        small_bytes: int = SMALL_BYTES,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._sleep = sleep
        self._small_bytes = small_bytes
        self._known: dict[str, _Known] = {}

    def load(
        self, entities: Sequence[str], *, with_state: bool = True
    ) -> dict[str, OnlineItem]:
        """Return the items that exist, consistently; see `OnlineStore.load`."""
        if len(self._known) > KNOWN_ENTITIES:
            self._known.clear()
        items: dict[str, OnlineItem] = {}
        left = list(dict.fromkeys(entities))
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(0.05 * 2**attempt)
            heads = self._get([(entity, CURRENT) for entity in left])
            wanted = [
                (head["entity"]["S"], part)
                for head in heads
                for part in _refs(head).values()
                if with_state
            ]
            found: dict[str, dict[str, bytes]] = defaultdict(dict)
            for chunk in self._get(wanted):
                found[chunk["entity"]["S"]][chunk["part"]["S"]] = bytes(
                    chunk["state"]["B"]
                )
            left = []
            for head in heads:
                entity, refs = head["entity"]["S"], _refs(head)
                if with_state and found[entity].keys() != set(refs.values()):
                    left.append(entity)  # somebody wrote in between
                    continue
                items[entity] = item = _from_attributes(head, found[entity])
                if with_state:
                    raw = found[entity].get(refs.get(oldest(refs) or "", ""))
                    self._known[entity] = _Known(item.version, refs, raw)
                else:
                    items[entity] = replace(item, state=b"")
            if not left:
                return items
        raise StoreUnavailableError(
            f"table {self._table_name!r}: {left[0]!r} changed while it was read, "
            f"{ATTEMPTS} times: read later"
        )

    def _get(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), GET_KEYS):
            found += self._get_some(keys[start : start + GET_KEYS])
        return found

    def _get_some(self, keys: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        names = [
            {"entity": {"S": entity}, "part": {"S": part}} for entity, part in keys
        ]
        request = {self._table_name: {"Keys": names, "ConsistentRead": True}}
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(0.05 * 2**attempt)
            try:
                answer = self._client.batch_get_item(RequestItems=request)
            except AWS_ERRORS as error:
                raise StoreUnavailableError(
                    f"table {self._table_name!r} refused a read: {error_code(error)}"
                ) from error
            yield from answer["Responses"].get(self._table_name, [])
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return
        raise StoreUnavailableError(
            f"table {self._table_name!r} left keys unread {ATTEMPTS} times: read later"
        )

    def put(self, item: OnlineItem) -> None:
        """Write over the version before; see `OnlineStore.put`."""
        parts = split(item.state, self._small_bytes)
        before = self._known.get(item.entity, _Known())
        if before.version != item.version - 1:
            before = _Known()
        refs: Refs = {}
        first = oldest(parts.chunks)
        for name, raw in parts.chunks.items():
            part = before.refs.get(name, "")
            is_kept = (
                part and name == first and before.oldest is not None
            ) and ends_with(before.oldest, raw)
            if not (is_kept or _is_same(part, raw)):
                part = _part(name, item.version, raw)
                self._write(
                    item.entity,
                    Item={
                        "entity": {"S": item.entity},
                        "part": {"S": part},
                        "state": {"B": raw},
                    },
                )
            refs[name] = part
        condition: dict[str, Any] = (
            {"ConditionExpression": "attribute_not_exists(entity)"}
            if item.version == 1
            else {
                "ConditionExpression": "version = :before",
                "ExpressionAttributeValues": {":before": {"N": str(item.version - 1)}},
            }
        )
        self._write(item.entity, Item=_to_attributes(item, parts, refs), **condition)
        self._known[item.entity] = _Known(item.version, refs)
        # The head is written: what it does not name any more is litter, and what is
        # left of it here is swept by a rebuild.
        with suppress(StoreUnavailableError):
            self._delete(item.entity, set(before.refs.values()) - set(refs.values()))

    def _write(self, entity: str, **request: Any) -> None:
        try:
            self._client.put_item(TableName=self._table_name, **request)
        except AWS_ERRORS as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise StateConflictError(entity) from error
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused to write {entity!r}: "
                f"{error_code(error)}"
            ) from error

    def _delete(self, entity: str, parts: set[str]) -> None:
        for part in sorted(parts):
            try:
                self._client.delete_item(
                    TableName=self._table_name,
                    Key={"entity": {"S": entity}, "part": {"S": part}},
                )
            except AWS_ERRORS as error:
                raise StoreUnavailableError(
                    f"table {self._table_name!r} refused to delete {part!r} of "
                    f"{entity!r}: {error_code(error)}"
                ) from error

    def scan(self) -> Iterator[OnlineItem]:
        """Yield every item, consistently."""
        for entity, parts in self._entities():
            head = next((p for p in parts if p["part"]["S"] == CURRENT), None)
            if head is not None:
                refs = set(_refs(head).values())
                found = {p["part"]["S"]: bytes(p["state"]["B"]) for p in parts}
                chunks = {part: raw for part, raw in found.items() if part in refs}
                if chunks.keys() == refs:
                    yield _from_attributes(head, chunks)
                else:  # somebody wrote in between
                    yield from self.load([entity]).values()

    def sweep(self) -> int:
        """Delete chunks that no head names, and return how many.

        Only while nothing else writes: the chunks of a write that has not come to its
        head yet look the same.

        Raises
        ------
        StoreUnavailableError
            The store refused.
        """
        swept = 0
        for entity, parts in self._entities():
            heads = [p for p in parts if p["part"]["S"] == CURRENT]
            named = {ref for head in heads for ref in _refs(head).values()}
            litter = {p["part"]["S"] for p in parts} - named - {CURRENT}
            self._delete(entity, litter)
            swept += len(litter)
        return swept

    def _entities(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield the parts of every entity; DynamoDB returns them side by side."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table_name, ConsistentRead=True
        )
        every = (found for page in pages for found in page["Items"])
        for entity, parts in groupby(every, key=lambda found: found["entity"]["S"]):
            yield str(entity), list(parts)
