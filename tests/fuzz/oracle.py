"""What the validator promises, judged by other means than its own.

Nothing of ``strict_json`` is used: two readers that know nothing of it, the standard
one with every door shut and msgspec's, must agree with what was accepted, and object to
what was turned away as no strict JSON.
"""

import json
import math
import re
import unicodedata
from calendar import timegm
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from retrodict.contracts import Event
from retrodict.envelope import StampedEvent
from retrodict.ports import KeyedBatch
from retrodict.reasons import Reason
from retrodict.validation import Accepted, Arrival, Rejected
from retrodict_aws.kinesis_event_stream import decode, encode

LONGEST: Final = 2**20
DEEPEST: Final = 32
MOST_KEYS: Final = 1_000
LONGEST_KEY: Final = 256
MOST_ITEMS: Final = 10_000
MOST_VALUES: Final = 20_000
FUTURE_US: Final = 300_000_000

OF_THE_READER: Final = frozenset(
    {
        Reason.EMPTY, Reason.BYTE_ORDER_MARK, Reason.WRONG_ENCODING,
        Reason.INVALID_UNICODE, Reason.NUL_CHARACTER, Reason.INVALID_JSON,
        Reason.TRUNCATED, Reason.TRAILING_DATA, Reason.NOT_A_NUMBER,
        Reason.NUMBER_OVERFLOW, Reason.DUPLICATE_KEY, Reason.AMBIGUOUS_KEY,
        Reason.UNSAFE_NAME, Reason.NESTING_TOO_DEEP, Reason.TOO_MANY_ITEMS,
        Reason.NOT_AN_OBJECT, Reason.BINARY_FORMAT, Reason.COMPRESSED,
        Reason.KPL_AGGREGATED,
    }
)  # fmt: skip
"""Reasons that only bytes which are no strict JSON object can have."""

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,18}))?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_READER_HOOKS: Final = ("__", "$", "py/", "@type", "@class")


@dataclass(slots=True)
class Reading:
    """What a record says, and all that a strict reader objects to."""

    document: Any = None
    objections: list[str] = field(default_factory=list)


