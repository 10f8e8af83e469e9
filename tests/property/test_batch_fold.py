"""A batch folded from bytes to bytes has the outcomes, bytes and features of the fold.

Whatever arrives, whatever the states held, and whatever became of their bytes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, nan
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.features import Sensor
from retrodict import batch_fold, codec
from retrodict.batch_fold import Arrivals
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet, feature_set, features
from retrodict.panes import Grid, Pane, Summary
from retrodict.state import KeyState, Outcome
from retrodict.statistics import Moments
from retrodict.vocabulary import (
    count,
    first_value,
    last,
    last_value,
    maximum,
    mean,
    minimum,
    same_hour_mean,
    same_hour_std,
    std,
    total,
)

from tests.events import NOON_US, place, reading
from tests.property.test_bulk import (
    COMPILED,
    LONG,
    PLAIN,
    SLOTTED,
    Pump,
    arrivals,
    bits,
    far_times_us,
)
from tests.property.test_bulk_states import CRAMPED, PANED

SECOND_US = 1_000_000
HOUR_S = 3_600
LEVEL: Any = Pump.level


@features(Pump, lateness="1m", max_rate="1/s")
class Everything:
    """Every window over panes of one length, with all that a pane can keep."""

    count_3h = count(Pump.level, last("3h", every="30m"))
    sum_3h = total(Pump.level, last("3h", every="30m"))
    mean_3h = mean(Pump.level, last("3h", every="30m"))
    std_3h = std(Pump.level, last("3h", every="30m"))
    low_3h = minimum(Pump.level, last("3h", every="30m"))
    high_3h = maximum(Pump.level, last("3h", every="30m"))
    first_3h = first_value(Pump.level, last("3h", every="30m"))
    last_3h = last_value(Pump.level, last("3h", every="30m"))
    usual = same_hour_mean(Pump.value, days=2)
    unusual = same_hour_std(Pump.level, days=3, at_least=3)
    mean_2m = mean(Pump.value, last("2m"))
    score = (mean_2m - usual) * count_3h


@features(Pump, lateness="1m", max_rate="1/s")
class Crowded:
    """Panes in a state that is soon full."""

    mean_3h = mean(Pump.value, last("3h", every="30m"))


@features(Pump, lateness="1m", max_rate="1/s")
class Daily:
    """Panes of two lengths of one column."""

    std_3h = std(Pump.value, last("3h", every="30m"))
    std_2d = std(Pump.value, last("2d", every="1d"))


EVERYTHING, CROWDED, SENSOR, DAILY = (
    feature_set(Everything), feature_set(Crowded), feature_set(Sensor),
    feature_set(Daily),
)  # fmt: skip
CROWDED.state_limit_bytes = 2_500
EVERY = (COMPILED, SLOTTED, PANED, CRAMPED, EVERYTHING, CROWDED, SENSOR, PLAIN)
CARRIED = (COMPILED, SLOTTED, PANED, CRAMPED, EVERYTHING, SENSOR)


def numbers_of(features: dict[str, Any]) -> list[tuple[str, type, bytes]]:
    return [(name, type(v), bits(v)) for name, v in features.items()]


def check_batch(
    definition: FeatureSet,
    states: Sequence[bytes | None],
    events: Sequence[Sequence[StampedEvent]],
) -> list[bytes | None]:
    """Compare a batch with the plain fold, and return the states after it."""
    found = batch_fold.fold(definition, states, events)

    outcomes: list[Outcome] = []
    after_all = []
    for key, (state, own) in enumerate(zip(states, events, strict=True)):
        before = KeyState.decode(definition, state)
        after, folded = before.fold(own)
        outcomes += [one.outcome for one in folded]
        written = found.states[key]
        assert (written is None) == (after == before)
        if written is not None:
            assert written == after.encode()
            assert found.positions[key] == after.position
            assert found.times_us[key] == after.time_us
            assert numbers_of(found.features_of(key)) == numbers_of(after.features)
        after_all.append(written or state)
    assert found.outcomes == outcomes
    return after_all


def moved(events: Sequence[StampedEvent], by_us: int) -> list[StampedEvent]:
    """Return events at other times."""
    return [replace(event, time_us=event.time_us + by_us) for event in events]


def history(size: int, seed: int, step_s: float) -> list[StampedEvent]:
    """Return events some of which come out of order, twice, or with another payload."""
    random = Random(seed)
    found = []
    for n in range(size):
        name = str(random.randrange(n + 1)) if random.random() < 0.05 else f"n{n}"
        behind = random.randrange(400) if random.random() < 0.1 else 0
        value = random.gauss(20, 5) * 10.0 ** random.choice([0, 0, 0, 3, -200, 300])
        level = None if n % 7 == 0 else value / 3
        event = reading(
            value,
            at_s=float(step_s * n - behind),
            id=name,
            number=n + 1,
            data={"level": level, "mode": "on"},
        )
        found.append(event)
    return found


@pytest.mark.parametrize("definition", CARRIED, ids=lambda d: d.name)
@pytest.mark.parametrize("step_s", [1, 97.5, 0.000_3])
def test_long_histories_go_through_states_and_panes(
    definition: FeatureSet, step_s: float
) -> None:
    events = [history(1_500, seed, step_s) for seed in (1, 2)]
    states: list[bytes | None] = [None, None]
    for start in range(0, 1_500, 150):
        batch = [own[start : start + 150] for own in events]
        states = check_batch(definition, states, batch)


def test_steps_between_times_are_told_in_the_unit_that_fits_now() -> None:
    steps = [0.000_001, 1.5, 2, 3_600, 0.001, 7_200, 5, 0, 3_600, 10, 20]
    at_s, state = 0.0, None
    for number, step in enumerate(steps, start=1):
        at_s += step
        event = reading(1.0, at_s=at_s, id=str(number), number=number)
        event = replace(event, data={**event.data, "level": None, "mode": None})
        [state] = check_batch(COMPILED, [state], [[event]])


@pytest.mark.parametrize("definition", CARRIED, ids=lambda d: d.name)
def test_ordinary_states_are_carried_by_the_compiled_fold(
    definition: FeatureSet,
) -> None:
    events = history(300, 3, 1)
    states: list[bytes | None] = [None]
    for start in range(0, 300, 50):
        batch = [events[start : start + 50]]
        columns = Arrivals.of(definition, batch)
        _, plain = batch_fold.fold_columns(definition, states, columns)
        assert plain == []
        states = check_batch(definition, states, batch)


def test_positions_are_compared_as_texts() -> None:
    one = reading(1.0, data={"level": None, "mode": None})
    texts = ["a", "ab", "a\x7f", "é", "€", "\U0001f600"]
    ordered = [
        replace(one, id=text, time_us=one.time_us + n, position=text)
        for n, text in enumerate(texts)
    ]
    [state] = check_batch(COMPILED, [None], [ordered])
    for n, event in enumerate(ordered):
        other = replace(event, id=f"{n}", time_us=event.time_us + 1)
        check_batch(COMPILED, [state], [[other]])
        [before] = check_batch(COMPILED, [None], [[event]])
        for more in ordered:
            check_batch(COMPILED, [before], [[replace(more, id=f"{n}")]])


@pytest.mark.parametrize(
    "value", [-128.0, -129.0, -127.0, 128.0, 127.0, -32_768.0, -1.0, 0.0, -(2.0**63)]
)
def test_sums_at_the_edge_of_a_byte_are_carried(value: float) -> None:
    data = {"level": value, "mode": None}
    state: bytes | None = None
    for number in range(4):
        at_s = number * HOUR_S / 4
        event = reading(value, at_s=at_s, id=str(number), number=number + 1, data=data)
        columns = Arrivals.of(EVERYTHING, [[event]])
        _, plain = batch_fold.fold_columns(EVERYTHING, [state], columns)
        assert plain == []
        [state] = check_batch(EVERYTHING, [state], [[event]])


@pytest.mark.parametrize("gap_us", [446_673_754_019_253_275, 1 << 53, (1 << 53) - 1])
def test_what_elapsed_is_rounded_once_however_long_it_was(gap_us: int) -> None:
    first, second = history(2, 1, 1)
    later = replace(second, time_us=first.time_us + gap_us)

    check_batch(COMPILED, [None], [[first, later]])

    folded = batch_fold.fold(COMPILED, [None], [[first, later]])
    assert folded.features_of(0)["elapsed"] == gap_us / SECOND_US


def test_two_events_of_one_identity_are_told_apart() -> None:
    events = history(3, 1, 1)
    columns = Arrivals.of(PANED, [events])
    alike = replace(columns, identity=array("Q", [7, 7, 7]))

    found, plain = batch_fold.fold_columns(PANED, [None], alike)

    assert plain == []
    assert found.outcomes == [
        Outcome.APPLIED,
        Outcome.CONFLICTING,
        Outcome.CONFLICTING,
    ]


def test_what_is_not_compiled_cannot_be_folded_from_columns() -> None:
    columns = Arrivals.of(PLAIN, [[]])

    with pytest.raises(LookupError, match="'Plain' is not compiled"):
        batch_fold.fold_columns(PLAIN, [None], columns)


def verdict(definition: FeatureSet, state: bytes, events: list[StampedEvent]) -> object:
    """Return what the plain fold makes of some bytes, or how it fails."""
    try:
        before = KeyState.decode(definition, state)
        after, _ = before.fold(events)
        changed = after != before
        features = numbers_of(after.features) if changed else []
        return after.encode() if changed else None, features
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error), str(error)


def verdict_of_batch(
    definition: FeatureSet, state: bytes, events: list[StampedEvent]
) -> object:
    """Return what a batch makes of the same, or how it fails."""
    try:
        found = batch_fold.fold(definition, [state], [events])
        [after] = found.states
        return after, numbers_of(found.features_of(0)) if after is not None else []
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error), str(error)


def damaged(state: bytes, random: Random) -> bytes:
    """Return bytes with a few changes."""
    raw = bytearray(state)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        at = random.randrange(max(1, len(raw)))
        match random.randrange(6):
            case 0:
                del raw[at:]
            case 1:
                del raw[at : at + 1]
            case 2:
                raw.insert(at, random.randrange(256))
            case _ if raw:
                raw[at % len(raw)] ^= 1 << random.randrange(8)
    return bytes(raw)


@pytest.mark.parametrize("definition", CARRIED, ids=lambda d: d.name)
def test_damaged_states_fail_as_the_codec_does_or_not_at_all(
    definition: FeatureSet,
) -> None:
    random = Random(5)
    events = history(260, 4, 61)
    states = [
        KeyState(definition).fold(events[start : start + size])[0].encode()
        for start, size in ((0, 1), (0, 4), (0, 40), (10, 220))
    ]
    new = [replace(event, position=place(999)) for event in events[250:]]
    for _ in range(1_500):
        state = damaged(random.choice(states), random)
        assert verdict_of_batch(definition, state, new) == verdict(
            definition, state, new
        )


@pytest.mark.parametrize(
    ("total", "squares"),
    [(2**2300 + 1, 2**4600 + 1), (-(2**1064) - 1, 1), (1, 2**2088)],
)
def test_a_pane_of_no_doubles_does_not_grow_past_its_room(
    total: int, squares: int
) -> None:
    def readings(*at_s: int) -> list[StampedEvent]:
        return [
            reading(5e-324, at_s=at, id=f"n{n}", number=n, data={"mode": "on"})
            for n, at in enumerate(at_s, 1)
        ]

    day_us = 24 * HOUR_S * SECOND_US
    moments = Moments(3, total, squares, 0)
    pane = Pane(Grid(day_us, 0), NOON_US // day_us, Summary(moments))
    state = codec.encode(DAILY.digest, "", len(DAILY.columns), [], [pane])
    before = KeyState.decode(DAILY, None)
    sound = readings(0, 6_300, 7_300)
    # What the first key dropped decides how much room there is for the second.
    several = readings(0, 1_800, 3_600, 6_300, 7_300)

    found, beyond = batch_fold.fold_columns(
        DAILY, [None, state], Arrivals.of(DAILY, [sound, several])
    )

    assert beyond == [1]
    assert found.states[0] == before.fold(sound)[0].encode()
    assert verdict_of_batch(DAILY, state, several) == verdict(DAILY, state, several)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("definition", CARRIED, ids=lambda d: d.name)
def test_a_double_that_no_event_has_is_what_the_plain_fold_makes_of_it(
    definition: FeatureSet, value: float
) -> None:
    events = history(12, 4, 1)
    state, _ = KeyState(definition).fold(events[:10])
    strange = [
        entry._replace(values=(value,) * len(entry.values)) for entry in state.entries
    ]
    raw = replace(state, entries=tuple(strange)).encode()

    assert verdict_of_batch(definition, raw, events[10:]) == verdict(
        definition, raw, events[10:]
    )


@pytest.mark.parametrize("definition", [*CARRIED, LONG], ids=lambda d: d.name)
@settings(max_examples=60)
@given(
    events=arrivals("s-1"),
    times=st.lists(far_times_us, min_size=1, max_size=25),
    cut=st.integers(0, 25),
)
def test_states_and_batches_of_far_times_are_those_of_the_plain_fold(
    definition: FeatureSet, events: list[StampedEvent], times: list[int], cut: int
) -> None:
    far = [
        replace(one, time_us=time_us)
        for one, time_us in zip(events, times, strict=False)
    ]

    [state] = check_batch(definition, [None], [far[:cut]])
    check_batch(definition, [state], [far[cut:]])


@pytest.mark.parametrize("definition", EVERY, ids=lambda d: d.name)
@settings(max_examples=100)
@given(
    first=arrivals("s-1"),
    second=arrivals("s-2"),
    cuts=st.lists(st.integers(0, 25), max_size=4),
    again=st.booleans(),
    by_us=st.sampled_from([0, 0, 1, -2 * NOON_US - 7]),
)
def test_batches_have_the_bytes_of_the_plain_fold(  # noqa: PLR0913, PLR0917
    definition: FeatureSet,
    first: list[StampedEvent],
    second: list[StampedEvent],
    cuts: list[int],
    again: bool,  # noqa: FBT001 - drawn
    by_us: int,
) -> None:
    first, second = moved(first, by_us), moved(second, by_us)
    states: list[bytes | None] = [None, None]
    edges = [0, *sorted(cuts), 25]
    for start, end in pairwise(edges):
        batch = [first[start:end], second[start:end]]
        states = check_batch(definition, states, batch)
        if again:
            assert check_batch(definition, states, batch) == states
