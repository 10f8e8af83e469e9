"""How many calls of AWS a batch may cost.

A function makes each call once: one read of all items, one put an item, one object a
batch and event type, one request a stream. Once more it may make a call for each time
that it was refused; an item it may read and put again, besides, for each refused put
of it and for each time that somebody else wrote meanwhile. Beyond that a call has no
reason, and neither has an answer that asks for records again where nothing was refused.
"""

from math import ceil
from typing import Final

from tests.simulation.world import Invocation

BATCHED: Final = (
    "validate_records", "archive_events", "write_features", "score_events",
)  # fmt: skip
"""The functions that a mapping invokes."""

ITEMS_A_READ: Final = 100

ATTEMPTS: Final = {"PutRecords": 6, "PutItem": 5, "PutObject": 1, "HeadObject": 1}
"""How often an adapter says that it tries a call which is refused."""

OBJECTS: Final = {"validate_records": 1, "write_features": 1, "score_events": 0}
"""Objects a batch: those of rejects. For the log there is one an event type besides."""

EVENT_TYPES: Final = 5


def excess(invocation: Invocation) -> list[str]:
    """Return a sentence for each call that had no reason."""
    calls, refused = invocation.calls, invocation.refused
    races = refused.total() + invocation.disturbed
    found = []
    for call, count in sorted(calls.items()):
        operation = call.partition(" ")[0]
        allowed = 1 + refused[call]
        if operation == "BatchGetItem":
            allowed = reads(invocation.items_read) * (1 + races)
        elif operation in {"PutItem", "DeleteItem"}:
            allowed = 1 + races
        if count > allowed:
            found.append(f"called {call} {count} times, {allowed} would do")
        if refused[call] > ATTEMPTS.get(operation, count):
            found.append(f"{call} was refused {refused[call]} times, and called again")
    objects = sum(call.startswith("PutObject") for call in calls)
    if objects > OBJECTS.get(invocation.name, 1 + EVENT_TYPES):
        found.append(f"put {objects} objects")
    return [f"{invocation.name} {sentence}" for sentence in found]


def reads(items: set[tuple[str, str]]) -> int:
    """Return how many calls read items: heads first, then the chunks that they name."""
    heads = sum(part == "current" for _, part in items)
    return ceil(heads / ITEMS_A_READ) + ceil((len(items) - heads) / ITEMS_A_READ)


def is_explained(invocation: Invocation) -> bool:
    """Return whether anything happened for which records may be asked for again."""
    return bool(invocation.refused or invocation.disturbed)


def is_done(invocation: Invocation, key: str) -> bool:
    """Return whether the items of a key were put, as far as they were to be."""
    own = [call for call in invocation.calls if _is_put_of(call, key)]
    return bool(own) and all(
        invocation.calls[call] > invocation.refused[call] for call in own
    )


def _is_put_of(call: str, key: str) -> bool:
    operation, _, entity = call.partition(" ")
    return operation == "PutItem" and entity.split(" ")[0].endswith(f"#{key}")
