"""Merging segments changes their number, and nothing that anybody reads."""

import io
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.compaction import (
    DAY_US,
    GRACE_US,
    SETTLING_US,
    CompactionReport,
    compact_log,
    digest_of_events,
    once,
)
from retrodict.contracts import Event, Key
from retrodict.envelope import StampedEvent
from retrodict.errors import LogConflictError, StoreUnavailableError
from retrodict.pipeline import load_catalog
from retrodict_aws import s3_event_log
from retrodict_aws.s3_event_log import ROWS_DIGEST, S3EventLog
from retrodict_aws.segments import (
    LAYOUT,
    SAID,
    DamagedSegmentError,
    Segment,
    encode,
)

from tests.events import NOON_US, place, reading
from tests.fake_s3 import Crash, FakeS3
from tests.fakes import FakeQuarantine

GOLDEN = Path(__file__).parents[1] / "fixtures" / "segments"
DAY = "type=sensor.reading/arrived=2026-01-05"
NEXT = "type=sensor.reading/arrived=2026-01-06"
MIDNIGHT_US = NOON_US + DAY_US // 2
OVER_US = MIDNIGHT_US + SETTLING_US
KEYS = [f"s-{number}" for number in range(40)]


class Log:
    """A log over a bucket in memory, and the quarantine beside it."""

    def __init__(self, contracts: Any = None) -> None:
        self.s3 = FakeS3()
        self.s3.now_us = NOON_US
        self.quarantine = FakeQuarantine()
        known = load_catalog().contracts if contracts is None else contracts
        self.log = S3EventLog(self.s3, "log", contracts=known)

    def names(self) -> list[str]:
        return sorted(
            key.removeprefix("segments/").removesuffix(".parquet")
            for key in self.s3.objects
        )

    def merged(self) -> list[str]:
        return [name for name in self.names() if "/bucket=" in name]

    def run(self, now_us: int) -> CompactionReport:
        self.s3.now_us = now_us
        return compact_log(self.log, self.quarantine, now_us, lookback_days=30)

    def digest(self) -> str:
        return digest_of_events(self.log.read())


def events(
    count: int, *, seed: int = 1, start: int = 1, keys: int = len(KEYS)
) -> list[StampedEvent]:
    chance = random.Random(seed)
    return [
        reading(
            chance.random(), at_s=number, id=f"r-{number}", number=number,
            key=chance.choice(KEYS[:keys]), late=chance.random() < 0.1,
            data={"site": chance.choice([None, "hall"])},
        )
        for number in range(start, start + count)
    ]  # fmt: skip


def day_of_segments(world: Log, keys: int = len(KEYS)) -> list[StampedEvent]:
    """Write a day: three cuts that overlap, and a redelivered one."""
    known = events(60, keys=keys)
    for first, last in ((0, 25), (20, 45), (45, 60), (0, 10)):
        world.log.append(f"{DAY}/shard-{first}-{last}", known[first:last])
    return known


def by_position(found: Iterable[StampedEvent]) -> list[StampedEvent]:
    known = once(found)
    return [known[position] for position in sorted(known)]


def test_a_day_becomes_one_segment_a_bucket_sorted_by_key_and_position() -> None:
    world = Log()
    known = day_of_segments(world)
    before = world.digest()

    first = world.run(OVER_US)
    beside = world.names()
    second = world.run(OVER_US + GRACE_US)

    buckets = {bucket_of(event.key) for event in known}
    assert len(world.merged()) == len(buckets)
    assert len(beside) == len(buckets) + 4
    assert world.names() == world.merged()
    assert [*world.log.read()] == sorted(
        known, key=lambda e: (bucket_of(e.key), e.key, e.position)
    )
    assert world.digest() == before == digest_of_events(known)
    [written], [deleted] = first.compacted, second.compacted
    assert (len(written.written), written.deleted, written.waiting) == (
        len(buckets), (), 4
    )  # fmt: skip
    assert (deleted.written, len(deleted.deleted), deleted.waiting) == ((), 4, 0)
    assert written.digest == deleted.digest
    assert written.events == deleted.events == 60


