"""The shape of tables, for tests that make their own."""

from typing import Any, Final

ONLINE_STORE: Final[dict[str, Any]] = {
    "KeySchema": [
        {"AttributeName": "entity", "KeyType": "HASH"},
        {"AttributeName": "part", "KeyType": "RANGE"},
    ],
    "AttributeDefinitions": [
        {"AttributeName": "entity", "AttributeType": "S"},
        {"AttributeName": "part", "AttributeType": "S"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
