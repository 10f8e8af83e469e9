"""The keys, divided into parts that can be read and rebuilt apart from each other."""

import hashlib
from typing import Final

BUCKETS: Final = 16
"""How many parts; it is part of the names in the log, so it never changes."""

PASS_BYTES: Final = 32 << 20
"""Parquet of the log that may come into memory at once, unless a part is larger."""


def bucket_of(key: str) -> int:
    """Return the part that `key` belongs to: the first four bits of its SHA-256.

    Examples
    --------
    >>> bucket_of("s-1"), bucket_of("s-2")
    (6, 4)
    """
    return hashlib.sha256(key.encode()).digest()[0] * BUCKETS >> 8


def passes(size_bytes: int) -> list[range]:
    """Return the parts of the keys to read at once, so that memory is bounded.

    Parameters
    ----------
    size_bytes
        Of the segments with all parts.

    Examples
    --------
    >>> passes(PASS_BYTES), len(passes(8 * PASS_BYTES)), len(passes(10**12))
    ([range(0, 16)], 8, 16)
    """
    at_once = BUCKETS
    while at_once > 1 and size_bytes * at_once > PASS_BYTES * BUCKETS:
        at_once //= 2
    return [range(low, low + at_once) for low in range(0, BUCKETS, at_once)]
