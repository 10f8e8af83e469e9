"""What is merged in columns is what an event by event merge would leave."""

from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from retrodict import kernel
from retrodict.buckets import bucket_of
from retrodict.compaction import digest_of_events, once
from retrodict.contracts import Contract
from retrodict.envelope import StampedEvent
from retrodict.errors import LogConflictError
from retrodict.merging import TAKEN_BYTES, merged, rows_of
from retrodict.pipeline import load_catalog
from retrodict.reuse import reuse_in
from retrodict.table_digest import digest_of_table, is_same
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.segments import (
    Segment,
    encode,
    encode_table,
    rewritten,
    table_of,
)

from tests.events import reading
from tests.fake_s3 import FakeS3
from tests.property.test_segment_laws import TEXTS, payloads, segments, spelled

READING = load_catalog().contracts["sensor.reading"].contract()
NEWER = replace(READING, version=2)
WHOLE = {"data": {"sensor_id": "s-1", "value": 1.0, "site": None}}
"""As columns hold it; without its `site` it is text."""
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 5e-324, float("inf"), float("nan")])
VALUES = st.one_of(
    FLOATS, st.integers(-1, 1), st.sampled_from([2**63, -(2**63)]), st.booleans(),
    st.none(), TEXTS, st.sampled_from(["\ud800", "null", "1"]),
    st.lists(st.integers(0, 1), max_size=2),
)  # fmt: skip


def held(
    events: list[StampedEvent], contract: Contract | None, event_type: str
) -> pa.Table:
    body = BytesIO(encode(events, contract))
    return Segment(event_type, body, dictionaries=()).whole()


@st.composite
def changed(draw: st.DrawFn, events: list[StampedEvent]) -> list[StampedEvent]:
    """Return events of which one may say something else, or is said again."""
    if not events or draw(st.booleans()):
        return events
    at = draw(st.integers(0, len(events) - 1))
    event = events[at]
    name = draw(st.sampled_from([*sorted(event.data), "extra"]))
    other = draw(
        st.sampled_from(
            [
                replace(event, late=not event.late),
                replace(event, tags=(*event.tags, "")),
                replace(event, causation_id=event.causation_id or "c"),
                replace(event, correlation_id=None),
                replace(event, schema_version=event.schema_version + 1),
                replace(event, key=event.key + "a"),
                replace(event, id="a" + event.id),
                replace(event, time_us=event.time_us + 1),
                replace(event, data=event.data | {name: draw(VALUES)}),
                replace(event, data={k: v for k, v in event.data.items() if k != name}),
            ]
        )
    )
    return [*events[:at], other, *events[at + 1 :]]


@given(segments(), st.data())
def test_a_digest_of_columns_tells_what_a_digest_of_events_tells(
    written: tuple[Contract, list[StampedEvent]], data: st.DataObject
) -> None:
    contract, events = written
    others = data.draw(changed(events))
    typings = st.sampled_from([contract, READING, None])

    one = held(events, data.draw(typings), contract.type)
    other = held(others, data.draw(typings), contract.type)

    assert (digest_of_table(one) == digest_of_table(other)) == (
        digest_of_events(events) == digest_of_events(others)
    )


@given(segments(), st.data())
def test_of_tables_that_are_the_same_events_and_digests_are(
    written: tuple[Contract, list[StampedEvent]], data: st.DataObject
) -> None:
    contract, events = written
    others = data.draw(changed(events))
    typing = data.draw(st.sampled_from([contract, READING, None]))

    one, other = (held(own, typing, contract.type) for own in (events, others))

    assert is_same(one, held(events, typing, contract.type))
    if is_same(one, other):
        assert digest_of_table(one) == digest_of_table(other)
        assert digest_of_events(events) == digest_of_events(others)
    else:
        assert others is not events


