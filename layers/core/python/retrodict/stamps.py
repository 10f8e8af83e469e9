"""The three stamps of an event: when it happened, arrived, and was known.

`time` is the producer's, `observed_at` the stream's (or an import's), `position` the
order in which the pipeline came to know. None of them is a wall clock of ours.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from retrodict.errors import EventFormatError, PermanentError

FUTURE_TOLERANCE_US: Final = 5 * 60 * 1_000_000
"""How far ahead of its arrival an event may say it happened, microseconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SHARD: Final = re.compile(r"shardId-(\d{12})")
MOST_DURATION_US: Final = 36_525 * 86_400_000_000
"""A century: contracts let no two events lie further apart."""

_DURATION: Final = re.compile(r"(\d{1,18})(ms|s|m|h|d)")
_UNITS_US: Final = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}


def position(shard_id: str, sequence_number: str) -> str:
    """Return the place of an ingest record; text order is the order of knowing.

    A child shard has a higher number than its parents and takes a key over only
    when they are drained, so the shard number comes first (shard lineage), and the
    sequence number orders within a shard.

    Raises
    ------
    EventFormatError
        `shard_id` or `sequence_number` is not what Kinesis writes.

    Examples
    --------
    >>> position("shardId-000000000003", "42")[:30]
    '000000000003-00000000000000000'
    >>> position("shardId-000000000003", "42") < position("shardId-000000000004", "1")
    True
    """
    prefix = _shard_prefix(shard_id)
    if prefix is None or not sequence_number.isdecimal():
        raise EventFormatError(
            f"expected a Kinesis shard id and sequence number, got {shard_id!r} and "
            f"{sequence_number!r}"
        )
    return prefix + sequence_number.rjust(56, "0")


@lru_cache(maxsize=1_024)
def _shard_prefix(shard_id: str) -> str | None:
    shard = _SHARD.fullmatch(shard_id)
    return None if shard is None else f"{shard.group(1)}-"


def to_text(time_us: int) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond.

    Examples
    --------
    >>> to_text(1_767_607_200_000_001)
    '2026-01-05T10:00:00.000001Z'
    """
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_datetime(moment: datetime) -> int:
    """Return microseconds since the epoch of an aware `moment`.

    Examples
    --------
    >>> from_datetime(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - _EPOCH) // _MICROSECOND


def from_text(text: str) -> int:
    """Return microseconds since the epoch of an RFC 3339 time of ours.

    Raises
    ------
    EventFormatError
        `text` is not a time with a zone.

    Examples
    --------
    >>> from_text("1970-01-01T00:00:01Z")
    1000000
    """
    try:
        moment = datetime.fromisoformat(text)
        return from_datetime(moment)
    except (TypeError, ValueError) as error:
        raise EventFormatError(
            f"expected an RFC 3339 time with a zone, got {text!r}"
        ) from error


def duration_us(text: str) -> int:
    """Return a duration such as ``"10m"`` in microseconds.

    Raises
    ------
    PermanentError
        `text` is not a whole positive number and one of ms, s, m, h, d, or it is
        longer than a century.

    Examples
    --------
    >>> duration_us("10m")
    600000000
    """
    match = _DURATION.fullmatch(text)
    found = int(match.group(1)) * _UNITS_US[match.group(2)] if match else 0
    if not 0 < found <= MOST_DURATION_US:
        raise PermanentError(
            "expected a duration such as '30s', '10m', '2h' or '7d', of at most 36525 "
            f"days, got {text!r}"
        )
    return found