def test_what_is_merged_is_left_alone_and_not_even_fetched() -> None:
    world = Log()
    day_of_segments(world)
    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)
    world.s3.fetched.clear()
    changes = world.s3.changes

    report = world.run(OVER_US + 2 * GRACE_US)

    assert (report.compacted, world.s3.fetched) == ([], [])
    assert world.s3.changes == changes


def test_a_day_that_is_not_over_is_left_alone() -> None:
    world = Log()
    day_of_segments(world)

    assert world.run(OVER_US - 1).compacted == []
    assert world.merged() == []


def test_sources_stay_for_the_time_of_grace() -> None:
    world = Log()
    day_of_segments(world)
    world.run(OVER_US)

    report = world.run(OVER_US + GRACE_US - 1)

    assert [done.deleted for done in report.compacted] == [()]
    assert len(world.names()) == len(world.merged()) + 4


def test_what_joins_a_merged_day_is_merged_again() -> None:
    world = Log()
    day_of_segments(world)
    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)
    late = events(30, seed=2, start=50)[11:]
    world.s3.now_us = OVER_US + GRACE_US + 1
    world.log.append(f"{DAY}/shard-late", late)
    before = world.digest()

    world.run(OVER_US + GRACE_US + 2)
    beside = world.digest()
    world.run(OVER_US + 2 * GRACE_US + 2)

    assert world.names() == world.merged()
    assert len(world.merged()) <= BUCKETS
    assert world.digest() == beside == before
    assert len(once(world.log.read())) == 79


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_crash_at_any_change_leaves_a_log_that_reads_the_same(
    *, before: bool
) -> None:
    crash_at, crashed = 0, True
    while crashed:
        crash_at, crashed = crash_at + 1, False
        world = Log()
        truth = day_of_segments(world, keys=4)
        world.log.append(f"{NEXT}/shard-60-70", events(5, start=61, keys=2))
        truth += events(5, start=61, keys=2)
        world.s3.changes, world.s3.crash_at, world.s3.before = 0, crash_at, before

        def look(world: Log = world, truth: list[StampedEvent] = truth) -> None:
            assert by_position(world.log.read()) == truth

        world.s3.watch = look
        for day in range(5):
            try:
                world.run(OVER_US + day * GRACE_US)
            except Crash:
                crashed = True
                look()
        kinds = {name.rpartition("/")[0] for name in world.merged()}
        assert world.names() == world.merged()
        assert len(world.names()) == len(kinds)
        look()
    assert crash_at > 10


def test_two_events_at_one_position_stop_the_merge_of_their_day_only() -> None:
    world = Log()
    world.log.append(f"{DAY}/shard-1", [reading(1.0, number=1)])
    world.log.append(f"{DAY}/shard-2", [reading(2.0, number=1)])
    world.log.append(f"{NEXT}/shard-3", [reading(3.0, number=3, id="3")])

    report = world.run(OVER_US + DAY_US)

    [failure] = report.failures
    assert "position" in failure
    assert "sensor.reading, 2026-01-05" in failure
    assert [name for name in world.merged() if name.startswith(DAY)] == []
    assert [name for name in world.merged() if name.startswith(NEXT)] != []


def test_a_merged_segment_that_does_not_hold_its_events_deletes_nothing() -> None:
    world = Log()
    day_of_segments(world)
    world.run(OVER_US)
    name, other = (f"segments/{name}.parquet" for name in world.merged()[:2])
    _, metadata, written_us = world.s3.objects[name]
    wrong, told, _ = world.s3.objects[other]
    metadata = {**told, ROWS_DIGEST: metadata[ROWS_DIGEST]}
    world.s3.objects[name] = (wrong, metadata, written_us)

    report = world.run(OVER_US + GRACE_US)

    assert "does not hold the events of its sources" in report.failures[0]
    assert len(world.names()) == len(world.merged()) + 4


