"""A feature set says what it means, once, and refuses what it cannot keep."""

from dataclasses import replace

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict.contracts import Event, Key, field
from retrodict.errors import FeatureDefinitionError
from retrodict.expressions import Constant
from retrodict.features import feature_set, features
from retrodict.state import KeyState
from retrodict.vocabulary import (
    count,
    difference,
    last,
    last_value,
    mean,
    quantile,
    same_hour_mean,
    same_hour_std,
    std,
)

from tests.events import reading


class Other(Event, type="test.other", version=1):
    """An event of another type."""

    name: Key[str] = field(pattern=r"[a-z]+")
    amount: float = field(ge=0)


@features(Reading, lateness="10m", max_rate="1/s")
class Sensor:
    """The features of DESIGN's example that need no panes."""

    mean_3 = mean(Reading.value, last(3))
    mean_10m = mean(Reading.value, last("10m"))
    spread = std(Reading.value, last("10m"))
    deviation = Reading.value - mean_10m


SENSOR = feature_set(Sensor)


def test_a_window_ends_at_and_includes_the_current_event() -> None:
    state, _ = KeyState(SENSOR).fold(
        [
            reading(1.0, at_s=0, id="1", number=1),
            reading(2.0, at_s=599, id="2", number=2),
            reading(4.0, at_s=600, id="3", number=3),
        ]
    )

    assert state.features == {
        "mean_3": 7 / 3,
        "mean_10m": 3.0,
        "spread": 2**0.5,
        "deviation": 1.0,
    }


def test_an_empty_state_has_null_features_and_not_zero() -> None:
    assert KeyState(SENSOR).features == {
        "mean_3": None,
        "mean_10m": None,
        "spread": None,
        "deviation": None,
    }


def test_a_feature_is_read_by_its_name() -> None:
    assert Sensor.deviation.describe() == (
        "(sensor.reading.value - mean(sensor.reading.value, last(600000000us)))"
    )


def test_a_feature_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = SENSOR.median

    assert "'median'" in str(caught.value)
    assert "mean_3" in str(caught.value)


def test_two_definitions_that_mean_the_same_have_the_same_digest() -> None:
    @features(Reading, lateness="10m", max_rate="1/s")
    class Again:
        mean_10m = mean(Reading.value, last("600s"))
        mean_3 = mean(Reading.value, last(3))
        deviation = Reading.value - mean_10m
        spread = std(Reading.value, last("10m"))

    assert feature_set(Again).digest == SENSOR.digest


def test_a_different_window_is_a_different_definition() -> None:
    @features(Reading, lateness="10m", max_rate="1/s")
    class Longer:
        mean_3 = mean(Reading.value, last(3))
        mean_10m = mean(Reading.value, last("11m"))
        spread = std(Reading.value, last("10m"))
        deviation = Reading.value - mean_10m

    assert feature_set(Longer).digest != SENSOR.digest


def test_a_state_that_cannot_fit_an_item_is_refused_with_the_sum() -> None:
    with pytest.raises(FeatureDefinitionError) as caught:

        @features(Reading, lateness="10m", max_rate="10/s")
        class TooMuch:
            mean_1h = mean(Reading.value, last("1h"))

    assert "45000" in str(caught.value)
    assert "shorten the window" in str(caught.value)


def test_a_number_field_is_needed() -> None:
    with pytest.raises(FeatureDefinitionError, match="number field"):
        mean(Reading.site, last(3))


def test_a_feature_set_reads_one_event_type() -> None:
    with pytest.raises(FeatureDefinitionError, match="one feature set an event type"):

        @features(Reading, max_rate="1/s")
        class Mixed:
            amount = mean(Other.amount, last(3))


def test_a_member_that_is_no_expression_is_named() -> None:
    with pytest.raises(FeatureDefinitionError, match=r"Wrong\.limit is no feature"):

        @features(Reading, max_rate="1/s")
        class Wrong:
            limit = 3


@pytest.mark.parametrize("window", [0, -1, True, "10", "0m", "ten minutes", 1.5])
def test_a_window_that_is_none_is_refused(window: int | str) -> None:
    with pytest.raises(FeatureDefinitionError):
        last(window)


