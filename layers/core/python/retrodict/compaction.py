"""Merge the segments of a day of arrival into few, without changing what they say.

A run writes the merged segments of a partition, reads them back, and deletes nothing.
A later run, a day of grace after they were written, reads everything again, and only
where the merged segments hold each event of the partition deletes the others. It
keeps no notes: what is done follows from what is there, so a crash anywhere leaves a
log that reads the same, and the next run goes on.

Redelivery makes segments overlap, and so does compaction until the sources go. A
position is one event, so a reader that takes each position once sees no difference.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final

from retrodict.buckets import BUCKETS
from retrodict.envelope import StampedEvent
from retrodict.errors import LogConflictError, PermanentError
from retrodict.merging import merged
from retrodict.ports import LogPartition, Quarantine, SegmentFile, SegmentStore
from retrodict.rejection import rejections_of
from retrodict.reuse import Reuse, reuse_in
from retrodict.stamps import from_text
from retrodict.state import Folded, Outcome
from retrodict.table_digest import digest_of_table, is_same

GRACE_US: Final = 86_400_000_000
"""How long merged segments stand beside their sources, microseconds."""

SETTLING_US: Final = 3_600_000_000
"""How long after its end a day of arrival counts as over, microseconds."""

PASS_BYTES: Final = 128 << 20
"""Parquet that one pass over a partition may bring into memory at once."""

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

DAY_US: Final = timedelta(days=1) // timedelta(microseconds=1)


def digest_of_events(events: Iterable[StampedEvent]) -> str:
    """Return one digest over `events`, each position once, in order of position.

    Two logs have one digest exactly if every reader sees the same events in the same
    order, however often and in whichever segments they are held.

    Raises
    ------
    LogConflictError
        Two different events claim one position.
    """
    known = once(events)
    digest = hashlib.sha256()
    for position in sorted(known):
        digest.update(_canonical(known[position]))
    return digest.hexdigest()


def once(events: Iterable[StampedEvent]) -> dict[str, StampedEvent]:
    """Return `events` by position.

    Raises
    ------
    LogConflictError
        Two different events claim one position.
    """
    known: dict[str, StampedEvent] = {}
    for event in events:
        other = known.setdefault(event.position, event)
        if other is not event and _canonical(other) != _canonical(event):
            raise LogConflictError(
                f"position {event.position!r} holds two different events: find out "
                "who wrote to the log; its segments were left as they are"
            )
    return known


def _canonical(event: StampedEvent) -> bytes:
    """Return all that an event says, in one spelling."""
    text = _ENCODER.encode(
        [
            event.position, event.type, event.schema_version, event.key, event.source,
            event.id, event.time_us, event.observed_at_us, event.late, event.tags,
            event.digest, event.data, event.causation_id, event.correlation_id,
        ]
    )  # fmt: skip
    return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of one partition.

    Attributes
    ----------
    events
        Positions it holds.
    digest
        Over its events, by bucket and schema version; the same before and after.
    written, deleted
        Names of segments.
    waiting
        How many segments wait for the day of grace to be over.
    after
        The partition as the step left it.
    """

    event_type: str
    arrived: str
    events: int
    digest: str
    written: tuple[str, ...]
    deleted: tuple[str, ...]
    waiting: int
    after: LogPartition


def compact(
    partition: LogPartition,
    store: SegmentStore,
    now_us: int,
    *,
    events: Any = None,
) -> Compacted | None:
    """Take one partition a step further; None if there is nothing to do.

    Parameters
    ----------
    now_us
        The time of the run, microseconds.
    events
        Arrow table of all its events, if `whole` has read them; else they are read.

    Raises
    ------
    LogConflictError
        Two different events claim one position, or a merged segment does not hold
        what was written into it. Nothing is deleted then.
    """
    if partition.is_settled or not _is_closed(partition, now_us):
        return None
    listed = {file.name: file for file in partition.files}
    replacing: dict[str, SegmentFile] = {}
    digest = hashlib.sha256()
    count = 0
    for buckets in _passes(partition):
        for part in merged(
            _read(partition, store, buckets) if events is None else events
        ):
            told = digest_of_table(part.events)
            file = store.write_merged(partition, part, told)
            _check(store.table_of([file]), part.events, told, file.name)
            replacing[file.name] = listed.get(file.name, file)
            digest.update(b"%d v%d " % (part.bucket, part.version))
            digest.update(bytes.fromhex(told))
            count += part.events.num_rows
    others = [file for name, file in listed.items() if name not in replacing]
    deletable = _deletable(others, [*replacing.values()], listed.keys(), now_us)
    for file in deletable:
        store.delete(file)
    return Compacted(
        partition.event_type,
        partition.arrived,
        events=count,
        digest=digest.hexdigest(),
        written=tuple(sorted(replacing.keys() - listed.keys())),
        deleted=tuple(file.name for file in deletable),
        waiting=len(others) - len(deletable),
        after=replace(
            partition,
            files=tuple(
                file for file in (listed | replacing).values() if file not in deletable
            ),
        ),
    )