def test_numbers_of_other_bits_are_not_the_same() -> None:
    quiet, other = (
        np.array([bits], np.uint64) for bits in (0x7FF8 << 48, 0x7FF9 << 48)
    )
    numbers = [*(pa.array(one.view(np.float64)) for one in (quiet, other))]
    numbers += [pa.array([value]) for value in (0.0, -0.0, None)]
    tables = [pa.table({"v": number.cast(pa.float64())}) for number in numbers]
    inside = [
        pa.table(
            {"d": pa.StructArray.from_arrays([pa.array(["s-1"]), own], ["k", "v"])}
        )
        for own in (table["v"].chunk(0) for table in tables)
    ]

    for several in (tables, inside):
        found = [[is_same(one, other) for one in several] for other in several]
        assert found == np.eye(len(several), dtype=bool).tolist()


def test_what_cannot_be_told_by_bits_is_left_to_the_digest() -> None:
    table = pa.table({"v": pa.array([1.5], pa.float32())})
    text = pa.table({"v": pa.array(["a", "b"])})
    given, absent = (
        pa.array([row], pa.struct([("v", pa.string())])) for row in ({"v": None}, None)
    )

    assert not is_same(table, table)
    assert not is_same(text, pa.table({"v": pa.array(["a", "b"], pa.large_string())}))
    assert not is_same(text, pa.concat_tables([text.slice(0, 1), text.slice(1)]))
    assert not is_same(text, text.slice(0, 1))
    assert not is_same(pa.table({"d": given}), pa.table({"d": absent}))


@pytest.mark.parametrize("is_compiled", [True, False])
@given(segments(), st.data())
def test_rows_are_those_that_arrow_takes(
    is_compiled: bool,  # noqa: FBT001 - a case
    written: tuple[Contract, list[StampedEvent]],
    data: st.DataObject,
) -> None:
    contract, events = written
    table = table_of(events, data.draw(st.sampled_from([contract, None])))
    skipped = data.draw(st.integers(0, len(events)))
    own = table.slice(skipped)
    if data.draw(st.booleans()):
        own = pa.concat_tables([own, table])
    places = st.integers(0, own.num_rows - 1) if own.num_rows else st.nothing()
    most = 40 if own.num_rows else 0
    rows = np.array(data.draw(st.lists(places, max_size=most)), np.int64)

    with pytest.MonkeyPatch.context() as patched:
        if not is_compiled:
            patched.setattr(kernel, "library", lambda: None)
        found = rows_of(own, rows)

    found.validate(full=True)
    assert found.equals(own.take(pa.array(rows)))
    assert digest_of_table(found) == digest_of_table(own.take(pa.array(rows)))


def test_a_row_that_is_not_there_is_refused() -> None:
    table = pa.table({"text": ["a", "b"]})

    for row in (-1, 2):
        with pytest.raises(ValueError, match="is not there"):
            rows_of(table, np.array([0, row], np.int64))


@given(segments(), st.integers(0, 4))
def test_a_digest_of_columns_does_not_depend_on_chunks_or_dictionaries(
    written: tuple[Contract, list[StampedEvent]], cut: int
) -> None:
    contract, events = written
    table = table_of(events, contract)

    chunks = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    encoded = chunks.set_column(0, "key", chunks["key"].dictionary_encode())

    assert digest_of_table(encoded) == digest_of_table(table)


