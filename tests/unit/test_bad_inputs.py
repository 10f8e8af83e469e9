"""Each known kind of bad input is turned away with its code, or taken as agreed.

The number of a case is its number in the catalogue of bad inputs that this project
was given; Q is a quarantine, A an acceptance, T an acceptance with a tag.
"""
# ruff: noqa: E501 - one case a line

import base64
import gzip
import json
import zlib
from typing import Any, NamedTuple

import pytest
from retrodict.contracts import Event, Key, PlainPayload, field
from retrodict.reasons import Reason, Tag
from retrodict.validation import Accepted, Arrival, Catalog, Rejected

from tests.events import NOON_US, place
from tests.lane import validate

NOON = "2026-01-05T12:00:00Z"
LATENESS_US = 600_000_000


class Reading(Event, type="sensor.reading", version=1):
    """The contract of the sensor pipeline."""

    sensor_id: Key[str] = field(pattern=r"[a-z0-9-]{1,64}")
    value: float = field(ge=-40, le=125, unit="Cel")
    site: str | None = field(default=None, max_length=64)


def cents_to_euros(old: Any) -> dict[str, Any]:
    return {"store": old["store"], "amount": old["cents"] / 100}


class Order(
    Event,
    type="shop.order",
    version=2,
    upcasts_from={1: cents_to_euros},
    extra="tag",
    plain=PlainPayload(id="order", key="store", time="at", source="urn:shop:till"),
):
    """A contract that is as lenient as one can be."""

    store: Key[str]
    amount: float = 0.0
    pieces: int | None = field(default=None, ge=0)
    is_gift: bool = False
    note: str | None = None


CATALOG = Catalog(
    {"sensor.reading": Reading, "shop.order": Order},
    {"sensor.reading": LATENESS_US, "shop.order": 0},
)


class Case(NamedTuple):
    """One input and what becomes of it."""

    number: str
    raw: bytes
    codes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    partition_key: str = "s-1"
    late: bool = False


def document(**changes: Any) -> dict[str, Any]:
    found = {
        "specversion": "1.0",
        "id": "1",
        "source": "plant",
        "type": "sensor.reading",
        "subject": "s-1",
        "time": NOON,
        "dataschema": "sensor.reading/v1",
        "data": {"sensor_id": "s-1", "value": 20.5},
    }
    return {k: v for k, v in {**found, **changes}.items() if v is not ...}


def raw(**changes: Any) -> bytes:
    return json.dumps(document(**changes)).encode()


def reading(**data: Any) -> bytes:
    merged = {"sensor_id": "s-1", "value": 20.5, **data}
    return raw(data={k: v for k, v in merged.items() if v is not ...})


def order(key: str = "a", version: int = 2, **data: Any) -> bytes:
    return raw(
        type="shop.order",
        subject=key,
        dataschema=f"shop.order/v{version}",
        data={"store": key, **data},
    )


def spelt(text: str) -> bytes:
    """Return a reading whose value is spelt as `text`."""
    return raw().replace(b"20.5", text.encode())


def q(number: str, raw: bytes, *codes: str, key: str = "s-1") -> Case:
    assert codes
    return Case(number, raw, codes=codes, partition_key=key)


def a(
    number: str, raw: bytes, *tags: str, key: str = "s-1", late: bool = False
) -> Case:
    return Case(number, raw, tags=tags, partition_key=key, late=late)


def at(time: Any) -> bytes:
    return raw(time=time)


GOOD = raw()
BACKTICKS = "` $path '; DROP TABLE readings--"
PLAIN = {"order": 7, "store": "a", "at": NOON, "amount": 3}