@pytest.mark.parametrize("rate", ["", "2", "0/s", "2/w", "-1/s"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(FeatureDefinitionError, match="max_rate"):

        @features(Reading, max_rate=rate)
        class Rated:
            n = count(Reading.value, last(3))


def test_a_lag_looks_back_by_events() -> None:
    assert difference(Reading.value, lag=3).describe() == (
        "difference(sensor.reading.value, last(4))"
    )
    with pytest.raises(FeatureDefinitionError):
        difference(Reading.value, lag=0)


def test_division_by_zero_is_null() -> None:
    expression = Constant(1.0) / 0

    assert expression.evaluate(lambda _: None) is None


# --- the same hour of earlier days ----------------------------------------------------

HOUR, DAY = 3_600, 86_400


@features(Reading, lateness="10m", max_rate="1/s")
class Usual:
    """What is usual at this hour, from two days or one."""

    usual = same_hour_mean(Reading.value, days=2)
    surely = same_hour_mean(Reading.value, days=2, at_least=3)
    spread = same_hour_std(Reading.value, days=1)
    residual = Reading.value - usual


USUAL = feature_set(Usual)


def served(*readings: tuple[float, float]) -> dict[str, float | None]:
    """Fold values at seconds after noon, and return the features of the newest."""
    events = [
        reading(value, at_s=at_s, id=str(number), number=number)
        for number, (at_s, value) in enumerate(readings, start=1)
    ]
    return KeyState(USUAL).fold(events)[0].features


def test_the_usual_value_is_the_mean_of_this_hour_on_the_days_before() -> None:
    found = served((0, 1.0), (HOUR - 1, 2.0), (DAY, 6.0), (2 * DAY + 1800, 10.0))

    assert found == {"usual": 3.0, "surely": 3.0, "spread": None, "residual": 7.0}


def test_the_day_itself_and_other_hours_are_not_usual() -> None:
    found = served((-1, 50.0), (HOUR, 60.0), (DAY, 7.0), (DAY + 60, 8.0))

    assert found["usual"] is None
    assert found["residual"] is None


def test_days_further_back_are_forgotten() -> None:
    found = served((0, 1.0), (DAY, 2.0), (2 * DAY, 4.0), (3 * DAY, 9.0))

    assert found["usual"] == 3.0


def test_fewer_events_than_asked_for_are_not_usual() -> None:
    assert served((0, 1.0), (60, 2.0), (DAY, 9.0))["surely"] is None
    assert served((0, 1.0), (60, 2.0), (90, 3.0), (DAY, 9.0))["surely"] == 2.0


def test_the_spread_at_this_hour_needs_two_events() -> None:
    assert served((0, 2.0), (DAY, 9.0))["spread"] is None
    assert served((0, 2.0), (60, 4.0), (DAY, 9.0))["spread"] == 2**0.5


@pytest.mark.parametrize(
    ("days", "at_least"), [(0, 1), (61, 1), (True, 1), ("7", 1), (7, 0), (7, 1.5)]
)
def test_days_and_events_are_whole_numbers_in_range(days: int, at_least: int) -> None:
    with pytest.raises(FeatureDefinitionError, match="whole number"):
        same_hour_mean(Reading.value, days, at_least=at_least)


def test_what_days_and_events_are_asked_for_is_part_of_the_meaning() -> None:
    meanings = {
        same_hour_mean(Reading.value, days=7).describe(),
        same_hour_mean(Reading.value, days=6).describe(),
        same_hour_mean(Reading.value, days=7, at_least=2).describe(),
        same_hour_std(Reading.value, days=7).describe(),
    }

    assert len(meanings) == 4


def test_the_hours_that_a_state_must_keep_count_against_its_item() -> None:
    with pytest.raises(FeatureDefinitionError) as caught:

        @features(Reading, lateness="10m", max_rate="12/s")
        class TooMuch:
            mean_10m = mean(Reading.value, last("10m"))
            usual = same_hour_mean(Reading.value, days=60)
            spread = same_hour_std(Reading.value, days=7)

    assert "panes of" in str(caught.value)


# --- every meaning is computed once ---------------------------------------------------


def test_a_statistic_that_many_features_read_is_computed_once() -> None:
    @features(Reading, max_rate="1/s")
    class Shared:
        latest = last_value(Reading.value, last(3))
        one = Reading.value - mean(Reading.value, last(3))
        two = one * 2
        three = mean(Reading.value, last(3)) - one / two

    shared = feature_set(Shared)
    state, _ = KeyState(shared).fold(
        [reading(v, at_s=n, id=str(n), number=n) for n, v in enumerate([1, 2, 6], 1)]
    )

    assert state.features == {"latest": 6.0, "one": 3.0, "two": 6.0, "three": 2.5}
    assert [statistic.describe() for statistic in shared.statistics] == [
        "last(sensor.reading.value, last(3))",
        "mean(sensor.reading.value, last(3))",
    ]


class Partly(Event, type="test.partly", version=1):
    """An event whose number may be missing."""

    name: Key[str] = field(pattern=r"[a-z]+")
    amount: float | None = field(default=None)


def test_a_missing_number_takes_no_part_but_in_the_current_value() -> None:
    partly = feature_set(
        features(Partly, max_rate="1/s")(
            type(
                "Partly",
                (),
                {
                    "count": count(Partly.amount, last(4)),
                    "mean": mean(Partly.amount, last("10m")),
                    "median": quantile(Partly.amount, 0.5, last(4)),
                    "latest": last_value(Partly.amount, last(4)),
                    "current": Partly.amount * 1,  # type: ignore[operator]
                    "change": difference(Partly.amount),
                },
            )
        )
    )
    events = [
        replace(reading(0.0, at_s=n, id=str(n), number=n), data={"amount": amount})
        for n, amount in enumerate([1.0, None, 4.0, None], start=1)
    ]

    state, folded = KeyState(partly).fold(events, emit=True)

    assert state.features == {
        "count": 2, "mean": 2.5, "median": 2.5, "latest": 4.0, "current": None,
        "change": None,
    }  # fmt: skip
    assert folded[2].features is not None
    assert folded[2].features["current"] == 4.0
    assert folded[2].features["change"] is None
