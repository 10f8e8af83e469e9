"""A row becomes an event where that is clear, and travels as it is where it is not."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pipelines.sensor_anomaly.contract import Reading
from retrodict.contracts import Event, Key
from retrodict.errors import PermanentError
from retrodict.rows import NO_KEY, RowMapping, parse_pairs
from retrodict.validation import Accepted, Arrival, Catalog, Rejected, validate

from tests.events import NOON_US, place


class Sale(Event, type="test.sale", version=1):
    """One field of each kind."""

    store: Key[str]
    pieces: int
    amount: float
    is_gift: bool
    note: str | None = None


CATALOG = Catalog({"sensor.reading": Reading, "test.sale": Sale})
OFFICE = RowMapping(
    Reading, {"time": "timestamp"}, {"sensor_id": "office"}, "urn:file:1"
)
SALE: dict[str, object] = {
    "time": "2026-01-05T10:00:00Z",
    "store": "a",
    "pieces": "3",
    "amount": "2.50",
    "is_gift": "TRUE",
    "note": "",
}


def judged(mapping: RowMapping, row: Any, number: int = 1) -> Accepted | Rejected:
    key, raw = mapping.to_cloudevent(row, number)
    return validate(raw, Arrival(place(1), key, NOON_US), CATALOG)


def sale(**changes: object) -> Accepted | Rejected:
    return judged(RowMapping(Sale, {}, {}, "urn:file:2"), {**SALE, **changes})


def codes(verdict: Accepted | Rejected) -> list[str]:
    assert isinstance(verdict, Rejected), verdict
    return list(verdict.as_json()["codes"])


def test_the_lines_of_a_csv_file_are_events() -> None:
    lines = (
        "timestamp,value\n2013-07-04 00:00:00,69.88083514\n2013-07-04 01:00:00,71.2\n"
    )
    rows = csv.DictReader(io.StringIO(lines))

    verdicts = [judged(OFFICE, row, number) for number, row in enumerate(rows, start=1)]

    events = [v.event for v in verdicts if isinstance(v, Accepted)]
    assert [(e.key, e.id, e.data["value"]) for e in events] == [
        ("office", "1", 69.88083514), ("office", "2", 71.2),
    ]  # fmt: skip
    assert [e.time_us for e in events] == [e.observed_at_us for e in events]
    assert events[0].time_us == 1_372_896_000_000_000
    assert not any(e.late for e in events)


def test_text_becomes_the_type_of_its_field_where_that_is_clear() -> None:
    verdict = sale()

    assert isinstance(verdict, Accepted), verdict
    assert verdict.event.data == {
        "store": "a", "pieces": 3, "amount": 2.5, "is_gift": True, "note": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": "hot"}, "wrong_type"),
        ({"amount": "nan"}, "wrong_type"),
        ({"amount": "1e400"}, "wrong_type"),
        ({"amount": "1,5"}, "wrong_type"),
        ({"amount": ""}, "wrong_type"),
        ({"amount": float("nan")}, "not_a_number"),
        ({"amount": None}, "missing"),
        ({"pieces": "3.0"}, "wrong_type"),
        ({"pieces": "9" * 20}, "integer_out_of_range"),
        ({"is_gift": "yes"}, "wrong_type"),
        ({"is_gift": "1"}, "wrong_type"),
        ({"note": b"bytes"}, "wrong_type"),
        ({"note": 1.0}, "wrong_type"),
        ({"time": "2026-01-05 10"}, "invalid_time"),
        ({"time": "05.01.2026"}, "invalid_time"),
        ({"time": 1_767_607_200}, "invalid_time"),
        ({"time": None}, "missing"),
        ({None: ["one cell too many"]}, "extra_field"),
    ],
)
def test_a_cell_that_does_not_fit_is_quarantined_with_its_row(
    changes: dict[Any, object], code: str
) -> None:
    verdict = judged(RowMapping(Sale, {}, {}, "urn:file:2"), {**SALE, **changes})

    assert codes(verdict) == [code]
    assert verdict.as_json()["source"] == "urn:file:2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-05T10:00:00Z",
        "2026-01-05T12:00:00+02:00",
        "2026-01-05 10:00:00",
        "2026-01-05 10:00",
        " 2026-01-05T10:00:00.000 ",
        datetime(2026, 1, 5, 10, tzinfo=UTC),
        datetime(2026, 1, 5, 10),  # noqa: DTZ001 - that is the point
    ],
)
def test_every_clear_spelling_of_a_time_is_the_same_instant(time: object) -> None:
    verdict = sale(time=time)

    assert isinstance(verdict, Accepted), verdict
    assert verdict.event.time_us == 1_767_607_200_000_000


def test_a_date_is_its_midnight() -> None:
    verdict = sale(time=date(2026, 1, 5))

    assert isinstance(verdict, Accepted)
    assert verdict.event.time_us == sale(time="2026-01-05").event.time_us  # type: ignore[union-attr]


def test_a_time_without_a_zone_is_in_the_zone_of_the_file() -> None:
    mapping = RowMapping(Sale, {}, {}, "urn:file", time_zone="Europe/Berlin")

    verdict = judged(mapping, {**SALE, "time": "2025-07-01 12:00"})

    assert isinstance(verdict, Accepted)
    assert verdict.event.to_wire()["time"] == "2025-07-01T10:00:00.000000Z"


@pytest.mark.parametrize("time", ["2025-10-26 02:30:00", "2025-03-30 02:30:00"])
def test_a_local_time_that_was_twice_or_never_is_not_guessed(time: str) -> None:
    mapping = RowMapping(Sale, {}, {}, "urn:file", time_zone="Europe/Berlin")

    assert codes(judged(mapping, {**SALE, "time": time})) != []


def test_values_of_a_typed_table_are_taken_as_they_are() -> None:
    verdict = sale(store=7, pieces=3, amount=Decimal("2.5"), is_gift=False)

    assert isinstance(verdict, Accepted), verdict
    assert verdict.event.data["store"] == "7"
    assert verdict.event.data["amount"] == 2.5


def test_a_column_may_hold_the_id() -> None:
    verdict = judged(
        RowMapping(Sale, {"id": "receipt"}, {}, "urn:file"), {**SALE, "receipt": 0}
    )

    assert isinstance(verdict, Accepted)
    assert verdict.event.id == "0"


def test_a_column_may_hold_when_it_was_observed() -> None:
    mapping = RowMapping(Sale, {"observedat": "seen"}, {}, "urn:file")

    verdict = judged(mapping, {**SALE, "seen": "2026-01-05 11:00"})

    assert isinstance(verdict, Accepted)
    assert verdict.event.observed_at_us - verdict.event.time_us == 3_600_000_000
    assert verdict.event.late


@pytest.mark.parametrize("key", [None, "", "x" * 257, "\ud800", "a\x00"])
def test_a_row_without_a_usable_key_still_travels(key: object) -> None:
    sent, raw = RowMapping(Sale, {}, {}, "urn:file").to_cloudevent(
        {**SALE, "store": key}, 1
    )

    assert sent == NO_KEY
    assert isinstance(
        validate(raw, Arrival(place(1), sent, NOON_US), CATALOG), Rejected
    )
    assert json.loads(raw)["id"] == "1"


def test_sending_a_row_again_is_the_same_bytes() -> None:
    row = {"timestamp": "2013-07-04 00:00:00", "value": "69.9"}

    assert OFFICE.to_cloudevent(row, 1) == OFFICE.to_cloudevent(dict(row), 1)


def test_an_unknown_time_zone_is_refused_at_once() -> None:
    with pytest.raises(PermanentError, match="no time zone is called 'Mars/Base'"):
        RowMapping(Sale, {}, {}, "urn:file", time_zone="Mars/Base")


@pytest.mark.parametrize("text", ["a", "=b", "a="])
def test_a_pair_needs_two_sides(text: str) -> None:
    with pytest.raises(PermanentError, match="NAME=VALUE"):
        parse_pairs(text)
