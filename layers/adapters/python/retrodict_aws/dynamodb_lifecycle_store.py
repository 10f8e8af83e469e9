"""Decisions in DynamoDB: one item each, appended on the condition that it is free."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from retrodict.errors import StoreUnavailableError, StreamConflictError
from retrodict.lifecycle import Decided, Recorded

from retrodict_aws.clients import AWS_ERRORS, error_code


def to_item(stream_id: str, event: Recorded) -> dict[str, Any]:
    """Return a decision as DynamoDB keeps it; its data is one text, so bits survive."""
    item: dict[str, Any] = {
        "stream_id": {"S": stream_id},
        "version": {"N": str(event.version)},
        "kind": {"S": event.kind},
        "time_us": {"N": str(event.time_us)},
        "data": {"S": json.dumps(event.data, sort_keys=True, separators=(",", ":"))},
    }
    if event.causation_id is not None:
        item["causation_id"] = {"S": event.causation_id}
    return item


def from_item(item: Mapping[str, Any]) -> tuple[str, Recorded]:
    """Return stream and decision of an item, also as a DynamoDB stream shows it."""
    return item["stream_id"]["S"], Recorded(
        version=int(item["version"]["N"]),
        kind=item["kind"]["S"],
        time_us=int(item["time_us"]["N"]),
        data=json.loads(item["data"]["S"]),
        causation_id=item.get("causation_id", {}).get("S"),
    )


class DynamoDBLifecycleStore:
    """`LifecycleStore` over one table, which only ever grows.

    Needs ``dynamodb:Query`` and ``dynamodb:PutItem``.
    """

    def __init__(self, client: Any, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def read(self, stream_id: str) -> list[Recorded]:
        """Return every decision of a stream; see `LifecycleStore.read`."""
        found: list[Recorded] = []
        start: dict[str, Any] = {}
        while True:
            answer = self._query(stream_id, **start)
            found += [from_item(item)[1] for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return found
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def append(
        self, stream_id: str, decisions: Sequence[Decided], *, expected_version: int
    ) -> list[Recorded]:
        """Append after `expected_version`; see `LifecycleStore.append`.

        The condition on each put refuses a writer that is behind. One that is ahead
        would leave a gap, so the newest version is looked at first; no transaction is
        needed for that, since what is there is never removed.
        """
        newest = self._query(stream_id, ScanIndexForward=False, Limit=1)["Items"]
        version = from_item(newest[0])[1].version if newest else 0
        if version != expected_version:
            raise StreamConflictError(stream_id, expected_version)
        recorded = [
            Recorded(version, d.kind, d.time_us, d.data, d.causation_id)
            for version, d in enumerate(decisions, start=expected_version + 1)
        ]
        for event in recorded:
            self._put(stream_id, event)
        return recorded

    def _query(self, stream_id: str, **options: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._client.query(
                TableName=self._table_name,
                KeyConditionExpression="stream_id = :stream",
                ExpressionAttributeValues={":stream": {"S": stream_id}},
                ConsistentRead=True,
                **options,
            )
        except AWS_ERRORS as error:
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused to be read: {error_code(error)}"
            ) from error
        return answer

    def _put(self, stream_id: str, event: Recorded) -> None:
        try:
            self._client.put_item(
                TableName=self._table_name,
                Item=to_item(stream_id, event),
                ConditionExpression="attribute_not_exists(version)",
            )
        except AWS_ERRORS as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise StreamConflictError(stream_id, event.version - 1) from error
            raise StoreUnavailableError(
                f"table {self._table_name!r} refused version {event.version} of "
                f"{stream_id!r}: {error_code(error)}"
            ) from error
