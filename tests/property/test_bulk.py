"""Bulk and online are one meaning: the fold over columns gives the plain fold's bits.

Whatever arrives, in whatever order, and whatever the doubles are.
"""

import struct
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict import bulk, kernel
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import OUTCOMES, KeyState, Outcome
from retrodict.vocabulary import (
    category,
    count,
    day_of_week,
    decayed_mean,
    difference,
    distinct,
    elapsed,
    first_value,
    hour_of_day,
    last,
    last_value,
    maximum,
    mean,
    minimum,
    quantile,
    rate,
    ratio,
    same_hour_mean,
    same_hour_std,
    share,
    spread,
    std,
    total,
)
from retrodict.windows import Entry

from tests.events import entries_of, reading


class Pump(Event, type="bulk.pump", version=1):
    """A contract with a column that may be null, and a text."""

    sensor_id: Key[str]
    value: float = field(unit="Cel")
    level: float | None = field(default=None)
    mode: str | None = field(default=None)


LEVEL: Any = Pump.level


@features(Pump, lateness="2m", max_rate="1/s")
class Compiled:
    """Every word that the compiled fold knows, over every window but slots."""

    newest = Pump.value
    level = Pump.level
    mode = category(Pump.mode, ["on", "off"])
    count_3 = count(Pump.level, last(3))
    sum_3 = total(Pump.value, last(3))
    mean_4 = mean(Pump.level, last(4))
    std_5 = std(Pump.value, last(5))
    low_3 = minimum(Pump.value, last(3))
    high_4 = maximum(Pump.level, last(4))
    first_3 = first_value(Pump.level, last(3))
    last_2 = last_value(Pump.level, last(2))
    hot_5 = share(Pump.value >= 30, last(5))
    count_2m = count(Pump.value, last("2m"))
    sum_2m = total(Pump.value, last("2m"))
    mean_2m = mean(Pump.value, last("2m"))
    std_2m = std(Pump.level, last("2m"))
    low_2m = minimum(Pump.level, last("2m"))
    high_2m = maximum(Pump.value, last("2m"))
    first_2m = first_value(Pump.value, last("2m"))
    cold_2m = share(LEVEL < 0.5, last("2m"))
    rate_2m = rate(Pump.value, last("2m"))
    mean_10h = mean(Pump.value, last("10h", every="1h"))
    std_10h = std(Pump.value, last("10h", every="1h"))
    low_10h = minimum(Pump.level, last("10h", every="1h"))
    first_3h = first_value(Pump.value, last("3h", every="30m"))
    rate_3h = rate(Pump.value, last("3h", every="30m"))
    change = difference(Pump.value)
    growth = ratio(Pump.level, lag=2)
    elapsed = elapsed()
    hour = hour_of_day()
    weekday = day_of_week()
    score = (2 * mean_2m - LEVEL) / (std_2m + 1)
    busy = (count_2m * 3 > 4) * hour


@features(Pump, lateness="2m", max_rate="1/s")
class Slotted:
    """Slots of the hour, beside windows that end with the newest event."""

    level = Pump.level
    low_3 = minimum(Pump.value, last(3))
    std_5 = std(Pump.value, last(5))
    first_3 = first_value(Pump.level, last(3))
    last_2 = last_value(Pump.level, last(2))
    hot_5 = share(Pump.value >= 30, last(5))
    mean_2m = mean(Pump.value, last("2m"))
    high_2m = maximum(Pump.value, last("2m"))
    std_10h = std(Pump.value, last("10h", every="1h"))
    usual = same_hour_mean(Pump.value, days=2)
    unusual = same_hour_std(Pump.level, days=3, at_least=3)
    change = difference(Pump.value)
    residual = Pump.value - usual


@features(Pump, lateness="2m", max_rate="1/s")
class Plain:
    """Words that only the plain fold knows."""

    median = quantile(Pump.value, 0.5, last("2m"))
    distinct = distinct(Pump.level, last("2m"))
    fading = decayed_mean(Pump.value, last("2m"), half_life="30s")
    width = spread(Pump.value, last(4))
    large = count(Pump.value, last(3)) * 9_007_199_254_740_993 * 3


@features(Pump, lateness="1d", max_rate="1/d")
class Long:
    """Windows as long as windows may be."""

    count_8000d = count(Pump.value, last("8000d"))
    mean_36525d = mean(Pump.value, last("36525d", every="36525d"))
    rate_36500d = rate(Pump.value, last("36500d", every="365d"))


COMPILED, PLAIN = feature_set(Compiled), feature_set(Plain)
SLOTTED, LONG = feature_set(Slotted), feature_set(Long)

floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [1e308, -1e308, 5e-324, -5e-324, 0.0, -0.0, 0.1, 1e16, -1e16, 30.0, 2.0**53]
    ),
    st.integers(-3, 33).map(float),
)
times_s = st.one_of(
    st.integers(0, 600),
    st.integers(0, 600).map(lambda s: s / 1000),
    st.integers(0, 4 * 24).map(lambda hour: hour * 3600.0),
    st.integers(0, 4 * 86_400),
)


