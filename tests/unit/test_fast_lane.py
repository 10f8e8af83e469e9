"""The ordinary record is accepted in one pass, and as a closer look would."""

import json
from typing import Any

import pytest
from retrodict import fast_lane
from retrodict.contracts import Event, Key, field
from retrodict.validation import Accepted, Arrival, Catalog, Rejected, validate_batch

from tests import lane
from tests.events import place
from tests.lane import validate

ARRIVAL = Arrival(place(1), "s-1", 1_767_614_400_000_000)


class Sample(Event, type="lane.sample", version=3, upcasts_from={2: dict}):
    """A field of every kind."""

    name: Key[str] = field(pattern="[a-z0-9-]{1,64}")
    value: float = field(ge=-40, lt=1e14)
    count: int | None = field(default=None, gt=-1)
    hot: bool = False
    note: str | None = field(default=None, max_length=64)
    code: str = field(default="ab", pattern="[ab]+")
    mode: str = field(default="on", enum=("on", "off"))


CATALOG = Catalog({"lane.sample": Sample})


def record(**data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "urn:s",
        "type": "lane.sample",
        "subject": "s-1",
        "time": "2026-01-05T11:00:00.25Z",
        "dataschema": "lane.sample/v3",
        "data": {"name": "s-1", "value": 20.5, **data},
    }


def is_fast(raw: bytes) -> bool:
    return lane.is_fast(raw, ARRIVAL, CATALOG)


@pytest.mark.parametrize(
    "said",
    [
        record(),
        record(count=3, hot=True, note="in the hall", code="abba", mode="off"),
        record(count=None, note=None),
        record(value=20),
        record(value=0),
        record(value=0.0005),
        record(value=1e13),
        record() | {"causationid": "0", "correlationid": "7"},
        record() | {"importid": "i-1", "observedat": "2026-01-05T11:30:00Z"},
        record() | {"importid": "i-1"},
        record() | {"datacontenttype": "application/json", "causationid": None},
        record() | {"time": "2026-01-05T12:04:59Z"},
    ],
)
def test_an_ordinary_record_needs_no_closer_look(said: dict[str, Any]) -> None:
    for raw in (
        json.dumps(said).encode(),
        b" " + json.dumps(said)[:-1].encode() + b" }",
    ):
        assert is_fast(raw)
        assert isinstance(validate(raw, ARRIVAL, CATALOG), Accepted)


def test_a_default_is_digested_as_a_closer_look_would() -> None:
    class Tiny(Event, type="lane.tiny", version=1):
        name: Key[str]
        value: float = 1e-9
        great: float = 1e22
        none: float = 0.0

    catalog = Catalog({"lane.tiny": Tiny})
    said = record() | {"type": "lane.tiny", "dataschema": "lane.tiny/v1"}
    for data in ({}, {"value": 1.5}, {"great": 2, "none": -0.0}, {"none": 1e-4}):
        raw = json.dumps({**said, "data": {"name": "s-1", **data}}).encode()
        assert lane.is_fast(raw, ARRIVAL, catalog)
        assert isinstance(validate(raw, ARRIVAL, catalog), Accepted)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"id":"1"', '"id":"1","id":"1"'),
        ('"id":"1"', '"id" : "2","id":"1"'),
        ('"value":20.5', '"value":20.4,"value":20.5'),
        ('"value":20.5', '"count":1,"count":null,"value":20.5'),
        ('"type":"lane.sample"', '"type":"lane.sample","type":"lane.sample"'),
        ('"data":{', '"data":{"name":"s-1","value":1},"data":{'),
        ('"value":20.5', '"value":NaN'),
        ('"value":20.5', '"value":1e400'),
        ('"value":20.5', '"value":9007199254740993'),
        ('"value":20.5', '"count":1.0,"value":20.5'),
        ('"value":20.5', '"count":9223372036854775808,"value":20.5'),
        ('"value":20.5', '"value":"20.5"'),
        ('"value":20.5', '"value":1e300'),
        ('"value":20.5', '"hot":1,"value":20.5'),
        ('"value":20.5', '"code":"abc","value":20.5'),
        ('"value":20.5', '"mode":"ON","value":20.5'),
        ('"value":20.5', '"other":1,"value":20.5'),
        ('"value":20.5', '"note":"\\ud800","value":20.5'),
        ('"value":20.5', '"note":"\t","value":20.5'),
        ("/v3", "/v4"),
        ("11:00:00.25Z", "11:00:00.25"),
        ("11:00:00.25Z", "24:00:00Z"),
        ("2026-01-05T11", "2026-02-30T11"),
        ("2026-01-05T11", "2100-01-01T11"),
        ("11:00:00.25Z", "12:05:01Z"),
        ('"subject":"s-1"', '"subject":"s-2"'),
        ('"name":"s-1"', '"name":"s-2"'),
        ('"id":"1"', '"id":"1","causationid":"1"'),
        ('"specversion":"1.0"', '"specversion":"1"'),
        ('"id":"1"', '"id":""'),
        ("}}", "}}{}"),
        ("{", "\ufeff{"),
    ],
)
def test_a_broken_promise_is_never_overlooked(old: str, new: str) -> None:
    text = json.dumps(record(), separators=(",", ":"))
    assert is_fast(text.encode())
    assert old in text
    raw = text.replace(old, new, 1).encode()

    assert not is_fast(raw)
    assert isinstance(validate(raw, ARRIVAL, CATALOG), Rejected)