CASES = [
    q("1 empty", b"", "empty"),
    q("2 whitespace", b" \n\t\r ", "empty"),
    q("3 truncated", GOOD[:-20], "truncated"),
    q("3 truncated in a literal", b'{"a": tru', "truncated"),
    q("3 truncated in an escape", b'{"a": "\\u00', "truncated"),
    q("3 truncated by a byte", GOOD[:-1], "truncated"),
    q("4 trailing garbage", GOOD + b"x", "trailing_data"),
    q("4 two documents", GOOD + GOOD, "trailing_data"),
    q("5 lines of JSON", GOOD + b"\n" + GOOD + b"\n", "trailing_data"),
    q("6 NaN", spelt("NaN"), "not_a_number"),
    q("6 Infinity", spelt("Infinity"), "not_a_number"),
    q("6 -Infinity", spelt("-Infinity"), "not_a_number"),
    q("7 1e400", spelt("1e400"), "number_overflow"),
    q("7 -1e400", spelt("-1e400"), "number_overflow"),
    a("8 1e-400", spelt("1e-400"), "number_underflow"),
    a("9 -0.0", spelt("-0.0")),
    a("9 -0", spelt("-0")),
    q("10 2^63", order(pieces=2**63), "integer_out_of_range", key="a"),
    q("11 2^64", order(pieces=2**64), "integer_out_of_range", key="a"),
    a("11 2^63 - 1", order(pieces=2**63 - 1), key="a"),
    q("11 2^53 + 1 as a double", order(amount=2**53 + 1), "integer_out_of_range", key="a"),
    q("12 5,000 digits", spelt("1" * 5_000), "integer_out_of_range"),
    q("13 float for int", order(pieces=1.0), "wrong_type", key="a"),
    a("13 int for float", spelt("20")),
    q("14 number as text", reading(value="20.5"), "wrong_type"),
    q("15 bool as int", order(pieces=True), "wrong_type", key="a"),
    q("15 bool as float", reading(value=True), "wrong_type"),
    q("15 int as bool", order(is_gift=1), "wrong_type", key="a"),
    q("16 null for required", reading(value=None), "missing"),
    q("16 null id", raw(id=None), "missing"),
    q("17 missing field", reading(value=...), "missing"),
    q("17 missing time", raw(time=...), "missing"),
    q("17 missing data", raw(data=...), "missing"),
    q("17 empty source", raw(source=""), "missing"),
    q("18 extra field", reading(colour="red"), "extra_field"),
    a("18 extra field, lenient", order(colour="red"), "extra_field", key="a"),
    q("19 duplicate key", spelt('20.5, "value": 21'), "duplicate_key"),
    q("20 NFC and NFD", spelt('1, "\u00e9": 1, "e\u0301": 2'), "ambiguous_key"),
    q("21 case variants", spelt('1, "Value": 2'), "ambiguous_key"),
    q("22 33 deep", b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "nesting_too_deep"),
    q("22 1,000 deep object", b'{"a":' * 1_000 + b"1" + b"}" * 1_000, "nesting_too_deep"),
    q("22 100,000 deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nesting_too_deep"),
    q("22 100,000 deep, cut", b"[" * 100_000, "nesting_too_deep"),
    q("23 10^5 items", order(note=[0] * 10**5), "too_many_items", key="a"),
    q("24 10^4 keys", order(note={f"k{n}": n for n in range(10**4)}), "too_many_items", key="a"),
    q("25 array", b"[" + GOOD + b"]", "not_an_object"),
    q("25 number", b"1", "not_an_object"),
    q("25 null", b"null", "not_an_object"),
    q("25 text", b'"reading"', "not_an_object"),
    q("26 lone surrogate", reading(site="\ud800"), "invalid_unicode"),
    q("26 lone surrogate in a key", reading(**{"\udc00": 1}), "invalid_unicode"),
    q("27 invalid UTF-8", GOOD.replace(b"plant", b"pl\xffnt"), "invalid_unicode"),
    q("27 overlong", GOOD.replace(b"plant", b"\xc0\xaf"), "invalid_unicode"),
    q("27 surrogate in UTF-8", GOOD.replace(b"plant", b"\xed\xa0\x80"), "invalid_unicode"),
    q("28 UTF-16", GOOD.decode().encode("utf-16"), "wrong_encoding"),
    q("28 UTF-16 LE, no mark", GOOD.decode().encode("utf-16-le"), "wrong_encoding"),
    q("28 UTF-16 BE, no mark", GOOD.decode().encode("utf-16-be"), "wrong_encoding"),
    q("28 UTF-32", GOOD.decode().encode("utf-32"), "wrong_encoding"),
    q("28 UTF-32 BE, no mark", GOOD.decode().encode("utf-32-be"), "wrong_encoding"),
    q("29 byte order mark", b"\xef\xbb\xbf" + GOOD, "byte_order_mark"),
    q("30 U+0000", reading(site="a\x00b"), "nul_character"),
    q("30 NUL byte", GOOD.replace(b"plant", b"pl\x00nt"), "nul_character"),
    a("31 control character", reading(site="a\x07b"), "suspicious_characters"),
    a("31 bidi", reading(site="a\u202eb"), "suspicious_characters"),
    a("31 zero width, unescaped", reading(site="ab").replace(b"ab", "a\u200bb".encode()), "suspicious_characters"),
    q("31 control character in the key", order("a\x07b"), "pattern_mismatch", key="a\x07b"),
    q("31 zero width in the key", order("a\u200bb"), "unsafe_key", key="a\u200bb"),
    q("32 1 MiB text", reading(site="x" * 2**20), "too_large"),
    q("32 900,000 characters", reading(site="x" * 900_000), "too_long"),
    a("33 homoglyph key", order("\u0430bc"), "non_ascii_key", key="\u0430bc"),
    q("33 homoglyph under a pattern", raw(subject="\u0455-1", data={"sensor_id": "\u0455-1", "value": 1}), "pattern_mismatch", key="\u0455-1"),
    q("34 gzip", gzip.compress(GOOD, mtime=0), "compressed"),
    q("34 zlib", zlib.compress(GOOD), "compressed"),
    q("34 zstd", b"\x28\xb5\x2f\xfd\x04\x00", "compressed"),
    q("34 snappy", b"\xff\x06\x00\x00sNaPpY", "compressed"),
    q("36 base64", base64.b64encode(GOOD), "double_encoded"),
    q("36 base64 in a text", b'"' + base64.b64encode(GOOD) + b'"', "double_encoded"),
    q("36 bad base64", base64.b64encode(GOOD)[:41] + b"!*", "double_encoded"),
    q("36 JSON in a text", json.dumps(GOOD.decode()).encode(), "double_encoded"),
    q("36 data as JSON text", raw(data='{"sensor_id":"s-1","value":1}'), "double_encoded"),
    q("36 data as base64", raw(data=base64.b64encode(b'{"value":1}').decode()), "double_encoded"),
    q("36 data_base64", raw(data=..., data_base64="eyJ9"), "double_encoded"),
    q("37 KPL", b"\xf3\x89\x9a\xc2" + GOOD, "kpl_aggregated"),
    q("38 Avro", b"Obj\x01\x04\x16avro.schema", "binary_format"),
    q("38 Avro datum", b"\x06s-1\x00\x00\x00\x00\x00\x80\x34\x40", "binary_format"),
    q("38 protobuf", b"\n\x03s-1\x11\x00\x00\x00\x00\x00\x80\x34\x40", "binary_format"),
    q("38 CBOR", b"\xa2\x69sensor_id\x63s-1\x65value\x14", "binary_format"),
    q("38 pickle", b"\x80\x04\x95", "binary_format"),
    q("39 negative", at(-1), "invalid_time"),
    q("39 zero", at(0), "invalid_time"),
    q("39 the epoch", at("1970-01-01T00:00:00Z"), "time_out_of_range"),
    q("39 year 9999", at("9999-12-31T23:59:59Z"), "time_out_of_range"),
    q("39 year 10000", at("10000-01-01T00:00:00Z"), "time_out_of_range"),
    q("39 year 0", at("0000-01-01T00:00:00Z"), "invalid_time"),
    q("40 seconds", at(1_767_614_400), "invalid_time"),
    q("40 seconds as text", at("1767614400"), "invalid_time"),
    q("40 seconds taken for ms", at("1970-01-21T11:00:14.400Z"), "time_out_of_range"),
    q("40 ms taken for seconds", at("57983-07-25T00:00:00Z"), "time_out_of_range"),
    q("41 no zone", at("2026-01-05T12:00:00"), "time_without_zone"),
    a("42 +14:00", at("2026-01-06T02:00:00+14:00")),
    a("42 -12:00", at("2026-01-05T00:00:00-12:00")),
    q("42 +14:01", at("2026-01-06T02:01:00+14:01"), "invalid_time"),
    q("42 +05:75", at("2026-01-05T17:15:00+05:75"), "invalid_time"),
    q("42 leap second", at("2016-12-31T23:59:60Z"), "invalid_time"),
    a("42 29 February", at("2024-02-29T12:00:00Z"), late=True),
    q("42 29 February of 2025", at("2025-02-29T12:00:00Z"), "invalid_time"),
    a("42 nanoseconds", at("2026-01-05T12:00:00.000000001Z"), "time_truncated"),
    q("43 5 min and 1 us ahead", at("2026-01-05T12:05:00.000001Z"), "from_the_future"),
    a("43 5 min ahead", at("2026-01-05T12:05:00Z")),
    q("43 import from the future", raw(time="2027-01-05T12:00:00Z", importid="i"), "from_the_future"),
    a("44 10 min late", at("2026-01-05T11:50:00Z")),
    a("44 10 min and 1 us late", at("2026-01-05T11:49:59.999999Z"), late=True),
    a("44 an import is on time", raw(time="2013-07-04T00:00:00Z", importid="i")),
    q("46 unknown version", raw(dataschema="sensor.reading/v2"), "unknown_schema_version"),
    q("46 schema of another type", raw(dataschema="shop.order/v1"), "unknown_schema_version"),
    a("47 older version", order(version=1, cents=250), "upcast", key="a"),
    q("47 older version, broken", order(version=1), "upcast_failed", key="a"),
    q("47 older version, wrong type", order(version=1, cents="x"), "upcast_failed", key="a"),
    q("48 version with a blank", raw(dataschema="sensor.reading/v1 "), "unknown_schema_version"),
    q("48 version as a number", raw(dataschema=1), "unknown_schema_version"),
    q("49 unknown type", raw(type="sensor.reeding"), "unknown_event_type"),
    a("52 sequence jumps", order(pieces=10**12), key="a"),
    q("52 negative sequence", order(pieces=-1), "out_of_range", key="a"),
    q("53 partition key", GOOD, "partition_key_mismatch", key="s-2"),
    q("53 subject", raw(subject="s-2"), "key_mismatch", key="s-2"),
    *(
        q(f"54 {key}", order(key), "unsafe_key", key=key)
        for key in (
            "../../etc", "/", "..", "%2e%2e%2f", "%2E", "s3://bucket", "soap", "a\\b",
            ".", " a", "a ",
        )
    ),
    a("55 SQL in data", reading(site=BACKTICKS)),
    q("56 partition injection", order("x=1/y=2"), "unsafe_key", key="x=1/y=2"),
    q("56 Hive null", order("__HIVE_DEFAULT_PARTITION__"), "unsafe_key", key="__HIVE_DEFAULT_PARTITION__"),
    *(a(f"57 formula {s!r}", reading(site=s)) for s in ("=cmd|x", "+1", "-1", "@x")),
    a("57 formula tab", reading(site="\tx"), "suspicious_characters"),
    a("58 line breaks", reading(site='x\r\n{"level":"INFO"}'), "suspicious_characters"),
    a("58 ANSI", reading(site="\x1b[31mred"), "suspicious_characters"),
    a("59 JNDI", reading(site="${jndi:ldap://x}")),
    a("59 template", reading(site="{{7*7}}")),
    *(
        q(f"61 {name}", reading(**{name: {}}), "unsafe_name")
        for name in ("__proto__", "__class__", "$type", "py/object", "@type")
    ),
]  # fmt: skip