def test_a_run_that_merges_otherwise_never_deletes_what_is_newer() -> None:
    world = Log(contracts={})
    day_of_segments(world)
    world.run(OVER_US)
    as_text = set(world.merged())
    world.log = S3EventLog(world.s3, "log", contracts=load_catalog().contracts)
    world.run(OVER_US + 1_000_000)
    typed = set(world.merged()) - as_text
    after = OVER_US + GRACE_US + 1_000_000

    world.log = S3EventLog(world.s3, "log", contracts={})
    world.run(after)
    kept = set(world.merged())
    world.log = S3EventLog(world.s3, "log", contracts=load_catalog().contracts)
    world.run(after)

    assert kept == typed | as_text
    assert set(world.names()) == typed


def test_versions_of_a_contract_are_merged_apart() -> None:
    class First(Event, type="sensor.reading", version=1):
        sensor_id: Key[str]
        value: float

    world = Log(contracts={"sensor.reading": First})
    old = reading(1.0, number=1)
    new = replace(reading(2.0, number=2, id="2"), schema_version=2)
    world.log.append(f"{DAY}/shard-1", [old])
    world.log.append(f"{DAY}/shard-2", [new])

    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)
    settled = world.run(OVER_US + 2 * GRACE_US)

    assert [name.rsplit("/", 1)[1][:2] for name in world.names()] == ["v1", "v2"]
    assert settled.compacted == []
    assert by_position(world.log.read()) == [old, new]


def test_segments_of_the_first_layout_are_merged_into_typed_ones() -> None:
    world = Log()
    golden = GOLDEN / "layout-1.sensor.reading.parquet"
    world.s3.put_object(
        Bucket="log", Key=f"segments/{DAY}/shard-1.parquet", Body=golden.read_bytes()
    )
    known = [*world.log.read()]

    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)

    layouts = {
        Segment("sensor.reading", io.BytesIO(body)).layout
        for body, _, _ in world.s3.objects.values()
    }
    assert world.names() == world.merged()
    assert layouts == {LAYOUT}
    assert by_position(world.log.read()) == known


def test_a_large_day_is_merged_in_passes_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = Log(), Log()
    day_of_segments(small)
    day_of_segments(large)
    small.run(OVER_US)
    monkeypatch.setattr("retrodict.compaction.PASS_BYTES", 1)
    [done] = large.run(OVER_US).compacted

    assert large.names() == small.names()
    assert done.events == 60


def test_a_run_without_time_leaves_the_rest_for_the_next() -> None:
    world = Log()
    day_of_segments(world)
    world.log.append(f"{NEXT}/shard-9", events(5, start=61))
    world.s3.now_us = OVER_US + DAY_US
    answers = iter([True, False])

    report = compact_log(
        world.log, world.quarantine, OVER_US + DAY_US, lookback_days=30,
        has_time=lambda: next(answers),
    )  # fmt: skip

    assert (len(report.compacted), report.unfinished) == (1, 1)


# --- identities -----------------------------------------------------------------------


def test_an_identity_with_another_payload_on_another_day_is_quarantined() -> None:
    world = Log()
    first = reading(1.0, number=1)
    again = reading(2.0, number=9_000, at_s=86_400)
    assert first.digest != again.digest
    world.log.append(f"{DAY}/shard-1", [first, reading(5.0, number=2, id="2")])
    world.log.append(f"{NEXT}/shard-2", [again])

    report = world.run(OVER_US + DAY_US)
    documents = [*world.quarantine.read()]

    assert report.conflicts == 2  # seen from both days, and kept under each
    assert {document["position"] for document in documents} == {place(9_000)}
    assert {tuple(document["codes"]) for document in documents} == {
        ("identity_conflict",)
    }
    assert {document["id"] for document in documents} == {"1"}
    assert world.run(OVER_US + DAY_US + GRACE_US).conflicts == 0


def test_an_identity_with_the_same_payload_is_no_conflict() -> None:
    world = Log()
    world.log.append(f"{DAY}/shard-1", [reading(1.0, number=1)])
    world.log.append(f"{NEXT}/shard-2", [reading(1.0, number=7)])

    report = world.run(OVER_US + DAY_US)

    assert (report.conflicts, world.quarantine.documents) == (0, {})


