"""A verdict carries everything: the stamped event, or the bytes and every reason."""

import hashlib
import json
from typing import Any

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError
from retrodict.reasons import GOT_CHARACTERS, Reason, violation
from retrodict.validation import (
    MAX_DATA_CHARACTERS,
    Accepted,
    Arrival,
    Catalog,
    Rejected,
)

from tests.events import NOON_US, SECOND_US, place, reading
from tests.lane import validate

CATALOG = Catalog({"sensor.reading": Reading}, {"sensor.reading": 60 * SECOND_US})
DOCUMENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "plant",
    "type": "sensor.reading",
    "subject": "s-1",
    "time": "2026-01-05T12:00:00Z",
    "dataschema": "sensor.reading/v1",
    "data": {"value": 20, "sensor_id": "s-1"},
}


def judge(
    document: dict[str, Any],
    *,
    arrived_at_us: int = NOON_US,
    catalog: Catalog = CATALOG,
) -> Accepted | Rejected:
    arrival = Arrival(place(7), document.get("subject", "?"), arrived_at_us)
    return validate(json.dumps(document).encode(), arrival, catalog)


def accepted(document: dict[str, Any], **how: Any) -> StampedEvent:
    verdict = judge(document, **how)
    assert isinstance(verdict, Accepted), verdict
    return verdict.event


def test_an_accepted_event_has_every_stamp() -> None:
    event = accepted({**DOCUMENT, "causationid": "0", "correlationid": "run"})

    assert event == StampedEvent(
        key="s-1",
        source="plant",
        id="1",
        type="sensor.reading",
        schema_version=1,
        time_us=NOON_US,
        observed_at_us=NOON_US,
        position=place(7),
        late=False,
        tags=(),
        digest=event.digest,
        data={"sensor_id": "s-1", "value": 20.0, "site": None},
        causation_id="0",
        correlation_id="run",
    )


def test_the_digest_is_of_what_is_said_and_not_of_how() -> None:
    payload = [
        "sensor.reading", 1, "s-1", NOON_US,
        {"sensor_id": "s-1", "site": None, "value": 20.0},
    ]  # fmt: skip
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))

    event = accepted(DOCUMENT)

    assert event.digest == hashlib.sha256(text.encode()).hexdigest()
    data = {"sensor_id": "s-1", "site": None, "value": 2.0e1}
    other_spelling = {**DOCUMENT, "time": "2026-01-05T13:00:00+01:00", "data": data}
    assert accepted(other_spelling).digest == event.digest


@pytest.mark.parametrize(
    "change",
    [
        {"time": "2026-01-05T11:59:59Z"},
        {"subject": "s-2", "data": {"sensor_id": "s-2", "value": 20}},
        {"data": {"sensor_id": "s-1", "value": 20.000000000000004}},
        {"data": {"sensor_id": "s-1", "value": 20, "site": ""}},
    ],
)
def test_another_payload_is_another_digest(change: dict[str, Any]) -> None:
    assert accepted({**DOCUMENT, **change}).digest != accepted(DOCUMENT).digest


@pytest.mark.parametrize(
    ("after_us", "late"),
    [(0, False), (60 * SECOND_US, False), (60 * SECOND_US + 1, True)],
)
def test_an_event_is_late_beyond_the_lateness_of_its_type(
    after_us: int, *, late: bool
) -> None:
    assert accepted(DOCUMENT, arrived_at_us=NOON_US + after_us).late is late


def test_an_import_declares_when_it_was_observed() -> None:
    imported = {**DOCUMENT, "importid": "i", "observedat": "2026-01-05T12:02:00Z"}

    event = accepted(imported, arrived_at_us=NOON_US + 10**12)

    assert event.observed_at_us == NOON_US + 120 * SECOND_US
    assert event.late


def test_nobody_but_an_import_may_say_when_it_was_observed() -> None:
    event = accepted({**DOCUMENT, "observedat": "2026-01-01T00:00:00Z"})

    assert event.observed_at_us == NOON_US
    assert event.tags == ("extra_attribute",)


def test_an_import_cannot_have_been_observed_after_it_came() -> None:
    verdict = judge({**DOCUMENT, "importid": "i", "observedat": "2026-01-05T13:00:00Z"})

    assert isinstance(verdict, Rejected)
    assert [(v.field, v.reason) for v in verdict.violations] == [
        ("observedat", Reason.FROM_THE_FUTURE)
    ]


