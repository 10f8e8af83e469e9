"""Every segment that was ever written gives back the events it was written of.

The files in ``tests/fixtures/segments`` are never made again: a new layout adds some.
"""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from retrodict.contracts import Event, Key
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError, UpcastError
from retrodict.features import feature_set, features
from retrodict.pipeline import load_catalog
from retrodict.state import KeyState, Outcome
from retrodict.upcasting import all_newest, newest
from retrodict.vocabulary import last, total
from retrodict_aws.segments import LAYOUT, LAYOUT_KEY, Segment, encode, schema_of

from tests.events import reading

GOLDEN = Path(__file__).parents[1] / "fixtures" / "segments"
READING = load_catalog().contracts["sensor.reading"].contract()


class Order(
    Event,
    type="shop.order",
    version=3,
    upcasts_from={
        1: lambda old: {
            "store": old["store"],
            "amount": old["cents"] / 100,
            "is_gift": old["is_gift"],
        },
        2: lambda old: {**old, "currency": "EUR"},
    },
):
    """An order, as its third version describes it."""

    store: Key[str]
    amount: float
    currency: str
    is_gift: bool | None = None


def type_of(name: str) -> str:
    return "shop.order" if name.endswith("shop.order.parquet") else "sensor.reading"


def expected(event_type: str) -> list[StampedEvent]:
    told = json.loads((GOLDEN / f"{event_type}.json").read_text())
    return [StampedEvent.from_wire(wire) for wire in told]


def spelled(events: list[StampedEvent]) -> list[str]:
    """Return events as text, which tells -0.0 from 0.0 and 1 from 1.0 from true."""
    return [json.dumps(event.to_wire(), sort_keys=True) for event in events]


def rewritten(body: bytes, metadata: dict[bytes, bytes]) -> BytesIO:
    table = pq.read_table(BytesIO(body)).replace_schema_metadata(metadata)
    buffer = BytesIO()
    pq.write_table(table, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*.parquet")), ids=lambda path: path.stem
)
def test_a_segment_of_any_layout_is_read_into_the_events_it_was_written_of(
    path: Path,
) -> None:
    event_type = type_of(path.name)
    segment = Segment(event_type, path)

    assert segment.layout == int(path.name[len("layout-")])
    assert segment.events() == expected(event_type)
    assert spelled(segment.events()) == spelled(expected(event_type))
    assert segment.columns(["position"])["position"].to_pylist() == [
        event.position for event in expected(event_type)
    ]


def test_every_layout_has_a_golden_file() -> None:
    layouts = {int(path.name[len("layout-")]) for path in GOLDEN.glob("*.parquet")}

    assert layouts == set(range(1, LAYOUT + 1))


@pytest.mark.parametrize("layout", range(1, LAYOUT + 1))
def test_golden_events_of_the_first_version_are_lifted_to_the_third(
    layout: int,
) -> None:
    written = Segment(
        "shop.order", GOLDEN / f"layout-{layout}.shop.order.parquet"
    ).events()

    lifted = [newest(event, Order.contract()) for event in written]

    assert [event.schema_version for event in written] == [1, 1]
    assert lifted[0].data == {
        "store": "a", "amount": 7.5, "currency": "EUR", "is_gift": True
    }  # fmt: skip
    assert lifted[0].schema_version == 3
    assert [e.digest for e in lifted] == [e.digest for e in written]
    assert list(all_newest(lifted, {"shop.order": Order})) == lifted
    assert list(all_newest(written, {})) == written


def test_a_version_without_a_way_to_the_newest_is_refused_with_a_sentence() -> None:
    class Gap(Event, type="shop.order", version=3, upcasts_from={2: dict}):
        store: Key[str]

    [old, _] = expected("shop.order")

    with pytest.raises(UpcastError, match=r"shop.order/v1 cannot be lifted to v3"):
        newest(old, Gap.contract())


def test_a_version_that_is_newer_than_the_code_is_refused_with_a_sentence() -> None:
    event = replace(reading(1.0), schema_version=2)

    with pytest.raises(UpcastError, match="deploy the newer code"):
        newest(event, READING)


def test_features_see_the_newest_version_of_what_the_log_holds() -> None:
    @features(Order, lateness="1m", max_rate="1/s")
    class Orders:
        """Money, which the first version counted in cents."""

        spent = total(Order.amount, last("1h"))

    old = expected("shop.order")[:1]

    state, [folded] = KeyState(feature_set(Orders)).fold(old)

    assert folded.outcome is Outcome.APPLIED
    assert state.features == {"spent": 7.5}


def test_what_an_upcaster_makes_must_keep_the_contract() -> None:
    class Broken(
        Event, type="shop.order", version=2, upcasts_from={1: lambda _: {"store": 7}}
    ):
        store: Key[str]

    class Failing(
        Event, type="shop.order", version=2, upcasts_from={1: lambda old: old["no"]}
    ):
        store: Key[str]

    [old, _] = expected("shop.order")

    with pytest.raises(UpcastError, match="breaks the contract"):
        newest(old, Broken.contract())
    with pytest.raises(UpcastError, match="its upcaster failed"):
        newest(old, Failing.contract())


def test_a_value_is_a_column_that_can_be_fetched_alone() -> None:
    events = expected("sensor.reading")
    body = BytesIO(encode(events, READING))

    file = pq.ParquetFile(body)
    table = file.read(columns=["position", "data.value"])

    assert file.schema_arrow.field("data").type.field("value").type == pa.float64()
    assert table.schema.names == ["position", "data"]
    assert table["data"].to_pylist() == [{"value": e.data["value"]} for e in events]
    assert file.schema_arrow.metadata[LAYOUT_KEY] == b"3"


def test_text_is_kept_only_where_the_columns_would_change_the_payload() -> None:
    events = expected("sensor.reading")
    table = pq.read_table(BytesIO(encode(events, READING)))

    assert [text is None for text in table["raw_data"].to_pylist()] == [
        True, True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        {"sensor_id": "s-1", "value": 7, "site": None},
        {"sensor_id": "s-1", "value": True, "site": None},
        {"sensor_id": "s-1", "value": "7", "site": None},
        {"sensor_id": "s-1", "value": 2**70, "site": None},
        {"sensor_id": "s-1", "value": 1.0, "site": "\ud800"},
        {"sensor_id": "s-1", "value": 1.0, "site": 5},
        {"sensor_id": "s-1", "value": float("inf"), "site": ["a"]},
        {},
    ],
    ids=str,
)
def test_a_payload_that_no_contract_would_let_through_survives_too(
    data: dict[str, Any],
) -> None:
    strange = replace(reading(1.0), data=data)

    [read] = Segment("sensor.reading", BytesIO(encode([strange], READING))).events()

    assert spelled([read]) == spelled([strange])


def test_an_event_of_another_version_is_kept_as_text_without_columns() -> None:
    orders = expected("shop.order")
    body = BytesIO(encode(orders, Order.contract()))

    assert pq.read_table(body)["data"].to_pylist() == [None, None]
    assert Segment("shop.order", body).events() == orders


def test_a_layout_that_is_newer_than_the_code_is_refused_with_a_sentence() -> None:
    body = rewritten(encode([reading(1.0)], READING), {LAYOUT_KEY: b"4"})

    with pytest.raises(EventFormatError, match="deploy the newer code"):
        Segment("sensor.reading", body)


def test_columns_of_all_contracts_can_be_written_empty() -> None:
    for event in load_catalog().contracts.values():
        body = BytesIO(encode([], event.contract()))

        assert pq.read_schema(body) == schema_of(event.contract())
        assert Segment(event.contract().type, body).events() == []