def judge(case: Case) -> Accepted | Rejected:
    arrival = Arrival(place(1), case.partition_key, NOON_US)
    return validate(case.raw, arrival, CATALOG)


@pytest.mark.parametrize("case", [c for c in CASES if c.codes], ids=lambda c: c.number)
def test_bad_input_is_quarantined_with_its_bytes_its_code_and_its_position(
    case: Case,
) -> None:
    verdict = judge(case)

    assert isinstance(verdict, Rejected)
    kept = verdict.as_json()
    assert kept["codes"] == [Reason(code).value for code in case.codes]
    assert base64.b64decode(kept["bytes_base64"]) == case.raw
    assert kept["position"] == place(1)
    assert all(len(reason["got"]) <= 200 for reason in kept["reasons"])
    json.dumps(kept, allow_nan=False).encode()


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.codes], ids=lambda c: c.number
)
def test_odd_but_good_input_is_accepted_canonically(case: Case) -> None:
    verdict = judge(case)

    assert isinstance(verdict, Accepted), verdict
    assert verdict.event.tags == tuple(Tag(tag).value for tag in case.tags)
    assert verdict.event.late is case.late
    json.dumps(verdict.event.to_wire(), allow_nan=False).encode()


def accepted(raw: bytes, key: str = "s-1") -> Accepted:
    verdict = validate(raw, Arrival(place(1), key, NOON_US), CATALOG)
    assert isinstance(verdict, Accepted), verdict
    return verdict


