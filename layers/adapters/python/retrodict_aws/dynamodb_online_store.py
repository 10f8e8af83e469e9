"""The online store in DynamoDB: a head and perhaps chunks a key, one version of both.

A large state is kept as a head, which every write replaces under a version condition,
and chunks, which are written once under a name that no other write uses. Chunks go
first; the head names those that belong to it, so what is not named was never there.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from time import sleep as real_sleep
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from retrodict.chunks import SMALL_BYTES, Parts, ends_with, join, oldest, split
from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.ports import OnlineItem

from retrodict_aws.clients import AWS_ERRORS, error_code

CURRENT: Final = "current"
"""Sort key of the head: position, features, and what a write changes of the state."""

GET_KEYS: Final = 100
IN_FLIGHT: Final = 10
"""How many items are written at once: as many as a client keeps connections."""

ATTEMPTS: Final = 6
KNOWN_ENTITIES: Final = 2_000
"""Of how many entities it is remembered which chunks they have."""

_DIGEST_DIGITS: Final = 16
_NONE: Final = {"N": "0"}
_SUMMARY: Final = ("entity", "version", "definition", "position", "time_us", "features")
_SUMMARY_ONLY: Final = {
    "ProjectionExpression": ",".join(f"#{name}" for name in _SUMMARY),
    "ExpressionAttributeNames": {f"#{name}": name for name in _SUMMARY},
}
"""What a reader of features alone asks of a head: the state stays where it is."""

_TIMES_ONLY: Final = {
    "FilterExpression": "#part = :current",
    "ProjectionExpression": "#entity,#time_us",
    "ExpressionAttributeNames": {
        "#part": "part", "#entity": "entity", "#time_us": "time_us",
    },
    "ExpressionAttributeValues": {":current": {"S": CURRENT}},
}  # fmt: skip
"""What a list of the heads asks of each."""

Refusal: TypeAlias = StateConflictError | StoreUnavailableError
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


def _item(head: dict[str, Any], state: bytes) -> OnlineItem:
    return OnlineItem(
        entity=head["entity"]["S"],
        version=int(head["version"]["N"]),
        definition=head["definition"]["S"],
        position=head["position"]["S"],
        time_us=int(head["time_us"]["N"]),
        features=head["features"]["S"],
        state=state,
    )


def _from_attributes(head: dict[str, Any], chunks: dict[str, bytes]) -> OnlineItem:
    events = int(head.get("events", _NONE)["N"])
    return _item(head, join(Parts(bytes(head["state"]["B"]), chunks, events)))


@dataclass(slots=True)
class _Plan:
    """What is to be written of an item, and what it was refused with."""

    item: OnlineItem
    chunks: list[dict[str, Any]]
    head: dict[str, Any]
    refs: Refs
    litter: set[str]
    refusal: Refusal | None = None


def _one_by_one(
    client: Any, requests: Sequence[Mapping[str, Any]]
) -> list[Exception | None]:
    """Put items by a client that knows no other way, such as boto3's."""
    found: list[Exception | None] = []
    for request in requests:
        try:
            client.put_item(**request)
        except AWS_ERRORS as error:
            found.append(error)
        else:
            found.append(None)
    return found


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
        self._put_items: Callable[
            [Sequence[Mapping[str, Any]]], Sequence[Exception | None]
        ] = getattr(client, "put_items", partial(_one_by_one, client))
        self._table_name = table_name
        self._sleep = sleep
        self._small_bytes = small_bytes
        self._known: dict[str, _Known] = {}

    def load(
        self, entities: Sequence[str], *, with_state: bool = True
    ) -> dict[str, OnlineItem]:
        """Return the items that exist, consistently; see `OnlineStore.load`."""
        if not with_state:
            keys = [(entity, CURRENT) for entity in dict.fromkeys(entities)]
            heads = self._get(keys, _SUMMARY_ONLY)
            return {head["entity"]["S"]: _item(head, b"") for head in heads}
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
            ]
            found: dict[str, dict[str, bytes]] = defaultdict(dict)
            for chunk in self._get(wanted):
                found[chunk["entity"]["S"]][chunk["part"]["S"]] = bytes(
                    chunk["state"]["B"]
                )
            left = []
            for head in heads:
                entity, refs = head["entity"]["S"], _refs(head)
                if found[entity].keys() != set(refs.values()):
                    left.append(entity)  # somebody wrote in between
                    continue
                items[entity] = item = _from_attributes(head, found[entity])
                raw = found[entity].get(refs.get(oldest(refs) or "", ""))
                self._known[entity] = _Known(item.version, refs, raw)
            if not left:
                return items
        raise StoreUnavailableError(
            f"table {self._table_name!r}: an item changed while it was read, "
            f"{ATTEMPTS} times: read later"
        )

    def _get(
        self, keys: Sequence[tuple[str, str]], only: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), GET_KEYS):
            found += self._get_some(keys[start : start + GET_KEYS], only or {})
        return found

    def _get_some(
        self, keys: Sequence[tuple[str, str]], only: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        names = [
            {"entity": {"S": entity}, "part": {"S": part}} for entity, part in keys
        ]
        request = {self._table_name: {"Keys": names, "ConsistentRead": True, **only}}
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
        [refusal] = self.put_all([item])
        if refusal is not None:
            raise refusal

    def put_all(self, items: Sequence[OnlineItem]) -> Iterator[Refusal | None]:
        """Write items of different entities; see `OnlineStore.put_all`."""
        for start in range(0, len(items), IN_FLIGHT):
            yield from self._put_some(items[start : start + IN_FLIGHT])

    def _put_some(self, items: Sequence[OnlineItem]) -> list[Refusal | None]:
        """Write chunks that are new, then heads, then delete chunks that are old."""
        plans = [self._plan(item) for item in items]
        chunks = [(plan, request) for plan in plans for request in plan.chunks]
        refusals = self._write(
            [(plan.item.entity, request) for plan, request in chunks]
        )
        for (plan, _), refusal in zip(chunks, refusals, strict=True):
            plan.refusal = plan.refusal or refusal
        ready = [plan for plan in plans if plan.refusal is None]
        refusals = self._write([(plan.item.entity, plan.head) for plan in ready])
        for plan, refusal in zip(ready, refusals, strict=True):
            plan.refusal = refusal
            if refusal is None:
                self._known[plan.item.entity] = _Known(plan.item.version, plan.refs)
                # The head is written: what it does not name any more is litter, and
                # what is left of it here is swept by a rebuild.
                with suppress(StoreUnavailableError):
                    self._delete(plan.item.entity, plan.litter)
        return [plan.refusal for plan in plans]

    def _plan(self, item: OnlineItem) -> "_Plan":
        parts = split(item.state, self._small_bytes)
        before = self._known.get(item.entity, _Known())
        if before.version != item.version - 1:
            before = _Known()
        refs: Refs = {}
        chunks: list[dict[str, Any]] = []
        first = oldest(parts.chunks)
        for name, raw in parts.chunks.items():
            part = before.refs.get(name, "")
            is_kept = (
                part and name == first and before.oldest is not None
            ) and ends_with(before.oldest, raw)
            if not (is_kept or _is_same(part, raw)):
                part = _part(name, item.version, raw)
                chunks.append(
                    {
                        "Item": {
                            "entity": {"S": item.entity},
                            "part": {"S": part},
                            "state": {"B": raw},
                        }
                    }
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
        head = {"Item": _to_attributes(item, parts, refs), **condition}
        litter = set(before.refs.values()) - set(refs.values())
        return _Plan(item, chunks, head, refs, litter)

    def _write(
        self, requests: Sequence[tuple[str, dict[str, Any]]]
    ) -> list[Refusal | None]:
        """Put items, each of an entity, and return what they were refused with."""
        wanted = [{"TableName": self._table_name, **r} for _, r in requests]
        return [
            None if error is None else self._refusal(entity, error)
            for (entity, _), error in zip(
                requests, self._put_items(wanted), strict=True
            )
        ]

    def _refusal(self, entity: str, error: Exception) -> Refusal:
        refusal: Refusal
        if error_code(error) == "ConditionalCheckFailedException":
            refusal = StateConflictError(entity)
        else:
            refusal = StoreUnavailableError(
                f"table {self._table_name!r} refused a write: {error_code(error)}"
            )
        refusal.__cause__ = error
        return refusal

    def _delete(self, entity: str, parts: set[str]) -> None:
        for part in sorted(parts):
            try:
                self._client.delete_item(
                    TableName=self._table_name,
                    Key={"entity": {"S": entity}, "part": {"S": part}},
                )
            except AWS_ERRORS as error:
                raise StoreUnavailableError(
                    f"table {self._table_name!r} refused to delete {part!r}: "
                    f"{error_code(error)}"
                ) from error

    def scan(self) -> Iterator[OnlineItem]:
        """Yield every item, consistently.

        Raises
        ------
        StoreUnavailableError
            The store refused, or an item changed whenever it was read.
        """
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

    def entities(self, share: int, shares: int) -> Iterator[tuple[str, int]]:
        """Yield a share of what there is, consistently; see `OnlineStore.entities`."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table_name,
            ConsistentRead=True,
            Segment=share,
            TotalSegments=shares,
            **_TIMES_ONLY,
        )
        try:
            for page in pages:
                for head in page["Items"]:
                    yield head["entity"]["S"], int(head["time_us"]["N"])
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused to be listed: {error_code(error)}"
            ) from error

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
        every = self._items(pages)
        for entity, parts in groupby(every, key=lambda found: found["entity"]["S"]):
            yield str(entity), list(parts)

    def _items(self, pages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        try:
            for page in pages:
                yield from page["Items"]
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused to be scanned: {error_code(error)}"
            ) from error
