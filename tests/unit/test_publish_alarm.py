"""Alarms come back as events: each ring once, and again only while it is still so."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from retrodict.lifecycle import ChampionPromoted, decided
from retrodict.pipeline import load_catalog
from retrodict.validation import Accepted, Arrival, validate
from retrodict_aws.cloudwatch_drift import DriftAlarm, NoMeasurementError

from tests.artifacts import PIPELINE, RUN
from tests.events import NOON_US, place
from tests.fakes import FakeIngestStream, FakeLifecycleStore

HANDLER = Path(__file__).parents[2] / "functions/publish_alarm/handler.py"
MINUTE_US = 60_000_000
DAY_US = 1_440 * MINUTE_US


class FakeDrift:
    """Alarms that ring, and their newest values; None where nothing is measured."""

    def __init__(self, **values: float | None) -> None:
        self.values = values
        self.measured_us = NOON_US

    def ringing(self) -> Iterator[DriftAlarm]:
        for name in self.values:
            yield self.alarm(name)

    def alarm(self, name: str) -> DriftAlarm:
        dimensions = {"pipeline": PIPELINE.name, "feature": name, "statistic": "psi"}
        return DriftAlarm(name, "DriftRatio", dimensions, NOON_US)

    def about(self, alarm: DriftAlarm, _until_us: int) -> dict[str, Any]:
        value = self.values[alarm.name]
        if value is None:
            raise NoMeasurementError(alarm.name)
        return {
            "feature": alarm.name, "statistic": "psi", "value": value,
            "threshold": 0.2, "sample_size": 70, "window_until_us": self.measured_us,
        }  # fmt: skip


@pytest.fixture(scope="module")
def function() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_alarm_handler", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def promoted(at_us: int) -> FakeLifecycleStore:
    """Return a store in which a champion serves since a time."""
    store = FakeLifecycleStore()
    champion = decided(
        ChampionPromoted,
        at_us,
        pipeline=PIPELINE.name,
        run_id=RUN,
        artifact_digest=f"sha256:{'a' * 64}",
        artifact_uri="s3://bucket/artifacts/x/model.tar.gz",
        endpoint_name="endpoint",
        config_name="config",
    )
    store.append(PIPELINE.name, [champion], expected_version=0)
    return store


def asked(stream: FakeIngestStream) -> list[tuple[str, str]]:
    """Return type and what each valid event is about."""
    found = []
    for number, (key, raw) in enumerate(stream.records, start=1):
        verdict = validate(
            raw, Arrival(place(number), key, NOON_US + 60 * DAY_US), load_catalog()
        )
        assert isinstance(verdict, Accepted), verdict
        data = json.loads(raw)["data"]
        found.append((verdict.event.type, data.get("feature", data.get("trigger"))))
    return found


DRIFT = "retrodict.drift.detected"


def test_a_ring_is_an_event_and_told_twice_it_is_the_same(function: ModuleType) -> None:
    drift, stream = FakeDrift(residual=0.4), FakeIngestStream()

    for _ in range(2):
        function.publish(drift.alarm("residual"), NOON_US, drift, stream)

    assert asked(stream)[0] == (DRIFT, "residual")
    assert stream.records[0] == stream.records[1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"residual": 0.4}, [(DRIFT, "residual")]),
        ({"residual": 0.4, "trend": 0.9}, [(DRIFT, "residual")]),
        ({"residual": 0.1, "trend": 0.9}, [(DRIFT, "trend")]),
        ({"residual": None, "trend": 0.9}, [(DRIFT, "trend")]),
        ({"residual": None, "trend": 0.1}, []),
        ({}, []),
    ],
    ids=["rings", "once", "another rings", "unmeasured", "all of the past", "calm"],
)
def test_what_still_rings_is_asked_about_again_once_a_pipeline(
    function: ModuleType,
    values: dict[str, float | None],
    expected: list[tuple[str, str]],
) -> None:
    drift, stream = FakeDrift(**values), FakeIngestStream()

    function.ask_again(NOON_US + 1, drift, promoted(NOON_US - DAY_US), stream)

    assert asked(stream) == expected


def test_what_rang_of_the_champion_before_is_not_asked_about(
    function: ModuleType,
) -> None:
    drift, stream = FakeDrift(residual=0.4), FakeIngestStream()

    function.ask_again(NOON_US + 2, drift, promoted(NOON_US + 1), stream)

    assert asked(stream) == []


def test_a_champion_that_is_too_old_is_asked_about_once_a_day(
    function: ModuleType,
) -> None:
    assert PIPELINE.model is not None
    every_us = PIPELINE.model.retraining.every_us
    assert every_us is not None
    store, stream = promoted(NOON_US), FakeIngestStream()

    for hours in (-1, 0, 3, 21, 24):
        now_us = NOON_US + every_us + hours * 60 * MINUTE_US
        function.ask_again(now_us, FakeDrift(), store, stream)

    assert {kind for kind, _ in asked(stream)} == {"retrodict.retraining.requested"}
    ids = [json.loads(raw)["id"] for _, raw in stream.records]
    assert len(ids) == 4
    assert len(set(ids)) == 2
