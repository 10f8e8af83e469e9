"""Turn what must not be folded into quarantine documents."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from retrodict.ports import LARGEST_RECORD_BYTES
from retrodict.reasons import Reason, Violation
from retrodict.stamps import to_text
from retrodict.state import Folded, Outcome
from retrodict.validation import Arrival, Rejected

_WHY: Final = {
    Outcome.CONFLICTING: (
        Reason.IDENTITY_CONFLICT,
        "the payload that this source and id had first",
    ),
    Outcome.TOO_FAST: (
        Reason.RATE_EXCEEDED,
        "no more events of a key than its max_rate allows",
    ),
}

NOT_FOLDED: Final = frozenset(reason.value for reason, _ in _WHY.values())
"""Reason codes of what is in the log and was not folded."""


def rejections_of(folded: Iterable[Folded]) -> list[dict[str, Any]]:
    """Return a quarantine document for each event that met a conflict or a limit.

    The bytes are those of the stamped event; the producer's are not at hand here,
    and its payload is whole in them.
    """
    return [_document(one) for one in folded if one.outcome in _WHY]


def redrivable(documents: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the quarantine documents to put on the ingest stream again, in order.

    Equal bytes under equal partition keys count once; under another key they are
    another record, for the key may be all that is wrong. What is in the log already,
    and was only not folded, is left out: its bytes are not those of its producer.
    Neither is the name of a file a record, nor a row that fits no stream.

    Examples
    --------
    >>> kept = {"partition_key": "s-1", "sha256": "0" * 64, "codes": ["out_of_range"]}
    >>> len(redrivable([kept, kept, {**kept, "partition_key": "s-2"}]))
    2
    >>> redrivable([{**kept, "codes": ["identity_conflict"]}])
    []
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for document in documents:
        if document["partition_key"] and NOT_FOLDED.isdisjoint(document["codes"]):
            name = document["partition_key"], document["sha256"]
            found.setdefault(name, document)
    return [*found.values()]


def _document(one: Folded) -> dict[str, Any]:
    event = one.event
    reason, expected = _WHY[one.outcome]
    raw = json.dumps(event.to_wire(), separators=(",", ":")).encode()
    violation = Violation("id", reason, expected, f"{event.source} {event.id}")
    arrival = Arrival(event.position, event.key, event.observed_at_us)
    identity = (event.source, event.id, event.key)
    return Rejected(raw, arrival, (violation,), identity).as_json()


def unsendable_row(
    uri: str, number: int, arrived_at_us: int, raw: bytes
) -> dict[str, Any]:
    """Return the quarantine document of a row, 1 for the first, that fits no stream.

    It has no partition key, for it will never be put again as it is.

    Examples
    --------
    >>> unsendable_row("s3://b/k.csv", 7, 0, b"{}")["codes"]
    ['too_large']
    """
    expected = f"at most {LARGEST_RECORD_BYTES} bytes with its partition key"
    got = f"{len(raw)} bytes"
    violation = Violation("record", Reason.TOO_LARGE, expected, got)
    place = f"file-{to_text(arrived_at_us)}-{uri}#{number}"
    return Rejected(
        raw, Arrival(place, "", arrived_at_us), (violation,), None
    ).as_json()


def unreadable_file(uri: str, arrived_at_us: int, cause: str) -> dict[str, Any]:
    """Return the quarantine document of a file whose rows cannot be read."""
    arrived = to_text(arrived_at_us)
    violation = Violation("file", Reason.UNREADABLE_FILE, "a file of rows", cause)
    arrival = Arrival(f"file-{arrived}-{uri}", "", arrived_at_us)
    return Rejected(uri.encode(), arrival, (violation,), None).as_json()
