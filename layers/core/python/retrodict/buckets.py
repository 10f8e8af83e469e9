"""The keys, divided into parts that can be read and rebuilt apart from each other."""

import hashlib
from typing import Final

BUCKETS: Final = 16
"""How many parts; it is part of the names in the log, so it never changes."""


def bucket_of(key: str) -> int:
    """Return the part that `key` belongs to: the first four bits of its SHA-256.

    Examples
    --------
    >>> bucket_of("s-1"), bucket_of("s-2")
    (6, 4)
    """
    return hashlib.sha256(key.encode()).digest()[0] * BUCKETS >> 8
