"""A row is what was known at its position, whatever arrives afterwards."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from pipelines.sensor_anomaly.features import Sensor
from retrodict.buckets import bucket_of
from retrodict.envelope import StampedEvent
from retrodict.errors import PipelineDefinitionError, StoreUnavailableError
from retrodict.model import Gates
from retrodict.pipeline import Pipeline
from retrodict.stamps import duration_us
from retrodict.system_events import LabelGiven, PredictionMade
from retrodict.training_build import build
from retrodict.training_sets import (
    ASSUMED,
    INJECTED,
    LABEL,
    JudgedRow,
    Refusal,
    Row,
    TrainingSet,
    gate,
    join_labels,
)
from retrodict_aws.training_set_files import from_files, to_files

from tests.artifacts import PIPELINE
from tests.events import NOON_US, SECOND_US, place, reading
from tests.training_builds import built_of_events, built_of_log, log_of

HOUR_S = 3_600
HOURS = 32 * 24
KEYS = ("s-1", "s-2")
assert PIPELINE.model is not None
MODEL = PIPELINE.model
LEARNER_MODEL = replace(
    MODEL,
    features=[Sensor.mean_10m, Sensor.trend, Sensor.change],
    held_out="5m",
    held_out_rows=10,
    gates=Gates(min_rows=1, max_null_share=1.0),
)


def series() -> list[StampedEvent]:
    """Return hourly readings of two sensors, one after the other."""
    random = Random(1)
    return [
        reading(
            20 + 3 * (n % 24 > 7) + random.gauss(0, 0.5),
            at_s=n * HOUR_S,
            id=str(n),
            number=2 * n + k + 1,
            key=key,
        )
        for n in range(HOURS)
        for k, key in enumerate(KEYS)
    ]


EVENTS = series()
UNTIL_US = EVENTS[-1].observed_at_us


def built(events: Sequence[StampedEvent], until_us: int = UNTIL_US) -> TrainingSet:
    found = built_of_log(PIPELINE, events, {}, until_us=until_us, seed=1)
    assert isinstance(found, TrainingSet), found
    return found


def rows_of(found: TrainingSet) -> dict[tuple[str, str], Row]:
    return {(r.key, r.position): r for r in (*found.fit, *found.held_out)}


WHOLE = built(EVENTS)

later = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.integers(-400 * HOUR_S, 48 * HOUR_S),
        st.floats(-1e6, 1e6),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(later)
def test_what_arrives_after_a_row_changes_no_row(
    arrivals: list[tuple[str, int, float, bool]],
) -> None:
    more = [
        replace(
            reading(
                value, at_s=HOURS * HOUR_S + at_s, id=f"more-{n}", key=key, late=late,
                number=2 * HOURS + 1 + n,
            ),
            observed_at_us=UNTIL_US + (n + 1) * SECOND_US,
        )
        for n, (key, at_s, value, late) in enumerate(arrivals)
    ]  # fmt: skip
    before = rows_of(WHOLE)

    after = rows_of(built([*EVENTS, *more], UNTIL_US + 100 * SECOND_US))

    shared = before.keys() & after.keys()
    assert len(shared) > len(before) // 2
    assert all(after[at] == before[at] for at in shared)


@settings(max_examples=20)
@given(st.integers(700, HOURS - 1))
def test_a_row_of_a_shorter_log_is_the_row_of_the_whole_log(known: int) -> None:
    cut = EVENTS[2 * known - 1].observed_at_us

    shorter, whole = rows_of(built(EVENTS[: 2 * known], cut)), rows_of(WHOLE)

    shared = shorter.keys() & whole.keys()
    assert shared
    assert all(shorter[at] == whole[at] for at in shared)


def test_an_event_counts_by_its_arrival_and_not_by_its_time() -> None:
    early = replace(EVENTS[-1], observed_at_us=UNTIL_US + 1)

    found = built([*EVENTS[:-1], early])

    assert found.last_position == EVENTS[-2].position
    assert rows_of(found).keys() == rows_of(WHOLE).keys() - {
        (EVENTS[-1].key, EVENTS[-1].position)
    }


def test_every_reading_in_the_windows_is_one_row_and_in_one_part_only() -> None:
    fit, held = ({(r.key, r.position) for r in p} for p in (WHOLE.fit, WHOLE.held_out))

    assert not fit & held
    assert len(fit) + len(held) == len(WHOLE.fit) + len(WHOLE.held_out)
    assert fit | held == {
        (e.key, e.position)
        for e in EVENTS
        if WHOLE.from_us < e.time_us <= WHOLE.until_us
    }
    assert {r.key for r in WHOLE.fit} == {r.key for r in WHOLE.held_out} == set(KEYS)


def test_at_least_the_declared_rows_and_the_declared_time_are_held_out() -> None:
    assert len(WHOLE.held_out) >= MODEL.held_out_rows
    assert WHOLE.until_us - WHOLE.split_us >= duration_us(MODEL.held_out)
    one_key = built([e for e in EVENTS if e.key == "s-1"])
    assert len(one_key.held_out) >= MODEL.held_out_rows


def test_judging_rows_are_the_held_out_events_and_some_of_them_anomalous() -> None:
    held = {(r.key, r.time_us) for r in WHOLE.held_out}

    assert {(j.row.key, j.row.time_us) for j in WHOLE.judging} == held
    assert {j.basis for j in WHOLE.judging} == {INJECTED, ASSUMED}
    assert all(j.is_anomaly == (j.basis == INJECTED) for j in WHOLE.judging)


def test_what_is_injected_follows_from_the_seed() -> None:
    other = built_of_log(PIPELINE, EVENTS, {}, until_us=UNTIL_US, seed=2)

    assert isinstance(other, TrainingSet)
    assert (other.fit, other.held_out) == (WHOLE.fit, WHOLE.held_out)
    assert other.judging != WHOLE.judging


def test_an_injected_anomaly_stays_one_whatever_a_label_says() -> None:
    injected = next(j.row for j in WHOLE.judging if j.basis == INJECTED)
    ordinary = next(j.row for j in WHOLE.judging if j.basis == ASSUMED)
    labels = {(r.key, r.time_us): False for r in (injected, ordinary)}

    found = built_of_log(PIPELINE, EVENTS, labels, until_us=UNTIL_US, seed=1)

    assert isinstance(found, TrainingSet)
    by_row = {(j.row.key, j.row.position): j for j in found.judging}
    assert by_row[injected.key, injected.position].basis == INJECTED
    said = by_row[ordinary.key, ordinary.position]
    assert (said.basis, said.is_anomaly) == (LABEL, False)


def test_a_label_of_another_key_or_another_time_is_nobodys_truth() -> None:
    row = next(j.row for j in WHOLE.judging if j.basis == ASSUMED)
    labels = {("s-3", row.time_us): True, (row.key, row.time_us + 1): True}

    found = built_of_log(PIPELINE, EVENTS, labels, until_us=UNTIL_US, seed=1)

    assert found == WHOLE


def test_a_pipeline_without_a_model_has_no_training_set() -> None:
    without = Pipeline("without", features=[Sensor])

    with pytest.raises(PipelineDefinitionError, match="has no model"):
        built_of_log(without, EVENTS, {}, until_us=UNTIL_US, seed=1)


def test_late_events_alone_are_no_rows() -> None:
    found = built_of_log(
        PIPELINE,
        [replace(e, late=True) for e in EVENTS],
        {},
        until_us=UNTIL_US,
        seed=1,
    )

    assert isinstance(found, Refusal)
    assert found.gate == "min_rows"


# the bytes of a fold over whole events

SPAN_S = 3 * HOUR_S


def restless(random: Random, count: int) -> list[StampedEvent]:
    """Return readings out of order, late, sent twice and conflicting."""
    found: list[StampedEvent] = []
    for number in range(1, count + 1):
        at_s = SPAN_S * number / count - random.choice((0, 0, 30, 600))
        event = reading(
            0.0, at_s=at_s, id=str(number), number=number,
            key=f"s-{random.randrange(6)}", late=random.random() < 0.1,
        )  # fmt: skip
        payload = {**event.data, "value": random.gauss(20, 3)}
        if random.random() < 0.7:  # a typed column holds only what is whole
            payload["site"] = random.choice((None, "hall"))
        delay_us = random.randrange(20 * 60) * SECOND_US
        event = replace(event, data=payload, observed_at_us=event.time_us + delay_us)
        if found and random.random() < 0.2:
            other = random.choice(found)
            event = replace(
                other,
                position=event.position,
                observed_at_us=event.observed_at_us,
                digest=random.choice((other.digest, event.digest)),
            )
        found.append(event)
    copies = random.sample(found, count // 5)
    found += copies
    random.shuffle(found)
    return found


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(0, 150),
    st.sampled_from((0, 1, 10, 100)),
    st.sampled_from((50, 500)),
    st.sampled_from((50, 10**6, 10**9)),
)
def test_a_set_of_columns_is_that_of_whole_events(
    seed: int, count: int, held_out_rows: int, segment_events: int, event_bytes: int
) -> None:
    random = Random(seed)
    events = restless(random, count)
    until_us = NOON_US + random.randrange(SPAN_S // 2, 2 * SPAN_S) * SECOND_US
    model = replace(LEARNER_MODEL, held_out_rows=held_out_rows, fit_window="1h")
    learner = Pipeline("sensor_anomaly", features=[Sensor], model=model)
    labels = {(e.key, e.time_us): random.random() < 0.5 for e in events[::7]}
    log = log_of(events, segment_events=segment_events, event_bytes=event_bytes)

    found = build(learner, log, labels, until_us=until_us, seed=seed)

    expected = built_of_events(learner, events, labels, until_us=until_us, seed=seed)
    assert found == expected
    if isinstance(found, TrainingSet) and isinstance(expected, TrainingSet):
        assert found.manifest() == expected.manifest()
        assert to_files(found) == to_files(expected)
    target(float(isinstance(found, TrainingSet)))


def test_a_restless_log_gives_a_set_and_not_a_refusal() -> None:
    learner = Pipeline("sensor_anomaly", features=[Sensor], model=LEARNER_MODEL)
    events, until_us = restless(Random(1), 200), NOON_US + 2 * SPAN_S * SECOND_US

    found = built_of_log(learner, events, {}, until_us=until_us, seed=1)

    assert isinstance(found, TrainingSet)
    assert len(found.fit) > len(found.held_out) > 0
    assert {j.basis for j in found.judging} == {INJECTED, ASSUMED}


GROWN = replace(
    reading(20.0, at_s=HOURS * HOUR_S, id="grown", number=10**6, key="s-1"),
    observed_at_us=UNTIL_US,
)


class GrowingLog:
    """A log of one key, read a part at a time, that gets an event after some reads."""

    def __init__(self, events: Sequence[StampedEvent], reads: int) -> None:
        self._before = log_of(events, event_bytes=10**6)
        self._after = log_of([*events, GROWN])
        self._reads = reads

    def size_bytes(self, event_type: str) -> int:
        return self._before.size_bytes(event_type)

    def tables(self, *args: Any, **options: Any) -> Iterator[pa.Table]:
        self._reads -= 1
        log = self._after if self._reads < 0 else self._before
        return log.tables(*args, **options)


def test_no_set_is_made_of_a_log_that_grows_while_it_is_read() -> None:
    """Each of 16 parts is read three times, and once more for held-out events."""
    events = [e for e in EVENTS if e.key == "s-1"]
    part = bucket_of("s-1")
    last = 16 + 17 + part

    def grown_after(reads: int) -> TrainingSet | Refusal:
        log = GrowingLog(events, reads)
        return build(PIPELINE, log, {}, until_us=UNTIL_US, seed=1)

    assert grown_after(part) == built([*events, GROWN])
    assert grown_after(last + 1) == built(events)
    for reads in (part + 1, 16 + part, 16 + part + 1, last):
        with pytest.raises(StoreUnavailableError, match="grew while it was read"):
            grown_after(reads)


# the digest

FIRST = Row("s-1", NOON_US, place(1), (0.5, None))
SMALL = TrainingSet(
    "sensor_anomaly", "d" * 64, ("x", "y"), 0, 5, 9, place(3),
    (FIRST,), (replace(FIRST, position=place(2)),),
    (JudgedRow(replace(FIRST, position=place(3)), True, INJECTED),),  # noqa: FBT003
)  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALL, pipeline="other"),
        replace(SMALL, definition="e" * 64),
        replace(SMALL, features=("y", "x")),
        replace(SMALL, features=("xy",)),
        replace(SMALL, from_us=1),
        replace(SMALL, split_us=6),
        replace(SMALL, until_us=10),
        replace(SMALL, last_position=place(4)),
        replace(SMALL, fit=(), held_out=(*SMALL.fit, *SMALL.held_out)),
        replace(SMALL, fit=(replace(FIRST, key="s-2"),)),
        replace(SMALL, fit=(replace(FIRST, time_us=NOON_US + 1),)),
        replace(SMALL, fit=(replace(FIRST, values=(math.nextafter(0.5, 1), None)),)),
        replace(SMALL, fit=(replace(FIRST, values=(0.5, 0.0)),)),
        replace(SMALL, fit=(replace(FIRST, values=(None, 0.5)),)),
        replace(SMALL, judging=(replace(SMALL.judging[0], is_anomaly=False),)),
        replace(SMALL, judging=(replace(SMALL.judging[0], basis=LABEL),)),
    ],
)
def test_whatever_differs_the_digest_differs(other: TrainingSet) -> None:
    assert other.digest != SMALL.digest
    assert replace(other).digest == other.digest


def test_a_zero_has_a_sign_in_the_digest() -> None:
    plus, minus = (
        replace(SMALL, fit=(replace(FIRST, values=(zero, None)),))
        for zero in (0.0, -0.0)
    )

    assert plus.digest != minus.digest


values = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
rows = st.builds(
    Row,
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
    time_us=st.integers(0, 2**62),
    position=st.integers(1, 10**6).map(place),
    values=st.tuples(values, values),
)


@settings(max_examples=50)
@given(
    st.lists(rows, max_size=5).map(tuple),
    st.lists(rows, max_size=5).map(tuple),
    st.lists(
        st.builds(
            JudgedRow,
            row=rows,
            is_anomaly=st.booleans(),
            basis=st.sampled_from([INJECTED, LABEL, ASSUMED]),
        ),
        max_size=5,
    ).map(tuple),
)
def test_any_set_survives_its_files_bit_by_bit(
    fit: tuple[Row, ...], held_out: tuple[Row, ...], judging: tuple[JudgedRow, ...]
) -> None:
    found = replace(SMALL, fit=fit, held_out=held_out, judging=judging)

    again = from_files(to_files(found))

    assert again == found
    assert again.digest == found.digest
    assert to_files(again) == to_files(found)


# the gates at their bounds


def whole_rows(count: int, *, empty: int = 0) -> tuple[Row, ...]:
    return tuple(
        Row("s-1", NOON_US + n, place(n + 1), (float(n), None if n < empty else n / 2))
        for n in range(count)
    )


def refused(found: TrainingSet, **gates: float) -> str | None:
    limits = Gates(**{"min_rows": 1, "max_null_share": 1.0, **gates})  # type: ignore[arg-type]
    refusal = gate(found, replace(MODEL, gates=limits))
    return refusal.gate if refusal else None


JUDGING = tuple(
    JudgedRow(row, is_anomaly, INJECTED if is_anomaly else ASSUMED)
    for row, is_anomaly in zip(whole_rows(2), (True, False), strict=True)
)
GOOD = replace(SMALL, fit=whole_rows(10), held_out=whole_rows(3), judging=JUDGING)


def test_a_bound_that_is_just_kept_is_kept() -> None:
    half_null = replace(GOOD, fit=whole_rows(10, empty=5))

    assert refused(GOOD, min_rows=10) is None
    assert refused(GOOD, min_rows=11) == "min_rows"
    assert refused(half_null, min_rows=5) is None
    assert refused(half_null, min_rows=6) == "min_rows"
    assert refused(half_null, max_null_share=0.5) is None
    assert refused(half_null, max_null_share=0.49) == "max_null_share"


def test_a_feature_is_constant_by_its_complete_rows() -> None:
    moving, still = whole_rows(10, empty=5)[:5], whole_rows(10)[5:]
    still = tuple(replace(r, values=(7.0, r.values[1])) for r in still)

    assert refused(replace(GOOD, fit=(*moving, *still))) == "constant"


def test_one_key_that_goes_on_is_enough() -> None:
    gone = tuple(replace(r, key="s-2") for r in GOOD.held_out)

    assert refused(replace(GOOD, held_out=(*gone, *GOOD.held_out))) is None
    assert refused(replace(GOOD, held_out=gone)) == "missing_groups"
    assert refused(replace(GOOD, held_out=())) == "missing_groups"


@pytest.mark.parametrize("kept", [True, False])
def test_both_classes_are_needed_among_the_rows_a_model_can_read(*, kept: bool) -> None:
    one = tuple(j for j in JUDGING if j.is_anomaly is kept)
    empty = tuple(
        replace(j, row=replace(j.row, values=(None, None)))
        for j in JUDGING
        if j.is_anomaly is not kept
    )

    assert refused(replace(GOOD, judging=one)) == "single_class"
    assert refused(replace(GOOD, judging=(*one, *empty))) == "single_class"
    assert refused(replace(GOOD, judging=())) == "single_class"


# labels


def label(number: int, **data: object) -> StampedEvent:
    whole = {"entity": "s-1", "prediction_id": None, "at_us": None, **data}
    event = reading(0.0, number=number, id=str(number))
    return replace(event, type=LabelGiven.contract().type, data=whole)


def prediction(identity: str, at_us: int) -> StampedEvent:
    data = {"prediction_id": identity, "as_of_us": at_us}
    made = reading(0.0, id=identity)
    return replace(made, type=PredictionMade.contract().type, data=data)


def test_a_label_by_prediction_and_one_by_time_correct_each_other() -> None:
    by_name = label(1, prediction_id="a", is_anomaly=True)
    by_time = label(2, at_us=NOON_US, is_anomaly=False)
    known = [prediction("a", NOON_US), prediction("a", NOON_US)]

    assert join_labels([by_name, by_time], known) == ({("s-1", NOON_US): False}, 0)
    assert join_labels([by_time, by_name], known) == ({("s-1", NOON_US): True}, 0)


def test_a_label_whose_prediction_is_unknown_is_counted_and_says_nothing() -> None:
    lost = label(1, prediction_id="b", at_us=NOON_US, is_anomaly=True)

    assert join_labels([lost, lost], [prediction("a", NOON_US)]) == ({}, 2)
    assert join_labels([], [prediction("a", NOON_US)]) == ({}, 0)