def test_an_identity_that_two_keys_use_is_counted_and_not_quarantined() -> None:
    world = Log()
    world.log.append(f"{DAY}/shard-1", [reading(1.0, number=1)])
    world.log.append(f"{NEXT}/shard-2", [reading(1.0, number=2, key="s-2")])

    report = world.run(OVER_US)

    assert (report.conflicts, report.across_keys) == (0, 1)
    assert world.quarantine.documents == {}


# --- reading meanwhile ----------------------------------------------------------------


def test_a_reader_that_meets_a_segment_that_has_gone_lists_again() -> None:
    world = Log()
    known = day_of_segments(world)
    reader = S3EventLog(world.s3, "log")

    reading_on = reader.read()
    first = next(reading_on)
    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)

    assert world.names() == world.merged()
    assert by_position([first, *reading_on]) == known


def test_a_reader_gives_up_on_segments_that_go_faster_than_it_lists() -> None:
    world = Log()
    day_of_segments(world)

    def go(key: str) -> None:
        entry = world.s3.objects.pop(key)
        world.s3.objects[key.replace(".parquet", "+.parquet")] = entry

    world.s3.before_get = go

    with pytest.raises(StoreUnavailableError, match="read again"):
        list(world.log.read())


def test_what_fits_into_one_pass_is_fetched_once() -> None:
    world = Log()
    day_of_segments(world)
    sources = world.names()
    world.s3.fetched.clear()

    world.run(OVER_US)

    names = [f"segments/{name}.parquet" for name in [*sources, *world.merged()]]
    assert sorted(name for name, _ in world.s3.fetched) == sorted(names)


def test_merged_segments_of_other_keys_are_not_fetched() -> None:
    world = Log()
    known = day_of_segments(world)
    world.run(OVER_US)
    world.run(OVER_US + GRACE_US)
    key = known[0].key
    world.s3.fetched.clear()

    found = [*world.log.read(keys=[key])]

    assert found == [event for event in known if event.key == key]
    assert {f"bucket={bucket_of(key):02}" in name for name, _ in world.s3.fetched} == {
        True
    }
    world.s3.fetched.clear()
    assert [*world.log.read(buckets=[bucket_of(key)], keys=[key])] == found
    assert [*world.log.read(buckets=[(bucket_of(key) + 1) % BUCKETS], keys=[key])] == []
    assert len({name for name, _ in world.s3.fetched}) == 1


def _flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


@pytest.mark.parametrize("whole_bytes", [0, s3_event_log.WHOLE_BYTES])
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:0],
        lambda body: body[: len(body) // 2],
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2] + bytes(len(body) - len(body) // 2),
        lambda body: _flipped(body, 5),
        lambda body: _flipped(body, len(body) // 2),
        lambda body: _flipped(body, len(body) - 9),
        lambda _: encode([reading(1.0)], None),
    ],
    ids=["empty", "half", "short", "zeros", "page", "middle", "footer", "other"],
)
def test_a_damaged_segment_is_named_by_every_reader_and_never_merged(
    damage: Callable[[bytes], bytes], whole_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_event_log, "WHOLE_BYTES", whole_bytes)
    world = Log()
    day_of_segments(world)
    name = world.names()[1]
    key = f"segments/{name}.parquet"
    body, metadata, written_us = world.s3.objects[key]
    world.s3.objects[key] = (damage(body), metadata, written_us)
    (file,) = [f for p in world.log.partitions() for f in p.files if f.name == name]
    readers: list[Callable[[], object]] = [
        lambda: [*world.log.read()],
        lambda: [*world.log.tables("sensor.reading")],
        lambda: world.log.events_of(file, keys=["s-1"]),
        lambda: world.log.table_of([file]),
        lambda: world.log.columns_of([file], ["key"]),
    ]

    for read in readers:
        with pytest.raises(DamagedSegmentError, match="restore the version") as caught:
            read()
        assert caught.value.name == name
    before = world.names()
    for now_us in (OVER_US, OVER_US + GRACE_US):
        (failure,) = world.run(now_us).failures
        assert name in failure
    assert world.names() == before

    world.s3.objects[key] = (body, metadata, written_us)
    assert world.run(OVER_US).failures == []