@pytest.mark.parametrize("zero", ["0", "-0", "0.0", "-0.0", "0e5", "-0.0e-400"])
def test_case_9_every_zero_is_the_same_zero(zero: str) -> None:
    event = accepted(spelt(zero)).event

    assert str(event.data["value"]) == "0.0"
    assert event.digest == accepted(spelt("0")).event.digest


def test_case_42_the_same_instant_is_the_same_time_whatever_its_offset() -> None:
    times = [NOON, "2026-01-06T02:00:00+14:00", "2026-01-05t12:00:00.000000z"]

    assert {accepted(at(time)).event.time_us for time in times} == {NOON_US}


def test_case_45_tied_times_are_two_events() -> None:
    first, second = accepted(raw(id="1")).event, accepted(raw(id="2")).event

    assert first.time_us == second.time_us
    assert first.id != second.id


def test_case_47_an_older_version_arrives_as_the_current_one() -> None:
    old = accepted(order(version=1, cents=250), "a").event

    assert (old.schema_version, old.data["amount"]) == (2, 2.5)


def test_cases_50_and_51_an_identity_with_another_payload_has_another_digest() -> None:
    first, again = accepted(GOOD).event, accepted(b" " + GOOD).event
    other = accepted(reading(value=21)).event

    assert again.digest == first.digest
    assert other.digest != first.digest
    assert (other.source, other.id) == (first.source, first.id)


