"""What is usual at this hour of the day is exact, though most events are let go.

A state keeps raw events for minutes and sums for days. The oracle keeps every event,
and adds them up with ``Fraction``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from retrodict import codec
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.features import feature_set, features
from retrodict.stamps import FUTURE_TOLERANCE_US
from retrodict.state import Folded, KeyState, Outcome
from retrodict.statistics import Moments
from retrodict.vocabulary import DAY_HOURS, last, mean, same_hour_mean, same_hour_std
from retrodict.windows import HOUR_US

from tests import exact
from tests.events import NOON_US, SECOND_US, order_of, place, reading

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Probe(Event, type="test.probe", version=1):
    """Two numbers, one of which may be missing."""

    name: Key[str] = field(pattern=r"[a-z]+")
    value: float = field()
    other: float | None = field(default=None)


@features(Probe, lateness="1m", max_rate="1/s")
class Usual:
    """The horizon lies 8 minutes back, and two more events are held behind it."""

    usual = same_hour_mean(Probe.value, days=2)
    spread = same_hour_std(Probe.value, days=2)
    surely = same_hour_mean(Probe.value, days=3, at_least=4)
    other = same_hour_mean(Probe.other, days=1)
    residual = Probe.value - usual
    mean_2m = mean(Probe.value, last("2m"))
    mean_2 = mean(Probe.value, last(2))


@features(Probe, lateness="100d", max_rate="1/h")
class Held:
    """The same, where nothing of what is drawn is let go: at most 91 days."""

    usual = same_hour_mean(Probe.value, days=2)
    spread = same_hour_std(Probe.value, days=2)
    surely = same_hour_mean(Probe.value, days=3, at_least=4)
    other = same_hour_mean(Probe.other, days=1)


USUAL = feature_set(Usual)
HELD = feature_set(Held)
KEPT_US = 2 * MINUTE * SECOND_US + MINUTE * SECOND_US + FUTURE_TOLERANCE_US
SERVED_US = MINUTE * SECOND_US + FUTURE_TOLERANCE_US
DEPTH = 2

adversarial = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, -5e-324, 0.0, 1.0, 0.1, 1e16, -1e16]),
    st.floats(-40, 125),
)
steps = st.sampled_from(
    [0, 1, 20, 119, 5 * MINUTE, 20 * MINUTE, HOUR, DAY - 10 * MINUTE, DAY, 3 * DAY]
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of one key by position: days apart, out of order, late, repeated."""
    drawn = draw(
        st.lists(
            st.tuples(
                adversarial,
                st.none() | adversarial,
                steps,
                st.integers(0, 7 * MINUTE),
                st.integers(0, 40),
                st.booleans() | st.just(False),  # noqa: FBT003 - a value to draw
            ),
            min_size=draw(st.sampled_from([0, 10, 20])),
            max_size=30,
        )
    )
    found, at_s = [], draw(st.integers(0, DAY))
    for number, (value, other, step, back, id_, late) in enumerate(drawn, start=1):
        at_s += step
        when = at_s - back * (number % 3 == 0)
        data = {"other": other}
        found.append(
            reading(value, at_s=when, id=str(id_), number=number, late=late, data=data)
        )
    return found


# --- the oracle ---------------------------------------------------------------------


