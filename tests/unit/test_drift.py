"""Drift statistics have the published values, and their thresholds know the log."""

import json
import math
from bisect import bisect_left
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict.drift import (
    DEFAULTS,
    MARGIN,
    Profile,
    ProfileFormatError,
    drifted_share,
    population_stability_index,
    reference_of,
    statistics_of,
)
from retrodict.drift import bin_counts as counts_of
from retrodict.model import Monitor

HOUR_US = 3_600_000_000
MONITOR = Monitor(window="24h", min_rows=20)


def series(seed: int, days: int, shift: float = 0.0) -> tuple[list[int], list[float]]:
    """Return times and values of a sensor with a daily cycle, every ten minutes."""
    random = Random(seed)
    times = [n * HOUR_US // 6 for n in range(days * 144)]
    values = [
        20 + 4 * math.sin(n / 144 * 2 * math.pi) + random.gauss(0, 0.5) + shift
        for n in range(days * 144)
    ]
    return times, values


def test_the_golden_vectors_have_their_published_values() -> None:
    random = np.random.default_rng(42)
    reference, same, moved = (
        [float(v) for v in np.round(random.normal(mean, spread, count), 6)]
        for mean, spread, count in ((20, 2, 5_000), (20, 2, 1_000), (21, 2.5, 1_000))
    )
    profile = reference_of(reference)

    calm, drifted = (statistics_of(profile, window) for window in (same, moved))

    assert (round(calm["psi"], 6), round(drifted["psi"], 6)) == (0.009086, 0.286134)
    assert calm["ks"] == 0
    # The golden 0.1356 is of the distance over values; ours is over the bins.
    assert 0.12 < drifted["ks"] <= 0.1356
    assert calm["wasserstein"] < 0.1
    assert drifted["wasserstein"] > 0.4


@settings(max_examples=100)
@given(
    st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=80),
    st.lists(st.integers(-25, 25).map(float), min_size=1, max_size=80),
)
def test_counts_and_distance_are_those_of_a_walk_over_the_values(
    reference: list[float], window: list[float]
) -> None:
    profile = reference_of(reference)
    found = statistics_of(profile, window)

    edges = profile.edges
    walked = [0] * (len(edges) + 1)
    for value in window:
        walked[sum(edge <= value for edge in edges)] += 1
    assert counts_of(sorted(window), edges) == walked
    distance = max(
        (
            abs(
                bisect_left(sorted(reference), edge) / len(reference)
                - bisect_left(sorted(window), edge) / len(window)
            )
            for edge in edges
        ),
        default=0.0,
    )
    assert 0 <= found["ks"] <= distance + 1e-12
    assert found["psi"] >= 0
    assert all(math.isfinite(value) for value in found.values())


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12))
def test_nothing_is_stabler_than_the_same_counts(counts: list[int]) -> None:
    assert population_stability_index(counts, counts) == pytest.approx(0, abs=1e-12)
    assert population_stability_index(counts, [3 * c for c in counts]) < 1e-5


def test_a_day_like_the_days_before_does_not_ring_and_another_one_does() -> None:
    times, values = series(1, 10)
    profile = Profile.of({"value": values}, times, MONITOR)
    _, same = series(2, 1)
    _, moved = series(3, 1, shift=3.0)

    calm = profile.measure({"value": same})
    rung = profile.measure({"value": moved})

    assert all(measure.ratio <= 1 for measure in calm)
    assert {m.statistic for m in rung if m.ratio > 1} == set(DEFAULTS)
    assert drifted_share(calm) == 0
    assert drifted_share(rung) == 1
    assert {m.sample_size for m in rung} == {144}


def test_a_threshold_lies_above_every_past_window_and_no_default() -> None:
    random = Random(5)
    times = [n * HOUR_US // 6 for n in range(10 * 144)]
    wandering = [random.gauss(20 + 2 * (n // 144 % 3), 1) for n in range(len(times))]
    profile = Profile.of({"value": wandering}, times, MONITOR)
    reference = profile.columns["value"]

    for day in range(10):
        window = wandering[day * 144 : (day + 1) * 144]
        for statistic, value in statistics_of(reference, window).items():
            assert value <= reference.thresholds[statistic] / MARGIN * 1.1
    assert all(reference.thresholds[s] >= least for s, least in DEFAULTS.items())
    assert reference.thresholds["wasserstein"] > DEFAULTS["wasserstein"]


def test_a_profile_keeps_every_bit_as_json() -> None:
    times, values = series(1, 3)
    profile = Profile.of({"a": values, "b": [7.0] * len(values)}, times, MONITOR)

    again = Profile.from_json(json.loads(json.dumps(profile.to_json())))

    assert again == profile
    assert [m.value for m in again.measure({"b": [7.0] * 50})] == [0, 0, 0]


def test_a_column_without_values_is_not_measured() -> None:
    times, values = series(1, 3)
    profile = Profile.of({"value": values}, times, MONITOR)

    assert profile.measure({}) == []
    assert profile.measure({"value": [], "other": [1.0]}) == []
    assert drifted_share([]) == 0


@pytest.mark.parametrize(
    "document",
    [{"value": {}}, {"value": None}, {"value": {"edges": "x"}}, {"value": 3}],
)
def test_what_is_no_profile_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ProfileFormatError):
        Profile.from_json(document)