@st.composite
def arrivals(draw: st.DrawFn, key: str) -> list[StampedEvent]:
    """Draw the events of one key in the order of their positions."""
    drawn = draw(
        st.lists(
            st.tuples(
                floats,
                st.none() | floats,
                st.sampled_from([None, "on", "off", "odd"]),
                times_s,
                st.integers(0, 30),
                st.sampled_from([False, False, False, True]),
            ),
            max_size=25,
        )
    )
    if draw(st.booleans()):  # mostly in order, as streams are
        drawn.sort(key=lambda one: one[3])
    return [
        reading(
            value,
            at_s=at_s,
            id=str(name),
            number=number,
            key=key,
            late=late,
            data={"level": level, "mode": mode},
        )
        for number, (value, level, mode, at_s, name, late) in enumerate(drawn, start=1)
    ]


def bits(value: float | None) -> bytes:
    """Return a number as its bytes; null as none."""
    return b"" if value is None or isnan(value) else struct.pack("<d", float(value))


def applied_then(
    definition: FeatureSet, events: list[StampedEvent], known: int
) -> list[Entry]:
    """Return everything applied after `known` events, by the plain fold."""
    _, folded = KeyState(definition).fold(events[:known])
    applied = [one.event for one in folded if one.outcome is Outcome.APPLIED]
    return entries_of(definition, applied)


def check_bulk(
    definition: FeatureSet,
    by_key: dict[str, list[StampedEvent]],
    asks: dict[str, list[tuple[int, int]]],
) -> None:
    columns = bulk.EventColumns.of(definition, by_key)
    rows = {k: sorted(asks.get(k, []), key=lambda ask: ask[1]) for k in by_key}
    flat = [ask for own in rows.values() for ask in own]
    asked = bulk.Asked(
        np.cumsum([0, *map(len, rows.values())], dtype=np.int64),
        np.array([time_us for time_us, _ in flat], np.int64),
        np.array([known for _, known in flat], np.int64),
    )
    wanted = np.ones(len(columns.time_us), np.bool_)
    found = bulk.fold(definition, columns, wanted=wanted, asked=asked)
    place = row = 0
    for key, events in by_key.items():
        _, expected = KeyState(definition).fold(events, emit=True)
        for one in expected:
            assert OUTCOMES[found.outcome[place]] is one.outcome
            assert bool(found.served[place]) == (one.features is not None)
            for name, value in (one.features or {}).items():
                got = float(found.features[name][place])
                assert bits(got) == bits(value), (name, got, value)
            place += 1
        for time_us, known in rows[key]:
            entries = applied_then(definition, events, known)
            for name, value in definition.at(entries, time_us).items():
                got = float(found.asked[name][row])
                assert bits(got) == bits(value), (name, got, value)
            row += 1


def asks_of(data: st.DataObject, events: list[StampedEvent]) -> list[tuple[int, int]]:
    """Draw rows at any time and any state of knowledge."""
    first = min((e.time_us for e in events), default=0)
    spans = st.tuples(
        times_s.map(lambda s: first + round(s * 1e6) - 1), st.integers(0, 26)
    )
    return data.draw(st.lists(spans, max_size=4))


@pytest.mark.parametrize("definition", [COMPILED, SLOTTED], ids=lambda d: d.name)
@settings(max_examples=150)
@given(first=arrivals("s-1"), second=arrivals("s-2"), data=st.data())
def test_the_compiled_fold_gives_the_bits_of_the_plain_fold(
    definition: FeatureSet,
    first: list[StampedEvent],
    second: list[StampedEvent],
    data: st.DataObject,
) -> None:
    asks = {"s-1": asks_of(data, first), "s-2": asks_of(data, second)}
    check_bulk(definition, {"s-1": first, "s-2": second}, asks)


END_US = 2**63 - 1
far_times_us = st.one_of(
    st.integers(-END_US - 1, END_US),
    st.sampled_from([2**60, 2**60 - 1, -(2**60), 1 - 2**60, END_US, -END_US - 1, 0]),
    st.integers(0, 400 * 10**6).map(lambda back: END_US - back),
    st.integers(0, 400 * 10**6).map(lambda back: back - END_US - 1),
    st.integers(-(400 * 10**6), 400 * 10**6).map(lambda back: 2**60 + back),
)


