"""A copy of the log in a folder reads as the log does."""

from datetime import date
from pathlib import Path

import pytest
import retrodict
from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.envelope import StampedEvent
from retrodict.features import feature_set
from retrodict.point_in_time import manifest_of
from retrodict.ports import ColumnLog
from retrodict.replaying import replay, replay_log
from retrodict_aws.folder_event_log import FolderEventLog
from retrodict_aws.segments import encode

from tests.events import SECOND_US, reading

EVENTS = [
    reading(
        20.0 + n, at_s=n, id=str(n), number=n + 1, key=f"s-{n % 9}", data={"site": None}
    )
    for n in range(90)
]


@pytest.fixture
def log(tmp_path: Path) -> FolderEventLog:
    """Return a log with a compacted day and one that is not."""
    for bucket in range(BUCKETS):
        own = [e for e in EVENTS[:60] if bucket_of(e.key) == bucket]
        if own:
            own.sort(key=lambda event: (event.key, event.position))
            write(tmp_path, f"arrived=2026-01-05/bucket={bucket:02}/v1-ab", own)
    write(tmp_path, "arrived=2026-01-06/shard-0", EVENTS[50:])
    return FolderEventLog(tmp_path)


def write(folder: Path, name: str, events: list[StampedEvent]) -> None:
    path = folder / "type=sensor.reading" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(events, Reading.contract()))


def test_events_are_those_of_the_segments(log: FolderEventLog) -> None:
    assert isinstance(log, ColumnLog)
    assert {e.position: e for e in log.read()} == {e.position: e for e in EVENTS}
    assert {e.key for e in log.read(keys=["s-1"])} == {"s-1"}
    assert [*log.read(["another.type"])] == []
    later = [*log.read(arrived_from=date(2026, 1, 6))]
    assert later == EVENTS[50:]
    assert log.size_bytes("sensor.reading") > 0


def test_it_is_folded_and_joined_like_its_events(log: FolderEventLog) -> None:
    rows = [{"key": e.key, "time": e.time_us + SECOND_US} for e in EVENTS[::7]]
    rows.append({"key": "nobody", "time": EVENTS[0].time_us})
    sensor = feature_set(Sensor)

    assert replay_log(log) == replay(log.read())
    one = retrodict.training_set(log, rows, features=sensor)
    other = retrodict.training_set(EVENTS, rows, features=sensor)
    assert one.equals(other)
    assert manifest_of(one) == manifest_of(other)
