"""Distances are those of their definitions, with ties, constants and single values."""

import json
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrodict.drift import (
    DEFAULTS,
    EPSILON,
    FEW_WINDOWS,
    MARGIN,
    QUANTILES,
    TRIM,
    Measure,
    Profile,
    ProfileFormatError,
    beyond_chance,
    binned_distance,
    drifted_share,
    kolmogorov_smirnov,
    population_stability_index,
    quantile,
    reference_of,
    statistics_of,
    wasserstein,
)
from retrodict.model import Monitor

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MONITOR = Monitor(window="24h", min_rows=20)

tied = st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=60)
histograms = st.integers(1, 12).flatmap(
    lambda width: st.tuples(*[
        st.lists(st.integers(0, 60), min_size=width, max_size=width).filter(any)
        for _ in range(2)
    ])
)  # fmt: skip


def share_up_to(values: Sequence[float], limit: float) -> float:
    return sum(value <= limit for value in values) / len(values)


def test_the_golden_distances_over_values_are_the_published_ones() -> None:
    random = np.random.default_rng(42)
    reference, same, moved = (
        sorted(float(v) for v in np.round(random.normal(mean, spread, count), 6))
        for mean, spread, count in ((20, 2, 5_000), (20, 2, 1_000), (21, 2.5, 1_000))
    )

    calm, drifted = (kolmogorov_smirnov(reference, w) for w in (same, moved))

    assert (round(calm, 4), round(drifted, 4)) == (0.0452, 0.198)
    assert beyond_chance(calm, 5_000, 1_000) == 0
    assert round(beyond_chance(drifted, 5_000, 1_000), 4) == 0.1356


@given(tied, tied)
def test_the_distance_of_two_samples_is_the_widest_gap_at_any_value(
    one: list[float], other: list[float]
) -> None:
    widest = max(
        abs(share_up_to(one, limit) - share_up_to(other, limit))
        for limit in [*one, *other]
    )

    found = kolmogorov_smirnov(sorted(one), sorted(other))

    assert found == pytest.approx(widest, abs=1e-12)
    assert found == kolmogorov_smirnov(sorted(other), sorted(one))


@given(histograms)
def test_the_index_is_the_sum_that_its_definition_writes(
    pair: tuple[list[int], list[int]],
) -> None:
    old, new = (np.array(counts, dtype=float) for counts in pair)
    old, new = (
        s / s.sum() for s in (old / old.sum() + EPSILON, new / new.sum() + EPSILON)
    )
    defined = float(((new - old) * np.log(new / old)).sum())

    found = population_stability_index(*pair)

    assert found == pytest.approx(defined, abs=1e-9)
    assert found == pytest.approx(population_stability_index(*pair[::-1]), abs=1e-9)
    assert math.isfinite(found)


@given(histograms)
def test_the_distance_of_two_histograms_is_that_of_samples_on_their_bins(
    pair: tuple[list[int], list[int]],
) -> None:
    one, other = (
        [float(place) for place, count in enumerate(counts) for _ in range(count)]
        for counts in pair
    )

    assert binned_distance(*pair) == pytest.approx(kolmogorov_smirnov(one, other))


@given(tied, st.floats(0, 1))
def test_a_quantile_is_numpys(values: list[float], share: float) -> None:
    assert quantile(sorted(values), share) == pytest.approx(
        float(np.quantile(values, share)), abs=1e-9
    )


@given(tied.filter(lambda values: len(set(values)) > 1), tied)
def test_the_earth_movers_distance_is_that_of_the_middle_quantiles(
    values: list[float], window: list[float]
) -> None:
    shares = np.linspace(0, 1, QUANTILES)[TRIM : QUANTILES - TRIM]
    apart = np.abs(np.quantile(window, shares) - np.quantile(values, shares))

    found = wasserstein(reference_of(values), sorted(window))

    assert found == pytest.approx(float(apart.mean() / np.std(values)), abs=1e-9)


@given(tied.filter(lambda values: len(set(values)) > 1), st.floats(-50, 50))
def test_a_shift_is_told_in_deviations_of_the_reference(
    values: list[float], shift: float
) -> None:
    moved = sorted(value + shift for value in values)

    found = wasserstein(reference_of(values), moved)

    assert found == pytest.approx(abs(shift) / float(np.std(values)), abs=1e-9)


@given(tied)
def test_a_sample_has_not_moved_from_itself(values: list[float]) -> None:
    found = statistics_of(reference_of(values), values)

    assert found == pytest.approx(dict.fromkeys(DEFAULTS, 0.0), abs=1e-9)


@given(tied)
def test_a_reference_counts_every_row_once_on_ascending_edges(
    values: list[float],
) -> None:
    found = reference_of(values)

    assert sum(found.counts) == len(values)
    assert len(found.counts) == len(found.edges) + 1
    assert list(found.edges) == sorted(set(found.edges))
    assert (found.quantiles[0], found.quantiles[-1]) == (min(values), max(values))
    assert found.std > 0


@pytest.mark.parametrize("other", [6.9, 7.1])
def test_a_column_that_was_constant_rings_when_it_moves_and_not_before(
    other: float,
) -> None:
    times = [n * HOUR_US for n in range(240)]
    profile = Profile.of({"value": [7.0] * 240}, times, MONITOR)

    assert [m.ratio for m in profile.measure({"value": [7.0]})] == [0, 0, 0]
    assert drifted_share(profile.measure({"value": [other] * 24})) == 1