def test_unknown_attributes_are_dropped_with_a_tag() -> None:
    event = accepted(
        {**DOCUMENT, "traceparent": "00-1", "position": "mine", "late": True}
    )

    assert event.tags == ("extra_attribute",)
    assert event.position == place(7)
    assert not event.late
    assert "traceparent" not in event.to_wire()


def test_null_optional_attributes_are_absent_ones() -> None:
    nothing = {"causationid": None, "importid": None, "observedat": None}

    assert accepted({**DOCUMENT, **nothing}) == accepted(DOCUMENT)


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "causationid"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "missing"),
        ("x" * 257, "too_long"),
        (7, "wrong_type"),
        ({}, "wrong_type"),
        ("a\nb", "pattern_mismatch"),
        ("a\x85b", "pattern_mismatch"),
    ],
)
def test_an_attribute_that_is_no_short_plain_text_is_refused(
    name: str, value: Any, code: str
) -> None:
    arrival = Arrival(place(7), "s-1", NOON_US)

    verdict = validate(json.dumps({**DOCUMENT, name: value}).encode(), arrival, CATALOG)

    assert isinstance(verdict, Rejected)
    assert (name, code) in [(v.field, v.reason.value) for v in verdict.violations]


def test_a_reject_is_a_document_that_says_all() -> None:
    raw = json.dumps({**DOCUMENT, "data": {"sensor_id": "s-1", "value": 200}}).encode()

    verdict = validate(raw, Arrival(place(7), "s-1", NOON_US), CATALOG)

    assert isinstance(verdict, Rejected)
    assert verdict.as_json() == {
        "position": place(7),
        "arrival_us": NOON_US,
        "partition_key": "s-1",
        "codes": ["out_of_range"],
        "reasons": [
            {
                "code": "out_of_range",
                "field": "data.value",
                "expected": "at least -40 Cel and at most 125 Cel",
                "got": "200.0",
            }
        ],
        "source": "plant",
        "id": "1",
        "key": "s-1",
        "sha256": hashlib.sha256(raw).hexdigest(),
        "bytes_base64": verdict.as_json()["bytes_base64"],
    }


def test_a_reject_is_named_as_far_as_it_can_be() -> None:
    verdict = judge({**DOCUMENT, "id": 7, "source": "a\nb"})

    assert isinstance(verdict, Rejected)
    assert verdict.identity == (None, None, "s-1")


def test_what_was_got_is_cut_short_and_printable() -> None:
    found = violation(
        "value", Reason.WRONG_TYPE, "a number", "\n\u202e\x1b" + "x" * 10_000
    )

    assert len(found.got) <= GOT_CHARACTERS
    assert found.got.isascii()
    assert found.got.isprintable()


class Free(Event, type="test.free", version=1, extra="tag"):
    """Keeps whatever comes."""

    key: Key[str]
    note: str = field(default="", max_length=500_000)


FREE = Catalog({"test.free": Free})


def free(**data: Any) -> dict[str, Any]:
    return {
        **DOCUMENT,
        "type": "test.free",
        "dataschema": "test.free/v1",
        "data": {"key": "s-1", **data},
    }


def test_extra_fields_are_kept_where_the_contract_says_so() -> None:
    event = accepted(free(more={"a": [1, 2.5, None]}), catalog=FREE)

    assert event.data["more"] == {"a": [1, 2.5, None]}
    assert event.tags == ("extra_field",)


def test_an_event_that_would_outgrow_its_record_is_refused() -> None:
    verdict = judge(free(note="x" * MAX_DATA_CHARACTERS), catalog=FREE)

    assert isinstance(verdict, Rejected)
    assert verdict.as_json()["codes"] == ["too_large"]


def test_a_stamped_event_comes_back_from_the_wire() -> None:
    event = reading(0.1, at_s=1.5, late=True)
    wire = json.loads(json.dumps(event.to_wire()))

    assert StampedEvent.from_wire(wire) == event


@pytest.mark.parametrize(
    "name", sorted(reading(1.0).to_wire().keys() - {"specversion"})
)
def test_a_wire_event_without_an_attribute_is_refused(name: str) -> None:
    wire = reading(1.0).to_wire()
    del wire[name]

    with pytest.raises(EventFormatError):
        StampedEvent.from_wire(wire)


@pytest.mark.parametrize("wire", [[], "x", None, 7, {"subject": []}])
def test_what_is_no_wire_event_is_refused(wire: Any) -> None:
    with pytest.raises(EventFormatError):
        StampedEvent.from_wire(wire)