@pytest.mark.parametrize(
    "text", [BACKTICKS, "=cmd|x", "${jndi:ldap://x}", "{{7*7}}", "<script>x</script>"]
)
def test_cases_55_to_60_text_is_data_and_comes_through_unchanged(text: str) -> None:
    assert accepted(reading(site=text)).event.data["site"] == text


def test_case_75_an_event_cannot_cause_itself() -> None:
    arrival = Arrival(place(1), "s-1", NOON_US)
    verdict = validate(raw(causationid="1"), arrival, CATALOG)

    assert isinstance(verdict, Rejected)
    assert verdict.as_json()["codes"] == ["causes_itself"]


def test_every_reason_is_given_and_not_only_the_first() -> None:
    broken = raw(
        specversion="0.3",
        source="",
        time="yesterday",
        data={"sensor_id": "S", "value": 999, "colour": "red"},
    )

    verdict = validate(broken, Arrival(place(1), "x", NOON_US), CATALOG)

    assert isinstance(verdict, Rejected)
    assert set(verdict.as_json()["codes"]) == {
        "unsupported_specversion",
        "missing",
        "invalid_time",
        "pattern_mismatch",
        "out_of_range",
        "extra_field",
        "key_mismatch",
        "partition_key_mismatch",
    }


def test_a_producer_without_cloudevents_is_read_as_its_contract_says() -> None:
    event = accepted(json.dumps(PLAIN).encode(), "a").event

    assert (event.source, event.id, event.key) == ("urn:shop:till", "7", "a")
    assert event.time_us == NOON_US
    assert event.data["amount"] == 3.0
    assert event.tags == ("plain_payload",)


def test_a_plain_payload_without_its_time_is_told_so() -> None:
    payload = {k: v for k, v in PLAIN.items() if k != "at"}
    arrival = Arrival(place(1), "a", NOON_US)

    verdict = validate(json.dumps(payload).encode(), arrival, CATALOG)

    assert isinstance(verdict, Rejected)
    assert [(v.field, v.reason) for v in verdict.violations] == [
        ("time", Reason.MISSING)
    ]


def test_a_reject_that_no_strict_reader_takes_is_still_named_if_it_can_be() -> None:
    verdict = validate(spelt("NaN"), Arrival(place(1), "s-1", NOON_US), CATALOG)

    assert isinstance(verdict, Rejected)
    assert verdict.identity == ("plant", "1", "s-1")
