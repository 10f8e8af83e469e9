"""JSON as RFC 8259 means it, and nothing that two readers could read differently.

``json.loads`` alone guesses the encoding, takes NaN, keeps the last of two equal keys
and passes lone surrogates on. This reader refuses all of that with a code, and never
raises, whatever the bytes. Good documents take one pass in C; only a document with
something to object to is read a second time, to name everything.
"""

import base64
import binascii
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from retrodict.reasons import Reason, Tag, Violation, violation

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_KEYS: Final = 1_000
MAX_NAME: Final = 256
"""Characters of a key: to normalize a long one takes the square of its length."""

MAX_ITEMS: Final = 10_000
MAX_VALUES: Final = 20_000
"""Items, keys and containers of one document; more cost too much to read at all."""

MAX_VIOLATIONS: Final = 20
"""Reasons of one document that are kept; the first say enough."""

INT64: Final = range(-(1 << 63), 1 << 63)

_INT64_DIGITS: Final = 20
_WHITE: Final = " \t\n\r"
_MAGIC: Final = (
    (b"\xf3\x89\x9a\xc2", Reason.KPL_AGGREGATED, "one event a record"),
    (b"\x1f\x8b", Reason.COMPRESSED, "JSON, not gzip"),
    (b"\x28\xb5\x2f\xfd", Reason.COMPRESSED, "JSON, not zstd"),
    (b"\xff\x06\x00\x00sNaPpY", Reason.COMPRESSED, "JSON, not snappy"),
    (b"\x04\x22\x4d\x18", Reason.COMPRESSED, "JSON, not lz4"),
    (b"BZh", Reason.COMPRESSED, "JSON, not bzip2"),
    (b"\xfd7zXZ", Reason.COMPRESSED, "JSON, not xz"),
    (b"PK\x03\x04", Reason.COMPRESSED, "JSON, not zip"),
    (b"\x78\x01", Reason.COMPRESSED, "JSON, not zlib"),
    (b"\x78\x5e", Reason.COMPRESSED, "JSON, not zlib"),
    (b"\x78\x9c", Reason.COMPRESSED, "JSON, not zlib"),
    (b"\x78\xda", Reason.COMPRESSED, "JSON, not zlib"),
    (b"Obj\x01", Reason.BINARY_FORMAT, "JSON, not Avro"),
    (b"PAR1", Reason.BINARY_FORMAT, "JSON, not Parquet"),
    (b"\x93NUMPY", Reason.BINARY_FORMAT, "JSON, not npy"),
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
_MAGIC_FIRST: Final = frozenset(magic[0] for magic, _, _ in _MAGIC)
_OPENERS: Final = b'{["'
_TEXTS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_ENCODED_START: Final = (
    "eyJ",
    "eyAi",
    "ewo",
    "ewog",
    "ewkJ",
    "W3s",
    "W1s",
    "WyJ",
    "H4sI",
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SUSPICIOUS: Final = re.compile(
    "[\x01-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_HOOKS: Final = ("__", "$", "py/", "@type", "@class")
_MAY_BE_HOOKS: Final = re.compile(rf"(?:^|\n)(?:{'|'.join(map(re.escape, _HOOKS))})")
"""Finds a hook among names with line breaks between, and a name with one in it."""

_ZERO: Final = re.compile(r"-?0+(?:\.0*)?(?:[eE].*)?")
_LITERALS: Final = ("true", "false", "null", "NaN", "Infinity", "-Infinity")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document, and what is remarkable about it."""

    value: Any
    tags: frozenset[Tag]


class _LookCloserError(Exception):
    """Something to object to, or to tag; never leaves this module."""


def parse(raw: bytes) -> Parsed | tuple[Violation, ...]:
    """Read one JSON object, or say why it is none.

    Examples
    --------
    >>> parse(b'{"a": -0.0}')
    Parsed(value={'a': 0.0}, tags=frozenset())
    >>> [found.reason.value for found in parse(b'{"a": NaN, "b": 1, "b": 2}')]
    ['not_a_number', 'duplicate_key']
    """
    broken = _look_at_bytes(raw)
    if broken is not None:
        return (broken,)
    try:
        text = raw.decode("utf-8").strip(_WHITE)
    except UnicodeDecodeError as error:
        return (_not_utf8(raw, error),)
    tags: set[Tag] = set()
    found: list[Violation] = []
    try:
        try:
            value, end = _FAST.raw_decode(text)
        except _LookCloserError:
            value, end = _closer(found, tags).raw_decode(text)
    except json.JSONDecodeError as error:
        return (_not_json(text, error),)
    except RecursionError:
        return (_too_deep(raw),)
    if end != len(text):
        rest = text[end:].strip(_WHITE)
        found.append(_broken(Reason.TRAILING_DATA, "one document a record", rest))
    if not isinstance(value, dict):
        found.append(_not_an_object(value))
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        found.append(_too_deep(raw))
    else:
        if "\\" in text or _SUSPICIOUS.search(text):
            _look_at_texts(value, found, tags)
        if raw.count(b",") >= MAX_ITEMS:
            found += _long_arrays(value)
    if found:
        return tuple(found[:MAX_VIOLATIONS])
    return Parsed(value, frozenset(tags))


def is_encoded_json(text: str) -> bool:
    """Tell whether `text` is JSON, or base64 of it, that was encoded once too often.

    Examples
    --------
    >>> is_encoded_json("eyJhIjoxfQ=="), is_encoded_json('{"a": 1}')
    (True, True)
    >>> is_encoded_json("eyJhIj*broken base64"), is_encoded_json("hall-1")
    (True, False)
    """
    text = text.strip(_WHITE)
    if text.startswith(("{", "[", *_ENCODED_START)):
        return True
    if not _BASE64.fullmatch(text) or len(text) % 4 == 1 or text.isdigit():
        return False
    padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
    try:
        inner = base64.b64decode(padded.replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        return False
    return inner.lstrip()[:2] in (b'{"', b"[{", b'["', b"{\n")


def _broken(
    reason: Reason, expected: str, got: object, field: str = "record"
) -> Violation:
    return violation(field, reason, expected, got)


def _look_at_bytes(raw: bytes) -> Violation | None:
    if len(raw) > MAX_BYTES:
        expected = f"at most {MAX_BYTES} bytes"
        return _broken(Reason.TOO_LARGE, expected, f"{len(raw)} bytes")
    first = raw.lstrip(_WHITE.encode())[:1]
    if not first:
        return _broken(Reason.EMPTY, "a JSON document", raw)
    if raw[0] in _MAGIC_FIRST:
        for magic, reason, expected in _MAGIC:
            if raw.startswith(magic):
                return _broken(reason, expected, raw)
    if b"\x00" in raw[:4] and raw[:4].replace(b"\x00", b"")[:1] in (b"{", b"[", b'"'):
        return _broken(Reason.WRONG_ENCODING, "UTF-8, not UTF-16 or UTF-32", raw)
    if first not in _OPENERS and _BINARY.search(raw):
        return _broken(Reason.BINARY_FORMAT, "JSON text", raw)
    if b"\x00" in raw:
        return _broken(Reason.NUL_CHARACTER, "text without U+0000", raw)
    if first in _OPENERS and separators(raw) > MAX_VALUES:
        return _too_much(raw)
    return None


def separators(raw: bytes) -> int:
    """Count what stands before the values of containers; in texts it counts too.

    Examples
    --------
    >>> separators(b'{"a": [1, 2, ","]}')
    5
    """
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _too_much(raw: bytes) -> Violation | None:
    """Say what a document has too much of, unless it is only in its texts."""
    bare = _TEXTS.sub(b"", raw)
    count = separators(bare)
    if count <= MAX_VALUES:
        return None
    brackets = bare.translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        return _too_deep(raw)
    expected = f"at most {MAX_VALUES} values"
    return _broken(Reason.TOO_MANY_ITEMS, expected, f"{count} values")


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> Violation:
    if raw.lstrip()[:1] in _OPENERS:
        expected = f"UTF-8, which byte {error.start} is not"
        return _broken(Reason.INVALID_UNICODE, expected, raw)
    return _broken(Reason.BINARY_FORMAT, "JSON text in UTF-8", raw)


def _not_json(text: str, error: json.JSONDecodeError) -> Violation:
    rest = text[error.pos :]
    if text[0] not in "{[" and is_encoded_json(text.strip('"')):
        return _broken(Reason.DOUBLE_ENCODED, "JSON, not base64", text)
    is_cut = (
        not rest
        or error.msg.startswith("Unterminated")
        or rest == "-"
        or ("escape" in error.msg and len(rest) < len("\\u0000"))
        or any(literal.startswith(rest) for literal in _LITERALS)
    )
    if text[0] in '{["' and is_cut:
        return truncated(text)
    expected = f"JSON ({error.msg} at character {error.pos})"
    return _broken(Reason.INVALID_JSON, expected, rest[:80])


def truncated(text: str) -> Violation:
    """Say that a document, without white space around it, is not whole."""
    return _broken(Reason.TRUNCATED, "a whole JSON document", text[-80:])


def _not_an_object(value: Any) -> Violation:
    if isinstance(value, str) and is_encoded_json(value):
        return _broken(Reason.DOUBLE_ENCODED, "a JSON object, not a text of one", value)
    kind = type(value).__name__
    return _broken(Reason.NOT_AN_OBJECT, "a JSON object", f"a JSON {kind}")


def _too_deep(raw: bytes) -> Violation:
    return _broken(Reason.NESTING_TOO_DEEP, f"at most {MAX_DEPTH} levels", raw)


def _depth(value: Any) -> int:
    """Return how deep containers nest, without recursion."""
    depth = 0
    level = [value] if isinstance(value, dict | list) else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner: list[Any] = []
        for one in level:
            items = one.values() if isinstance(one, dict) else one
            inner.extend(item for item in items if isinstance(item, dict | list))
        level = inner
    return depth


def _long_arrays(value: Any) -> Iterator[Violation]:
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        expected = f"at most {MAX_ITEMS} items"
        yield _broken(Reason.TOO_MANY_ITEMS, expected, f"{len(value)} items")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _long_arrays(item)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _look_at_texts(value: Any, found: list[Violation], tags: set[Tag]) -> None:
    for text in _texts(value):
        if _SURROGATE.search(text):
            found.append(_broken(Reason.INVALID_UNICODE, "no lone surrogates", text))
        if "\x00" in text:
            found.append(_broken(Reason.NUL_CHARACTER, "text without U+0000", text))
        if _SUSPICIOUS.search(text):
            tags.add(Tag.SUSPICIOUS_CHARACTERS)


def _fast_float(text: str) -> float:
    number = float(text)
    if number == 0.0:
        if _ZERO.fullmatch(text):
            return 0.0
        raise _LookCloserError
    if math.isinf(number):
        raise _LookCloserError
    return number


def _fast_int(text: str) -> int:
    if len(text) >= _INT64_DIGITS - 1:
        raise _LookCloserError
    return int(text)


def _fast_constant(text: str) -> float:
    raise _LookCloserError(text)


def _fast_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or len(found) > MAX_KEYS:
        raise _LookCloserError
    names = "\n".join(found)
    if len(names) > MAX_NAME and max(map(len, found)) > MAX_NAME:
        raise _LookCloserError
    if _MAY_BE_HOOKS.search(names) or not names.isascii():
        raise _LookCloserError
    if not names.islower() and len(set(map(str.lower, found))) != len(found):
        raise _LookCloserError
    return found


_FAST: Final = json.JSONDecoder(
    object_pairs_hook=_fast_object,
    parse_float=_fast_float,
    parse_int=_fast_int,
    parse_constant=_fast_constant,
)


def _closer(found: list[Violation], tags: set[Tag]) -> json.JSONDecoder:
    """Return a decoder that reads on and notes whatever it meets."""

    def note(reason: Reason, expected: str, got: object, field: str = "record") -> None:
        if len(found) < MAX_VIOLATIONS:
            found.append(_broken(reason, expected, got, field))

    def read_float(text: str) -> float:
        number = float(text)
        if math.isinf(number):
            note(Reason.NUMBER_OVERFLOW, "a number that a double can hold", text)
            return 0.0
        if number == 0.0 and not _ZERO.fullmatch(text):
            tags.add(Tag.NUMBER_UNDERFLOW)
        return number + 0.0

    def read_int(text: str) -> int:
        if len(text) > _INT64_DIGITS or int(text) not in INT64:
            note(Reason.INTEGER_OUT_OF_RANGE, "an integer of 64 bits", text)
            return 0
        return int(text)

    def read_constant(text: str) -> float:
        note(Reason.NOT_A_NUMBER, "a finite number", text)
        return 0.0

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(pairs)
        if len(pairs) > MAX_KEYS:
            expected = f"at most {MAX_KEYS} keys"
            note(Reason.TOO_MANY_ITEMS, expected, f"{len(pairs)} keys")
            return read
        seen: set[str] = set()
        folded: dict[str, str] = {}
        for name, _ in pairs:
            shown = name[:64]
            if name in seen:
                note(Reason.DUPLICATE_KEY, "each key once", name, shown)
                continue
            seen.add(name)
            if len(name) > MAX_NAME:
                expected = f"a key of at most {MAX_NAME} characters"
                note(Reason.TOO_LONG, expected, name, shown)
                continue
            other = folded.setdefault(fold_name(name), name)
            if other != name:
                expected = f"a key that differs from {other[:64]!r} by more than case"
                note(Reason.AMBIGUOUS_KEY, expected, name, shown)
            if name.startswith(_HOOKS):
                note(Reason.UNSAFE_NAME, "a key that no reader acts on", name, shown)
        return read

    return json.JSONDecoder(
        object_pairs_hook=read_object,
        parse_float=read_float,
        parse_int=read_int,
        parse_constant=read_constant,
    )


def fold_name(name: str) -> str:
    r"""Return what keys have in common that a reader could take for one another.

    Examples
    --------
    >>> fold_name("E\u0301tat") == fold_name("\u00e9tat")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
