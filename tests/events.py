"""Stamped events for tests, short to write."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet
from retrodict.stamps import position
from retrodict.windows import Entry, check_of, identity_of

SECOND_US = 1_000_000
NOON_US = 1_767_614_400 * SECOND_US


def place(number: int) -> str:
    """Return the `number`-th position of shard 0."""
    return position("shardId-000000000000", str(number))


def reading(  # noqa: PLR0913 - one argument a stamp
    value: float,
    *,
    at_s: float = 0.0,
    id: str = "1",  # noqa: A002 - the attribute's name
    source: str = "plant",
    number: int = 1,
    key: str = "s-1",
    late: bool = False,
    data: Mapping[str, object] | None = None,
) -> StampedEvent:
    """Return a reading of `value`, `at_s` seconds after noon, at position `number`."""
    time_us = NOON_US + round(at_s * SECOND_US)
    payload = {"sensor_id": key, "value": value, **(data or {})}
    text = json.dumps([time_us, payload], sort_keys=True)
    return StampedEvent(
        key=key,
        source=source,
        id=id,
        type="sensor.reading",
        schema_version=1,
        time_us=time_us,
        observed_at_us=time_us,
        position=place(number),
        late=late,
        tags=(),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        data=payload,
        causation_id=None,
        correlation_id=None,
    )


def order_of(event: StampedEvent) -> tuple[int, int]:
    """Return what events of a key are ordered by: time, then identity."""
    return event.time_us, identity_of(event.source, event.id)


def entries_of(definition: FeatureSet, events: Iterable[StampedEvent]) -> list[Entry]:
    """Return events as a state that forgets nothing would hold them."""
    return sorted(
        Entry(
            e.time_us,
            identity_of(e.source, e.id),
            check_of(e.digest),
            definition.values_of(e.data),
        )
        for e in events
    )
