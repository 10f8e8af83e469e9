"""Whatever arrives is accepted or rejected with a reason; nothing is raised or lost."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading
from retrodict import contracts, envelope, rows, strict_json
from retrodict.contracts import Event, Key, PlainPayload
from retrodict.envelope import StampedEvent
from retrodict.rows import RowMapping
from retrodict.stamps import to_text
from retrodict.strict_json import Parsed, parse
from retrodict.validation import Accepted, Arrival, Catalog, Rejected

from tests.events import NOON_US, place
from tests.lane import validate


def rename(old: Any) -> dict[str, Any]:
    return {"key": old["name"], "size": old["bytes"] / 1000}


class Lenient(
    Event,
    type="test.lenient",
    version=2,
    upcasts_from={1: rename},
    extra="tag",
    plain=PlainPayload(id="id", key="key", time="at", source="urn:plain"),
):
    """A contract with every door that a contract can open."""

    key: Key[str]
    size: float | None = None
    note: str | None = None


CATALOG = Catalog(
    {"sensor.reading": Reading, "test.lenient": Lenient},
    {"sensor.reading": 600_000_000},
)
GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "plant",
    "type": "sensor.reading",
    "subject": "s-1",
    "time": "2026-01-05T12:00:00Z",
    "dataschema": "sensor.reading/v1",
    "data": {"sensor_id": "s-1", "value": 20.5, "site": "hall-1"},
}
GOOD_RAW = json.dumps(GOOD).encode()

printable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def judge(raw: bytes, key: str = "s-1") -> Accepted | Rejected:
    verdict = validate(raw, Arrival(place(1), key, NOON_US), CATALOG)
    if isinstance(verdict, Rejected):
        assert verdict.raw == raw
        assert verdict.violations
        json.dumps(verdict.as_json(), allow_nan=False).encode()
    else:
        wire = json.dumps(verdict.event.to_wire(), allow_nan=False)
        assert StampedEvent.from_wire(json.loads(wire)) == verdict.event
    return verdict


@given(st.binary(max_size=400))
@example(b"\xf3\x89\x9a\xc2")
@example(b'"\xed\xa0\x80"')
@example(b"[" * 5_000)
@example(b'{"a":' * 5_000)
def test_any_bytes_have_a_verdict(raw: bytes) -> None:
    judge(raw)


@given(values)
def test_any_json_has_a_verdict(value: Any) -> None:
    judge(json.dumps(value).encode())


@given(st.sampled_from(sorted(GOOD)), values)
def test_any_value_of_any_attribute_has_a_verdict(name: str, value: Any) -> None:
    judge(json.dumps({**GOOD, name: value}).encode())


@given(
    st.sampled_from([1, 2]),
    st.dictionaries(
        st.sampled_from(["key", "name", "size", "bytes", "note", "x"]), values
    ),
)
def test_any_payload_of_any_version_has_a_verdict(
    version: int, data: dict[str, Any]
) -> None:
    lenient = {
        **GOOD, "type": "test.lenient", "dataschema": f"test.lenient/v{version}",
        "data": data,
    }  # fmt: skip
    judge(json.dumps(lenient).encode())


@given(
    st.dictionaries(
        st.sampled_from(["id", "key", "at", "size"]), values | st.just("s-1")
    )
)
def test_any_plain_payload_has_a_verdict(payload: dict[str, Any]) -> None:
    judge(json.dumps(payload).encode())


@given(st.integers(0, len(GOOD_RAW) - 1), st.integers(0, 255))
@settings(max_examples=400)
def test_a_record_with_any_byte_changed_has_a_verdict(place: int, byte: int) -> None:
    judge(GOOD_RAW[:place] + bytes([byte]) + GOOD_RAW[place + 1 :])


@given(st.integers(0, len(GOOD_RAW) - 1))
def test_a_record_that_was_cut_is_rejected(length: int) -> None:
    assert isinstance(judge(GOOD_RAW[:length]), Rejected)


@given(values)
def test_what_the_strict_reader_takes_the_standard_one_reads_the_same(
    value: Any,
) -> None:
    raw = json.dumps({"value": value}, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )

    parsed = parse(raw)

    if isinstance(parsed, Parsed):
        assert parsed.value == json.loads(raw)


@given(
    st.floats(-40, 125),
    st.none() | st.text(printable, max_size=64),
    st.integers(NOON_US - 10**13, NOON_US),
)  # fmt: skip
def test_every_event_that_keeps_its_contract_is_accepted_exactly(
    value: float, site: str | None, time_us: int
) -> None:
    data = {"sensor_id": "s-1", "value": value, "site": site}
    verdict = judge(
        json.dumps({**GOOD, "time": to_text(time_us), "data": data}).encode()
    )

    assert isinstance(verdict, Accepted)
    assert verdict.event.data == data
    assert verdict.event.time_us == time_us


@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_the_spelling_of_an_event_does_not_change_its_digest(
    random: Any,
    indented: bool,  # noqa: FBT001 - drawn
    escaped: bool,  # noqa: FBT001 - drawn
) -> None:
    items, fields = list(GOOD.items()), list(GOOD["data"].items())  # type: ignore[attr-defined]
    random.shuffle(items)
    random.shuffle(fields)
    document = {**dict(items), "data": dict(fields)}
    raw = json.dumps(document, indent=2 if indented else None, ensure_ascii=escaped)

    assert judge(raw.encode()) == judge(GOOD_RAW)


cells = scalars | st.binary(max_size=5) | st.dates() | st.datetimes() | st.decimals()


@given(
    st.dictionaries(
        st.sampled_from(["time", "value", "sensor_id", "site", "id"]), cells
    )
)
def test_any_row_becomes_a_record_that_has_a_verdict(row: dict[str, object]) -> None:
    key, raw = RowMapping(Reading, {}, {}, "urn:file").to_cloudevent(row, 1)

    assert 0 < len(key) <= 256
    judge(raw, key.encode().decode())


PATTERNS = [
    (f"{module.__name__}.{name}", value)
    for module in (contracts, envelope, rows, strict_json)
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern)
]
TEMPTING = [
    "a",
    "-",
    " ",
    "0",
    "1",
    '"',
    "\\",
    "[",
    "(",
    ".",
    "a.",
    "0-",
    "=",
    "/v1",
    "eyJ",
]


@pytest.mark.parametrize(("name", "pattern"), PATTERNS, ids=[n for n, _ in PATTERNS])
def test_no_pattern_takes_more_than_its_share_of_time(
    name: str, pattern: re.Pattern[Any]
) -> None:
    def work(size: int, text: str) -> float:
        subject: Any = text * (size // len(text)) + "\n!"
        if isinstance(pattern.pattern, bytes):
            subject = subject.encode()
        return min(
            seconds(lambda: (pattern.search(subject), pattern.fullmatch(subject)))
            for _ in range(3)
        )

    for text in TEMPTING:
        # Processor time, not the clock's: a quadratic pattern takes some 64 times as
        # long on 8 times the text, a linear one 8; the grace is for microseconds.
        assert work(16_000, text) <= 24 * work(2_000, text) + 0.005


def seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


@pytest.mark.parametrize(
    "text", ['"', '\\"', "[", '{"a":', '[{"a":"', "eyJ", "1", "é", " "]
)
def test_a_megabyte_of_anything_has_a_verdict(text: str) -> None:
    raw = (text * (1_000_000 // len(text.encode()))).encode()

    assert isinstance(judge(raw), Rejected)
