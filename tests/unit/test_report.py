"""A report tells the whole story in one file, and treats data as data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.sensor_anomaly import pipeline
from retrodict.envelope import StampedEvent

from cli.history import History
from cli.report import label_windows, most_alerted, page
from cli.story import Decision, DriftSeries, Story
from tests.events import NOON_US, place, reading

HOUR_US = 3_600_000_000


def event(event_type: str, key: str, number: int, data: Mapping[str, Any]) -> Any:
    return StampedEvent(
        key=key,
        source="urn:test",
        id=f"{event_type}-{number}",
        type=event_type,
        schema_version=1,
        time_us=NOON_US + number * HOUR_US,
        observed_at_us=NOON_US + number * HOUR_US,
        position=place(number),
        late=False,
        tags=(),
        digest="0" * 64,
        data=dict(data),
    )


def prediction(key: str, number: int, *, alert: bool, onset: bool) -> StampedEvent:
    data = {
        "prediction_id": f"{number:032x}", "pipeline": "sensor_anomaly",
        "mode": "stream", "score": 0.5, "threshold": 0.4, "is_alert": alert,
        "is_onset": onset, "artifact_digest": "sha256:" + "0" * 64, "features": "{}",
        "as_of_us": NOON_US + number * HOUR_US, "position": None, "latency_us": 900,
    }  # fmt: skip
    found: StampedEvent = event("retrodict.prediction.made", key, number, data)
    return found


def judged(digest: str, *, passed: bool) -> Decision:
    data = {
        "run_id": f"run-{digest}", "artifact_digest": "sha256:" + digest * 64,
        "champion_digest": None, "passed": passed, "reason": "told <b>why</b>",
        "basis": "injected", "roc_auc": 0.9, "pr_auc": 0.5, "alert_rate": 0.01,
        "champion_roc_auc": None, "champion_pr_auc": None, "agreement": None,
    }  # fmt: skip
    return Decision("candidate_judged", NOON_US, data)


def story(
    *,
    readings: Sequence[StampedEvent] = (),
    predictions: Sequence[StampedEvent] = (),
    decisions: Sequence[Decision] = (),
    drift: Sequence[DriftSeries] = (),
    labels: Sequence[StampedEvent] = (),
) -> Story:
    return Story(
        pipeline=pipeline,
        history=History([]),
        readings=readings,
        predictions=predictions,
        decisions=decisions,
        drift_events=[],
        labels=labels,
        drift=drift,
        quarantined=Counter({"out_of_range": 3}),
        rejected=3,
        refused=3,
    )


def test_an_empty_story_is_a_report_too() -> None:
    text = page(story(), None)

    assert "no window was measured yet" in text
    assert text.count("<svg") == 5


def test_a_full_story_draws_its_entity() -> None:
    readings = [
        replace(reading(20.0 + n, at_s=n * 3600, id=str(n), number=n + 1))
        for n in range(5)
    ]
    predictions = [
        prediction("s-1", 3, alert=True, onset=True),
        prediction("s-1", 4, alert=True, onset=False),
    ]
    series = DriftSeries("residual", "psi", [NOON_US, NOON_US + HOUR_US], [0.4, 1.7])

    text = page(
        story(
            readings=readings,
            predictions=predictions,
            decisions=[judged("a", passed=True), judged("b", passed=False)],
            drift=[series],
        ),
        "s-1",
    )

    assert "Scores and alerts of s-1" in text
    assert "residual psi" in text
    assert text.count("<svg") == 6


def test_what_a_producer_wrote_is_never_markup() -> None:
    text = page(story(decisions=[judged("a", passed=False)]), None)

    assert "told <b>why</b>" not in text
    assert "told &lt;b&gt;why&lt;/b&gt;" in text


def test_the_same_story_gives_the_same_bytes() -> None:
    told = story(predictions=[prediction("s-1", 3, alert=True, onset=True)])

    assert page(told, "s-1") == page(told, "s-1")


def test_the_entity_with_the_most_onsets_is_shown() -> None:
    predictions = [
        prediction("s-1", 1, alert=True, onset=True),
        prediction("s-2", 2, alert=True, onset=True),
        prediction("s-2", 3, alert=True, onset=True),
    ]

    assert most_alerted(story(predictions=predictions)) == "s-2"


def test_labels_close_to_each_other_are_one_stretch() -> None:
    labels = [
        event("retrodict.label.given", "s-1", n, {"is_anomaly": True, "at_us": at})
        for n, at in enumerate([0, HOUR_US, 20 * HOUR_US])
    ]

    assert label_windows(story(labels=labels), "s-1") == [
        (0, HOUR_US),
        (20 * HOUR_US, 20 * HOUR_US),
    ]
