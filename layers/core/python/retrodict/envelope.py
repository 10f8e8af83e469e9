"""The envelope: CloudEvents 1.0, before and after the pipeline stamped it.

A producer sends structured JSON [1]_; what leaves the validator is the same event
with `position`, `observedat`, `late`, `tags` and `digest` beside its attributes.

References
----------
.. [1] CloudEvents 1.0.2, section 3 and the JSON format.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from retrodict.errors import EventFormatError
from retrodict.reasons import Reason, Violation, violation
from retrodict.stamps import from_datetime, from_text, to_text

MAX_ATTRIBUTE: Final = 256
SHOWN_KEY: Final = 64
"""Characters of a key that is told of beside another one."""

EARLIEST_US: Final = from_datetime(datetime(2000, 1, 1, tzinfo=UTC))
LATEST_US: Final = from_datetime(datetime(2100, 1, 1, tzinfo=UTC))
ATTRIBUTES: Final = frozenset(
    {
        "specversion", "id", "source", "type", "subject", "time", "dataschema",
        "datacontenttype", "data", "data_base64", "causationid", "correlationid",
        "importid", "observedat",
    }
)  # fmt: skip

_RFC3339: Final = re.compile(
    r"([+-]?\d{4,9}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d{1,18})?"
    r"([Zz]|[+-]\d{2}:[0-5]\d)?",
    re.ASCII,
)
_ZONED: Final = "an RFC 3339 time with a zone, such as 2026-01-05T10:00:00Z"
_DAY_LENGTH: Final = len("2026-01-05")
_WEST: Final = "-12:00"
_EAST: Final = "+14:00"
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_UNSAFE_KEY: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
    r"|[/\\=]|\.\.|%2[ef]|%5c|__HIVE_DEFAULT_PARTITION__|^\s|\s\Z|^\.\Z|^soap\Z",
    re.IGNORECASE,
)
_SCHEMA: Final = re.compile(r"([^/]{1,128})/v([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class StampedEvent:
    """A validated event with its stamps.

    Attributes
    ----------
    key, source, id
        Identity: the entity key, and what the producer calls the event.
    time_us, observed_at_us
        When it happened, and when it arrived, microseconds.
    position
        Place in the order of knowing.
    digest
        sha256 of the canonical payload, 64 hexadecimal digits.
    data
        Values as the contract types them.
    """

    key: str
    source: str
    id: str
    type: str
    schema_version: int
    time_us: int
    observed_at_us: int
    position: str
    late: bool
    tags: tuple[str, ...]
    digest: str
    data: dict[str, Any]
    causation_id: str | None = None
    correlation_id: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the event as the validated stream carries it."""
        wire: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.key,
            "time": to_text(self.time_us),
            "dataschema": f"{self.type}/v{self.schema_version}",
            "data": self.data,
            "position": self.position,
            "observedat": to_text(self.observed_at_us),
            "late": self.late,
            "tags": list(self.tags),
            "digest": self.digest,
        }
        if self.causation_id is not None:
            wire["causationid"] = self.causation_id
        if self.correlation_id is not None:
            wire["correlationid"] = self.correlation_id
        return wire

    def to_json(self) -> bytes:
        """Return the bytes of `to_wire` in the validated stream."""
        wire = self.to_wire()
        return json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """Read what `to_wire` wrote.

        Raises
        ------
        EventFormatError
            An attribute is missing or is not of our making.
        """
        try:
            return cls(
                key=wire["subject"],
                source=wire["source"],
                id=wire["id"],
                type=wire["type"],
                schema_version=int(wire["dataschema"].rpartition("/v")[2]),
                time_us=from_text(wire["time"]),
                observed_at_us=from_text(wire["observedat"]),
                position=wire["position"],
                late=bool(wire["late"]),
                tags=tuple(wire["tags"]),
                digest=wire["digest"],
                data=dict(wire["data"]),
                causation_id=wire.get("causationid"),
                correlation_id=wire.get("correlationid"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EventFormatError(f"not a stamped event: {error!r}") from error


def digest_of(
    event_type: str, version: int, key: str, time_us: int, data: Mapping[str, Any]
) -> str:
    """Return the sha256 of what an event says, whatever its spelling.

    Keys are sorted and doubles are in shortest exact form, so two spellings of one
    payload have one digest.
    """
    payload = [event_type, version, key, time_us, data]
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_time(  # noqa: PLR0911 - one answer a fault
    value: Any, field: str = "time"
) -> int | Violation:
    """Return an RFC 3339 time in microseconds, or what is wrong with it.

    Years outside 2000 to 2099 are refused: they are seconds taken for milliseconds,
    or the other way round, far more often than they are true.

    Examples
    --------
    >>> parse_time("2026-01-05T10:00:00+14:00")
    1767556800000000
    >>> parse_time("2026-01-05T10:00:00").reason.value
    'time_without_zone'
    """
    expected = _ZONED
    if not isinstance(value, str):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        reason = Reason.INVALID_TIME if is_number else Reason.WRONG_TYPE
        return violation(field, reason, expected, value)
    match = _RFC3339.fullmatch(value)
    if match is None:
        return violation(field, Reason.INVALID_TIME, expected, value)
    day, clock, fraction, zone = match.groups()
    if len(day) != _DAY_LENGTH:
        return violation(field, Reason.TIME_OUT_OF_RANGE, "a year of 4 digits", value)
    if zone is None:
        return without_zone(field, value)
    offset = "+00:00" if zone in "Zz" else zone
    if offset > _WEST if offset[0] == "-" else offset > _EAST:
        expected = f"an offset from {_WEST} to {_EAST}"
        return violation(field, Reason.INVALID_TIME, expected, value)
    microseconds = (fraction or ".0")[:7]
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{microseconds:0<7}{offset}")
        time_us = from_datetime(moment)
    except (ValueError, OverflowError):
        return violation(field, Reason.INVALID_TIME, expected, value)
    if not EARLIEST_US <= time_us < LATEST_US:
        expected = "a time in the years 2000 to 2099"
        return violation(field, Reason.TIME_OUT_OF_RANGE, expected, value)
    return time_us


def without_zone(field: str, value: str) -> Violation:
    """Return what is said of a time that does not say where it is that time."""
    return violation(field, Reason.TIME_WITHOUT_ZONE, _ZONED, value)


def is_finer_than_microseconds(value: Any) -> bool:
    """Tell whether a time names a part of a microsecond, which the stamps drop.

    Examples
    --------
    >>> is_finer_than_microseconds("2026-01-05T10:00:00.0000001Z")
    True
    """
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    return match is not None and (match[3] or "")[7:].strip("0") != ""


def unsafe_key(key: str) -> Violation | None:
    """Return what makes `key` unfit to name an entity, whatever its contract says.

    An entity key becomes part of names: of items, partitions and paths.

    Examples
    --------
    >>> unsafe_key("../../etc").reason.value, unsafe_key("s-1")
    ('unsafe_key', None)
    """
    if _UNSAFE_KEY.search(key) is None:
        return None
    expected = "a key without paths, partitions, control or invisible characters"
    return violation("subject", Reason.UNSAFE_KEY, expected, key)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a producer wrote around its data; null where it is not to be believed."""

    id: str | None
    source: str | None
    type: str | None
    subject: str | None
    schema_type: str | None
    schema_version: int | None
    time_us: int | None
    observed_at_us: int | None
    import_id: str | None
    causation_id: str | None
    correlation_id: str | None
    data: Any
    extra: tuple[str, ...]


def open_envelope(  # noqa: C901 - one pass over the attributes
    document: Mapping[str, Any],
) -> tuple[Envelope, list[Violation]]:
    """Return the attributes of a CloudEvent and every promise they break."""
    found: list[Violation] = []

    def text(name: str, *, required: bool = True) -> str | None:
        value = document.get(name)
        if value is None:
            if required:
                found.append(missing_attribute(name))
            return None
        wrong = _wrong_text(name, value)
        if wrong is not None:
            found.append(wrong)
            return None
        return str(value)

    def moment(name: str, *, required: bool) -> int | None:
        value = document.get(name)
        if value is None:
            if required:
                found.append(missing_attribute(name))
            return None
        parsed = parse_time(value, name)
        if isinstance(parsed, Violation):
            found.append(parsed)
            return None
        return parsed

    spoken = document.get("specversion")
    if spoken is None:
        found.append(missing_attribute("specversion"))
    elif spoken != "1.0":
        reason = Reason.UNSUPPORTED_SPECVERSION
        found.append(violation("specversion", reason, "'1.0'", spoken))
    schema_type, schema_version = _schema(document, found)
    if "data" not in document and "data_base64" not in document:
        found.append(missing_attribute("data"))
    envelope = Envelope(
        id=text("id"),
        source=text("source"),
        type=text("type"),
        subject=text("subject"),
        schema_type=schema_type,
        schema_version=schema_version,
        time_us=moment("time", required=True),
        observed_at_us=moment("observedat", required=False),
        import_id=text("importid", required=False),
        causation_id=text("causationid", required=False),
        correlation_id=text("correlationid", required=False),
        data=document.get("data"),
        extra=tuple(name for name in document if name not in ATTRIBUTES),
    )
    if envelope.causation_id is not None and envelope.causation_id == envelope.id:
        expected = "the id of another event"
        found.append(
            violation("causationid", Reason.CAUSES_ITSELF, expected, envelope.id)
        )
    return envelope, found


def missing_attribute(name: str) -> Violation:
    """Return what is said of an attribute that is not there."""
    return Violation(name, Reason.MISSING, f"an attribute {name!r}", "nothing")


def other_key(name: str, key: str, inner: object) -> Violation:
    """Return what is said of a key in the data that is not the subject."""
    expected = f"the subject {key[:SHOWN_KEY]!r}"
    return violation(name, Reason.KEY_MISMATCH, expected, inner)


def other_partition(key: str, partition_key: str) -> Violation:
    """Return what is said of a subject that is not the partition key."""
    expected = f"the partition key {partition_key[:SHOWN_KEY]!r}"
    return violation("subject", Reason.PARTITION_KEY_MISMATCH, expected, key)


def ahead_of_itself(ahead_us: int) -> Violation:
    """Return what is said of an event that happened after it was observed."""
    return _ahead("time", "at most 5 minutes after it was observed", ahead_us)


def ahead_of_arrival(name: str, ahead_us: int) -> Violation:
    """Return what is said of an event that was observed after it arrived."""
    return _ahead(name, "at most 5 minutes after its arrival", ahead_us)


def _ahead(name: str, expected: str, ahead_us: int) -> Violation:
    got = f"{ahead_us / 1e6:.0f} s after"
    return violation(name, Reason.FROM_THE_FUTURE, expected, got)


def _wrong_text(name: str, value: Any) -> Violation | None:
    if not isinstance(value, str):
        return violation(name, Reason.WRONG_TYPE, "text", value)
    if not value:
        return violation(name, Reason.MISSING, "text that is not empty", value)
    if len(value) > MAX_ATTRIBUTE:
        expected = f"at most {MAX_ATTRIBUTE} characters"
        return violation(name, Reason.TOO_LONG, expected, value)
    if _CONTROL.search(value):
        expected = "text without control characters"
        return violation(name, Reason.PATTERN_MISMATCH, expected, value)
    return None


def _schema(
    document: Mapping[str, Any], found: list[Violation]
) -> tuple[str | None, int | None]:
    value = document.get("dataschema")
    expected = "'<type>/v<number>', such as 'sensor.reading/v1'"
    if value is None:
        found.append(missing_attribute("dataschema"))
        return None, None
    match = _SCHEMA.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        reason = Reason.UNKNOWN_SCHEMA_VERSION
        found.append(violation("dataschema", reason, expected, value))
        return None, None
    return match.group(1), int(match.group(2))
