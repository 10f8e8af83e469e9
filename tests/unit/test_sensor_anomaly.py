"""The first pipeline: what its model learns, what is injected, what its fleet sends."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pipelines.sensor_anomaly import pipeline
from pipelines.sensor_anomaly.contract import HIGHEST, LOWEST
from pipelines.sensor_anomaly.fleet import (
    DAY_US,
    SCENARIO,
    Kind,
    Plan,
    kinds,
    simulate,
    truth,
)
from pipelines.sensor_anomaly.model import (
    FitOptionError,
    checked,
    fit,
    inject,
    model,
)
from retrodict.envelope import StampedEvent
from retrodict.forest import IsolationForest
from retrodict.judging import roc_auc
from retrodict.state import KeyState, Outcome
from retrodict.training_sets import identity

from tests.events import NOON_US, place, reading

_RANDOM = Random(1)
BUDGET = model.alert_budget
ROWS = [[_RANDOM.gauss(0, 1) for _ in range(3)] for _ in range(300)]


def series(
    values: Sequence[float], key: str = "s-1", first: int = 1, every_s: float = 300
) -> list[StampedEvent]:
    """Return readings of one sensor, the oldest first."""
    return [
        reading(
            value, at_s=number * every_s, id=f"{key}-{number}", number=number, key=key
        )
        for number, value in enumerate(values, start=first)
    ]


def moved(before: Sequence[StampedEvent], after: Sequence[StampedEvent]) -> list[int]:
    """Return the places whose value was changed."""
    return [
        number
        for number, (a, b) in enumerate(zip(before, after, strict=True))
        if a.data["value"] != b.data["value"]
    ]


# --- the fit --------------------------------------------------------------------------


def test_the_same_rows_and_seed_give_the_same_forest() -> None:
    one, again = fit(ROWS, 7, {"trees": 5}), fit(ROWS, 7, {"trees": 5})

    assert isinstance(one, IsolationForest)
    assert one == again
    assert one != fit(ROWS, 8, {"trees": 5})


def test_a_row_apart_scores_above_all_others() -> None:
    forest = fit(ROWS, 1, {})

    assert forest.score([9.0, -9.0, 9.0]) > max(map(forest.score, ROWS))


def test_a_tree_may_see_only_some_features() -> None:
    forest = fit(ROWS, 1, {"trees": 9, "max_features": 0.34})

    assert all(len(set(tree.feature)) <= 2 for tree in forest.trees)
    assert {f for tree in forest.trees for f in tree.feature} == {-1, 0, 1, 2}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tree": 5}, "no option 'tree'; there is trees"),
        ({"trees": 0}, "trees must be a whole number from 1 to 1000, got 0"),
        ({"trees": 2.0}, "trees must be a whole number"),
        ({"trees": True}, "trees must be a whole number"),
        ({"trees": "5"}, "trees must be a whole number"),
        ({"max_samples": 1}, "max_samples must be a whole number from 2"),
        ({"max_features": 0}, "max_features must be a number from 0.05 to 1"),
        ({"max_features": float("nan")}, "max_features must be a number"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(FitOptionError, match=told):
        checked(options)


# --- what is injected -----------------------------------------------------------------

FLEET = [
    event
    for key in ("s-1", "s-2", "s-3", "s-4")
    for event in series([20.0 + (n * 7919 % 100) / 25 for n in range(600)], key)
]


def test_injection_tells_exactly_the_events_that_it_changed() -> None:
    changed, anomalous = inject(FLEET, 3)

    assert {identity(changed[n]) for n in moved(FLEET, changed)} == anomalous
    assert [(e.key, e.position, e.time_us) for e in changed] == [
        (e.key, e.position, e.time_us) for e in FLEET
    ]
    assert all(
        (a.digest == b.digest) == (identity(a) not in anomalous)
        for a, b in zip(FLEET, changed, strict=True)
    )


def test_about_two_in_a_hundred_events_become_anomalies_of_every_sensor() -> None:
    _, anomalous = inject(FLEET, 3)

    assert 0.005 * len(FLEET) <= len(anomalous) <= 0.02 * len(FLEET)
    assert {name.split("\n")[1][:3] for name in anomalous} == {
        "s-1", "s-2", "s-3", "s-4",
    }  # fmt: skip


def test_injection_can_be_repeated_and_differs_by_seed() -> None:
    assert inject(FLEET, 3) == inject(FLEET, 3)
    assert inject(FLEET, 3)[1] != inject(FLEET, 4)[1]


def test_anomalies_come_in_stretches_of_spikes_shifts_and_stuck_values() -> None:
    kinds_seen = set()
    for seed in range(12):
        changed, _ = inject(FLEET, seed)
        places = moved(FLEET, changed)
        assert places
        before = [FLEET[n].data["value"] for n in places]
        after = [changed[n].data["value"] for n in places]
        apart = {round(b - a, 9) for a, b in zip(before, after, strict=True)}
        gaps = {b - a for a, b in pairwise(places)}
        kinds_seen |= {"spikes"} if 4 in gaps else set()
        kinds_seen |= {"stuck"} if len(set(after)) < len(after) - 20 else set()
        kinds_seen |= {"shift"} if len(apart) < len(places) else set()
    assert kinds_seen == {"spikes", "stuck", "shift"}


def test_sizes_follow_the_spread_of_the_sensor_and_stay_in_its_contract() -> None:
    calm = series([20.0 + n % 2 / 100 for n in range(400)])
    wild = series([0.0 if n % 2 else 100.0 for n in range(400)])

    quiet, loud = inject(calm, 1)[0], inject(wild, 1)[0]
    sizes = [
        abs(quiet[n].data["value"] - calm[n].data["value"]) for n in moved(calm, quiet)
    ]
    values = [e.data["value"] for e in loud]

    assert 0.4 < max(sizes) < 2
    assert moved(wild, loud)
    assert LOWEST <= min(values) <= max(values) <= HIGHEST


@pytest.mark.parametrize("events", [0, 1, 2, 5, 24, 200])
def test_few_events_have_a_few_anomalies_and_none_has_none(events: int) -> None:
    few = series([20.0 + n / 10 for n in range(events)], every_s=3600)

    changed, anomalous = inject(few, 1)

    assert len(changed) == events
    assert len(anomalous) == min(events, 4)


def test_of_an_event_that_was_delivered_twice_the_first_is_disturbed() -> None:
    first = series([20.0 + n % 5 for n in range(300)])
    again = [replace(e, position=place(1000 + n)) for n, e in enumerate(first)]

    changed, anomalous = inject([*first, *again], 1)
    state, folded = KeyState(pipeline.trained_on).fold(changed)

    assert {n for n in moved([*first, *again], changed) if n >= 300} == set()
    applied = [one.event for one in folded if one.outcome is Outcome.APPLIED]
    assert {identity(e) for e in applied} >= anomalous
    assert len(applied) == 300
    assert state.time_us == first[-1].time_us


# --- the fleet ------------------------------------------------------------------------


def test_the_scenario_fails_before_during_and_after_the_drift() -> None:
    found = truth(SCENARIO)
    days = Counter(
        int((time_us - SCENARIO.start_us) // DAY_US)
        for (_, time_us), is_anomaly in found.items()
        if is_anomaly
    )

    assert set(days) == set(range(9))
    assert min(days.values()) >= 15
    assert 0.5 * BUDGET < sum(days.values()) / len(found) < BUDGET


def test_every_reading_has_a_truth_and_every_kind_of_record_is_sent() -> None:
    plan = Plan(sensors=5, days=2, drift_day=1, drifting=1.0)
    counted = kinds(plan)

    assert set(counted) == set(Kind)
    assert len(truth(plan)) == 5 * 2 * 288
    assert counted.total() == sum(1 for _ in simulate(plan))


def test_what_drifts_is_no_anomaly_and_stays() -> None:
    plan = Plan(sensors=1, days=4, drift_day=2, drifting=1.0, faults_a_sensor=0)
    values: dict[int, list[float]] = {}
    for sent in simulate(replace(plan, broken=0, late=0)):
        assert not sent.is_anomaly
        if sent.kind in {Kind.NORMAL, Kind.DRIFTED}:
            day = (sent.time_us - plan.start_us) // DAY_US
            values.setdefault(day, []).append(json.loads(sent.data)["data"]["value"])
    means = [sum(values[day]) / len(values[day]) for day in range(4)]

    assert abs(means[1] - means[0]) < 0.3
    assert 3.5 < means[2] - means[1] < 4.5
    assert abs(means[3] - means[2]) < 0.3


def test_a_sensor_fails_as_often_and_as_long_as_planned() -> None:
    plan = Plan(sensors=3, days=6, faults_a_sensor=4, fault_s=3_600)
    failing = Counter(key for (key, _), is_anomaly in truth(plan).items() if is_anomaly)

    assert failing == {"s-000": 48, "s-001": 48, "s-002": 48}


# --- what the model is worth ----------------------------------------------------------

HOUR_US = DAY_US // 24
PLAN = replace(SCENARIO, broken=0, late=0, conflicting=0)
FIRST_US = PLAN.start_us + int(PLAN.first_fit_day * DAY_US)
DRIFT_US = PLAN.start_us + int(PLAN.drift_day * DAY_US)
RETRAINED_US = DRIFT_US + 36 * HOUR_US
END_US = PLAN.start_us + int(PLAN.days * DAY_US)


@cache
def scored_rows() -> list[tuple[int, list[float], bool]]:
    """Return time, features and truth of each third reading that has them all."""
    by_key: dict[str, list[StampedEvent]] = {}
    for sent in simulate(PLAN):
        data = json.loads(sent.data)
        at_s = (sent.time_us - NOON_US) / 1e6
        number = sent.number + 1
        value = data["data"]["value"]
        event = reading(value, at_s=at_s, id=data["id"], number=number, key=sent.key)
        by_key.setdefault(sent.key, []).append(event)
    labels = truth(PLAN)
    found = []
    for key, events in by_key.items():
        for one in KeyState(pipeline.trained_on).fold(events, emit=True)[1]:
            told = one.features or {}
            row = [float(v) for n in model.names if (v := told.get(n)) is not None]
            if len(row) == len(model.names):
                time_us = one.event.time_us
                found.append((time_us, row, labels[key, time_us]))
    return found[::3]


def trained_at(until_us: int) -> tuple[IsolationForest, float]:
    """Fit on everything but the last day, and calibrate on that."""
    held_us = until_us - DAY_US
    known = [(t, row) for t, row, _ in scored_rows() if t <= until_us]
    forest = fit([row for t, row in known if t <= held_us], 1, {"trees": 40})
    calm = sorted(forest.score(row) for t, row in known if t > held_us)
    return forest, calm[-int(BUDGET * len(calm))]


def figures(
    forest: IsolationForest, threshold: float, from_us: int, until_us: int
) -> dict[str, float]:
    found = [
        (forest.score(row), label)
        for t, row, label in scored_rows()
        if from_us <= t < until_us
    ]
    scores, labels = [s for s, _ in found], [label for _, label in found]
    alerts = [score >= threshold for score in scores]
    hits = sum(a and label for a, label in zip(alerts, labels, strict=True))
    return {
        "roc_auc": roc_auc(labels, scores),
        "precision": hits / max(1, sum(alerts)),
        "recall": hits / sum(labels),
        "alert_rate": sum(alerts) / len(alerts),
    }


def test_drift_hurts_the_old_model_and_retraining_mends_it() -> None:
    old, new = trained_at(FIRST_US), trained_at(RETRAINED_US)

    before = figures(*old, FIRST_US, DRIFT_US)
    during = figures(*old, DRIFT_US, RETRAINED_US)
    kept = figures(*old, RETRAINED_US, END_US)
    mended = figures(*new, RETRAINED_US, END_US)

    assert before["roc_auc"] > 0.98
    assert before["precision"] > 0.4
    assert before["recall"] > 0.8
    assert before["alert_rate"] < 2 * BUDGET
    assert during["alert_rate"] > 2 * BUDGET
    assert during["precision"] < 0.1
    assert kept["alert_rate"] > 2 * BUDGET
    assert mended["alert_rate"] < 2 * BUDGET
    assert mended["precision"] > 5 * kept["precision"]
    assert mended["recall"] > 0.4
