"""What a function answers to a batch, how that comes to harm, and how AWS reads it.

Lambda retries from the lowest sequence number that an answer names. An answer that
names something else counts the whole batch as failed; one that names nothing, or is
nothing, counts it as done [1]_.

.. [1] https://docs.aws.amazon.com/lambda/latest/dg/
   services-kinesis-batchfailurereporting.html
"""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

LIST: Final = "batchItemFailures"
NAME: Final = "itemIdentifier"

EMPTY: Final = (b"", b"null", b"{}", b'{"batchItemFailures":null}')
"""What says as little as an empty list, and means the same."""


def first_failed(raw: bytes, numbers: Sequence[str]) -> int | None:
    """Return the place from which a batch is delivered again, None if it is done.

    Parameters
    ----------
    numbers
        Sequence numbers of the batch, in order, shape (n,), n > 0.

    Examples
    --------
    >>> first_failed(naming(["9", "8"]), ["7", "8", "9"])
    1
    >>> first_failed(naming([""]), ["7", "8"])
    0
    >>> first_failed(b"{}", ["7", "8"]) is None
    True
    """
    try:
        answer = json.loads(raw or b"null")
        failures = [] if answer is None else answer.get(LIST) or []
        places = [numbers.index(failure[NAME]) for failure in failures]
    except (ValueError, LookupError, AttributeError, TypeError):
        return 0
    return min(places, default=None)


def is_sound(answer: Any, numbers: Sequence[str]) -> bool:
    """Return whether an answer has the form that AWS asks for, and names the batch."""
    if not isinstance(answer, dict) or [*answer] != [LIST]:
        return False
    failures = answer[LIST]
    return isinstance(failures, list) and all(
        isinstance(failure, dict) and [*failure] == [NAME] and failure[NAME] in numbers
        for failure in failures
    )


def naming(names: Sequence[object], key: str = NAME) -> bytes:
    """Return an answer that names records, or what should be some."""
    return json.dumps({LIST: [{key: name} for name in names]}).encode()


def widened(random: Random, first: int | None, numbers: Sequence[str]) -> bytes:
    """Return an answer that names several records, in any order, some of them twice.

    Where a function failed they are its first failure and some after it; where it did
    not, it now says that some did.
    """
    later = range(0 if first is None else first + 1, len(numbers))
    places = random.sample(later, random.randint(1, len(later))) if later else []
    places += [first] if first is not None else []
    places += random.choices(places, k=random.randint(0 if len(places) > 1 else 1, 2))
    random.shuffle(places)
    return naming([numbers[place] for place in places])


def malformed(random: Random, raw: bytes, numbers: Sequence[str]) -> bytes:
    """Return an answer that AWS cannot take for a list of records of the batch."""
    last = numbers[-1]
    return random.choice(
        (
            naming([""]),
            naming([None]),
            naming([int(last)]),
            naming([[last]]),
            naming([last, None]),
            naming([last, str(int(last) + 1)]),
            naming([last], key="sequenceNumber"),
            naming([last], key="ItemIdentifier"),
            json.dumps({LIST: [last]}).encode(),
            json.dumps({LIST: {NAME: last}}).encode(),
            json.dumps({LIST: last}).encode(),
            json.dumps([last]).encode(),
            raw[:-1],
        )
    )