@pytest.mark.parametrize(
    "said",
    [
        record(value=1e-400) | {"id": "underflow"},
        record() | {"time": "2026-01-05T11:00:00.1234567Z"},
        record() | {"time": "2026-01-05T12:00:00+01:00"},
        record() | {"dataschema": "lane.sample/v2"},
        record() | {"traceparent": "00-1"},
        record() | {"observedat": "2026-01-05T11:30:00Z"},
        record() | {"source": "urn:\u00e9"},
    ],
)
def test_what_is_unusual_is_looked_at_closely_and_accepted(
    said: dict[str, Any],
) -> None:
    raw = json.dumps(said).encode()

    assert not is_fast(raw.replace(b": 0.0}", b": 1e-400}"))
    assert isinstance(validate(raw, ARRIVAL, CATALOG), Accepted)


def test_a_long_record_is_looked_at_closely() -> None:
    raw = json.dumps(record()).encode()

    assert is_fast(raw.ljust(fast_lane.LONGEST))
    assert not is_fast(raw.ljust(fast_lane.LONGEST + 1))


def test_a_contract_that_cannot_be_said_otherwise_has_no_fast_lane() -> None:
    class Switch(Event, type="lane.switch", version=1):
        name: Key[str]
        state: int = field(enum=(0, 1))

    class Twins(Event, type="lane.twins", version=1):
        name: Key[str]
        Name: str | None = None

    for event in (Switch, Twins):
        contract = event.contract()
        raw = json.dumps(
            record() | {"type": contract.type, "dataschema": contract.schema_name()}
        ).encode()
        assert not lane.is_fast(raw, ARRIVAL, Catalog({contract.type: event}))


def test_without_a_library_everything_is_looked_at_closely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        (
            json.dumps(record(value=n)).encode(),
            Arrival(place(n), "s-1", 1_767_614_400_000_000),
        )
        for n in range(3)
    ]
    fast = validate_batch(lane.batch_of(records), CATALOG)
    monkeypatch.setattr(fast_lane, "library", lambda: None)

    slow = validate_batch(lane.batch_of(records), CATALOG)

    assert not is_fast(records[0][0])
    assert [list(batch.events) for batch in slow.batches] == [
        list(batch.events) for batch in fast.batches
    ]
    assert (slow.accepted, len(slow.rejected)) == (3, 0)
    assert (fast.accepted, len(fast.rejected)) == (3, 0)
