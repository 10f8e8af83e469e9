"""JSON as RFC 8259 means it, and nothing that two readers could read differently.

``json.loads`` alone guesses the encoding, takes NaN, keeps the last of two equal keys
and passes lone surrogates on. This reader refuses all of that with a code, and never
raises, whatever the bytes.
"""

import base64
import binascii
import json
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from retrodict.reasons import Reason, Tag, Violation, violation

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_KEYS: Final = 1_000
MAX_ITEMS: Final = 10_000
INT64: Final = range(-(1 << 63), 1 << 63)

_MAGIC: Final = (
    (b"\xf3\x89\x9a\xc2", Reason.KPL_AGGREGATED, "one event a record"),
    (b"\x1f\x8b", Reason.COMPRESSED, "JSON, not gzip"),
    (b"\x28\xb5\x2f\xfd", Reason.COMPRESSED, "JSON, not zstd"),
    (b"\xff\x06\x00\x00sNaPpY", Reason.COMPRESSED, "JSON, not snappy"),
    (b"BZh", Reason.COMPRESSED, "JSON, not bzip2"),
    (b"\xfd7zXZ", Reason.COMPRESSED, "JSON, not xz"),
    (b"PK\x03\x04", Reason.COMPRESSED, "JSON, not zip"),
    (b"Obj\x01", Reason.BINARY_FORMAT, "JSON, not Avro"),
    (b"PAR1", Reason.BINARY_FORMAT, "JSON, not Parquet"),
    (b"\x80\x02", Reason.BINARY_FORMAT, "JSON, not pickle"),
    (b"\x80\x03", Reason.BINARY_FORMAT, "JSON, not pickle"),
    (b"\x80\x04", Reason.BINARY_FORMAT, "JSON, not pickle"),
    (b"\x80\x05", Reason.BINARY_FORMAT, "JSON, not pickle"),
    (b"\xd9\xd9\xf7", Reason.BINARY_FORMAT, "JSON, not CBOR"),
    (b"\xef\xbb\xbf", Reason.BYTE_ORDER_MARK, "UTF-8 without a byte order mark"),
    (b"\xff\xfe", Reason.WRONG_ENCODING, "UTF-8, not UTF-16 or UTF-32"),
    (b"\xfe\xff", Reason.WRONG_ENCODING, "UTF-8, not UTF-16"),
    (b"\x00\x00\xfe\xff", Reason.WRONG_ENCODING, "UTF-8, not UTF-32"),
)
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_BASE64: Final = re.compile(rb'\s*"?[A-Za-z0-9+/_=-]{8,}"?\s*')
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SUSPICIOUS: Final = re.compile(
    "[\x01-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_UNSAFE_KEYS: Final = frozenset(
    {"__proto__", "__class__", "__reduce__", "constructor", "prototype", "@type"}
)
_TEXT: Final = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x100))


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document, and what is remarkable about it."""

    value: Any
    tags: frozenset[Tag]


class _BrokenError(Exception):
    """Carries one violation out of the parser; never leaves this module."""

    def __init__(self, found: Violation) -> None:
        super().__init__(found)
        self.found = found


def _broken(reason: Reason, expected: str, got: object, field: str = "record") -> NoReturn:
    raise _BrokenError(violation(field, reason, expected, got))


def parse(raw: bytes) -> Parsed | tuple[Violation, ...]:
    """Read one JSON document, or say why it is none.

    Examples
    --------
    >>> parse(b'{"a": -0.0}')
    Parsed(value={'a': 0.0}, tags=frozenset())
    >>> [found.reason.value for found in parse(b'{"a": 1, "a": 2}')]
    ['duplicate_key']
    """
    try:
        return _parse(raw)
    except _BrokenError as error:
        return (error.found,)


def _parse(raw: bytes) -> Parsed:
    _refuse_by_bytes(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if any(byte not in _TEXT for byte in raw[:64]):
            _broken(Reason.BINARY_FORMAT, "JSON text in UTF-8", raw)
        _broken(Reason.INVALID_UNICODE, f"UTF-8 (byte {error.start})", raw)
    _refuse_depth(raw)
    reader = _Reader()
    try:
        value, end = reader.decoder.raw_decode(text.lstrip(" \t\n\r"))
    except json.JSONDecodeError as error:
        _explain(raw, text, error)
    except RecursionError:
        _broken(Reason.NESTING_TOO_DEEP, f"at most {MAX_DEPTH} levels", raw)
    rest = text.lstrip(" \t\n\r")[end:].strip(" \t\n\r")
    if rest:
        _broken(Reason.TRAILING_DATA, "one document a record", rest)
    _refuse_by_value(value, raw)
    if _SURROGATE.search(text) or "\\u" in text or _SUSPICIOUS.search(text):
        _look_at_strings(value, reader.tags)
    return Parsed(value, frozenset(reader.tags))


def _refuse_by_bytes(raw: bytes) -> None:
    if not raw.strip(b" \t\n\r"):
        _broken(Reason.EMPTY, "a JSON document", raw)
    if len(raw) > MAX_BYTES:
        _broken(Reason.TOO_LARGE, f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    for magic, reason, expected in _MAGIC:
        if raw.startswith(magic):
            _broken(reason, expected, raw)
    if raw[:1] == b"\x78" and raw[1:2] in {b"\x01", b"\x5e", b"\x9c", b"\xda"}:
        _broken(Reason.COMPRESSED, "JSON, not zlib", raw)
    if raw[1:2] == b"\x00" or raw[:1] == b"\x00":
        _broken(Reason.WRONG_ENCODING, "UTF-8, not UTF-16 or UTF-32", raw)
    if b"\x00" in raw:
        _broken(Reason.NUL_CHARACTER, "text without U+0000", raw)


def _refuse_depth(raw: bytes) -> None:
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRUCTURE.finditer(raw):
        token = found.group()
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                _broken(Reason.NESTING_TOO_DEEP, f"at most {MAX_DEPTH} levels", raw)
        elif token in b"]}":
            depth -= 1


def _explain(raw: bytes, text: str, error: json.JSONDecodeError) -> NoReturn:
    if _is_encoded_json(raw):
        _broken(Reason.DOUBLE_ENCODED, "JSON, not base64", raw)
    if any(byte not in _TEXT for byte in raw[:64]):
        _broken(Reason.BINARY_FORMAT, "JSON text", raw)
    stripped = text.strip()
    at_end = error.pos >= len(text.lstrip(" \t\n\r").rstrip()) - 1
    if at_end or error.msg.startswith("Unterminated"):
        _broken(Reason.TRUNCATED, "a whole JSON document", stripped[-80:])
    _broken(Reason.INVALID_JSON, f"JSON ({error.msg} at {error.pos})", stripped)


def _is_encoded_json(raw: bytes) -> bool:
    """Tell whether `raw` is base64, well padded or not: JSON encoded once too often."""
    if not _BASE64.fullmatch(raw) or raw.strip().isdigit():
        return False
    text = raw.strip().strip(b'"').rstrip(b"=")
    try:
        inner = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=None)
    except (binascii.Error, ValueError):
        return text.startswith((b"eyJ", b"W3s", b"ew"))
    return inner.lstrip()[:1] in (b"{", b"[") or inner.startswith(b"\x1f\x8b")


def _refuse_by_value(value: Any, raw: bytes) -> None:
    if isinstance(value, dict):
        return
    if isinstance(value, str) and _is_encoded_json(raw):
        _broken(Reason.DOUBLE_ENCODED, "a JSON object, not base64 in a string", value)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        _broken(Reason.DOUBLE_ENCODED, "a JSON object, not JSON in a string", value)
    _broken(Reason.NOT_AN_OBJECT, "a JSON object", raw)


def _look_at_strings(value: Any, tags: set[Tag]) -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value):
            _broken(Reason.INVALID_UNICODE, "no lone surrogates", value)
        if "\x00" in value:
            _broken(Reason.NUL_CHARACTER, "text without U+0000", value)
        if _SUSPICIOUS.search(value):
            tags.add(Tag.SUSPICIOUS_CHARACTERS)
    elif isinstance(value, dict):
        for key, item in value.items():
            _look_at_strings(key, tags)
            _look_at_strings(item, tags)
    elif isinstance(value, list):
        for item in value:
            _look_at_strings(item, tags)


class _Reader:
    """A decoder whose hooks refuse what JSON leaves open."""

    def __init__(self) -> None:
        self.tags: set[Tag] = set()
        self.decoder = json.JSONDecoder(
            object_pairs_hook=_object,
            parse_float=self._float,
            parse_int=_integer,
            parse_constant=_constant,
        )

    def _float(self, text: str) -> float:
        number = float(text)
        if math.isinf(number):
            _broken(Reason.NUMBER_OVERFLOW, "a number that a double can hold", text)
        if number == 0:
            if any(digit in "123456789" for digit in re.split("[eE]", text)[0]):
                self.tags.add(Tag.NUMBER_UNDERFLOW)
            return 0.0
        return number


def _integer(text: str) -> int:
    if len(text) > 20 or int(text) not in INT64:  # noqa: PLR2004 - digits of 2**63
        _broken(Reason.INTEGER_OUT_OF_RANGE, "an integer of 64 bits", text)
    return int(text)


def _constant(text: str) -> NoReturn:
    _broken(Reason.NOT_A_NUMBER, "a finite number", text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        _broken(Reason.DUPLICATE_KEY, "each key once", twice, field=twice)
    if len(found) > MAX_KEYS:
        _broken(Reason.TOO_MANY_ITEMS, f"at most {MAX_KEYS} keys", f"{len(found)} keys")
    folded = {unicodedata.normalize("NFC", key).casefold() for key in found}
    if len(folded) != len(found):
        _broken(Reason.AMBIGUOUS_KEY, "keys that differ by more than case", [*found][:10])
    for key, value in pairs:
        if key in _UNSAFE_KEYS or key.startswith(("$", "py/", "__")):
            _broken(Reason.UNSAFE_KEY, "a key that no reader acts on", key, field=key)
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            expected = f"at most {MAX_ITEMS} items"
            _broken(Reason.TOO_MANY_ITEMS, expected, f"{len(value)} items", field=key)
    return found
