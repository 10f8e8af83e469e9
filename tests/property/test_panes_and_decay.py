"""Windows of panes, weights that halve, and the rest of the words, by their definition.

The oracle keeps every event that was applied and does what the sentence says, with
``Fraction``; a state keeps minutes of events and sums of the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from random import Random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict.contracts import Event, Key, field
from retrodict.decay import weight
from retrodict.envelope import StampedEvent
from retrodict.errors import FeatureDefinitionError
from retrodict.expressions import Expression
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import KeyState, Outcome
from retrodict.vocabulary import (
    category,
    count,
    decayed_mean,
    decayed_std,
    distinct,
    first_value,
    last,
    last_value,
    maximum,
    mean,
    minimum,
    rate,
    same_hour_of_week_mean,
    same_hour_of_week_std,
    statistic,
    std,
    total,
)
from retrodict.windows import HOUR_US

from tests import exact
from tests.events import SECOND_US, order_of, reading

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HALF_LIFE_US = 30 * SECOND_US
STATES = ["on", "off"]


class Valve(Event, type="test.valve", version=1):
    """A number and a text, both of which may be missing."""

    name: Key[str] = field(pattern=r"[a-z]+")
    value: float | None = field(default=None)
    state: str | None = field(default=None)


@statistic(version=1)
def middle(values: tuple[float, ...]) -> float | None:
    """Return the value in the middle of the events; null when empty."""
    return values[len(values) // 2] if values else None


@features(Valve, lateness="1m", max_rate="1/s")
class Long:
    """The horizon lies 8 minutes back: most of a window of hours is sealed."""

    count_3h = count(Valve.value, last("3h", every="30m"))
    sum_3h = total(Valve.value, last("3h", every="30m"))
    mean_3h = mean(Valve.value, last("3h", every="30m"))
    std_3h = std(Valve.value, last("3h", every="30m"))
    low_3h = minimum(Valve.value, last("3h", every="30m"))
    high_3h = maximum(Valve.value, last("3h", every="30m"))
    first_3h = first_value(Valve.value, last("3h", every="30m"))
    last_3h = last_value(Valve.value, last("3h", every="30m"))
    rate_3h = rate(Valve.value, last("3h", every="30m"))
    mean_2d = mean(Valve.value, last("2d", every="1h"))
    weekly = same_hour_of_week_mean(Valve.value, weeks=2)
    weekly_std = same_hour_of_week_std(Valve.value, weeks=2)
    fading = decayed_mean(Valve.value, last("2m"), half_life="30s")
    fading_std = decayed_std(Valve.value, last("2m"), half_life="30s")
    state = category(Valve.state, STATES)
    states_3 = distinct(category(Valve.state, STATES), last(3))
    middle_2m = middle(Valve.value, last("2m"))


LONG = feature_set(Long)

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, -5e-324, 0.0, -0.0, 1.0, 0.1, 1e16]),
    st.floats(-40, 125),
)
steps = st.sampled_from([0, 1, 20, 119, 5 * MINUTE, 20 * MINUTE, HOUR, DAY, 6 * DAY])


@st.composite
def arrivals(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of one key by position, some of them before those that came first."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.none() | numbers,
                st.sampled_from([None, "on", "off", "odd"]),
                steps,
                st.integers(0, 7 * MINUTE),
            ),
            max_size=25,
        )
    )
    found, at_s = [], draw(st.integers(0, DAY))
    for number, (value, state, step, back) in enumerate(drawn, start=1):
        at_s += step
        when = at_s - back * (number % 3 == 0)
        event = reading(0.0, at_s=when, id=str(number), number=number)
        found.append(replace(event, data={"value": value, "state": state}))
    return found


def weighted(
    values: Sequence[float], ages_us: Sequence[int]
) -> dict[str, float | None]:
    """Return mean and spread with weights as the definition says."""
    weights = [Fraction(weight(age, HALF_LIFE_US)) for age in ages_us]
    whole = sum(weights, Fraction())
    exactly = [Fraction(v) for v in values]
    first = sum((w * x for w, x in zip(weights, exactly, strict=True)), Fraction())
    found: dict[str, float | None] = {"fading": None, "fading_std": None}
    if whole:
        found["fading"] = exact.rounded(first / whole)
    parts = whole**2 - sum((w**2 for w in weights), Fraction())
    if parts:
        second = sum(
            (w * x**2 for w, x in zip(weights, exactly, strict=True)), Fraction()
        )
        variance = exact.rounded((whole * second - first**2) / parts)
        found["fading_std"] = None if variance is None else sqrt(variance)
    return found


def panes(
    past: Sequence[StampedEvent], time_us: int, every_s: int, number: int
) -> list[float]:
    """Return the values of the newest panes, in order."""
    newest = time_us // (every_s * SECOND_US)
    return [
        float(e.data["value"])
        for e in past
        if e.data["value"] is not None
        and newest - number < e.time_us // (every_s * SECOND_US) <= newest
    ]


def oracle(applied: Sequence[StampedEvent], time_us: int) -> dict[str, float | None]:
    past = [e for e in sorted(applied, key=order_of) if e.time_us <= time_us]
    three = panes(past, time_us, 30 * MINUTE, 6)
    hours = {time_us // HOUR_US - 168 * week for week in (1, 2)}
    weekly = [
        float(e.data["value"])
        for e in past
        if e.time_us // HOUR_US in hours and e.data["value"] is not None
    ]
    near = [
        e
        for e in past
        if time_us - e.time_us < 2 * MINUTE * SECOND_US and e.data["value"] is not None
    ]
    values = [float(e.data["value"]) for e in near]
    states = [e.data["state"] for e in past]
    numbered = [None if s is None else {"on": 0, "off": 1}.get(s, 2) for s in states]
    return {
        "count_3h": len(three),
        "sum_3h": exact.rounded(sum(map(Fraction, three), Fraction()))
        if three
        else None,
        "mean_3h": exact.mean(three),
        "std_3h": exact.std(three),
        "low_3h": min(three) + 0.0 if three else None,
        "high_3h": max(three) + 0.0 if three else None,
        "first_3h": three[0] + 0.0 if three else None,
        "last_3h": three[-1] + 0.0 if three else None,
        "rate_3h": len(three) / (3 * HOUR),
        "mean_2d": exact.mean(panes(past, time_us, HOUR, 48)),
        "weekly": exact.mean(weekly),
        "weekly_std": exact.std(weekly),
        **weighted(values, [time_us - e.time_us for e in near]),
        "state": numbered[-1],
        "states_3": len({n for n in numbered[-3:] if n is not None}),
        "middle_2m": values[len(values) // 2] + 0.0 if values else None,
    }


@settings(max_examples=300)
@given(arrivals(), st.randoms(use_true_random=False))
def test_a_word_is_what_its_definition_says_of_all_events(
    events: list[StampedEvent], random: Random
) -> None:
    blob: bytes | None = None
    applied: list[StampedEvent] = []
    start = 0
    while start < len(events):
        end = random.randint(start + 1, len(events))
        state, folded = KeyState.decode(LONG, blob).fold(events[start:end], emit=True)
        for one in folded:
            if one.outcome is Outcome.APPLIED:
                applied.append(one.event)
            if one.features is not None:
                expected = oracle(applied, one.event.time_us)
                assert _bits(one.features) == _bits(expected)
        blob, start = state.encode(), end


def _bits(values: dict[str, float | None]) -> dict[str, str]:
    return {
        name: "null" if value is None else float(value).hex()
        for name, value in values.items()
    }


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.integers(0, 100)), min_size=2, max_size=20
    )
)
def test_weights_that_halve_are_those_of_pandas(
    drawn: list[tuple[float, int]],
) -> None:
    drawn.sort(key=lambda one: one[1])
    values = pd.Series([v for v, _ in drawn])
    times = pd.Series(pd.to_datetime([s for _, s in drawn], unit="s"))
    ages = [(drawn[-1][1] - s) * SECOND_US for _, s in drawn]

    theirs = values.ewm(halflife="30s", times=times).mean().iloc[-1]
    ours = weighted([v for v, _ in drawn], ages)["fading"]

    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_weight_halves_with_every_half_life(age_us: int, half_life_us: int) -> None:
    found = weight(age_us, half_life_us)

    assert weight(age_us + half_life_us, half_life_us) == found // 2
    assert found / 2**64 == pytest.approx(2 ** -(age_us / half_life_us), rel=1e-9)


# --- definitions ----------------------------------------------------------------------


def one(expression: Expression) -> FeatureSet:
    return feature_set(
        features(Valve, lateness="1m", max_rate="1/s")(
            type("One", (), {"x": expression})
        )
    )


VALUE: Expression = Valve.value  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (VALUE > 30, 30 < VALUE),  # noqa: SIM300 - both ways are the point
        (VALUE >= 30, VALUE >= 30.0),
        (VALUE + 1, 1 + VALUE),
        (VALUE * mean(VALUE, last(3)), mean(VALUE, last(3)) * VALUE),
        (mean(VALUE, last("10m")), mean(VALUE, last("600s"))),
        (
            mean(VALUE, last("1d", every="1h")),
            mean(VALUE, last("24h", every="60m")),
        ),
    ],
)
def test_definitions_that_mean_the_same_have_the_same_digest(
    left: Expression, right: Expression
) -> None:
    assert one(left).digest == one(right).digest


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (VALUE > 30, VALUE >= 30),
        (VALUE - 1, 1 - VALUE),
        (VALUE + 1, VALUE + 1.5),
        (mean(VALUE, last("1d", every="1h")), mean(VALUE, last("1d", every="30m"))),
        (mean(VALUE, last("1h", every="10m")), mean(VALUE, last("1h"))),
        (
            decayed_mean(VALUE, last("2m"), half_life="30s"),
            decayed_mean(VALUE, last("2m"), half_life="31s"),
        ),
        (category(Valve.state, ["on", "off"]), category(Valve.state, ["off", "on"])),
    ],
)
def test_definitions_that_mean_something_else_have_another_digest(
    left: Expression, right: Expression
) -> None:
    assert one(left).digest != one(right).digest


@pytest.mark.parametrize(
    ("define", "why"),
    [
        (lambda: last("7d", every="5h"), "a pane must divide its window"),
        (lambda: last("1h", every="2h"), "a pane must divide its window"),
        (lambda: last("365d", every="1m"), "take longer panes"),
        (lambda: last(5, every="1h"), "panes need a stretch of time"),
        (lambda: last("0s"), "0s"),
        (lambda: last("36526d"), "at most 36525 days"),
        (lambda: last("36526d", every="36526d"), "at most 36525 days"),
        (lambda: last(5_000 * "9" + "d"), "at most 36525 days"),
        (lambda: features(Valve, lateness="36526d", max_rate="1/d"), "36525 days"),
        (lambda: last(0), "n >= 1"),
        (lambda: VALUE + float("nan"), "finite number"),
        (lambda: float("inf") < VALUE, "finite number"),
        (lambda: VALUE + True, "finite number"),
        (lambda: distinct(VALUE, last("7d", every="1h")), "panes carry only"),
        (lambda: decayed_mean(VALUE, last("2m"), half_life="0s"), "0s"),
        (lambda: category(VALUE, ["a"]), "needs a text field"),
        (lambda: category(Valve.state, ["a", "a"]), "different"),
        (lambda: same_hour_of_week_mean(VALUE, weeks=0), "at least 1"),
        (lambda: statistic(version=1)(lambda values: values[0]), "no name of its own"),
    ],
)
def test_a_definition_that_means_nothing_is_refused_with_a_remedy(
    define: Callable[[], object], why: str
) -> None:
    with pytest.raises(FeatureDefinitionError, match=why):
        define()


def careless(values: tuple[float, ...]) -> float | None:
    """Return the eighth value, which may not be there."""
    return values[7]


@statistic(version=1)
def huge(values: tuple[float, ...]) -> float | None:
    """Return more than a double holds."""
    return 1e308 * len(values) * 10


def test_a_function_that_raises_is_refused_when_it_is_declared() -> None:
    with pytest.raises(FeatureDefinitionError, match="return None where"):
        statistic(version=1)(careless)


def test_what_no_double_holds_is_null() -> None:
    event = replace(reading(0.0), data={"value": 1.0, "state": None})

    state, _ = KeyState(one(huge(VALUE, last(2)))).fold([event])

    assert state.features == {"x": None}
