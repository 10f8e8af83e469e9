"""Every word of the vocabulary says what its definition says, whatever arrives how.

The oracle looks at the list of known events and does what the sentence says.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading
from retrodict import statistics
from retrodict.envelope import StampedEvent
from retrodict.errors import FeatureDefinitionError
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import KeyState, Outcome
from retrodict.vocabulary import (
    day_of_week,
    distinct,
    elapsed,
    first_value,
    hour_of_day,
    last,
    quantile,
    rate,
    ratio,
    share,
    total,
)

from tests import exact
from tests.events import SECOND_US, order_of, reading

MINUTES = 5


@features(Reading, lateness="1m", max_rate="1/s")
class Words:
    """Each word over a count or a stretch of time."""

    sum_3 = total(Reading.value, last(3))
    first_2m = first_value(Reading.value, last("2m"))
    median_2m = quantile(Reading.value, 0.5, last("2m"))
    ninth_3 = quantile(Reading.value, 0.9, last(3))
    most_3 = quantile(Reading.value, 1, last(3))
    distinct_2m = distinct(Reading.value, last("2m"))
    hot_2m = share(Reading.value >= 30, last("2m"))
    rate_2m = rate(Reading.value, last("2m"))
    ratio = ratio(Reading.value, lag=2)
    elapsed = elapsed()
    hour = hour_of_day()
    weekday = day_of_week()
    is_hot = Reading.value > 30
    is_up = Reading.value > median_2m


WORDS = feature_set(Words)

values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, 0.0, 30.0, 0.1]),
    st.integers(-3, 33).map(float),
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of one key that all count, out of order."""
    drawn = draw(st.lists(st.tuples(values, st.integers(0, MINUTES * 60)), max_size=20))
    return [
        reading(value, at_s=at_s, id=str(n), number=n)
        for n, (value, at_s) in enumerate(drawn, start=1)
    ]


def interpolated(values: Sequence[float], percent: int) -> float | None:
    """Return the quantile by walking along the ascending values."""
    if not values:
        return None
    ordered = [Fraction(v) for v in sorted(values)]
    steps = Fraction((len(ordered) - 1) * percent, 100)
    low = int(steps)
    if steps == low:
        return exact.rounded(ordered[low])
    return exact.rounded(
        ordered[low] * (1 - (steps - low)) + ordered[low + 1] * (steps - low)
    )


def oracle(known: Sequence[StampedEvent], time_us: int) -> dict[str, float | None]:
    ordered = sorted(known, key=order_of)
    past = [e for e in ordered if e.time_us <= time_us]
    numbers = [float(e.data["value"]) + 0.0 for e in past]
    two_minutes = [
        n
        for e, n in zip(past, numbers, strict=True)
        if time_us - e.time_us < 120 * SECOND_US
    ]
    three = numbers[-3:]
    now = datetime.fromtimestamp(past[-1].time_us / 1e6, UTC)
    median = interpolated(two_minutes, 50)
    return {
        "sum_3": exact.rounded(sum(map(Fraction, three), Fraction())),
        "first_2m": two_minutes[0],
        "median_2m": median,
        "ninth_3": interpolated(three, 90),
        "most_3": max(three),
        "distinct_2m": len(set(two_minutes)),
        "hot_2m": len([n for n in two_minutes if n >= 30]) / len(two_minutes),
        "rate_2m": len(two_minutes) / 120,
        "ratio": exact.finite(three[-1] / three[0])
        if len(numbers) > 2 and three[0]
        else None,
        "elapsed": (past[-1].time_us - past[-2].time_us) / 1e6
        if len(past) > 1
        else None,
        "hour": now.hour,
        "weekday": now.weekday(),
        "is_hot": int(numbers[-1] > 30),
        "is_up": None if median is None else int(numbers[-1] > median),
    }


@settings(max_examples=300)
@given(arrivals(), st.randoms(use_true_random=False))
def test_a_word_is_what_its_definition_says_in_every_batch_cut(
    events: list[StampedEvent], random: Random
) -> None:
    blob: bytes | None = None
    start = 0
    while start < len(events):
        end = random.randint(start + 1, len(events))
        state = KeyState.decode(WORDS, blob)
        state, folded = state.fold(events[start:end], emit=True)
        for place, one in enumerate(folded, start=start + 1):
            assert one.outcome is Outcome.APPLIED
            expected = oracle(events[:place], one.event.time_us)
            assert one.features is not None
            assert {n: repr(v) for n, v in one.features.items()} == {
                n: repr(v) for n, v in expected.items()
            }
        blob, start = state.encode(), end


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 100))
def test_a_quantile_is_numpys_but_rounded_once(
    numbers: list[float], percent: int
) -> None:
    found = statistics.quantile(numbers, Fraction(percent, 100))

    assert found is not None
    assert found == pytest.approx(float(np.quantile(numbers, percent / 100)), abs=1e-6)
    assert min(numbers) <= found <= max(numbers)


def test_what_a_key_has_before_its_first_event_is_nothing() -> None:
    empty = KeyState(WORDS).features

    assert {name for name, value in empty.items() if value is not None} == {
        "distinct_2m",
        "rate_2m",
    }
    assert empty["distinct_2m"] == empty["rate_2m"] == 0


def one(**words: object) -> FeatureSet:
    return feature_set(
        features(Reading, lateness="1m", max_rate="1/s")(type("One", (), words))
    )


def test_the_share_of_a_quantile_is_taken_as_written() -> None:
    tenth = one(x=quantile(Reading.value, 0.1, last(11)))
    same = one(x=quantile(Reading.value, 0.10, last(11)))
    state, _ = KeyState(tenth).fold(
        reading(float(n), at_s=n, id=str(n), number=n + 1) for n in range(11)
    )

    assert state.features == {"x": 1.0}
    assert tenth.digest == same.digest
    assert tenth.digest != one(x=quantile(Reading.value, 0.2, last(11))).digest


@pytest.mark.parametrize(
    ("define", "why"),
    [
        (lambda: quantile(Reading.value, 1.5, last(3)), "from 0 to 1"),
        (lambda: quantile(Reading.value, -0.1, last(3)), "from 0 to 1"),
        (lambda: quantile(Reading.value, float("nan"), last(3)), "from 0 to 1"),
        (lambda: rate(Reading.value, last(3)), "a stretch of time"),
        (lambda: share(Reading.value, last(3)), "compared with a number"),
        (lambda: share(Reading.value + 1, last(3)), "compared with a number"),
        (lambda: ratio(Reading.value, lag=0), "at least 1"),
        (lambda: total(Reading.site, last(3)), "number field"),
    ],
)
def test_a_word_that_means_nothing_is_refused(
    define: Callable[[], object], why: str
) -> None:
    with pytest.raises(FeatureDefinitionError, match=why):
        define()