def read(raw: bytes) -> Reading:
    """Read a record with the standard library, every door shut."""
    reading = Reading()
    object_to = reading.objections.append
    if len(raw) > LONGEST:
        object_to("longer than 1 MiB")
    try:
        text = raw.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        object_to(f"no UTF-8: {error.reason}")
        return reading

    def read_int(digits: str) -> int:
        if len(digits) > len("-9223372036854775808") or not (
            -(2**63) <= int(digits) < 2**63
        ):
            object_to("an integer beyond 64 bits")
            return 0
        return int(digits)

    def read_float(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            object_to("a number beyond a double")
        return number

    def read_constant(name: str) -> float:
        object_to(name)
        return 0.0

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            object_to("a key twice")
        elif any(len(name) > LONGEST_KEY for name in names):
            object_to("a key too long")
        elif len({_folded(name) for name in names}) < len(names):
            object_to("two keys that a reader may take for one")
        if len(names) > MOST_KEYS:
            object_to("too many keys")
        if any(name.startswith(_READER_HOOKS) for name in names):
            object_to("a key that a reader acts on")
        return dict(pairs)

    try:
        reading.document = json.loads(
            text,
            parse_int=read_int,
            parse_float=read_float,
            parse_constant=read_constant,
            object_pairs_hook=read_object,
        )
    except ValueError as error:
        object_to(f"no JSON: {error}")
        return reading
    except RecursionError:
        object_to("nested beyond the reader")
        return reading
    if not isinstance(reading.document, dict):
        object_to("no object")
    if _depth(raw) > DEEPEST:
        object_to("nested too deep")
        return reading
    if _separators(raw) > MOST_VALUES:
        object_to("too many values")
    for value in _walk(reading.document):
        if isinstance(value, str):
            if any("\ud800" <= character <= "\udfff" for character in value):
                object_to("a lone surrogate")
            if "\0" in value:
                object_to("U+0000")
        elif isinstance(value, list) and len(value) > MOST_ITEMS:
            object_to("too many items")
    return reading


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _depth(raw: bytes) -> int:
    """Return how deep brackets outside strings nest."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(depth, deepest)
    return deepest


def _separators(raw: bytes) -> int:
    """Return how many commas and open brackets are outside strings."""
    bare = _STRINGS.sub(b"", raw)
    return sum(map(bare.count, (b",", b"[", b"{")))


def _walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def complaint(
    raw: bytes,
    arrival: Arrival,
    contracts: Mapping[str, type[Event]],
    verdict: object,
) -> str | None:
    """Return how a verdict breaks what the validator promises, None if it does not."""
    if isinstance(verdict, Rejected):
        return _of_rejected(raw, arrival, verdict)
    if isinstance(verdict, Accepted):
        return _of_accepted(raw, arrival, contracts, verdict.event)
    return f"no verdict but {verdict!r}"


def _of_rejected(raw: bytes, arrival: Arrival, verdict: Rejected) -> str | None:
    if verdict.raw != raw or verdict.arrival != arrival:
        return "rejected, and its bytes or its arrival were lost"
    reasons = [violation.reason for violation in verdict.violations]
    if not reasons:
        return "rejected without a reason"
    unknown = [reason for reason in reasons if not isinstance(reason, Reason)]
    if unknown:
        return f"rejected for {unknown[0]!r}, which the catalogue does not have"
    json.dumps(verdict.as_json(), allow_nan=False).encode()
    if OF_THE_READER.issuperset(reasons) and not read(raw).objections:
        return f"rejected as {', '.join(reasons)}, but a strict reader objects nothing"
    return None


def _of_accepted(
    raw: bytes,
    arrival: Arrival,
    contracts: Mapping[str, type[Event]],
    event: StampedEvent,
) -> str | None:
    reading = read(raw)
    if reading.objections:
        return f"accepted: {'; '.join(reading.objections)}"
    document: dict[str, Any] = reading.document
    try:
        if msgspec.json.decode(raw) != document:
            return "accepted, but two readers read it differently"
    except msgspec.DecodeError as error:
        return f"accepted, but msgspec says: {error}"
    wire = json.dumps(event.to_wire(), allow_nan=False)
    if StampedEvent.from_wire(json.loads(wire)) != event:
        return "accepted, but not the same after the wire"
    (record,) = encode(KeyedBatch(event.key, [event]))
    if decode(record).events != [event]:
        return "accepted, but not the same after the validated stream"
    if event.key != arrival.partition_key:
        return "accepted under another key than its partition's"
    if event.type not in contracts:
        return "accepted without a contract"
    if "specversion" in document or "type" in document:
        return _of_cloudevent(document, arrival, contracts[event.type], event)
    return None


def _of_cloudevent(
    document: Mapping[str, Any],
    arrival: Arrival,
    contract: type[Event],
    event: StampedEvent,
) -> str | None:
    said = {name: document.get(name) for name in ("id", "source", "type", "subject")}
    stamped = {
        "id": event.id, "source": event.source, "type": event.type,
        "subject": event.key,
    }  # fmt: skip
    if said != stamped:
        return f"accepted {said} as {stamped}"
    if document["specversion"] != "1.0":
        return "accepted another version of CloudEvents"
    time_us = microseconds(document.get("time"))
    if time_us != event.time_us:
        return f"accepted time {document.get('time')!r} as {event.time_us}"
    if time_us - event.observed_at_us > FUTURE_US:
        return "accepted an event from the future"
    if event.observed_at_us - arrival.arrived_at_us > FUTURE_US:
        return "accepted an event seen after it arrived"
    sent = document.get("data")
    if not isinstance(sent, dict):
        return "accepted without an object as data"
    if document.get("dataschema") != contract.contract().schema_name():
        return None
    wrong = [name for name, value in sent.items() if event.data.get(name) != value]
    wrong += [
        name for name in event.data.keys() - sent.keys()
        if name not in contract.contract().names
    ]  # fmt: skip
    if wrong:
        return f"accepted data.{wrong[0]}, and then said something else"
    return _of_reading(event) if event.type == "sensor.reading" else None


def _of_reading(event: StampedEvent) -> str | None:
    """Judge by the published words: what a reading may be, written once more."""
    value, site = event.data["value"], event.data["site"]
    kept = (
        event.data.keys() == {"sensor_id", "value", "site"}
        and re.fullmatch(r"[a-z0-9-]{1,64}", event.key) is not None
        and event.data["sensor_id"] == event.key
        and type(value) is float
        and -40 <= value <= 125
        and (site is None or (isinstance(site, str) and len(site) <= 64))
    )
    return None if kept else f"accepted a reading of {event.data}"


def microseconds(text: object) -> int | None:
    """Return an RFC 3339 time of 2000 to 2099 in microseconds, None for any other.

    Examples
    --------
    >>> microseconds("2026-01-05T10:00:00+05:30"), microseconds("2026-01-05T10:00:00")
    (1767587400000000, None)
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        date = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    seconds = timegm(date.utctimetuple()) + int(hour) * 3600 + int(minute) * 60
    seconds += int(second)
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds -= offset if sign == "+" else -offset
    us = seconds * 10**6 + int(f"{fraction or '':0<6}"[:6])
    first, last = (timegm((year, 1, 1, 0, 0, 0)) * 10**6 for year in (2000, 2100))
    return us if first <= us < last else None
