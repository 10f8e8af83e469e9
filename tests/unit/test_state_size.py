"""What a key costs: states stay small, and nothing in them is dropped in silence."""

from dataclasses import replace
from random import Random

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict import windows
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import KeyState, Outcome
from retrodict.vocabulary import last, maximum, mean, minimum, std
from retrodict.windows import identity_of

from tests.events import reading

KIB = 1024
HOUR_S = 3_600


@features(Reading, lateness="10m", max_rate="1/s")
class Fast:
    """A sensor at 1 Hz: ten minutes of window, ten of lateness."""

    mean_10m = mean(Reading.value, last("10m"))
    std_10m = std(Reading.value, last("10m"))


@features(Reading, lateness="10m", max_rate="1/m")
class Long:
    """A week by the hour, with everything that a pane can keep."""

    mean_7d = mean(Reading.value, last("7d", every="1h"))
    std_7d = std(Reading.value, last("7d", every="1h"))
    low_7d = minimum(Reading.value, last("7d", every="1h"))
    high_7d = maximum(Reading.value, last("7d", every="1h"))


def size_after(definition: FeatureSet, every_s: float, length_s: int) -> int:
    """Return the encoded size of a key that sent for so long, with jitter."""
    random = Random(3)
    state, at_s, number = KeyState(definition), 0.0, 0
    batch = []
    while at_s < length_s:
        number += 1
        at_s += every_s
        when = at_s + random.randrange(1_000_000) / 1e6 * min(every_s, 1)
        value = random.gauss(20, 5)
        batch.append(reading(value, at_s=when, id=f"{number:032x}", number=number))
    state, folded = state.fold(batch)
    assert {one.outcome for one in folded} == {Outcome.APPLIED}
    return len(state.encode())


def test_a_sensor_at_1_hz_with_ten_and_ten_minutes_is_under_32_kib() -> None:
    size = size_after(feature_set(Fast), 1.0, 2 * HOUR_S)

    assert size < 32 * KIB


def test_a_week_by_the_hour_is_under_64_kib() -> None:
    size = size_after(feature_set(Long), 60.0, 8 * 24 * HOUR_S)

    assert size < 64 * KIB


def test_two_events_of_one_identity_digest_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def narrow(source: str, id: str) -> int:  # noqa: A002 - the CloudEvents name
        return identity_of(source, id) % 1

    monkeypatch.setattr("retrodict.state.identity_of", narrow)
    one = reading(20.0, at_s=0, id="1", number=1)
    other = reading(21.0, at_s=5, id="2", number=2)
    again = replace(one, position=reading(0.0, number=3).position)

    _, folded = KeyState(feature_set(Fast)).fold([one, other, again])

    assert windows.identity_of("plant", "1") != windows.identity_of("plant", "2")
    outcomes = [found.outcome for found in folded]
    assert outcomes == [Outcome.APPLIED, Outcome.CONFLICTING, Outcome.DUPLICATE]
