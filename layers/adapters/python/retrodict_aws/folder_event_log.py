"""A copy of the event log in a folder, as ``aws s3 sync`` makes it, for a notebook."""

import os
import re
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
from retrodict.envelope import StampedEvent
from retrodict.ports import Reading

from retrodict_aws.segments import Segment, buckets_of, intact

_BUCKET: Final = re.compile(r"bucket=(\d\d)")


class FolderEventLog:
    """Read the segments below a folder.

    Parameters
    ----------
    folder
        What holds ``type=<type>/arrived=<date>/...parquet``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(
        self,
        types: Collection[str] | None = None,
        *,
        arrived_from: date | None = None,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[StampedEvent]:
        """Yield every event of every segment; see `EventLog.read`."""
        since = "" if arrived_from is None else f"arrived={arrived_from.isoformat()}"
        for path in self._paths(types, buckets_of(keys, buckets)):
            event_type, arrived = path.relative_to(self._folder).parts[:2]
            if arrived >= since:
                with intact(str(path)), pa.OSFile(str(path)) as file:
                    segment = Segment(event_type.removeprefix("type="), file)
                    events = segment.events(keys=keys, buckets=buckets)
                yield from events

    def tables(
        self,
        event_type: str,
        reading: Reading | None = None,
        *,
        keys: Collection[str] | None = None,
        buckets: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the events of one type as tables; see `ColumnLog.tables`."""
        for path in self._paths([event_type], buckets_of(keys, buckets)):
            others = buckets if bucket_in(path.parent.name) is None else None
            with intact(str(path)), pa.OSFile(str(path)) as file:
                segment = Segment(event_type, file)
                yield from segment.tables(reading, keys=keys, buckets=others)

    def size_bytes(self, event_type: str) -> int:
        """Return how many bytes of segments hold events of a type."""
        return sum(path.stat().st_size for path in self._paths([event_type], None))

    def _paths(
        self, types: Collection[str] | None, wanted: Collection[int] | None
    ) -> Iterator[Path]:
        """Yield the segments that may hold events of some types and parts."""
        if types is None:
            below = sorted(self._folder.glob("type=*"))
        else:
            below = [self._folder / f"type={name}" for name in sorted(types)]
        for folder in below:
            if folder.is_dir():
                yield from _segments(folder, wanted)


def _segments(folder: Path, wanted: Collection[int] | None) -> Iterator[Path]:
    """Yield the segments below a folder, but not those of other parts."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.endswith(".parquet"):
            yield Path(entry.path)
        elif entry.is_dir():
            bucket = None if wanted is None else bucket_in(entry.name)
            if wanted is None or bucket is None or bucket in wanted:
                yield from _segments(Path(entry.path), wanted)


def bucket_in(folder: str) -> int | None:
    """Return the part of the keys that a folder is called after.

    Examples
    --------
    >>> bucket_in("bucket=07"), bucket_in("arrived=2026-01-05")
    (7, None)
    """
    found = _BUCKET.fullmatch(folder)
    return None if found is None else int(found[1])
