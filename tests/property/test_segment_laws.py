"""What a segment gives back is what was written, for every contract there is."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.contracts import Contract, FieldRef, example
from retrodict.envelope import StampedEvent
from retrodict.pipeline import load_catalog
from retrodict_aws.segments import Segment, encode

from tests.events import place, reading

CONTRACTS = [event.contract() for event in load_catalog().contracts.values()]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True),
    bool: st.booleans(),
}
STRANGE = st.one_of(*VALUES.values(), st.none(), st.lists(TEXTS), st.integers())


def member(ref: FieldRef) -> st.SearchStrategy[Any]:
    """Return values of a field: mostly what its type says, sometimes anything."""
    return st.one_of(VALUES[ref.type], st.none()) | STRANGE


def payloads(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Return payloads: whole, with absent fields, and with fields nobody declared."""
    whole = st.fixed_dictionaries(
        {ref.name: st.one_of(VALUES[ref.type], st.none()) for ref in contract.fields}
    )
    loose = st.fixed_dictionaries(
        {}, optional={ref.name: member(ref) for ref in contract.fields}
    )
    extra = st.dictionaries(st.sampled_from(["extra", "Value", ""]), STRANGE)
    return st.one_of(whole, loose, st.tuples(whole, extra).map(lambda p: p[1] | p[0]))


@st.composite
def segments(draw: st.DrawFn) -> tuple[Contract, list[StampedEvent]]:
    contract = draw(st.sampled_from(CONTRACTS))
    count = draw(st.integers(0, 4))
    return contract, [
        replace(
            reading(0.0, number=number, key=draw(TEXTS), id=draw(TEXTS)),
            type=contract.type,
            schema_version=draw(st.sampled_from([contract.version, 9])),
            late=draw(st.booleans()),
            tags=tuple(draw(st.lists(TEXTS, max_size=2))),
            causation_id=draw(st.none() | TEXTS),
            correlation_id=draw(st.none() | TEXTS),
            data=draw(payloads(contract)),
        )
        for number in range(count)
    ]


def spelled(events: list[StampedEvent]) -> list[str]:
    """Return events as text, which tells -0.0 from 0.0 and 1 from 1.0 from true."""
    return [json.dumps(event.to_wire(), sort_keys=True) for event in events]


@given(segments(), st.sampled_from(["known", "unknown"]))
def test_writing_and_reading_a_segment_changes_nothing(
    written: tuple[Contract, list[StampedEvent]], contracts: str
) -> None:
    contract, events = written
    body = encode(events, contract if contracts == "known" else None)

    read = Segment(contract.type, BytesIO(body)).events()

    assert read == events
    assert spelled(read) == spelled(events)


@given(segments(), st.sets(st.integers(0, BUCKETS - 1)))
def test_reading_parts_of_the_keys_leaves_out_only_the_others(
    written: tuple[Contract, list[StampedEvent]], buckets: set[int]
) -> None:
    contract, events = written
    segment = Segment(contract.type, BytesIO(encode(events, contract)))
    keys = {event.key for event in events[:1]}

    assert segment.events(buckets=buckets) == [
        event for event in events if bucket_of(event.key) in buckets
    ]
    assert segment.events(keys=keys) == [e for e in events if e.key in keys]


def test_an_example_of_each_contract_needs_no_text() -> None:
    for event in load_catalog().contracts.values():
        contract = event.contract()
        data, _ = contract.check(example(event)["data"], [])
        stamped = replace(
            reading(0.0), type=contract.type, data=data, position=place(1),
            schema_version=contract.version,
        )  # fmt: skip
        body = BytesIO(encode([stamped], contract))

        assert Segment(contract.type, body).events() == [stamped]
        assert pq.read_table(body)["raw_data"].to_pylist() == [None]
