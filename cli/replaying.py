"""Replay records of the past into the twin: its clock goes with the data.

Records enter as an import that declares when each arrived. After every stride of
history the driven clock is moved to its end, so that schedules, alarms, waits and
everything they start happen when they would have happened.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from retrodict.stamps import to_text
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

from cli.target import Target

STRIDE: Final = timedelta(hours=3)
IMPORT_ID: Final = "replay"
DECLARED_BYTES: Final = len(f'"importid":"{IMPORT_ID}","observedat":"{to_text(0)}",')
"""By how much a record that declares its arrival grows at most."""

BEFORE_US: Final = 120_000_000
"""How long before its end a stride is put; arrivals may run ahead by five minutes."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One record of the past.

    Attributes
    ----------
    arrival_us
        When it reached the stream then, microseconds.
    """

    arrival_us: int
    key: str
    data: bytes


def declare_arrival(data: bytes, arrival_us: int) -> bytes:
    """Return a CloudEvent that says when it arrived; anything else stays as it is.

    One that is of an import already stays of that one.

    Examples
    --------
    >>> declare_arrival(b'{"id":"1"}', 0)
    b'{"importid":"replay","observedat":"1970-01-01T00:00:00.000000Z","id":"1"}'
    >>> declare_arrival(b"broken", 0)
    b'broken'
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(document, dict) or not document or "observedat" in document:
        return data
    told = f'"observedat":"{to_text(arrival_us)}",'
    if "importid" not in document:
        told = f'"importid":"{IMPORT_ID}",{told}'
    return b"{" + told.encode() + data.lstrip()[1:]


def strides(
    records: Iterable[Arrived],
    stride: timedelta,
    start_us: int,
    *,
    to_the_end: bool = True,
) -> Iterator[tuple[int, list[Arrived]]]:
    """Yield the end of each stride and what arrived in it; idle ones too.

    Parameters
    ----------
    records
        By arrival, shape (n,).
    start_us
        Where the first stride begins, microseconds.
    """
    length = stride // timedelta(microseconds=1)
    end = start_us + length
    held: list[Arrived] = []
    for record in records:
        while record.arrival_us >= end:
            yield end, held
            held, end = [], end + length
        held.append(record)
    if held:
        soonest = max(held[-1].arrival_us, start_us) + BEFORE_US
        yield end if to_the_end else soonest, held


def replay(
    target: Target,
    records: Iterable[Arrived],
    *,
    stride: timedelta = STRIDE,
    after: Callable[[int, int], None] = lambda _until_us, _sent: None,
    to_the_end: bool = True,
) -> int:
    """Put `records` on the ingest stream and move the clock with them.

    Parameters
    ----------
    after
        Called after every stride with its end, microseconds, and how many records it
        had.
    to_the_end
        Whether the clock goes to the end of the last stride, or stops at its last
        record, so that nothing is old yet.

    Returns
    -------
    int
        Number of records.

    Raises
    ------
    StreamUnavailableError
        The stream refused records.
    TargetError
        The twin's clock is not driven, or is ahead of the records.
    """
    stream = KinesisIngestStream(
        target.client("kinesis"), target.outputs["IngestStreamName"]
    )
    waiting = iter(records)
    first = next(waiting, None)
    if first is None:
        return 0
    total = 0
    start_us = max(target.now_us(), first.arrival_us)
    every = itertools.chain([first], waiting)
    for until_us, held in strides(every, stride, start_us, to_the_end=to_the_end):
        # Nothing may arrive before it happened, and what is due at the stride's end
        # must find the stride's records, so they are put a little before it.
        target.advance_to(until_us - BEFORE_US)
        total += stream.put(
            (r.key, declare_arrival(r.data, r.arrival_us)) for r in held
        )
        target.wait_idle()
        target.advance_to(until_us)
        target.wait_idle()
        after(until_us, len(held))
    return total
