"""Why a record was turned away, and what is remarkable about one that was not.

Dashboards group by these codes: a value is never reused for another meaning.
"""

from enum import StrEnum
from typing import Final, NamedTuple

GOT_CHARACTERS: Final = 200

_LONG: Final = (str, bytes)


class Reason(StrEnum):
    """Machine-readable code of one broken promise."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    KPL_AGGREGATED = "kpl_aggregated"
    COMPRESSED = "compressed"
    BINARY_FORMAT = "binary_format"
    BYTE_ORDER_MARK = "byte_order_mark"
    WRONG_ENCODING = "wrong_encoding"
    INVALID_UNICODE = "invalid_unicode"
    NUL_CHARACTER = "nul_character"
    DOUBLE_ENCODED = "double_encoded"
    INVALID_JSON = "invalid_json"
    TRUNCATED = "truncated"
    TRAILING_DATA = "trailing_data"
    NOT_A_NUMBER = "not_a_number"
    NUMBER_OVERFLOW = "number_overflow"
    INTEGER_OUT_OF_RANGE = "integer_out_of_range"
    DUPLICATE_KEY = "duplicate_key"
    AMBIGUOUS_KEY = "ambiguous_key"
    UNSAFE_NAME = "unsafe_name"
    UNSAFE_KEY = "unsafe_key"
    NESTING_TOO_DEEP = "nesting_too_deep"
    TOO_MANY_ITEMS = "too_many_items"
    NOT_AN_OBJECT = "not_an_object"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    TOO_LONG = "too_long"
    PATTERN_MISMATCH = "pattern_mismatch"
    NOT_ALLOWED = "not_allowed"
    EXTRA_FIELD = "extra_field"
    UNSUPPORTED_SPECVERSION = "unsupported_specversion"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"
    UPCAST_FAILED = "upcast_failed"
    INVALID_TIME = "invalid_time"
    TIME_WITHOUT_ZONE = "time_without_zone"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    FROM_THE_FUTURE = "from_the_future"
    KEY_MISMATCH = "key_mismatch"
    PARTITION_KEY_MISMATCH = "partition_key_mismatch"
    CAUSES_ITSELF = "causes_itself"
    IDENTITY_CONFLICT = "identity_conflict"
    RATE_EXCEEDED = "rate_exceeded"
    UNREADABLE_EVENT = "unreadable_event"
    UNREADABLE_FILE = "unreadable_file"


class Tag(StrEnum):
    """Something to know about an accepted event."""

    NUMBER_UNDERFLOW = "number_underflow"
    SUSPICIOUS_CHARACTERS = "suspicious_characters"
    NON_ASCII_KEY = "non_ascii_key"
    EXTRA_FIELD = "extra_field"
    EXTRA_ATTRIBUTE = "extra_attribute"
    UPCAST = "upcast"
    TIME_TRUNCATED = "time_truncated"
    PLAIN_PAYLOAD = "plain_payload"


class Violation(NamedTuple):
    """One broken promise about one field.

    Attributes
    ----------
    got
        What was found, as text, cut to `GOT_CHARACTERS`.
    """

    field: str
    reason: Reason
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}"

    def as_json(self) -> dict[str, str]:
        """Return the violation as a quarantine document holds it."""
        return {
            "code": str(self.reason),
            "field": self.field,
            "expected": self.expected,
            "got": self.got,
        }


def violation(field: str, reason: Reason, expected: str, got: object) -> Violation:
    """Return a violation that shows `got` as Python would, cut short.

    Examples
    --------
    >>> str(violation("value", Reason.OUT_OF_RANGE, "at most 125 Cel", 200.0))
    'value: expected at most 125 Cel, got 200.0'
    """
    shown = ascii(got[:GOT_CHARACTERS] if isinstance(got, _LONG) else got)
    return Violation(field, reason, expected, shown[:GOT_CHARACTERS])