def _check(held: Any, events: Any, told: str, name: str) -> None:
    """Refuse a merged segment that does not hold what was written into it.

    Raises
    ------
    LogConflictError
        What was read back has neither the bits of the events nor their digest.
    """
    if is_same(held, events):
        return
    digest = digest_of_table(held)
    if digest != told:
        raise LogConflictError(
            f"merged segment {name!r} does not hold the events of its sources "
            f"({digest[:12]}, not {told[:12]}): remove it; nothing was deleted"
        )


def _deletable(
    others: Iterable[SegmentFile],
    replacing: Collection[SegmentFile],
    listed: Collection[str],
    now_us: int,
) -> list[SegmentFile]:
    """Return what the merged segments have replaced for the time of grace.

    Of two generations of merged segments only the older may go: two runs that merge
    differently, as before and after a deployment, can then never delete each other's.
    """
    if any(
        file.name not in listed or now_us - file.written_us < GRACE_US
        for file in replacing
    ):
        return []
    written_us = {(file.bucket, file.version): file.written_us for file in replacing}
    return [
        file
        for file in others
        if file.bucket is None
        or file.written_us < written_us.get((file.bucket, file.version), 0)
    ]


def _passes(partition: LogPartition) -> list[range]:
    """Return the buckets of each pass: as many at once as memory allows."""
    size_bytes = sum(file.size_bytes for file in partition.files)
    at_once = BUCKETS
    while at_once > 1 and size_bytes * at_once > PASS_BYTES * BUCKETS:
        at_once //= 2
    return [range(low, low + at_once) for low in range(0, BUCKETS, at_once)]


def whole(partition: LogPartition, store: SegmentStore) -> Any:
    """Return the events of a partition as one table; None where they are too many."""
    passes = _passes(partition)
    return _read(partition, store, passes[0]) if len(passes) == 1 else None


def _read(partition: LogPartition, store: SegmentStore, buckets: range) -> Any:
    """Return the events of some buckets as a table."""
    every = len(buckets) == BUCKETS
    files = [
        file
        for file in partition.files
        if every or file.bucket is None or file.bucket in buckets
    ]
    return store.table_of(files, buckets=None if every else buckets)


def _is_closed(partition: LogPartition, now_us: int) -> bool:
    """Return whether a day of arrival is over, so that little or nothing joins it."""
    end_us = from_text(f"{partition.arrived}T00:00:00Z") + DAY_US
    return now_us >= end_us + SETTLING_US


@dataclass(slots=True)
class CompactionReport:
    """What one run did, over all partitions it came to.

    Attributes
    ----------
    failures
        Sentences about partitions that were left as they are.
    unfinished
        Partitions that there was no time for.
    """

    compacted: list[Compacted] = field(default_factory=list)
    conflicts: int = 0
    across_keys: int = 0
    failures: list[str] = field(default_factory=list)
    unfinished: int = 0


def compact_log(
    store: SegmentStore,
    quarantine: Quarantine,
    now_us: int,
    *,
    lookback_days: int,
    has_time: Callable[[], bool] = lambda: True,
) -> CompactionReport:
    """Take every closed partition a step further, the oldest of each type first.

    Identities are compared before anything of a partition is written, so that a crash
    cannot leave a conflict unreported. What fits into one pass is read once for both.

    Parameters
    ----------
    lookback_days
        How many days before and after a partition its identities are looked for.
    has_time
        Asked before each partition; the rest is left for the next run.
    """
    report = CompactionReport()
    by_type: dict[str, list[LogPartition]] = {}
    for partition in store.partitions():
        by_type.setdefault(partition.event_type, []).append(partition)
    for of_type in by_type.values():
        for place, partition in enumerate(of_type):
            if partition.is_settled or not _is_closed(partition, now_us):
                continue
            if not has_time():
                report.unfinished += 1
                continue
            events = None
            try:
                if _is_new(partition):
                    events = whole(partition, store)
                    near = _near(partition, of_type, lookback_days)
                    reuse = reuse_in(partition, near, store, events=events)
                    _keep(reuse, partition, quarantine)
                    report.conflicts += len(reuse.conflicting)
                    report.across_keys += reuse.across_keys
                done = compact(partition, store, now_us, events=events)
            except PermanentError as error:
                report.failures.append(
                    f"{partition.event_type}, {partition.arrived}: {error}"
                )
                continue
            if done is not None:
                report.compacted.append(done)
                of_type[place] = done.after
    return report


def _keep(reuse: Reuse, partition: LogPartition, into: Quarantine) -> None:
    """Quarantine what conflicts; the same conflicts again are kept once."""
    documents = rejections_of(
        Folded(event, Outcome.CONFLICTING) for event in reuse.conflicting
    )
    if documents:
        digest = digest_of_events(reuse.conflicting)[:16]
        name = f"compaction-{partition.event_type}-{digest}"
        into.put(f"arrived={partition.arrived}/{name}", documents)


def _is_new(partition: LogPartition) -> bool:
    """Return whether a segment joined after the latest merge, if there was any."""
    merged = [f.written_us for f in partition.files if f.bucket is not None]
    newest_us = max(merged, default=-1)
    return any(f.written_us >= newest_us for f in partition.files if f.bucket is None)


def _near(
    partition: LogPartition, others: Iterable[LogPartition], days: int
) -> list[LogPartition]:
    own = date.fromisoformat(partition.arrived)
    return [
        other
        for other in others
        if abs(date.fromisoformat(other.arrived) - own) <= timedelta(days=days)
    ]
