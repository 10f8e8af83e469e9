"""Inputs that nobody would send on purpose, and some that an attacker would.

Every generator takes a seeded source of randomness and returns bytes, so the same seed
gives the same inputs on any machine and with any number of workers.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from retrodict.contracts import Event, Key, PlainPayload, field
from retrodict.pipeline import load_catalog
from retrodict.validation import Arrival, Catalog

ROOT: Final = Path(__file__).parents[2]
ARRIVED_US: Final = 1_767_614_400_000_000
POSITION: Final = f"000000000000-{1:056}"
LONGEST: Final = 2**20


class Input(NamedTuple):
    """One record, by the key that it was put under."""

    generator: str
    raw: bytes
    partition_key: str = "example-1"

    @property
    def arrival(self) -> Arrival:
        """How it came: at noon of the day of the golden examples."""
        return Arrival(POSITION, self.partition_key, ARRIVED_US)


def _renamed(old: Any) -> dict[str, Any]:
    return {"key": old["name"], "size": old["bytes"] / 1000}


class Parcel(
    Event,
    type="fuzz.parcel",
    version=2,
    upcasts_from={1: _renamed},
    extra="tag",
    plain=PlainPayload(id="id", key="key", time="at", source="urn:fuzz:plain"),
):
    """A contract with every door that a contract can open."""

    key: Key[str]
    size: float | None = None
    pieces: int | None = field(default=None, ge=0)
    is_gift: bool = False
    note: str | None = None


def catalog() -> Catalog:
    """Return the contracts of every pipeline, and the lenient one beside them."""
    shipped = load_catalog()
    return Catalog(
        {**shipped.contracts, "fuzz.parcel": Parcel}, dict(shipped.lateness_us)
    )


_PARCEL: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "id": "example-1",
    "source": "urn:fuzz",
    "type": "fuzz.parcel",
    "subject": "example-1",
    "time": "2026-01-05T10:00:00Z",
    "dataschema": "fuzz.parcel/v2",
    "data": {"key": "example-1", "size": 1.5, "pieces": 3, "x": [{"y": "z"}]},
}
_PARCEL_1: Final = {
    **_PARCEL,
    "dataschema": "fuzz.parcel/v1",
    "data": {"name": "example-1", "bytes": 1500},
}
GOLDEN: Final[tuple[dict[str, Any], ...]] = (
    *(
        json.loads(path.read_bytes())
        for path in sorted((ROOT / "events").glob("*/v*.json"))
        if not path.name.endswith(".schema.json")
    ),
    _PARCEL,
    _PARCEL_1,
)
_SPELLED: Final = tuple(
    (raw, str(document["subject"]))
    for document in GOLDEN
    for raw in (
        json.dumps(document).encode(),
        json.dumps(document, separators=(",", ":")).encode(),
        json.dumps(document, indent=2).encode(),
    )
)
_MEMBER: Final = re.compile(
    rb'("[^"\\]*")\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[{])'
)
_MEMBERS: Final = {raw: list(_MEMBER.finditer(raw)) for raw, _ in _SPELLED}


def _nested(depth: int) -> tuple[bytes, ...]:
    half = depth // 2
    return (
        b"[" * depth + b"]" * depth,
        b'{"a":' * depth + b"1" + b"}" * depth,
        b'[{"a":' * half + b"1" + b"}]" * half,
    )


NASTY: Final = (
    b"NaN", b"-NaN", b"nan", b"Infinity", b"-Infinity", b"+Infinity", b"inf",
    b"1e308", b"1e309", b"-1e309", b"1e999999999", b"1e-400", b"-1e-400", b"0e-999",
    b"0e99999", b"-0", b"-0.0", b"5e-324", b"2.2250738585072011e-308",
    b"0.1000000000000000055511151231257827021181583404541015625",
    b"9007199254740993", b"-9007199254740993",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
    b"-9223372036854775809", b"18446744073709551616", b"9" * 400, b"-" + b"9" * 5_000,
    b"1." + b"0" * 500 + b"1", b"00", b"01", b"-01", b"+1", b"1.", b".5", b"1e", b"1e+",
    b"0x10", b"1_000", b"1,000", b"-", b"--1", b"1 2", b"\xd9\xa1\xd9\xa2",
    b"true", b"false", b"null", b"True", b"None", b"tru", b"nul", b"undefined",
    b"", b",", b":", b'"', b"[", b"{", b"]", b"}", b"[]", b"{}", b"[1,]", b'{"a":1,}',
    b"[,]", b"{,}", b'{"a"}', b'{"a":}', b"{1:2}", b"{'a':1}", b"/**/1", b"1//",
    b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"a":1,"A":2}', b'{"":1,"":2}',
    '{"\u00e9":1,"e\u0301":2}'.encode(), '{"\u017f":1,"s":2}'.encode(),
    '{"\u212a":1,"k":2}'.encode(),
    b'{"__proto__":1}', b'{"$ref":1}', b'{"py/object":1}', b'{"@type":1}',
    b'{"x":{"__class__":1}}', b'{"a\\n__b":1}',
    b'""', b'" "', b'"\\ud800"', b'"\\udfff"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"',
    b'"\\ud83d"', b'"\\uD83Dx"', b'"\\ud800\\ud800\\udc00"', b'{"\\ud800":1}',
    b'"\\u0000"', b'{"\\u0000":1}', b'"\\u00"', b'"\\u"', b'"\\x41"', b'"\\"', b'"\\',
    b'"\\a"', b'"\\u202e"', "\u202e".join('""').encode(), b'"\\ufeff"',
    b'"\xef\xbb\xbf"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\x80"', b'"\xc3"',
    b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\x00"', b'"\x01"', b'"\x1f"', b'"\n"',
    b'"\t"', b'"\x7f"', b'"\xc2\x85"', b'"\xf0\x9f\x98\x80"',
    b'"../../etc/passwd"', b'"a/b"', b'"a=b"', b'"%2e%2e"', b'" s-1"', b'"soap"',
    b'"eyJhIjoxfQ=="', b'"{\\"a\\":1}"', b'"H4sIAAAAAAAA"', b'"[]"',
    b'"' + b"a" * 300 + b'"', b'"' + b"\\u0061" * 300 + b'"',
    b"[" + b"0," * 10_000 + b"0]", b"[" + b"0," * 9_999 + b"0]",
    b"{" + b",".join(b'"k%d":0' % n for n in range(1_001)) + b"}",
    *_nested(30), *_nested(31), *_nested(32), *_nested(33), *_nested(34),
    *_nested(1_000), b"[" * 200, b'{"a":' * 200,
)  # fmt: skip
"""What may stand where JSON has a value, or should not."""

_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1,
    10**30, 0.0, -0.0, 0.1, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
    -40, -40.1, 125, 125.00000000000001, 20.5, "", " ", "example-1", "s-1", "1.0", "2",
    "0.3", 1.0, "a" * 256, "a" * 257, "x" * 65, "\ud800", "\0", "\n", "\x85", "\u202e",
    "é", "e\u0301", "\U0001f600", "\u200b", "\ufeff", "../x", "a/b", "a=b", "..",
    "soap",
    [], {}, [1], {"a": 1}, {"a": {"b": [None]}}, [[[[]]]], "{}", "eyJhIjoxfQ==",
    "sensor.reading", "sensor.reading/v1", "sensor.reading/v0", "sensor.reading/v2",
    "sensor.reading/v01", "sensor.reading/v999999", "fuzz.parcel", "fuzz.parcel/v1",
    "fuzz.parcel/v2", "fuzz.parcel/v3", "/v1", "v1", "retrodict.label.given",
    "application/json", "application/xml", "import-1",
)  # fmt: skip
_TIMES: Final = (
    "2026-01-05T10:00:00Z", "2026-01-05t10:00:00z", "2026-01-05 10:00:00Z",
    "2026-01-05T10:00:00.1Z", "2026-01-05T10:00:00.123456789Z",
    "2026-01-05T10:00:00.000000000000000001Z", "2026-01-05T10:00:00",
    "2026-01-05T10:00:00+14:00", "2026-01-05T10:00:00+14:01",
    "2026-01-05T09:00:00-03:00",
    "2026-01-05T10:00:00-12:01", "2026-01-05T10:00:00-00:00",
    "2026-01-05T10:00:00+0000",
    "2026-01-05T24:00:00Z", "2026-01-05T23:59:60Z", "2026-01-05T10:60:00Z",
    "2026-02-30T10:00:00Z", "2024-02-29T10:00:00Z", "2026-13-01T10:00:00Z",
    "2026-00-01T10:00:00Z", "2026-01-05", "2026-W02-1T10:00:00Z", "20260105T100000Z",
    "2026-01-05T12:04:59Z", "2026-01-05T12:05:00Z", "2026-01-05T12:05:00.000001Z",
    "2026-01-05T12:05:01Z", "2027-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z",
    "2000-01-01T00:00:00Z", "2099-12-31T23:59:59Z", "2100-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
    "+12026-01-05T10:00:00Z", "-2026-01-05T10:00:00Z", "1767607200", 1767607200,
    1767607200000, 1767607200.5, "now", "", "\uff12\uff10\uff12\uff16-01-05T10:00:00Z",
    "2026-01-05T10:00:00Z\n", " 2026-01-05T10:00:00Z", "2026-01-05T10:00:00 Z",
    "2026-01-05T10:00:00,5Z", "2026-01-05T10:00:00.Z",
)  # fmt: skip
_ATTRIBUTES: Final = (
    "specversion", "id", "source", "type", "subject", "time", "dataschema",
    "datacontenttype", "data", "data_base64", "causationid", "correlationid",
    "importid", "observedat", "Id", "traceparent", "", "é", "$schema", "__proto__",
)  # fmt: skip
_MAGIC: Final = (
    b"\xf3\x89\x9a\xc2", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"PK\x03\x04",
    b"\x78\x9c", b"Obj\x01", b"PAR1", b"\x80\x04", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xfe\xff", b"\x00\x00\xfe\xff", b"{\x00", b"\x00{", b"{", b"[", b'"', b"", b"",
)  # fmt: skip
_TOKENS: Final = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b" ", b"\n", b"\t", b"\r", b"\x0c",
    b"\x0b", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\x00", b"\x1f", b"\x7f",
    b"1", b"-", b".", b"e", b"E", b"+", b"0", b"9" * 20, b"true", b"false", b"null",
    b"NaN", b"Infinity", b"\\u", b"\\ud8", b"00", b"a", b"\xe9", b"\xed\xa0\x80",
    b'"a":', b'"data":', b'"type":"sensor.reading"', b"//", b"/*",
)  # fmt: skip


def _bytes_of(value: Any, random: Random) -> bytes:
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _random_bytes(random: Random) -> tuple[bytes, str]:
    return random.choice(_MAGIC) + random.randbytes(random.randrange(200)), "example-1"


def _token_soup(random: Random) -> tuple[bytes, str]:
    soup = b"".join(random.choices(_TOKENS, k=random.randrange(1, 30)))
    return (b"{" + soup + b"}" if random.random() < 0.5 else soup), "example-1"


def _golden(random: Random) -> tuple[bytes, str]:
    """Return a golden example in any other spelling; it means the same."""
    document = random.choice(GOLDEN)
    items = list(document.items())
    random.shuffle(items)
    spelled = json.dumps(
        dict(items),
        indent=random.choice((None, None, 1, "\t")),
        separators=random.choice(((",", ":"), (" ,", "\r\n: "), None)),
    )
    if random.random() < 0.3:
        spelled = spelled.replace("e", "\\u0065").replace("\\u0065+", "e+")
    white = random.choice(("", " ", "\r\n", "\t \n"))
    return (white + spelled + white).encode(), str(document["subject"])


def _flipped(random: Random) -> tuple[bytes, str]:
    raw, key = random.choice(_SPELLED)
    changed = bytearray(raw)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed), key


def _spliced(random: Random) -> tuple[bytes, str]:
    raw, key = random.choice(_SPELLED)
    other, _ = random.choice(_SPELLED)
    start, end = sorted(random.choices(range(len(raw) + 1), k=2))
    how = random.randrange(6)
    if how == 0:
        return raw[:start], key
    if how == 1:
        return raw[start:], key
    if how == 2:
        return raw[:start] + raw[end:], key
    if how == 3:
        return raw[:end] + raw[start:], key
    if how == 4:
        return raw[:start] + other[random.randrange(len(other)) :], key
    return random.choice((raw + other, raw + b"\n" + other, raw + other[:3])), key


def _nasty_value(random: Random) -> tuple[bytes, str]:
    """Return a golden example with a value, or a key once more, of the worst kind."""
    raw, key = random.choice(_SPELLED)
    member = random.choice(_MEMBERS[raw])
    nasty = random.choice(NASTY)
    if member[2] in b"{[" or random.random() < 0.4:
        name = random.choice((member[1], member[1].swapcase(), b'"new"', b'"__new"'))
        once_more = name + b":" + nasty + b","
        return raw[: member.start()] + once_more + raw[member.start() :], key
    return raw[: member.start(2)] + nasty + raw[member.end(2) :], key


def _nasty_bytes(random: Random) -> tuple[bytes, str]:
    """Return a golden example with something in front, behind or somewhere in it."""
    raw, key = random.choice(_SPELLED)
    nasty = random.choice(NASTY if random.random() < 0.5 else _TOKENS)
    place = random.choice((0, len(raw), random.randrange(len(raw))))
    if random.random() < 0.1:
        encoding = random.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32"))
        return raw.decode().encode(encoding), key
    return raw[:place] + nasty + raw[place:], key


def _wrong_envelope(random: Random) -> tuple[bytes, str]:
    document = dict(random.choice(GOLDEN))
    key = str(document["subject"])
    for _ in range(random.choice((1, 1, 2, 4))):
        name = random.choice(_ATTRIBUTES)
        if random.random() < 0.15:
            document.pop(name, None)
        elif name in ("time", "observedat") and random.random() < 0.8:
            document[name] = random.choice(_TIMES)
        else:
            document[name] = random.choice(_VALUES)
    if random.random() < 0.2:
        document["importid"] = "import-1"
    if random.random() < 0.5 and isinstance(document.get("subject"), str):
        key = document["subject"]
    return _bytes_of(document, random), key


def _wrong_data(random: Random) -> tuple[bytes, str]:
    document = dict(random.choice(GOLDEN))
    data = dict(document["data"])
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        name = random.choice((*data, *data, "extra", "", "é", "__proto__", "VALUE"))
        if random.random() < 0.1:
            data.pop(name, None)
        else:
            data[name] = random.choice(_VALUES)
    document["data"] = data
    return _bytes_of(document, random), str(document["subject"])


def _plain_payload(random: Random) -> tuple[bytes, str]:
    payload: dict[str, Any] = {
        "id": random.choice(("1", 1, 2**64, 1.5, None, [], random.choice(_VALUES))),
        "key": random.choice(("example-1", "example-1", random.choice(_VALUES))),
        "at": random.choice((_TIMES[0], random.choice(_TIMES))),
    }
    for name in ("size", "pieces", "is_gift", "note", "x", "data", "subject", "source"):
        if random.random() < 0.3:
            payload[name] = random.choice((1, random.choice(_VALUES)))
    for name in ("id", "key", "at"):
        if random.random() < 0.1:
            del payload[name]
    return _bytes_of(payload, random), "example-1"


def _white(random: Random) -> str:
    return random.choice(("", "", "", "", " ", "\n", "\t", "\r\n"))


def _text(random: Random) -> str:
    parts = []
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        kind = random.randrange(12)
        if kind < 8:
            parts.append(random.choice("abcdefghijklmnopqrstuvwxyzABC019 _-./:"))
        elif kind == 8:
            parts.append(random.choice(("\\n", "\\\\", '\\"', "\\/", "\\t", "\\b")))
        elif kind == 9:
            parts.append(f"\\u{random.randrange(0x10000):04x}")
        elif kind == 10:
            high, low = (
                random.randrange(0xD800, 0xDC00),
                random.randrange(0xDC00, 0xE000),
            )
            parts.append(f"\\u{high:04x}\\u{low:04X}")
        else:
            parts.append(chr(random.choice((0xE9, 0x3B1, 0x4E2D, 0x1F600, 0x301))))
    return '"' + "".join(parts) + '"'


def _number(random: Random) -> str:
    kind = random.randrange(4)
    if kind == 0:
        return str(random.randrange(-1000, 1000))
    if kind == 1:
        return str(random.randrange(-(1 << random.randrange(1, 70)), 1 << 64))
    if kind == 2:
        return repr(random.uniform(-1e3, 1e3))
    return f"{random.uniform(-10, 10):.{random.randrange(20)}e}".replace(
        "e+0", random.choice(("e", "E+", "e+000"))
    )


def _json(random: Random, depth: int) -> str:
    kind = random.randrange(6 if depth <= 0 else 10)
    if kind < 2:
        return _number(random)
    if kind < 5:
        return _text(random)
    if kind == 5:
        return random.choice(("true", "false", "null"))
    several = range(random.choice((0, 1, 2, 2, 3)))
    if kind < 8:
        items = [_white(random) + _json(random, depth - 1) for _ in several]
        return f"[{','.join(items)}{_white(random)}]"
    members = [
        f"{_white(random)}{_text(random)}{_white(random)}:{_json(random, depth - 1)}"
        for _ in several
    ]
    return f"{{{','.join(members)}{_white(random)}}}"


def _grammar(random: Random) -> tuple[bytes, str]:
    """Return random JSON, as a record or in a field that an event may keep."""
    value = _json(random, random.choice((1, 2, 3, 5)))
    if random.random() < 0.1:
        depth = random.randrange(28, 36)
        value = "[" * depth + value + "]" * depth
    kind = random.randrange(4)
    if kind == 0:
        return value.encode(), "example-1"
    if kind == 1:
        return f'{{"a":{value},{_text(random)}:1}}'.encode(), "example-1"
    head = json.dumps({**_PARCEL, "data": 0}).removesuffix("0}")
    raw = f'{head}{{"key":"example-1","x":{value},{_text(random)}:{_number(random)}}}}}'
    return raw.encode(), "example-1"


_NUMBERS: Final = (
    "0", "-0", "0.0", "-0.0", "0e0", "0e-9", "1e-400", "-1e-999", "0.001", "0.000999",
    "1e-5", "1E-5", "21", "-40", "-40.0000000000000001", "125", "125.00000000000001",
    "125.000000000000001", "1e2", "1E+2", "100.0e-1", "1e15", "999999999999999.9",
    "1e16", "9007199254740991", "9007199254740992", "9007199254740993", "1e300",
    "9223372036854775807", "9223372036854775808", "2.5e0", "0.1", "1e22", "1e23",
    "5e-324", "1.7976931348623157e308", "1e309", "0." + "0" * 340 + "1", "true", "null",
    "3.0", '"1"', "[]", "{}", "123456789.123456789", "4.35", "2.675", "01", "1.",
)  # fmt: skip


def _ordinary(random: Random) -> tuple[bytes, str]:
    """Return an event that differs from an ordinary one in a few small ways."""
    gap = random.choice(("", "", "", " ", "\n"))
    number, time = f"{random.uniform(-40, 125)!r}", "2026-01-05T10:00:00Z"
    if random.random() < 0.6:
        number = random.choice((random.choice(_NUMBERS), _number(random)))
    if random.random() < 0.5:
        fraction = f"{'0' * random.randrange(5)}{random.randrange(1000)}"
        clock = f"1{random.randrange(3)}:{random.randrange(60):02}:{fraction[-2:]:0>2}"
        time = f"2026-01-05T{clock}.{fraction}Z"
        time = random.choice((time, time, str(random.choice(_TIMES))))
    key = random.choice((*["s-1"] * 20, "S-1", "soap", "a" * 65, "..", "", "1"))
    members = [
        '"specversion":"1.0"', f'"id":"{random.randrange(9)}"', '"source":"urn:f"',
        f'"subject":"{key}"', f'"time":{json.dumps(time)}',
    ]  # fmt: skip
    if random.random() < 0.7:
        data = [f'"sensor_id":"{key}"', f'"value":{number}']
        if random.random() < 0.3:
            data.append(f'"site":{random.choice((_text(random), "null", number))}')
        kind = "sensor.reading/v1"
    else:
        data = [f'"key":"{key}"', f'"size":{number}']
        for name in ("pieces", "is_gift", "note"):
            if random.random() < 0.5:
                value = random.choice((random.choice(_NUMBERS), "true", _text(random)))
                data.append(f'"{name}":{value}')
        kind = "fuzz.parcel/v2"
    for name in ("causationid", "correlationid", "importid", "observedat"):
        if random.random() < 0.1:
            value = random.choice((json.dumps(time), "null", _text(random)))
            members += [f'"{name}":{value}']
    members += [f'"type":"{kind[:-3]}"', f'"dataschema":"{kind}"']
    for some in (data, members):
        if random.random() < 0.1:
            some.insert(random.randrange(len(some)), random.choice(some))
        if random.random() < 0.03:
            some.pop(random.randrange(len(some)))
    random.shuffle(data)
    members.append(f'"data"{gap}:{gap}{{{f",{gap}".join(data)}{gap}}}')
    random.shuffle(members)
    return f"{{{f',{gap}'.join(members)}}}{gap}".encode(), key


GENERATORS: Final[dict[str, Callable[[Random], tuple[bytes, str]]]] = {
    "ordinary, or nearly": _ordinary,
    "random bytes": _random_bytes,
    "token soup": _token_soup,
    "golden, other spelling": _golden,
    "golden, bits flipped": _flipped,
    "golden, cut and spliced": _spliced,
    "golden, nasty value": _nasty_value,
    "golden, nasty bytes": _nasty_bytes,
    "envelope, wrong values": _wrong_envelope,
    "payload, wrong values": _wrong_data,
    "plain payload": _plain_payload,
    "random JSON": _grammar,
}


def inputs(seed: int, chunk: int, count: int) -> Iterator[Input]:
    """Yield the inputs of one chunk, every generator in turn."""
    random = Random(f"{seed}/{chunk}")
    several = tuple(GENERATORS.items())
    for number in range(count):
        name, generate = several[number % len(several)]
        raw, key = generate(random)
        if random.random() < 0.02:
            key = random.choice(("", "s-2", "é", "\U0001f600", "s\n1", "x" * 256))
        yield Input(name, raw, key)


def edge_cases() -> Iterator[Input]:
    """Yield inputs that took somebody to think of."""
    for value in NASTY:
        yield Input("edge: the record", value)
        yield Input("edge: extra field", _around(value))
    for time in _TIMES:
        yield Input("edge: time", json.dumps({**_PARCEL, "time": time}).encode())
    for raw, key in _SPELLED:
        yield Input("edge: golden", raw, key)
    for length in (LONGEST, LONGEST + 1):
        yield Input("edge: size", _around(b"1").ljust(length))
    for characters in (256, 257):
        for letter in ("k", "K", "é"):
            yield Input("edge: size", _named(f'"{letter * characters}"'.encode()))
    for characters in (256 * 1024 - 200, 256 * 1024):
        yield Input("edge: size", _around(b'"' + b"a" * characters + b'"'))
    for items in (9_999, 10_000, 19_000, 20_000):
        array = b"[" + b"0," * items + b"0]"
        yield Input("edge: items", _around(array))
        yield Input("edge: items", _around(b"[" + array + b"]"))
        yield Input("edge: items", _around(b'"' + array + b'"'))


def minutes_beyond_an_hour() -> Iterator[Input]:
    """Yield times whose zone has more than 59 minutes, which RFC 3339 does not know."""
    for zone in ("+05:75", "+00:99", "-01:60", "+13:60"):
        time = f"2026-01-05T09:00:00{zone}"
        yield Input("edge: zone", json.dumps({**_PARCEL, "time": time}).encode())


def _around(value: bytes, name: bytes = b'"x"') -> bytes:
    """Return an event that may hold what its contract does not know: `value`."""
    head = json.dumps({**_PARCEL, "data": 0}).encode().removesuffix(b"0}")
    return head + b'{"key":"example-1",' + name + b":" + value + b"}}"


def _fill(part: bytes, first: bytes, last: bytes) -> bytes:
    room = LONGEST - len(_around(first + last))
    return _around(first + part * (room // len(part)) + last)


def _named(name: bytes) -> bytes:
    return _around(b"1", name)


def _members(template: bytes) -> bytes:
    """Return an object of as many numbered members as fit 1 MiB."""
    room = (LONGEST - 400) // (len(template % 100_000) + 1)
    return _around(b"{" + b",".join(template % n for n in range(room)) + b"}")


def worst_cases() -> Iterator[Input]:
    """Yield inputs of 1 MiB, each made to cost a reader as much as it can."""
    marks = LONGEST // 4 - 200
    blocks = (LONGEST - 600) // 12
    cases = {
        "one long text": _fill(b"a", b'"', b'"'),
        "one long text, not ASCII": _fill("é".encode(), b'"', b'"'),
        "one long text, astral": _fill("\U0001f600".encode(), b'"', b'"'),
        "all escapes": _fill(b"\\u0061", b'"', b'"'),
        "all short escapes": _fill(b"\\n", b'"', b'"'),
        "all surrogate pairs": _fill(b"\\ud83d\\ude00", b'"', b'"'),
        "all lone surrogates": _fill(b"\\ud800", b'"', b'"'),
        "texts of lone surrogates": _fill(b'"\\ud800",', b"[", b"0]"),
        "all suspicious": _fill("\u202e".encode(), b'"', b'"'),
        "unterminated text": _fill(b"a", b'"', b"")[:-2],
        "unterminated escapes": _fill(b'\\"', b'"', b"")[:-2],
        "a million digits": _fill(b"9", b"1", b"0"),
        "a million decimals": _fill(b"3", b"0.", b"1"),
        "a million zeros, then 1": _fill(b"0", b"0.", b"1"),
        "an exponent of a million digits": _fill(b"9", b"1e", b"9"),
        "deep arrays": b"[" * (LONGEST // 2) + b"]" * (LONGEST // 2),
        "deep arrays in data": _around(b"[" * 500_000 + b"]" * 500_000),
        "deep objects": _fill(b'{"a":', b"", b"1"),
        "deep, never closed": b'{"a":[' * (LONGEST // 6),
        "32 deep, again and again": _fill(
            b"[" * 28 + b"]" * 28 + b",", b"[", b"0]"
        ),
        "empty arrays": _fill(b"[],", b"[", b"0]"),
        "empty objects": _fill(b"{},", b"[", b"0]"),
        "small objects": _fill(b'{"a":1},', b"[", b"0]"),
        "objects with a key twice": _fill(b'{"a":1,"a":2},', b"[", b"0]"),
        "objects with an ambiguous key": _fill(b'{"a":1,"A":2},', b"[", b"0]"),
        "many items": _fill(b"0,", b"[", b"0]"),
        "many floats": _fill(b"1.5,", b"[", b"0]"),
        "many long floats": _fill(b"1.2345678901234567e-300,", b"[", b"0]"),
        "many NaN": _fill(b"NaN,", b"[", b"0]"),
        "many overflows": _fill(b"1e999,", b"[", b"0]"),
        "many underflows": _fill(b"1e-999,", b"[", b"0]"),
        "many large integers": _fill(b"9223372036854775808,", b"[", b"0]"),
        "many texts": _fill(b'"a",', b"[", b"0]"),
        "many keys": _members(b'"k%d":1'),
        "many duplicate keys": _fill(b'"a":1,', b"{", b'"b":1}'),
        "many ambiguous keys": _fill(b'"a":1,"A":1,', b"{", b'"b":1}'),
        "many unsafe keys": _members(b'"__%d":1'),
        "many keys, not ASCII": _members('"é%d":1'.encode()),
        "many fields that nobody declared": _members(b'"k%d":1').replace(
            b'"x":{', b"", 1
        )[:-1],
        "one long key": _named(b'"' + b"k" * (LONGEST - 400) + b'"'),
        "one long key of newlines": _named(b'"' + b"\\n" * (LONGEST // 2 - 200) + b'"'),
        "one long key, upper case": _named(b'"' + b"K" * (LONGEST - 400) + b'"'),
        "one long key, ligatures": _named(
            b'"' + "\ufb03".encode() * (LONGEST // 3 - 200) + b'"'
        ),
        "one long key, Hangul": _named(
            b'"' + "\u1112\u1161\u11ab".encode() * (LONGEST // 9 - 200) + b'"'
        ),
        "one long key, marks in order": _named(
            b'"a' + ("\u0323" * marks + "\u0301" * marks).encode() + b'"'
        ),
        "1,000 keys of marks out of order": _around(
            b"{"
            + b",".join(
                b'"%d' % n + ("\u0301" * 120 + "\u0323" * 120).encode() + b'":1'
                for n in range(999)
            )
            + b"}"
        ),
        "white before": b" " * (LONGEST - 400) + _around(b"1"),
        "white behind": _around(b"1") + b" " * (LONGEST - 400),
        "white within": _around(b" " * (LONGEST - 400) + b"1"),
        "nothing but white": b" " * LONGEST,
        "trailing data": _around(b"1") + b"{}" * ((LONGEST - 400) // 2),
        "base64 as data": json.dumps(
            {**_PARCEL, "data": "eyJh" * (LONGEST // 4 - 100)}
        ).encode(),
        "base64 as record": b"eyJh" * (LONGEST // 4),
        "nearly base64 as record": b"abcd" * (LONGEST // 4 - 1) + b"*",
        "JSON text as data": json.dumps(
            {**_PARCEL, "data": '{"a":' * (LONGEST // 8)}
        ).encode(),
        "zero bytes": bytes(LONGEST),
        "0xff bytes": b"\xff" * LONGEST,
        "binary in the end": b"a" * (LONGEST - 1) + b"\x00",
        "broken UTF-8 in the end": _fill(b"a", b'"', b'\xff"'),
        "quotes": b'"' * LONGEST,
        "backslashes": b'{"' + b"\\" * (LONGEST - 2),
        "colons": b"{" + b":" * (LONGEST - 1),
        "minus signs": b'{"a":' + b"-" * (LONGEST - 5),
        "open objects": b"{" * LONGEST,
        "small documents": b"{}" * (LONGEST // 2),
        **{
            f"long {name}": json.dumps(
                {**_PARCEL, name: text * ((LONGEST - 400) // len(text))}
            ).encode()
            for name, text in (
                ("subject", "a"), ("subject", "%2"), ("subject", " "), ("type", "a."),
                ("id", "1"), ("time", "1"), ("time", "2026-01-05T10:00:00."),
                ("dataschema", "a"), ("dataschema", "/v1"), ("specversion", "1.0"),
            )
        },
        "long plain key": b'{"at":1,"key":"' + b"a" * (LONGEST - 17) + b'"}',
        "1,000 attributes": (
            b"{"
            + b",".join(
                b'"a%d":"%s"' % (n, b"b" * (LONGEST // 1_000 - 20)) for n in range(999)
            )
            + b"}"
        ),
        "alternating bad members": b"{" + b'"a":NaN,"a":1e999,' * blocks + b'"b":1}',
    }  # fmt: skip
    for name, raw in cases.items():
        yield Input(name, raw[:LONGEST])


def marks_out_of_order(count: int) -> Input:
    """Return a key of combining marks in an order that normalization must mend."""
    marks = ("\u0301" * (count // 2) + "\u0323" * (count // 2)).encode()
    return Input("one long key, marks out of order", _named(b'"a' + marks + b'"'))
