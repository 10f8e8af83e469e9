"""What becomes of an event that meets the state of its key."""

from dataclasses import replace

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict import codec
from retrodict.envelope import StampedEvent
from retrodict.errors import StateFormatError
from retrodict.features import feature_set, features, last, mean
from retrodict.state import KeyState, Outcome, order_of_knowing

from tests.events import place, reading


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
    long = "x" * 200
    number = limit // (len(long) + 100) + 300
    events = [
        reading(1.0, at_s=n / 100, id=f"{n}-{long}", number=n) for n in range(1, number)
    ]

    state, folded = KeyState(SENSOR).fold(events)
    again, redelivered = state.fold(events)

    assert folded[-1].outcome is Outcome.TOO_FAST
    assert len(state.encode()) <= limit
    assert again == state
    assert Outcome.APPLIED not in {one.outcome for one in redelivered}


def test_a_state_of_a_newer_codec_is_refused_by_number() -> None:
    blob = bytearray(KeyState(SENSOR).fold([reading(1.0)])[0].encode())
    blob[2] = 9

    with pytest.raises(StateFormatError, match="codec version 9"):
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


def test_a_log_is_replayed_by_position_and_each_position_once() -> None:
    first, second = reading(1.0, number=1), reading(2.0, id="2", number=2)

    assert order_of_knowing([second, first, replace(second)]) == [first, second]
