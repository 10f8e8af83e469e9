"""Features are a function of the set of events: nothing about delivery can matter.

The oracle is a few lines of brute force over the definition, with ``Fraction``.
"""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import fsum
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading
from retrodict import statistics
from retrodict.envelope import StampedEvent
from retrodict.features import feature_set, features
from retrodict.stamps import FUTURE_TOLERANCE_US
from retrodict.state import Folded, KeyState, Outcome
from retrodict.vocabulary import (
    count,
    difference,
    last,
    last_value,
    maximum,
    mean,
    minimum,
    std,
)

from tests import exact
from tests.events import SECOND_US, order_of, place, reading

MINUTE = 60


@features(Reading, lateness="1m", max_rate="1/s")
class Small:
    """Every statistic over both kinds of window, small enough to overflow often."""

    count_3 = count(Reading.value, last(3))
    mean_3 = mean(Reading.value, last(3))
    std_3 = std(Reading.value, last(3))
    min_3 = minimum(Reading.value, last(3))
    max_3 = maximum(Reading.value, last(3))
    last_3 = last_value(Reading.value, last(3))
    count_2m = count(Reading.value, last("2m"))
    mean_2m = mean(Reading.value, last("2m"))
    std_2m = std(Reading.value, last("2m"))
    min_2m = minimum(Reading.value, last("2m"))
    max_2m = maximum(Reading.value, last("2m"))
    last_2m = last_value(Reading.value, last("2m"))
    change = difference(Reading.value)
    deviation = Reading.value - mean_2m
    ratio = 2 * mean_3 / (mean_2m - 1)


SMALL = feature_set(Small)

floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, -5e-324, 0.0, 1.0, 0.1, 1e16, -1e16]),
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of one key in the order of their positions: late, tied, repeated."""
    drawn = draw(
        st.lists(
            st.tuples(
                floats,
                st.integers(0, 20 * MINUTE),
                st.integers(0, 12),
                st.sampled_from(["a", "b"]),
                st.booleans() | st.just(False),  # noqa: FBT003 - a value to draw
            ),
            max_size=25,
        )
    )
    return [
        reading(value, at_s=at_s, id=str(id_), source=source, number=n, late=late)
        for n, (value, at_s, id_, source, late) in enumerate(drawn, start=1)
    ]


# --- the oracle ---------------------------------------------------------------------


def oracle(known: list[StampedEvent], time_us: int) -> dict[str, float | None]:
    """Compute every feature at `time_us` from the applied events, by definition."""
    ordered = sorted(known, key=order_of)
    past = [
        (e.time_us, float(e.data["value"]) + 0.0)
        for e in ordered
        if e.time_us <= time_us
    ]
    three = [value for _, value in past[-3:]]
    window = [v for t, v in past if time_us - 2 * MINUTE * SECOND_US < t]
    expected: dict[str, float | None] = {}
    for name, values in (("3", three), ("2m", window)):
        expected |= {
            f"count_{name}": len(values),
            f"mean_{name}": exact.mean(values),
            f"std_{name}": exact.std(values),
            f"min_{name}": min(values, default=None),
            f"max_{name}": max(values, default=None),
            f"last_{name}": values[-1] if values else None,
        }
    finite = [v for _, v in past]
    expected["change"] = (
        exact.finite(finite[-1] - finite[-2]) if len(finite) > 1 else None
    )
    average = expected["mean_2m"]
    expected["deviation"] = (
        None if average is None else exact.finite(finite[-1] - average)
    )
    top = None if expected["mean_3"] is None else exact.finite(2 * expected["mean_3"])
    bottom = None if average is None else exact.finite(average - 1)
    expected["ratio"] = (
        exact.finite(top / bottom) if top is not None and bottom else None
    )
    return expected


def reference(events: list[StampedEvent]) -> list[tuple[Outcome, list[StampedEvent]]]:
    """Say what becomes of each event, and what is applied after it, by the rules."""
    kept_us = 2 * MINUTE * SECOND_US + MINUTE * SECOND_US + FUTURE_TOLERANCE_US
    applied: list[StampedEvent] = []
    history = []
    for event in events:
        horizon = max((e.time_us for e in applied), default=-(10**18)) - kept_us
        visible = [e for e in applied if e.time_us > horizon] + sorted(
            (e for e in applied if e.time_us <= horizon),
            key=order_of,
        )[-3:]
        same = [e for e in visible if (e.source, e.id) == (event.source, event.id)]
        if same:
            is_same = same[0].digest == event.digest
            outcome = Outcome.DUPLICATE if is_same else Outcome.CONFLICTING
        elif event.late:
            outcome = Outcome.LATE
        elif event.time_us <= horizon:
            outcome = Outcome.BEHIND
        else:
            outcome = Outcome.APPLIED
            applied = [*applied, event]
        history.append((outcome, applied))
    return history


# --- the laws -----------------------------------------------------------------------


@settings(max_examples=300)
@given(arrivals())
def test_what_is_served_with_each_event_is_what_the_definition_says(
    events: list[StampedEvent],
) -> None:
    _, folded = KeyState(SMALL).fold(events, emit=True)

    for one, (outcome, applied) in zip(folded, reference(events), strict=True):
        assert one.outcome is outcome
        if one.features is not None:
            assert _bits(one.features) == _bits(oracle(applied, one.event.time_us))


@settings(max_examples=200)
@given(arrivals())
def test_the_current_features_are_those_of_the_newest_applied_event(
    events: list[StampedEvent],
) -> None:
    state, _ = KeyState(SMALL).fold(events)
    applied = reference(events)[-1][1] if events else []

    if applied:
        newest = max(e.time_us for e in applied)
        assert state.time_us == newest
        assert _bits(state.features) == _bits(oracle(applied, newest))


@settings(max_examples=200)
@given(arrivals(), st.randoms(use_true_random=False))
def test_batch_cuts_redelivery_and_the_codec_change_nothing(
    events: list[StampedEvent], random: Random
) -> None:
    whole, expected = KeyState(SMALL).fold(events, emit=True)

    blob: bytes | None = None
    served: dict[str, Folded] = {}
    start = 0
    while start < len(events):
        end = random.randint(start + 1, len(events))
        state, folded = KeyState.decode(SMALL, blob).fold(events[start:end], emit=True)
        for one in folded:
            served.setdefault(one.event.position, one)
        blob = state.encode()
        start = random.choice([end, end, random.randint(0, end)])

    assert blob == (whole.encode() if events else None)
    assert [served[e.position].features for e in events] == [
        one.features for one in expected
    ]


@settings(max_examples=200)
@given(arrivals(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_of_events_within_reach_changes_nothing(
    events: list[StampedEvent], random: Random
) -> None:
    span_us = (MINUTE + 299) * SECOND_US
    unique = {(e.source, e.id): e for e in events if not e.late}
    near = [
        e for e in unique.values()
        if e.time_us > max(x.time_us for x in unique.values()) - span_us
    ]  # fmt: skip
    shuffled = near[:]
    random.shuffle(shuffled)

    one, _ = KeyState(SMALL).fold(_in_this_order(near))
    other, _ = KeyState(SMALL).fold(_in_this_order(shuffled))

    assert (one.entries, one.features) == (other.entries, other.features)


@settings(max_examples=200)
@given(arrivals())
def test_delivering_everything_again_changes_nothing(
    events: list[StampedEvent],
) -> None:
    once, _ = KeyState(SMALL).fold(events)
    twice, folded = once.fold(events)

    assert twice == once
    assert all(one.outcome is not Outcome.APPLIED for one in folded)


@settings(max_examples=200)
@given(arrivals())
def test_a_state_survives_its_codec_byte_for_byte(events: list[StampedEvent]) -> None:
    state, _ = KeyState(SMALL).fold(events)

    again = KeyState.decode(SMALL, state.encode())

    assert again == state
    assert again.encode() == state.encode()


@given(st.lists(floats, min_size=1, max_size=30))
def test_a_sum_is_the_correctly_rounded_exact_sum(values: list[float]) -> None:
    assert statistics.exact_sum(values) == exact.rounded(
        sum(map(Fraction, values), Fraction())
    )
    with suppress(OverflowError):
        assert statistics.exact_sum(values) == fsum(values)


@given(st.lists(floats, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_terms_changes_no_statistic(
    values: list[float], random: Random
) -> None:
    shuffled = values[:]
    random.shuffle(shuffled)

    assert statistics.mean(values) == statistics.mean(shuffled) == exact.mean(values)
    assert statistics.std(values) == statistics.std(shuffled) == exact.std(values)


def _in_this_order(events: list[StampedEvent]) -> list[StampedEvent]:
    return [replace(e, position=place(n)) for n, e in enumerate(events, start=1)]


def _bits(values: dict[str, float | None]) -> dict[str, str]:
    return {k: "null" if v is None else float(v).hex() for k, v in values.items()}