@st.composite
def readings(draw: st.DrawFn) -> list[StampedEvent]:
    """Return events of few keys, identities and positions, plain or not."""
    return [
        replace(
            reading(
                float(draw(st.integers(0, 1))),
                id=draw(st.sampled_from("12")),
                key=draw(st.sampled_from(["s-1", "s-2", "s-3"])),
                number=number,
                source=draw(st.sampled_from(["plant", "hall"])),
            ),
            schema_version=draw(st.sampled_from([1, 1, 2])),
            **draw(st.sampled_from([{}, WHOLE, {"data": draw(payloads(READING))}])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


def cuts(events: list[StampedEvent]) -> st.SearchStrategy[list[list[StampedEvent]]]:
    return st.lists(st.lists(st.sampled_from(events), max_size=6), max_size=4)


def events_of(tables: Iterable[Any]) -> list[StampedEvent]:
    bodies = (BytesIO(encode_table(table, READING)) for table in tables)
    return [e for body in bodies for e in Segment("sensor.reading", body).events()]


@given(st.data())
def test_what_is_merged_is_each_position_once_by_part_version_key_and_position(
    data: st.DataObject,
) -> None:
    known = data.draw(readings())
    assume(known)
    several = data.draw(cuts(known))
    typings = st.sampled_from([READING, None])
    tables = [held(part, data.draw(typings), "sensor.reading") for part in several]

    at_once = data.draw(st.sampled_from([0, 300, 600, TAKEN_BYTES]))
    with patch("retrodict.merging.TAKEN_BYTES", at_once):
        parts = [*merged(rewritten("sensor.reading", tables, READING))]
    found = events_of(part.events for part in parts)

    truth = sorted(
        once(event for part in several for event in part).values(),
        key=lambda e: (bucket_of(e.key), e.schema_version, e.key, e.position),
    )
    assert spelled(found) == spelled(truth)
    assert [(part.bucket, part.version) for part in parts] == sorted(
        {(bucket_of(e.key), e.schema_version) for e in truth}
    )


@given(readings(), st.data())
def test_two_events_at_one_position_are_refused_exactly_if_they_differ(
    known: list[StampedEvent], data: st.DataObject
) -> None:
    others = data.draw(changed(known))
    tables = [held(part, READING, "sensor.reading") for part in (known, others)]

    def refuses(merge: Any) -> bool:
        try:
            merge()
        except LogConflictError:
            return True
        return False

    assert refuses(
        lambda: [*merged(rewritten("sensor.reading", tables, READING))]
    ) == refuses(lambda: once([*known, *others]))


CONTRACTS = [READING, NEWER, None]


@pytest.mark.parametrize("before", CONTRACTS, ids=["now", "newer", "none"])
@pytest.mark.parametrize("now", CONTRACTS, ids=["now", "newer", "none"])
@given(readings())
@example([replace(reading(1.0), data=WHOLE["data"])])
def test_what_is_rewritten_stands_as_it_would_be_written_now(
    before: Contract | None, now: Contract | None, known: list[StampedEvent]
) -> None:
    found = rewritten("sensor.reading", [held(known, before, "sensor.reading")], now)

    assert found.equals(table_of(known, now))


# --- identities -----------------------------------------------------------------------


def reuse(own: list[StampedEvent], others: list[StampedEvent]) -> tuple[list[str], int]:
    """Return positions of conflicting events, and pairs across keys: the plain way."""
    conflicts = []
    pairs = {(e.source, e.id) for e in own}
    for key, source, id_ in {(e.key, e.source, e.id) for e in own}:
        first: dict[str, str] = {}
        for e in sorted([*own, *others], key=lambda e: e.position):
            if (e.key, e.source, e.id) == (key, source, id_):
                first.setdefault(e.digest, e.position)
        conflicts += sorted(first.values())[1:]
    across = sum(
        len({e.key for e in [*own, *others] if (e.source, e.id) == pair}) > 1
        for pair in pairs
    )
    return sorted(conflicts), across


@given(st.data())
def test_reused_identities_are_those_that_a_plain_look_finds(
    data: st.DataObject,
) -> None:
    known = data.draw(readings())
    assume(known)
    log = S3EventLog(FakeS3(), "log", contracts=load_catalog().contracts)
    days: list[list[StampedEvent]] = [[], [], []]
    for event in known:
        days[data.draw(st.integers(0, 2))].append(event)
    for day, events in enumerate(days):
        for half in (0, 1):
            name = f"type=sensor.reading/arrived=2026-01-0{day + 1}/s-{half}"
            if events[half::2]:
                log.append(name, events[half::2])
    partitions = [*log.partitions()]
    own = next(p for p in partitions)
    of_own = days[int(own.arrived[-1]) - 1]
    others = [event for event in known if event not in of_own]

    found = reuse_in(own, partitions, log)

    assert ([e.position for e in found.conflicting], found.across_keys) == reuse(
        of_own, others
    )
    assert all(e in known for e in found.conflicting)


def test_of_equal_numbers_only_the_same_bits_are_one_event() -> None:
    plus, minus = (reading(value, number=1) for value in (0.0, -0.0))
    minus = replace(minus, digest=plus.digest)

    tables = [held([event], READING, "sensor.reading") for event in (plus, minus)]

    assert digest_of_table(tables[0]) != digest_of_table(tables[1])
