"""A rebuild in bulk gives the bytes that the fold gives event by event."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict.arrow_events import KnownEvents
from retrodict.bulk import EventColumns
from retrodict.bulk_states import items_of
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet, feature_set, features
from retrodict.online import item_of
from retrodict.state import KeyState
from retrodict.vocabulary import count, first_value, last, maximum, mean, std, total

from tests.events import reading
from tests.property.test_bulk import COMPILED, PLAIN, SLOTTED, Pump, arrivals

LEVEL: Any = Pump.level


@features(Pump, max_rate="1/s")
class Paned:
    """Panes that keep sums, squares and bounds, of values that may be null."""

    mean_10m = mean(Pump.value, last("10m", every="1m"))
    std_10m = std(Pump.level, last("10m", every="1m"))
    high_1h = maximum(Pump.level, last("1h", every="10m"))
    first_1h = first_value(Pump.value, last("1h", every="10m"))
    sum_9m = total(Pump.value, last("9m", every="3m"))
    count_3 = count(Pump.value, last(3))


PANED = feature_set(Paned)


@features(Pump, lateness="2m", max_rate="1/s")
class Cramped:
    """A state that a key outgrows at once."""

    mean_2m = mean(Pump.value, last("2m"))


CRAMPED = feature_set(Cramped)
CRAMPED.state_limit_bytes = 700


def known_of(
    definition: FeatureSet, by_key: dict[str, list[StampedEvent]]
) -> KnownEvents:
    several = [event for own in by_key.values() for event in own]
    return KnownEvents(
        EventColumns.of(definition, by_key),
        pa.array([e.position for e in several], pa.large_string()),
        np.array([e.observed_at_us for e in several], np.int64),
    )


def check_items(definition: FeatureSet, by_key: dict[str, list[StampedEvent]]) -> None:
    items, outcomes = items_of(definition, known_of(definition, by_key), "x#{}".format)

    expected, counted = [], Counter[str]()
    for key, events in by_key.items():
        state, folded = KeyState(definition).fold(events)
        counted.update(one.outcome.value for one in folded)
        if state.entries:
            expected.append(item_of(f"x#{key}", state, 1))
    assert outcomes == counted
    assert items == expected


@pytest.mark.parametrize(
    "definition", [COMPILED, SLOTTED, PLAIN, PANED, CRAMPED], ids=lambda d: d.name
)
@settings(max_examples=60)
@given(first=arrivals("s-1"), second=arrivals("s-2"))
def test_items_in_bulk_have_the_bytes_of_the_plain_fold(
    definition: FeatureSet, first: list[StampedEvent], second: list[StampedEvent]
) -> None:
    check_items(definition, {"s-1": first, "s-2": second})


@pytest.mark.parametrize("definition", [COMPILED, SLOTTED, PANED], ids=lambda d: d.name)
@pytest.mark.parametrize("step_s", [1, 7.5, 0.000_3])
def test_long_histories_drop_events_into_panes(
    definition: FeatureSet, step_s: float
) -> None:
    random = np.random.default_rng(11)
    size = 3_000
    lags = np.where(random.random(size) < 0.1, random.integers(0, 100, size), 0)
    events = [
        reading(
            float(value),
            at_s=float(step_s * n - lag),
            id=str(n),
            number=n + 1,
            data={"level": None if n % 7 == 0 else float(value) / 3, "mode": "on"},
        )
        for n, (value, lag) in enumerate(
            zip(random.normal(20, 5, size), lags, strict=True)
        )
    ]

    check_items(definition, {"s-1": events})


@given(events=arrivals("s-1"), late=st.just(value=True))
@settings(max_examples=5)
def test_a_key_without_an_event_that_counts_has_no_item(
    events: list[StampedEvent], *, late: bool
) -> None:
    check_items(COMPILED, {"s-1": [replace(event, late=late) for event in events]})
