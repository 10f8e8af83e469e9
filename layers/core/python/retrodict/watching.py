"""Watch a champion: measure windows of the log, and ask when an alarm says so.

Times come from what triggered the watching, never from a clock.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from retrodict.artifact import Artifact
from retrodict.drift import Measure, Profile
from retrodict.envelope import StampedEvent
from retrodict.lifecycle import Lifecycle
from retrodict.model import SCORE, Model
from retrodict.scoring import STREAM
from retrodict.stamps import to_text
from retrodict.system_events import DriftDetected, RetrainingRequested

SOURCE: Final = "urn:retrodict:watching"
DAY_US: Final = 86_400 * 1_000_000
COVERED: Final = 4
"""A column counts if it begins in the first quarter of the window and ends in the last.
"""


@dataclass(frozen=True, slots=True)
class Window:
    """What a window of the log gave.

    Attributes
    ----------
    rows
        Streamed predictions in it.
    measures
        None of them where the rows are too few.
    """

    until_us: int
    rows: int
    measures: list[Measure]


def measure_window(
    predictions: Iterable[StampedEvent], artifact: Artifact, model: Model, until_us: int
) -> Window:
    """Compare the window that ends at `until_us` with the champion's reference.

    Features count whichever model scored them; scores only those of this champion.
    A column that does not reach through the whole window is left out, be it new or
    silent: half a day of readings differs from a day of them by the hours alone.

    Parameters
    ----------
    predictions
        PredictionMade events, in any order, copies included.
    until_us
        End of the window in event time, microseconds.
    """
    start_us = until_us - model.monitor.window_us
    seen: set[str] = set()
    columns: dict[str, list[float]] = {name: [] for name in (*artifact.features, SCORE)}
    times_us: dict[str, list[int]] = {name: [] for name in columns}
    for prediction in predictions:
        data = prediction.data
        if (
            data["mode"] != STREAM
            or data["pipeline"] != artifact.pipeline
            or not start_us < data["as_of_us"] <= until_us
            or data["prediction_id"] in seen
        ):
            continue
        seen.add(data["prediction_id"])
        values = json.loads(data["features"])
        for name in artifact.features:
            if values.get(name) is not None:
                columns[name].append(float(values[name]))
                times_us[name].append(data["as_of_us"])
        if data["artifact_digest"] == artifact.digest:
            columns[SCORE].append(float(data["score"]))
            times_us[SCORE].append(data["as_of_us"])
    edge_us = model.monitor.window_us // COVERED
    enough = {
        name: values
        for name, values in columns.items()
        if len(values) >= model.monitor.min_rows
        and min(times_us[name]) <= start_us + edge_us
        and max(times_us[name]) > until_us - edge_us
    }
    profile = Profile.from_json(artifact.profile)
    return Window(until_us, len(seen), profile.measure(enough))


def drift_record(
    pipeline: str, alarm: str, asked_us: int, about: Mapping[str, Any]
) -> tuple[str, bytes]:
    """Return partition key and CloudEvent of a drift event.

    The id is the alarm and the moment it is about, so that saying it twice is once.

    Parameters
    ----------
    asked_us
        When the alarm rang, or was found still ringing, microseconds.
    about
        ``feature``, ``statistic``, ``value``, ``threshold``, ``sample_size`` and
        ``window_until_us``.
    """
    data = {"pipeline": pipeline, "alarm": alarm, **about}
    return _record(
        DriftDetected.contract(), pipeline, f"{alarm}/{asked_us}", asked_us, data
    )


def is_current(about: Mapping[str, Any], lifecycle: Lifecycle) -> bool:
    """Return whether a measurement is at its threshold or over, of what serves now."""
    champion = lifecycle.champion
    is_over = bool(about["value"] >= about["threshold"])
    return is_over and (
        champion is None or about["window_until_us"] > champion.promoted_us
    )


def age_request(
    pipeline: str, lifecycle: Lifecycle, model: Model, now_us: int
) -> tuple[str, bytes] | None:
    """Return a request for retraining where the champion is too old, once a day."""
    every_us, champion = model.retraining.every_us, lifecycle.champion
    if every_us is None or champion is None:
        return None
    age_us = now_us - champion.promoted_us
    if age_us < every_us:
        return None
    day = (age_us - every_us) // DAY_US
    data = {
        "pipeline": pipeline,
        "trigger": "schedule",
        "reason": f"the champion is of {to_text(champion.promoted_us)[:19]}, more than "
        f"{model.retraining.every} old",
        "options": "{}",
    }
    identity = f"{champion.artifact_digest[7:23]}/age/{day}"
    return _record(RetrainingRequested.contract(), pipeline, identity, now_us, data)


def _record(
    contract: Any, pipeline: str, identity: str, time_us: int, data: Mapping[str, Any]
) -> tuple[str, bytes]:
    document = {
        "specversion": "1.0",
        "id": identity,
        "source": SOURCE,
        "type": contract.type,
        "subject": pipeline,
        "time": to_text(time_us),
        "dataschema": contract.schema_name(),
        "data": dict(data),
    }
    return pipeline, json.dumps(document, sort_keys=True, allow_nan=False).encode()
