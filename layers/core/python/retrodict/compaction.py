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
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final

from retrodict.buckets import BUCKETS, bucket_of
from retrodict.envelope import StampedEvent
from retrodict.errors import LogConflictError, PermanentError
from retrodict.ports import LogPartition, Quarantine, SegmentFile, SegmentStore
from retrodict.rejection import rejections_of
from retrodict.stamps import from_text
from retrodict.state import Folded, Outcome

GRACE_US: Final = 86_400_000_000
"""How long merged segments stand beside their sources, microseconds."""

SETTLING_US: Final = 3_600_000_000
"""How long after its end a day of arrival counts as over, microseconds."""

PASS_BYTES: Final = 32 << 20
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
                f"position {event.position!r} holds event {other.id!r} of "
                f"{other.source!r} and another, {event.id!r} of {event.source!r}: "
                "find out who wrote to the log; its segments were left as they are"
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
        Over its events, bucket by bucket; the same before and after.
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
    partition: LogPartition, store: SegmentStore, now_us: int
) -> Compacted | None:
    """Take one partition a step further; None if there is nothing to do.

    Parameters
    ----------
    now_us
        The time of the run, microseconds.

    Raises
    ------
    LogConflictError
        Two different events claim one position, or a merged segment does not hold
        what was written into it. Nothing is deleted then.
    """
    if partition.is_settled or not _is_closed(partition, now_us):
        return None
    listed = {file.name: file for file in partition.files}
    merged: dict[str, SegmentFile] = {}
    digest = hashlib.sha256()
    count = 0
    for buckets in _passes(partition):
        before = _by_bucket(partition, store, buckets)
        for bucket, known in sorted(before.items()):
            told = digest_of_events(known.values())
            files = [
                store.write_merged(partition, bucket, events)
                for events in _of_one_version(known.values())
            ]
            held = digest_of_events(
                event for file in files for event in store.events_of(file)
            )
            if held != told:
                raise LogConflictError(
                    f"merged segments {[file.name for file in files]} do not hold the "
                    f"events of their sources ({held[:12]}, not {told[:12]}): remove "
                    "them; nothing was deleted"
                )
            merged |= {file.name: listed.get(file.name, file) for file in files}
            digest.update(bytes([bucket]) + bytes.fromhex(told))
            count += len(known)
    others = [file for name, file in listed.items() if name not in merged]
    deletable = _deletable(others, [*merged.values()], listed.keys(), now_us)
    for file in deletable:
        store.delete(file)
    return Compacted(
        partition.event_type,
        partition.arrived,
        events=count,
        digest=digest.hexdigest(),
        written=tuple(sorted(merged.keys() - listed.keys())),
        deleted=tuple(file.name for file in deletable),
        waiting=len(others) - len(deletable),
        after=replace(
            partition,
            files=tuple(
                file for file in (listed | merged).values() if file not in deletable
            ),
        ),
    )


def _deletable(
    others: Iterable[SegmentFile],
    merged: Collection[SegmentFile],
    listed: Collection[str],
    now_us: int,
) -> list[SegmentFile]:
    """Return what the merged segments have replaced for the time of grace.

    Of two generations of merged segments only the older may go: two runs that merge
    differently, as before and after a deployment, can then never delete each other's.
    """
    if any(
        file.name not in listed or now_us - file.written_us < GRACE_US
        for file in merged
    ):
        return []
    written_us = {(file.bucket, file.version): file.written_us for file in merged}
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


def _by_bucket(
    partition: LogPartition, store: SegmentStore, buckets: range
) -> dict[int, dict[str, StampedEvent]]:
    """Return every event of some buckets, by bucket and position."""
    wanted = None if len(buckets) == BUCKETS else buckets
    known = once(
        event
        for file in partition.files
        if file.bucket is None or file.bucket in buckets
        for event in store.events_of(file, buckets=wanted)
    )
    found: dict[int, dict[str, StampedEvent]] = {}
    for position, event in known.items():
        found.setdefault(bucket_of(event.key), {})[position] = event
    return found


