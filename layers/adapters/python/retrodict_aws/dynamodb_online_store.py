"""The online store in DynamoDB: one item a key, written under a version condition."""

from collections.abc import Callable, Iterator, Sequence
from time import sleep as real_sleep
from typing import Any, Final

from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.ports import OnlineItem

from retrodict_aws.clients import AWS_ERRORS, error_code

CURRENT: Final = "current"
"""Sort key of the part that carries position, features and state."""

GET_KEYS: Final = 100
ATTEMPTS: Final = 6


def _to_attributes(item: OnlineItem) -> dict[str, Any]:
    return {
        "entity": {"S": item.entity},
        "part": {"S": CURRENT},
        "version": {"N": str(item.version)},
        "definition": {"S": item.definition},
        "position": {"S": item.position},
        "time_us": {"N": str(item.time_us)},
        "features": {"S": item.features},
        "state": {"B": item.state},
    }


def _from_attributes(found: dict[str, Any]) -> OnlineItem:
    return OnlineItem(
        entity=found["entity"]["S"],
        version=int(found["version"]["N"]),
        definition=found["definition"]["S"],
        position=found["position"]["S"],
        time_us=int(found["time_us"]["N"]),
        features=found["features"]["S"],
        state=bytes(found["state"]["B"]),
    )


class DynamoDBOnlineStore:
    """`OnlineStore` over one table."""

    def __init__(
        self,
        client: Any,
        table_name: str,
        *,
        sleep: Callable[[float], None] = real_sleep,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._sleep = sleep

    def load(self, entities: Sequence[str]) -> dict[str, OnlineItem]:
        """Return the items that exist, consistently; see `OnlineStore.load`."""
        items: dict[str, OnlineItem] = {}
        for start in range(0, len(entities), GET_KEYS):
            chosen = entities[start : start + GET_KEYS]
            for found in self._get([*chosen]):
                item = _from_attributes(found)
                items[item.entity] = item
        return items

    def _get(self, entities: list[str]) -> Iterator[dict[str, Any]]:
        keys = [
            {"entity": {"S": entity}, "part": {"S": CURRENT}} for entity in entities
        ]
        request = {self._table_name: {"Keys": keys, "ConsistentRead": True}}
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
        condition: dict[str, Any] = (
            {"ConditionExpression": "attribute_not_exists(entity)"}
            if item.version == 1
            else {
                "ConditionExpression": "version = :before",
                "ExpressionAttributeValues": {":before": {"N": str(item.version - 1)}},
            }
        )
        try:
            self._client.put_item(
                TableName=self._table_name, Item=_to_attributes(item), **condition
            )
        except AWS_ERRORS as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise StateConflictError(item.entity) from error
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused to write {item.entity!r}: "
                f"{error_code(error)}"
            ) from error

    def scan(self) -> Iterator[OnlineItem]:
        """Yield every item, consistently."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table_name, ConsistentRead=True
        )
        for page in pages:
            for found in page["Items"]:
                yield _from_attributes(found)