@pytest.mark.parametrize("definition", [COMPILED, SLOTTED, LONG], ids=lambda d: d.name)
@settings(max_examples=150)
@given(
    events=arrivals("s-1"),
    other=arrivals("s-2"),
    times=st.lists(far_times_us, min_size=1, max_size=25),
    asked=st.lists(st.tuples(far_times_us, st.integers(0, 25)), max_size=4),
)
def test_times_that_the_compiled_fold_cannot_add_to_are_for_the_plain_one(
    definition: FeatureSet,
    events: list[StampedEvent],
    other: list[StampedEvent],
    times: list[int],
    asked: list[tuple[int, int]],
) -> None:
    far = [
        replace(one, time_us=time_us)
        for one, time_us in zip(events, times, strict=False)
    ]

    check_bulk(definition, {"s-1": far, "s-2": other}, {"s-1": asked})
    check_bulk(definition, {"s-1": events, "s-2": other}, {"s-1": asked})


@pytest.mark.parametrize("definition", [COMPILED, SLOTTED], ids=lambda d: d.name)
def test_events_of_one_time_stand_in_the_order_of_their_identities(
    definition: FeatureSet,
) -> None:
    events = [
        reading(
            float(n),
            at_s=n // 5,
            id=str(n),
            number=n,
            key="s-1",
            data={"level": float(-n), "mode": "on"},
        )
        for n in range(1, 26)
    ]
    asks = [
        (e.time_us + late_us, n) for n, e in enumerate(events) for late_us in (0, 1)
    ]
    asks += [(e.time_us, len(events)) for e in events[::-1]]  # and backwards

    check_bulk(definition, {"s-1": events}, {"s-1": asks})


@pytest.mark.parametrize("definition", [COMPILED, SLOTTED], ids=lambda d: d.name)
@settings(max_examples=40)
@given(events=arrivals("s-1"), seed=st.integers(0, 2**32))
def test_only_the_rows_that_are_wanted_are_written(
    definition: FeatureSet, events: list[StampedEvent], seed: int
) -> None:
    columns = bulk.EventColumns.of(definition, {"s-1": events})
    every = np.ones(len(events), np.bool_)
    wanted = np.random.default_rng(seed).random(len(events)) < 0.5

    whole = bulk.fold(definition, columns, wanted=every)
    some = bulk.fold(definition, columns, wanted=wanted)

    assert np.array_equal(some.served, whole.served & wanted)
    for name, values in some.features.items():
        expected = np.where(wanted, whole.features[name], np.nan)
        assert values[some.served].tobytes() == expected[some.served].tobytes()


@settings(max_examples=40)
@given(first=arrivals("s-1"), data=st.data())
def test_words_that_are_not_compiled_give_the_same_in_bulk(
    first: list[StampedEvent], data: st.DataObject
) -> None:
    check_bulk(PLAIN, {"s-1": first}, {"s-1": asks_of(data, first)})


@settings(max_examples=40)
@given(first=arrivals("s-1"), second=arrivals("s-2"))
def test_a_key_that_sends_too_fast_is_judged_event_by_event(
    first: list[StampedEvent], second: list[StampedEvent]
) -> None:
    @features(Pump, lateness="2m", max_rate="1/s")
    class Cramped:
        mean_2m = mean(Pump.value, last("2m"))

    cramped = feature_set(Cramped)
    cramped.state_limit_bytes = 700
    check_bulk(cramped, {"s-1": first, "s-2": second}, {})


def test_a_row_knows_as_many_events_as_it_says() -> None:
    events = [
        reading(float(n), at_s=n, id=str(n), number=n + 1, data={"level": 1.0 * n})
        for n in range(4)
    ]
    end_us = events[-1].time_us

    check_bulk(PLAIN, {"s-1": events}, {"s-1": [(end_us, n) for n in range(5)]})


def test_a_whole_number_that_no_double_holds_is_compared_exactly() -> None:
    @features(Pump, lateness="2m", max_rate="1/s")
    class Near:
        is_less = Pump.value < 9_007_199_254_740_993

    events = [reading(2.0**53, data={"level": None, "mode": None})]

    check_bulk(feature_set(Near), {"s-1": events}, {})


def test_the_fold_is_compiled_here_and_carries_these_words() -> None:
    assert kernel.library() is not None, "run make setup"
    assert kernel.plan_of(COMPILED) is not None
    assert kernel.plan_of(SLOTTED) is not None
    assert kernel.plan_of(PLAIN) is None


@pytest.mark.parametrize("share_late", [0.0, 0.1])
@pytest.mark.parametrize("definition", [COMPILED, SLOTTED], ids=lambda d: d.name)
def test_long_windows_slide_without_losing_a_bit(
    definition: FeatureSet, share_late: float
) -> None:
    size = 1_500
    random = np.random.default_rng(7)
    values = random.normal(20, 5, size) * 10.0 ** random.integers(-3, 3, size)
    lag = np.where(random.random(size) < share_late, random.integers(0, 100, size), 0)
    events = [
        reading(
            float(value),
            at_s=float(2 * n - behind),
            id=str(n),
            number=n + 1,
            data={"level": float(value) if n % 7 else None, "mode": "on"},
        )
        for n, (value, behind) in enumerate(zip(values, lag, strict=True))
    ]
    check_bulk(definition, {"s-1": events}, {})