def _of_one_version(events: Iterable[StampedEvent]) -> Iterator[list[StampedEvent]]:
    """Yield the events of each schema version, by (key, position)."""
    by_version: dict[int, list[StampedEvent]] = {}
    for event in events:
        by_version.setdefault(event.schema_version, []).append(event)
    for _, found in sorted(by_version.items()):
        yield sorted(found, key=lambda event: (event.key, event.position))


def _is_closed(partition: LogPartition, now_us: int) -> bool:
    """Return whether a day of arrival is over, so that little or nothing joins it."""
    end_us = from_text(f"{partition.arrived}T00:00:00Z") + DAY_US
    return now_us >= end_us + SETTLING_US


@dataclass(slots=True)
class Reuse:
    """Identities that mean more than one event.

    Attributes
    ----------
    conflicting
        Events whose identity had another payload at an earlier position, in order.
    across_keys
        (source, id) pairs that more than one key uses, with those keys.
    """

    conflicting: list[StampedEvent] = field(default_factory=list)
    across_keys: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def documents(self) -> list[dict[str, object]]:
        """Return the quarantine documents of what conflicts."""
        return rejections_of(
            Folded(event, Outcome.CONFLICTING) for event in self.conflicting
        )

    def quarantine(self, partition: LogPartition, into: Quarantine) -> None:
        """Keep what conflicts; the same conflicts again are kept once."""
        documents = self.documents()
        if documents:
            digest = digest_of_events(self.conflicting)[:16]
            name = f"compaction-{partition.event_type}-{digest}"
            into.put(f"arrived={partition.arrived}/{name}", documents)


@dataclass(frozen=True, slots=True)
class _Seen:
    position: str
    file: SegmentFile


def reuse_in(
    partition: LogPartition, others: Iterable[LogPartition], store: SegmentStore
) -> Reuse:
    """Compare the identities of a partition with each other and with other dates.

    The state of a key notices a reused identity only as far back as it reaches. The
    first position wins, wherever it is; of each other payload one event is reported.

    Parameters
    ----------
    others
        Partitions of the same type; its own is left out.
    """
    seen: dict[tuple[str, str, str], dict[str, _Seen]] = {}
    keys: dict[tuple[str, str], set[str]] = {}
    for file in partition.files:
        for key, source, id_, digest, position in store.identities_of(file):
            keys.setdefault((source, id_), set()).add(key)
            known = seen.setdefault((key, source, id_), {})
            _note(known, digest, _Seen(position, file))
    ids = {id_ for _, id_ in keys}
    for other in others:
        if other.arrived == partition.arrived:
            continue
        for file in other.files:
            for key, source, id_, digest, position in store.identities_of(file, ids):
                if (source, id_) in keys:
                    keys[source, id_].add(key)
                if (key, source, id_) in seen:
                    found = _Seen(position, file)
                    _note(seen[key, source, id_], digest, found)
    conflicts = [
        (key, one)
        for (key, _, _), known in seen.items()
        for one in sorted(known.values(), key=lambda seen: seen.position)[1:]
    ]
    return Reuse(
        sorted(
            (_fetch(key, one, store) for key, one in conflicts),
            key=lambda event: event.position,
        ),
        {pair: found for pair, found in keys.items() if len(found) > 1},
    )


def _note(known: dict[str, _Seen], digest: str, found: _Seen) -> None:
    if digest not in known or found.position < known[digest].position:
        known[digest] = found


def _fetch(key: str, one: _Seen, store: SegmentStore) -> StampedEvent:
    for event in store.events_of(one.file, keys=[key]):
        if event.position == one.position:
            return event
    raise PermanentError(f"position {one.position!r} has left {one.file.name!r}")


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
    cannot leave a conflict unreported.

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
            try:
                if _is_new(partition):
                    near = _near(partition, of_type, lookback_days)
                    reuse = reuse_in(partition, near, store)
                    reuse.quarantine(partition, quarantine)
                    report.conflicts += len(reuse.conflicting)
                    report.across_keys += len(reuse.across_keys)
                done = compact(partition, store, now_us)
            except PermanentError as error:
                report.failures.append(
                    f"{partition.event_type}, {partition.arrived}: {error}"
                )
                continue
            if done is not None:
                report.compacted.append(done)
                of_type[place] = done.after
    return report


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
