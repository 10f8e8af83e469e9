"""Read events of every schema version as the newest one.

The log keeps what was written. Whoever computes with an event lifts it first, so that
a feature, a training set or a report knows one version of each contract.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from retrodict.contracts import Contract, Event
from retrodict.envelope import StampedEvent
from retrodict.errors import UpcastError
from retrodict.reasons import Violation


def newest(event: StampedEvent, contract: Contract) -> StampedEvent:
    """Return `event` as if the newest version of its contract had been sent.

    Digest and stamps stay those of what was written: they say which event it is. An
    event that is of the newest version is returned as it is.

    Raises
    ------
    UpcastError
        There is no way from its version to the newest, or what the way leads to
        breaks the contract.

    Examples
    --------
    >>> from retrodict.contracts import Key
    >>> class Order(Event, type="shop.order", version=2,
    ...             upcasts_from={1: lambda old: {
    ...                 "store": old["store"], "amount": old["cents"] / 100}}):
    ...     store: Key[str]
    ...     amount: float
    >>> old = StampedEvent("a", "till", "1", "shop.order", 1, 0, 0, "0-1", False, (),
    ...                    "ab" * 32, {"store": "a", "cents": 750})
    >>> newest(old, Order.contract()).data
    {'store': 'a', 'amount': 7.5}
    """
    version = event.schema_version
    if version == contract.version:
        return event
    found: list[Violation] = []
    try:
        data, _ = contract.check(contract.upcast(event.data, version), found)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as why:
        told = f"its upcaster failed with {type(why).__name__}"
        raise _error(event, told) from why
    if found:
        told = f"{found[0].field}: expected {found[0].expected}"
        raise _error(event, f"what it is lifted to breaks the contract: {told}")
    return replace(event, schema_version=contract.version, data=data)


def all_newest(
    events: Iterable[StampedEvent], contracts: Mapping[str, type[Event]]
) -> Iterator[StampedEvent]:
    """Yield every event as the newest version; one of an unknown type as it is."""
    known = {name: event.contract() for name, event in contracts.items()}
    for event in events:
        contract = known.get(event.type)
        yield event if contract is None else newest(event, contract)


def _error(event: StampedEvent, why: str) -> UpcastError:
    return UpcastError(
        f"the event at position {event.position!r} is of "
        f"{event.type}/v{event.schema_version} and cannot be read as the newest "
        f"version: {why}"
    )
