"""What becomes of an event that meets the state of its key."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict import codec
from retrodict.envelope import StampedEvent
from retrodict.errors import StateFormatError
from retrodict.features import FeatureSet, feature_set, features
from retrodict.panes import Grid, Pane, Summary
from retrodict.state import KeyState, Outcome, order_of_knowing
from retrodict.statistics import Moments
from retrodict.vocabulary import last, mean, same_hour_mean, same_hour_std
from retrodict.windows import HOUR_US

from tests.events import NOON_US, SECOND_US, place, reading


@features(Reading, lateness="1m", max_rate="1/s")
class Sensor:
    """Window 1 minute, lateness 1 minute: the horizon lies 7 minutes back."""

    mean_1m = mean(Reading.value, last("1m"))
    mean_2 = mean(Reading.value, last(2))


SENSOR = feature_set(Sensor)
HORIZON_S = 7 * 60


def outcome_of(*events: StampedEvent) -> list[Outcome]:
    _, folded = KeyState(SENSOR).fold(events)
    return [one.outcome for one in folded]


def test_the_same_event_again_is_a_duplicate() -> None:
    assert outcome_of(reading(1.0), reading(1.0, number=2)) == [
        Outcome.APPLIED,
        Outcome.DUPLICATE,
    ]


def test_a_used_identity_with_another_payload_conflicts_and_the_first_stays() -> None:
    state, folded = KeyState(SENSOR).fold([reading(1.0), reading(2.0, number=2)])

    assert folded[1].outcome is Outcome.CONFLICTING
    assert state.features["mean_2"] == 1.0
    assert state.position == place(1)


def test_a_late_event_is_not_folded() -> None:
    assert outcome_of(reading(1.0, late=True)) == [Outcome.LATE]


@pytest.mark.parametrize(
    ("at_s", "outcome"),
    [(-HORIZON_S + 0.000001, Outcome.APPLIED), (-HORIZON_S, Outcome.BEHIND)],
    ids=["just inside", "on the horizon"],
)
def test_an_event_on_the_horizon_is_behind(at_s: float, outcome: Outcome) -> None:
    events = [reading(1.0), reading(2.0, at_s=at_s, id="2", number=2)]

    assert outcome_of(*events)[1] is outcome


def test_what_last_n_still_needs_outlives_the_horizon() -> None:
    state, _ = KeyState(SENSOR).fold(
        [reading(float(n), at_s=n, id=str(n), number=n) for n in range(1, 4)]
        + [reading(9.0, at_s=3600, id="9", number=4)]
    )

    assert [entry.values[0] for entry in state.entries] == [2.0, 3.0, 9.0]
    assert state.features == {"mean_1m": 9.0, "mean_2": 6.0}


def test_a_key_beyond_its_rate_is_turned_away_and_never_truncated() -> None:
    small = KeyState(SENSOR).definition
    limit = small.state_limit_bytes
    most = limit // codec.entry_bytes(1)
    events = [
        reading(1.0, at_s=n / 100, id=str(n), number=n) for n in range(1, most + 9)
    ]

    state, folded = KeyState(SENSOR).fold(events)
    again, redelivered = state.fold(events)

    assert folded[-1].outcome is Outcome.TOO_FAST
    assert len(state.encode()) <= limit
    assert again == state
    assert Outcome.APPLIED not in {one.outcome for one in redelivered}


def test_who_was_turned_away_stays_so_when_there_is_room_again() -> None:
    most = SENSOR.state_limit_bytes // codec.entry_bytes(1)
    burst = [
        reading(1.0, at_s=n / 100, id=str(n), number=n) for n in range(1, most + 9)
    ]
    full, folded = KeyState(SENSOR).fold(burst)
    turned_away = next(f.event for f in folded if f.outcome is Outcome.TOO_FAST)
    horizon_s = SENSOR.kept_us / SECOND_US
    later = reading(2.0, at_s=horizon_s + 5, id="later", number=len(burst) + 1)
    roomy, (applied,) = full.fold([later])

    after, (again,) = roomy.fold([turned_away])

    assert applied.outcome is Outcome.APPLIED
    assert turned_away.time_us > later.time_us - SENSOR.kept_us
    assert len(roomy.encode()) < len(full.encode()) - 1_000
    assert again.outcome is Outcome.DUPLICATE
    assert after == roomy


def test_a_state_of_a_newer_codec_is_refused_by_number() -> None:
    blob = bytearray(KeyState(SENSOR).fold([reading(1.0)])[0].encode())
    blob[2] = 9

    with pytest.raises(StateFormatError, match="codec version 9"):
        KeyState.decode(SENSOR, bytes(blob))


def test_a_state_of_an_older_codec_is_to_be_rebuilt() -> None:
    blob = bytearray(KeyState(SENSOR).fold([reading(1.0)])[0].encode())
    blob[2] = codec.VERSION - 1

    with pytest.raises(StateFormatError, match="rebuild the online store"):
        KeyState.decode(SENSOR, bytes(blob))


def test_a_state_of_another_definition_is_refused() -> None:
    blob = codec.encode("ab" * 32, "", 1, [])

    with pytest.raises(StateFormatError, match="abababababab"):
        KeyState.decode(SENSOR, blob)


@pytest.mark.parametrize("cut", [0, 2, 20, 60, -1])
def test_a_state_cut_short_is_refused(cut: int) -> None:
    blob = KeyState(SENSOR).fold([reading(1.0)])[0].encode()

    with pytest.raises(StateFormatError):
        KeyState.decode(SENSOR, blob[:cut])


# --- hours instead of events ----------------------------------------------------------


@features(Reading, lateness="1m", max_rate="1/s")
class Usual:
    """The horizon lies 6 minutes back; one event behind it is held."""

    usual = same_hour_mean(Reading.value, days=2)


@features(Reading, lateness="1m", max_rate="1/s")
class Spread:
    """The same, with squares, and over more days."""

    spread = same_hour_std(Reading.value, days=7)


HOURS = Grid(HOUR_US, 0)
USUAL, SPREAD = feature_set(Usual), feature_set(Spread)


def hourly(values: Sequence[float], definition: FeatureSet = USUAL) -> KeyState:
    """Fold one event every 20 minutes from noon on, one batch each."""
    state = KeyState(definition)
    for number, value in enumerate(values):
        event = reading(value, at_s=number * 1200, id=str(number), number=number + 1)
        state, _ = state.fold([event])
    return state


def test_an_event_behind_the_horizon_becomes_part_of_its_hour() -> None:
    state = hourly([1.5, 2.0, 3.0, 5.0, 8.0])

    noon = NOON_US // HOUR_US
    assert [entry.values[0] for entry in state.entries] == [5.0, 8.0]
    assert state.panes == (Pane(HOURS, noon, Summary(Moments(3, 13, None, 1))),)


def test_squares_are_kept_only_where_a_spread_reads_them() -> None:
    assert hourly([1.5, 2.0, 3.0, 5.0, 8.0], SPREAD).panes[0].summary == (
        Moments(3, 13, 61, 1),
        None,
    )


def test_hours_that_nothing_reads_any_more_are_forgotten() -> None:
    state = hourly([float(n) for n in range(3 * 24 * 5)])

    newest = (state.time_us or 0) // HOUR_US
    assert [p.ordinal for p in state.panes] == list(range(newest - 2 * 24, newest + 1))


@pytest.mark.parametrize("definition", [USUAL, SPREAD], ids=["sum", "squares"])
def test_states_with_hours_survive_their_codec(definition: FeatureSet) -> None:
    state = hourly([20.1 + n / 7 for n in range(200)], definition)

    assert KeyState.decode(definition, state.encode()) == state
    assert state.encode()[2] == codec.VERSION


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_hours_cut_short_are_refused(cut: int) -> None:
    blob = hourly([20.1 + n / 7 for n in range(30)]).encode()

    with pytest.raises(StateFormatError, match="cut short"):
        KeyState.decode(USUAL, blob[:-cut])


def test_bytes_behind_a_state_are_refused() -> None:
    with pytest.raises(StateFormatError, match="1 bytes follow"):
        KeyState.decode(USUAL, hourly([1.0]).encode() + b"!")


def test_sums_of_the_widest_doubles_never_outgrow_the_item() -> None:
    wide = [1.7e308, -1.7e308, 5e-324, 1.1e-300]

    def event(number: int, at_s: float) -> StampedEvent:
        value = wide[number % len(wide)]
        return reading(value, at_s=at_s, id=str(number), number=number)

    days = [event(n, n * 900) for n in range(1, 4 * 24 * 8)]
    state, _ = KeyState(SPREAD).fold(days)
    limit = SPREAD.state_limit_bytes
    burst = [
        event(number, len(days) * 900 + number / 100)
        for number in range(len(days) + 1, len(days) + limit // 29)
    ]
    whole, folded = state.fold(burst)
    parts, _ = state.fold(burst[:700])
    parts, _ = KeyState.decode(SPREAD, parts.encode()).fold(burst[700:])

    assert len(state.panes) > 7 * 24
    assert folded[-1].outcome is Outcome.TOO_FAST
    assert limit // 2 < len(whole.encode()) <= limit
    assert parts == whole


def test_a_log_is_replayed_by_position_and_each_position_once() -> None:
    first, second = reading(1.0, number=1), reading(2.0, id="2", number=2)

    assert order_of_knowing([second, first, replace(second)]) == [first, second]