def test_of_a_segment_that_is_not_fetched_whole_every_page_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_event_log, "WHOLE_BYTES", 0)
    monkeypatch.setattr(s3_event_log, "TAIL_BYTES", 64)
    world = Log()
    day_of_segments(world)
    key = f"segments/{world.names()[1]}.parquet"
    body, *_ = sound = world.s3.objects[key]
    group = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0)
    chunks = [group.column(place) for place in range(group.num_columns)]

    for chunk in chunks:
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        last = start + chunk.total_compressed_size - 1
        world.s3.objects[key] = (_flipped(body, last), *sound[1:])
        with pytest.raises(DamagedSegmentError):
            [*world.log.read()]


def test_of_a_segment_without_a_digest_every_page_is_checked() -> None:
    world = Log()
    day_of_segments(world)
    [partition] = world.log.partitions()
    key = f"segments/{partition.files[1].name}.parquet"
    body, _, written_us = world.s3.objects[key]
    group = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0)

    for chunk in map(group.column, range(group.num_columns)):
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        last = start + chunk.total_compressed_size - 1
        world.s3.objects[key] = (_flipped(body, last), {}, written_us)
        with pytest.raises(DamagedSegmentError):
            [*world.log.read()]
        if chunk.path_in_schema.partition(".")[0] in SAID:
            with pytest.raises(DamagedSegmentError):
                world.log.table_of(partition.files)


def test_a_segment_of_before_has_no_digest_and_is_read() -> None:
    world = Log()
    day_of_segments(world)
    told = digest_of_events(world.log.read())
    for key, (body, _, written_us) in world.s3.objects.items():
        world.s3.objects[key] = (body, {}, written_us)

    assert digest_of_events(world.log.read()) == told


def test_of_a_large_segment_only_what_is_asked_for_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_event_log, "WHOLE_BYTES", 0)
    monkeypatch.setattr("retrodict_aws.segments.ROWS_OF_A_GROUP", 1_000)
    world = Log()
    known = sorted(events(20_000), key=lambda e: (e.key, e.position))
    world.log.append(f"{DAY}/shard-1", known)
    [(body, _, _)] = world.s3.objects.values()

    def bytes_of(found: list[tuple[str, str]]) -> int:
        spans = [span.removeprefix("bytes=").split("-") for _, span in found]
        return sum(int(last) - int(first) + 1 for first, last in spans)

    one = [*world.log.read(keys=[KEYS[0]])]
    for_one = bytes_of(world.s3.fetched)
    world.s3.fetched.clear()
    [partition] = world.log.partitions()
    identities = world.log.columns_of(partition.files, ["key", "source", "id"])
    for_identities = bytes_of(world.s3.fetched)

    assert one == [event for event in known if event.key == KEYS[0]]
    assert for_one < len(body) / 5
    assert identities.num_rows == 20_000
    assert for_identities < len(body)
    world.s3.objects.clear()
    with pytest.raises(StoreUnavailableError, match="has gone"):
        world.log.events_of(partition.files[0], keys=["s-1"])


def test_a_digest_knows_every_event_once_in_the_order_of_knowing() -> None:
    known = events(20)

    assert digest_of_events([*reversed(known), *known]) == digest_of_events(known)
    assert digest_of_events(known[1:]) != digest_of_events(known)
    changed = replace(known[3], late=not known[3].late)
    assert digest_of_events([*known[:3], changed, *known[4:]]) != (
        digest_of_events(known)
    )
    minus, plus = (replace(known[0], data={"value": v}) for v in (-0.0, 0.0))
    assert digest_of_events([minus]) != digest_of_events([plus])
    with pytest.raises(LogConflictError, match="holds two different events"):
        digest_of_events([minus, plus])
