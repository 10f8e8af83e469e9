"""A training set holds what was known, and is the same whenever it is built."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict.envelope import StampedEvent
from retrodict.stamps import duration_us
from retrodict.system_events import LabelGiven, PredictionMade
from retrodict.training_sets import (
    ASSUMED,
    LABEL,
    Refusal,
    TrainingSet,
    gate,
    join_labels,
)
from retrodict_aws.training_set_files import from_files, to_files

from tests.artifacts import PIPELINE
from tests.events import NOON_US, SECOND_US, reading
from tests.training_builds import built_of_log

HOUR_S = 3_600
DAYS = 32
HOURS = DAYS * 24
assert PIPELINE.model is not None
MODEL = PIPELINE.model


def series(seed: int = 1, hours: int = HOURS) -> list[StampedEvent]:
    """Return hourly readings of one sensor."""
    random = Random(seed)
    return [
        reading(
            20 + 3 * (n % 24 > 7) + random.gauss(0, 0.5),
            at_s=n * HOUR_S,
            id=str(n),
            number=n + 1,
        )
        for n in range(hours)
    ]


EVENTS = series()
UNTIL_US = EVENTS[-1].observed_at_us


def built(events: Sequence[StampedEvent], until_us: int = UNTIL_US) -> TrainingSet:
    found = built_of_log(PIPELINE, events, {}, until_us=until_us, seed=1)
    assert isinstance(found, TrainingSet), found
    return found


WHOLE = built(EVENTS)


def test_held_out_rows_follow_the_rows_to_fit() -> None:
    assert WHOLE.until_us == EVENTS[-1].time_us
    assert len(WHOLE.held_out) == max(24, MODEL.held_out_rows)
    assert max(r.time_us for r in WHOLE.fit) <= WHOLE.split_us
    assert min(r.time_us for r in WHOLE.held_out) > WHOLE.split_us
    assert min(r.time_us for r in WHOLE.fit) > WHOLE.from_us
    assert WHOLE.split_us - WHOLE.from_us == duration_us(MODEL.fit_window)
    assert WHOLE.last_position == EVENTS[-1].position


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_order_and_copies_in_the_log_change_nothing(random: Random) -> None:
    shuffled = [*EVENTS, *random.sample(EVENTS, 40)]
    random.shuffle(shuffled)

    assert built(shuffled).digest == WHOLE.digest


@settings(max_examples=15)
@given(st.integers(680, HOURS - 1), st.integers(1, 2**32))
def test_nothing_that_came_later_is_looked_at(known: int, seed: int) -> None:
    until_us = EVENTS[known - 1].observed_at_us
    other = [
        replace(
            e, time_us=max(e.time_us, until_us + 1), observed_at_us=until_us + 1 + n
        )
        for n, e in enumerate(series(seed)[known:])
    ]

    assert built([*EVENTS[:known], *other], until_us).digest == (
        built(EVENTS[:known], until_us).digest
    )


def test_a_late_event_is_no_row_and_moves_no_window() -> None:
    late = reading(99.0, at_s=0, id="late", number=HOURS + 1, late=True)
    late = replace(late, observed_at_us=UNTIL_US)

    found = built([*EVENTS, late])

    assert found.fit == WHOLE.fit
    assert found.held_out == WHOLE.held_out


def test_one_bit_of_one_row_is_another_digest() -> None:
    first = WHOLE.fit[-1]
    values = (*first.values[:-1], (first.values[-1] or 0.0) + 2**-40)
    other = replace(WHOLE, fit=(*WHOLE.fit[:-1], replace(first, values=values)))

    assert other.digest != WHOLE.digest


def test_a_set_survives_its_files() -> None:
    files = to_files(WHOLE)

    assert from_files(files) == WHOLE
    assert from_files(files).digest == WHOLE.digest
    assert to_files(built(EVENTS)) == files


def test_labels_are_the_truth_of_the_rows_they_name() -> None:
    ordinary = next(j.row for j in WHOLE.judging if j.basis == ASSUMED)
    labels = {(ordinary.key, ordinary.time_us): True}

    found = built_of_log(PIPELINE, EVENTS, labels, until_us=UNTIL_US, seed=1)

    assert isinstance(found, TrainingSet)
    [judged] = [j for j in found.judging if j.row.position == ordinary.position]
    assert (judged.basis, judged.is_anomaly) == (LABEL, True)
    assert found.digest != WHOLE.digest


def label(number: int, **data: object) -> StampedEvent:
    whole = {"entity": "s-1", "prediction_id": None, "at_us": None, **data}
    event = reading(0.0, number=number, id=str(number))
    return replace(event, type=LabelGiven.contract().type, data=whole)


def test_labels_join_by_prediction_or_by_time_and_the_later_one_counts() -> None:
    made = reading(0.0, number=1)
    data = {"prediction_id": "a" * 32, "as_of_us": NOON_US}
    made = replace(made, type=PredictionMade.contract().type, data=data)
    other_us = NOON_US + 60 * SECOND_US

    truth, unmatched = join_labels(
        [
            label(1, prediction_id="a" * 32, is_anomaly=True),
            label(2, at_us=other_us, is_anomaly=True),
            label(3, at_us=other_us, is_anomaly=False),
            label(4, prediction_id="b" * 32, is_anomaly=True),
        ],
        [made],
    )

    assert truth == {("s-1", NOON_US): True, ("s-1", other_us): False}
    assert unmatched == 1


@pytest.mark.parametrize(
    ("events", "gate_name"),
    [
        ([], "min_rows"),
        (EVENTS[:100], "min_rows"),
        ([replace(e, data={**e.data, "value": 20.0}) for e in EVENTS], "constant"),
    ],
    ids=["none", "few", "constant"],
)
def test_rows_that_cannot_carry_a_model_are_refused(
    events: list[StampedEvent], gate_name: str
) -> None:
    found = built_of_log(PIPELINE, events, {}, until_us=UNTIL_US, seed=1)

    assert isinstance(found, Refusal)
    assert found.gate == gate_name


def test_gates_name_what_is_missing() -> None:
    stranger = [replace(row, key="s-2") for row in WHOLE.held_out]
    ordinary = [replace(j, is_anomaly=False) for j in WHOLE.judging]
    empty = [replace(row, values=(None,) * len(row.values)) for row in WHOLE.fit]

    def refused(found: TrainingSet) -> str | None:
        refusal = gate(found, MODEL)
        return refusal.gate if refusal else None

    assert refused(WHOLE) is None
    assert refused(replace(WHOLE, held_out=tuple(stranger))) == "missing_groups"
    assert refused(replace(WHOLE, judging=tuple(ordinary))) == "single_class"
    nulls = (*WHOLE.fit, *empty, *empty)
    assert refused(replace(WHOLE, fit=nulls)) == "max_null_share"