def oracle(
    applied: Sequence[StampedEvent], now: StampedEvent
) -> dict[str, float | None]:
    """Compute the features at the time of `now` from every event that was applied."""

    def same_hour(name: str, days: int) -> list[float]:
        hours = {now.time_us // HOUR_US - DAY_HOURS * d for d in range(1, days + 1)}
        return [
            float(e.data[name])
            for e in applied
            if e.time_us // HOUR_US in hours and e.data[name] is not None
        ]

    three = same_hour("value", 3)
    ordered = sorted(applied, key=order_of)
    newest = [e for e in ordered if e.time_us <= now.time_us][-1]
    usual = exact.mean(same_hour("value", 2))
    return {
        "usual": usual,
        "spread": exact.std(same_hour("value", 2)),
        "surely": exact.mean(three) if len(three) >= 4 else None,
        "other": exact.mean(same_hour("other", 1)),
        "residual": None
        if usual is None
        else exact.finite(float(newest.data["value"]) - usual),
    }


def reference(
    events: Sequence[StampedEvent],
) -> list[tuple[Outcome, list[StampedEvent]]]:
    """Say what becomes of each event, and what is applied after it, by the rules."""
    applied: list[StampedEvent] = []
    history = []
    for event in events:
        newest = max((e.time_us for e in applied), default=-(10**18))
        ordered = sorted(applied, key=order_of)
        behind = [e for e in ordered if e.time_us <= newest - KEPT_US]
        held = behind[-DEPTH:] + ordered[len(behind) :]
        same = [e for e in held if (e.source, e.id) == (event.source, event.id)]
        if same:
            equal = same[0].digest == event.digest
            outcome = Outcome.DUPLICATE if equal else Outcome.CONFLICTING
        elif event.late:
            outcome = Outcome.LATE
        elif event.time_us <= newest - KEPT_US:
            outcome = Outcome.BEHIND
        else:
            outcome = Outcome.APPLIED
            applied = [*applied, event]
        history.append((outcome, applied))
    return history


# --- the laws -----------------------------------------------------------------------


@settings(max_examples=300)
@given(arrivals())
def test_what_is_usual_is_what_the_definition_says_of_all_events(
    events: list[StampedEvent],
) -> None:
    state, folded = KeyState(USUAL).fold(events, emit=True)

    for one, (outcome, applied) in zip(folded, reference(events), strict=True):
        assert one.outcome is outcome
        if outcome is Outcome.APPLIED:
            newest = max(e.time_us for e in applied)
            assert (one.features is None) == (one.event.time_us < newest - SERVED_US)
        if one.features is not None:
            expected = oracle(applied, one.event)
            note(f"has a usual value: {expected['usual'] is not None}")
            assert _bits(one.features, expected) == _bits(expected, expected)
    note(f"panes: {bool(state.panes)}")


@settings(max_examples=200)
@given(arrivals())
def test_the_current_features_are_those_of_the_newest_applied_event(
    events: list[StampedEvent],
) -> None:
    state, _ = KeyState(USUAL).fold(events)
    applied = reference(events)[-1][1] if events else []

    if applied:
        expected = oracle(applied, max(applied, key=lambda e: e.time_us))
        assert _bits(state.features, expected) == _bits(expected, expected)


@settings(max_examples=200)
@given(arrivals(), st.randoms(use_true_random=False))
def test_batch_cuts_redelivery_and_the_codec_change_nothing(
    events: list[StampedEvent], random: Random
) -> None:
    whole, expected = KeyState(USUAL).fold(events, emit=True)

    blob: bytes | None = None
    served: dict[str, Folded] = {}
    start = 0
    while start < len(events):
        end = random.randint(start + 1, len(events))
        state, folded = KeyState.decode(USUAL, blob).fold(events[start:end], emit=True)
        for one in folded:
            served.setdefault(one.event.position, one)
        blob = state.encode()
        assert KeyState.decode(USUAL, blob) == state
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
    before, _ = KeyState(USUAL).fold(events)
    start_s = round(((before.time_us or NOON_US) - NOON_US) / SECOND_US) + DAY
    near = [
        reading(
            random.gauss(20, 3), at_s=start_s + random.randrange(6 * MINUTE), id=id_
        )
        for id_ in "uvwxyz"
    ]
    shuffled = near[:]
    random.shuffle(shuffled)

    one, _ = before.fold(_after(events, near))
    other, _ = before.fold(_after(events, shuffled))

    assert (one.entries, one.panes) == (other.entries, other.panes)
    assert one.features == other.features


@settings(max_examples=200)
@given(arrivals())
def test_an_event_is_either_held_or_summed_and_never_both(
    events: list[StampedEvent],
) -> None:
    state, _ = KeyState(USUAL).fold(events)
    applied = reference(events)[-1][1] if events else []
    newest = (state.time_us or 0) - SERVED_US
    held = {(entry.time_us, entry.identity) for entry in state.entries}
    summed = [e for e in applied if order_of(e) not in held]
    assert len(held) == len(state.entries)
    for name in ("value", "other"):
        column = USUAL.fields.index(name)
        days = {"value": 3, "other": 1}[name]
        oldest = newest // HOUR_US - DAY_HOURS * days
        hours = Counter(
            e.time_us // HOUR_US for e in summed if e.data[name] is not None
        )
        assert {
            p.ordinal: p.summary.moments.n
            for p in state.panes
            if p.grid.column == column
        } == {hour: n for hour, n in hours.items() if hour >= oldest}


@settings(max_examples=200)
@given(arrivals())
def test_letting_events_go_changes_no_value(events: list[StampedEvent]) -> None:
    first = {(e.source, e.id): e for e in reversed(events) if not e.late}
    in_order = sorted(first.values(), key=lambda e: e.time_us)
    in_order = [replace(e, position=place(n)) for n, e in enumerate(in_order, start=1)]

    sealing, some = KeyState(USUAL).fold(in_order, emit=True)
    holding, all_ = KeyState(HELD).fold(in_order, emit=True)

    assert not holding.panes
    assert len(sealing.entries) <= len(holding.entries)
    for one, other in zip(some, all_, strict=True):
        assert one.features is not None
        assert other.features is not None
        assert _bits(one.features, other.features) == _bits(
            other.features, other.features
        )


@given(st.lists(adversarial, min_size=1, max_size=30), st.randoms(), st.booleans())
def test_sums_of_parts_in_any_order_are_the_sums_of_the_whole(
    values: list[float],
    random: Random,
    squares: bool,  # noqa: FBT001 - drawn
) -> None:
    whole = Moments.of(values, squares=squares)
    shuffled = values[:]
    random.shuffle(shuffled)
    parts = []
    while shuffled:
        cut = random.randint(1, len(shuffled))
        parts.append(Moments.of(shuffled[:cut], squares=squares))
        shuffled = shuffled[cut:]

    assert Moments.merge(parts) == whole
    assert whole.mean() == exact.mean(values)
    assert Fraction(whole.total, 2**whole.scale) == sum(map(Fraction, values))
    if squares:
        assert whole.std() == exact.std(values)


@settings(max_examples=200)
@given(arrivals(), arrivals())
def test_states_have_the_same_bytes_if_and_only_if_they_are_equal(
    events: list[StampedEvent], others: list[StampedEvent]
) -> None:
    one, _ = KeyState(USUAL).fold(events)
    other, _ = KeyState(USUAL).fold(others)
    without = replace(one, panes=one.panes[:-1])

    assert (one.encode() == other.encode()) == (one == other)
    assert (one.encode() == without.encode()) == (not one.panes)
    assert codec.decode(one.encode(), USUAL.digest)[2] == list(one.panes)


def _after(
    events: Sequence[StampedEvent], more: Sequence[StampedEvent]
) -> list[StampedEvent]:
    first = len(events) + 1
    return [replace(e, position=place(n)) for n, e in enumerate(more, start=first)]


def _bits(
    values: dict[str, float | None], names: dict[str, float | None]
) -> dict[str, str]:
    return {
        name: "null" if (v := values[name]) is None else float(v).hex()
        for name in names
    }
