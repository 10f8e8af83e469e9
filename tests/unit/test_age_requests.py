"""An alarm outlives no champion, and an old champion is asked about once a day."""

import json
from dataclasses import replace
from typing import Any

import pytest
from retrodict.lifecycle import Champion, Lifecycle
from retrodict.model import Model, Retraining
from retrodict.pipeline import load_catalog
from retrodict.validation import Accepted, Arrival, validate
from retrodict.watching import DAY_US, age_request, drift_record, is_current

from tests.artifacts import PIPELINE
from tests.events import NOON_US, place

assert PIPELINE.model is not None
MODEL: Model = replace(PIPELINE.model, retraining=Retraining(every="7d"))
EVERY_US = 7 * DAY_US
CHAMPION = Champion(f"sha256:{'a' * 64}", "s3://b/k", "endpoint", "config", NOON_US)
SERVING = Lifecycle(champion=CHAMPION)
ABOUT = {
    "feature": "residual", "statistic": "psi", "value": 0.4, "threshold": 0.2,
    "sample_size": 70, "window_until_us": NOON_US + 1,
}  # fmt: skip


def asked(
    age_us: int, lifecycle: Lifecycle = SERVING, model: Model = MODEL
) -> dict[str, Any] | None:
    """Return the request at an age of the champion, its key checked."""
    found = age_request(PIPELINE.name, lifecycle, model, NOON_US + age_us)
    if found is None:
        return None
    key, raw = found
    assert key == PIPELINE.name
    document: dict[str, Any] = json.loads(raw)
    return document


@pytest.mark.parametrize(
    ("age_us", "is_asked"),
    [(0, False), (EVERY_US - 1, False), (EVERY_US, True), (9 * EVERY_US, True)],
)
def test_a_champion_is_old_at_its_age_and_not_before(
    age_us: int, *, is_asked: bool
) -> None:
    assert (asked(age_us) is not None) is is_asked


def test_nobody_asks_without_a_champion_or_without_an_age() -> None:
    ageless = replace(MODEL, retraining=Retraining(every=None))

    assert asked(99 * EVERY_US, Lifecycle()) is None
    assert asked(99 * EVERY_US, model=ageless) is None


def test_a_day_of_asking_has_one_id() -> None:
    def identity(age_us: int, lifecycle: Lifecycle = SERVING) -> str:
        document = asked(age_us, lifecycle)
        assert document is not None
        return str(document["id"])

    day = [identity(EVERY_US + offset) for offset in (0, 1, DAY_US - 1)]
    other = replace(CHAMPION, artifact_digest=f"sha256:{'b' * 64}")

    assert len(set(day)) == 1
    assert identity(EVERY_US + DAY_US) not in day
    assert identity(EVERY_US, Lifecycle(champion=other)) not in day


def test_a_request_is_valid_and_says_how_old_the_champion_is() -> None:
    found = age_request(PIPELINE.name, SERVING, MODEL, NOON_US + EVERY_US)

    assert found is not None
    key, raw = found
    verdict = validate(raw, Arrival(place(1), key, NOON_US + EVERY_US), load_catalog())
    assert isinstance(verdict, Accepted)
    assert verdict.event.time_us == NOON_US + EVERY_US
    assert verdict.event.data["trigger"] == "schedule"
    assert verdict.event.data["reason"] == (
        "the champion is of 2026-01-05T12:00:00, more than 7d old"
    )


@pytest.mark.parametrize(
    ("until_us", "is_so"), [(NOON_US - 1, False), (NOON_US, False), (NOON_US + 1, True)]
)
def test_a_window_counts_if_it_ended_after_the_champion_was_promoted(
    until_us: int, *, is_so: bool
) -> None:
    about = {**ABOUT, "window_until_us": until_us}

    assert is_current(about, SERVING) is is_so
    assert is_current(about, Lifecycle()) is True
    assert is_current({**about, "value": 0.1}, SERVING) is False


def test_drift_events_have_an_id_for_each_alarm_and_moment() -> None:
    def identity(alarm: str, asked_us: int, **about: object) -> str:
        key, raw = drift_record(PIPELINE.name, alarm, asked_us, {**ABOUT, **about})
        assert key == PIPELINE.name
        return str(json.loads(raw)["id"])

    ids = [identity(alarm, at) for alarm in ("a", "b") for at in (NOON_US, NOON_US + 1)]

    assert len(set(ids)) == 4
    assert identity("a", NOON_US, value=0.9) == ids[0]


def test_what_is_no_number_is_never_said() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        drift_record(PIPELINE.name, "a", NOON_US, {**ABOUT, "value": float("nan")})