def test_values_in_the_outer_twentieths_are_no_distance() -> None:
    values = [float(n) for n in range(1_000)]
    anomalous = [*values[:-40], *[1e9] * 40]

    assert wasserstein(reference_of(values), anomalous) == pytest.approx(0, abs=1e-2)
    assert wasserstein(reference_of(values), [*values[:-80], *[1e9] * 80]) > 1e4


# thresholds


@pytest.mark.parametrize("days", [0.5, 1, 2, 20])
def test_no_threshold_lies_under_its_default(days: float) -> None:
    random = Random(1)
    times = [n * HOUR_US // 6 for n in range(round(days * 144))]
    values = [random.gauss(0, 1) for _ in times]

    thresholds = Profile.of({"v": values}, times, MONITOR).columns["v"].thresholds

    assert thresholds.keys() == DEFAULTS.keys()
    assert all(thresholds[name] >= least for name, least in DEFAULTS.items())


def test_without_a_past_window_of_enough_rows_the_defaults_count() -> None:
    times = [n * 2 * HOUR_US for n in range(120)]
    values = [float(n) for n in range(120)]

    assert Profile.of({"v": values}, times, MONITOR).columns["v"].thresholds == DEFAULTS
    assert Profile.of({}, [], MONITOR).columns == {}


def test_with_few_past_windows_twice_the_worst_is_taken() -> None:
    times = [n * HOUR_US for n in range(1, 25)]
    values = [float(n % 5) for n in range(24)]
    late = [time + 30 * DAY_US for time in times]
    profile = Profile.of({"v": [*values, *[9.0] * 24]}, [*times, *late], MONITOR)
    reference = profile.columns["v"]

    windows = [statistics_of(reference, part) for part in (values, [9.0] * 24)]

    assert len(windows) < FEW_WINDOWS
    for name, least in DEFAULTS.items():
        worst = max(window[name] for window in windows)
        assert reference.thresholds[name] == pytest.approx(max(least, 2 * worst))


@given(st.integers(0, 2**32), st.integers(4, 8))
def test_no_window_that_was_calibrated_on_rings(seed: int, days: int) -> None:
    random = Random(seed)
    times = [n * HOUR_US // 2 for n in range(1, days * 48 + 1)]
    values = [random.gauss(random.choice([0, 3]), 1 + time % 3) for time in times]
    profile = Profile.of({"v": values}, times, MONITOR)

    for day in range(days):
        measures = profile.measure({"v": values[day * 48 : (day + 1) * 48]})
        assert max(m.ratio for m in measures) <= 1 / MARGIN + 1e-9


def test_a_profile_is_of_the_rows_in_whatever_order() -> None:
    random = Random(3)
    rows = [(n * HOUR_US, random.gauss(0, 1)) for n in range(240)]
    shuffled = random.sample(rows, len(rows))

    one, other = (
        Profile.of({"v": [v for _, v in part]}, [t for t, _ in part], MONITOR)
        for part in (rows, shuffled)
    )

    assert one == other


def test_a_column_has_drifted_by_any_statistic_and_counts_once() -> None:
    measures = [
        Measure("a", "psi", 0.3, 0.2, 9),
        Measure("a", "ks", 0.2, 0.1, 9),
        Measure("b", "psi", 0.2, 0.2, 9),
        Measure("b", "ks", 0.0, 0.1, 9),
    ]

    assert drifted_share(measures) == 0.5


# what is no profile

GOOD: dict[str, Any] = Profile({"v": reference_of([1.0, 2.0, 4.0] * 9)}).to_json()["v"]


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40))
def test_any_profile_keeps_every_bit_as_json(values: list[float]) -> None:
    profile = Profile({"v": reference_of(values)})

    again = Profile.from_json(json.loads(json.dumps(profile.to_json())))

    assert repr(again) == repr(profile)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": [1, 2]},
        {"counts": [0] * len(GOOD["counts"])},
        {"counts": [-1, *GOOD["counts"][1:]]},
        {"counts": [1.5, *GOOD["counts"][1:]]},
        {"counts": [math.inf, *GOOD["counts"][1:]]},
        {"edges": GOOD["edges"][::-1]},
        {"edges": [math.nan] * len(GOOD["edges"])},
        {"quantiles": []},
        {"quantiles": [math.inf, *GOOD["quantiles"][1:]]},
        {"std": 0.0},
        {"std": math.nan},
        {"std": None},
        {"thresholds": {}},
        {"thresholds": {**DEFAULTS, "psi": 0.0}},
        {"thresholds": {**DEFAULTS, "ks": math.nan}},
        {"std": 10**400},
    ],
    ids=[
        "a count too few",
        "no rows",
        "a count under 0",
        "half a row",
        "endless rows",
        "edges descend",
        "edges are no numbers",
        "no quantiles",
        "an endless quantile",
        "no deviation",
        "a deviation that is no number",
        "deviation null",
        "no thresholds",
        "a threshold of 0",
        "a threshold that is no number",
        "a deviation beyond doubles",
    ],
)
def test_a_reference_that_nothing_can_be_measured_by_is_refused(
    changes: dict[str, Any],
) -> None:
    assert Profile.from_json({"v": GOOD}).columns

    with pytest.raises(ProfileFormatError, match="not a reference profile"):
        Profile.from_json({"v": {**GOOD, **changes}})


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_reference_that_lacks_a_member_is_refused(name: str) -> None:
    with pytest.raises(ProfileFormatError, match=name):
        Profile.from_json({"v": {k: v for k, v in GOOD.items() if k != name}})
