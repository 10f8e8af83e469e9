"""A table of the log is its events: whatever their order, repeats and versions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from retrodict import arrow_events, bulk
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError, UpcastError
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import order_of_knowing
from retrodict.vocabulary import category, last, mean
from retrodict.windows import identity_of
from retrodict_aws.segments import Segment, encode

from tests.events import place, reading


class Pump(
    Event,
    type="arrow.pump",
    version=2,
    upcasts_from={1: lambda old: {**old, "turns": old["turns"] * 60}},
):
    """A contract with columns that may be null, whole numbers and texts."""

    sensor_id: Key[str]
    value: float = field(unit="Cel")
    turns: int | None = field(default=None)
    mode: str | None = field(default=None)


@features(Pump, lateness="2m", max_rate="1/s")
class Watched:
    """A column of every kind."""

    newest = Pump.value
    turns = mean(Pump.turns, last(3))
    mode = category(Pump.mode, ["on", "off", "öffen"])


WATCHED = feature_set(Watched)

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)
events = st.builds(
    lambda key, number, source, id_, version, value, turns, mode, late: replace(
        reading(
            value,
            at_s=number,
            key=key,
            source=source,
            id=id_,
            number=number,
            late=late,
            data={"turns": turns, "mode": mode},
        ),
        type="arrow.pump",
        schema_version=version,
    ),
    st.sampled_from(["b", "a", "a-1", "ä", "key " * 20]),
    st.integers(1, 40),
    st.sampled_from(["plant", "s" * 55, "s" * 56, "s" * 120, ""]) | texts,
    texts | st.integers(0, 10**6).map(str) | st.text("0", min_size=40, max_size=130),
    st.sampled_from([2, 2, 2, 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70) | st.integers(-5, 5),
    st.sampled_from([None, "on", "off", "öffen", "odd", ""]),
    st.booleans(),
)


def table_of(several: Sequence[Sequence[StampedEvent]]) -> pa.Table:
    """Return segments of events as one table."""
    parts = [
        Segment("arrow.pump", pa.BufferReader(encode(part, Pump.contract()))).table()
        for part in several
    ]
    empty = Segment("arrow.pump", pa.BufferReader(encode([], Pump.contract()))).table()
    return pa.concat_tables([empty, *parts])


def untyped(events: list[StampedEvent]) -> pa.Table:
    """Return events as a table that knows no contract."""
    return Segment("arrow.pump", pa.BufferReader(encode(events, None))).table()


def expected(definition: FeatureSet, known: Sequence[StampedEvent]) -> object:
    by_key: dict[str, list[StampedEvent]] = {}
    for event in known:
        by_key.setdefault(event.key, []).append(event)
    ordered = {key: order_of_knowing(by_key[key]) for key in sorted(by_key)}
    columns = bulk.EventColumns.of(definition, ordered)
    several = [event for own in ordered.values() for event in own]
    return (
        told(columns),
        [event.position for event in several],
        [event.observed_at_us for event in several],
    )


def told(columns: bulk.EventColumns) -> object:
    arrays: tuple[NDArray[Any], ...] = (
        columns.key_start, columns.time_us, columns.identity, columns.check,
        columns.late, *columns.values,
    )  # fmt: skip
    return columns.keys, [(str(array.dtype), array.tobytes()) for array in arrays]


def found(definition: FeatureSet, tables: pa.Table | list[pa.Table]) -> object:
    known = arrow_events.known_events(definition, tables)
    assert known.position is not None
    assert known.observed_at_us is not None
    return (
        told(known.columns),
        known.position.to_pylist(),
        known.observed_at_us.tolist(),
    )


@settings(max_examples=200)
@given(
    drawn=st.lists(events, max_size=40, unique_by=lambda event: event.position),
    data=st.data(),
)
def test_a_table_gives_the_columns_of_its_events(
    drawn: list[StampedEvent], data: st.DataObject
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(drawn), max_size=5)) if drawn else []
    known = data.draw(st.permutations([*drawn, *repeated]))
    cut = data.draw(st.integers(0, len(known)))

    table = table_of([known[:cut], known[cut:]])

    assert found(WATCHED, table) == expected(WATCHED, known)
    assert found(WATCHED, table.slice(cut)) == expected(WATCHED, known[cut:])
    several = [table_of([known[:cut]]), untyped(known[cut:])]
    assert found(WATCHED, several) == expected(WATCHED, known)


@settings(max_examples=30)
@given(drawn=st.lists(events, max_size=20, unique_by=lambda event: event.position))
def test_keys_may_come_as_a_dictionary(drawn: list[StampedEvent]) -> None:
    drawn.sort(key=lambda event: (event.key, event.position))
    table = table_of([drawn[:7], drawn[7:]])
    encoded = table.set_column(0, "key", table["key"].dictionary_encode())

    assert found(WATCHED, encoded) == expected(WATCHED, drawn)


def test_long_logs_are_sorted_whatever_runs_they_have() -> None:
    random = np.random.default_rng(5)
    known = [
        replace(
            reading(float(n), at_s=n, id=str(n), number=n, key=f"s-{n % 7}"),
            type="arrow.pump",
            schema_version=2,
            data={"sensor_id": "s", "value": float(n), "turns": n, "mode": None},
        )
        for n in range(1, 3_000)
    ]
    shuffled = [known[n] for n in random.permutation(len(known))]

    for several in ([known[::3], known[1::3], known[2::3]], [shuffled], [known[::-1]]):
        assert found(WATCHED, table_of(several)) == expected(WATCHED, known)


def test_a_table_that_is_in_order_is_not_copied() -> None:
    known = [
        replace(
            reading(1.0, number=n),
            schema_version=2,
            data={"sensor_id": "s", "value": 1.0, "turns": 1, "mode": "on"},
        )
        for n in range(1, 9)
    ]
    table = table_of([known]).slice(0).combine_chunks()

    columns = arrow_events.known_events(WATCHED, table).columns

    held = table["time_us"].chunk(0).to_numpy()
    assert np.shares_memory(columns.time_us, held)


def test_a_table_without_envelope_is_refused() -> None:
    table = table_of([[reading(1.0)]])
    with pytest.raises(EventFormatError) as caught:
        arrow_events.known_events(WATCHED, table.drop_columns(["id"]))

    assert "['id']" in str(caught.value)


def test_an_event_that_cannot_be_lifted_is_told() -> None:
    event = replace(reading(1.0), type="arrow.pump", schema_version=1)
    with pytest.raises(UpcastError) as caught:
        arrow_events.known_events(WATCHED, table_of([[event]]))

    assert place(1) in str(caught.value)


def test_no_table_is_no_event() -> None:
    assert found(WATCHED, []) == expected(WATCHED, [])


def test_identities_are_those_of_one_event() -> None:
    known = [
        replace(reading(1.0, source="s" * n, id="i" * m, number=1 + n * 70 + m))
        for n in range(1, 70)
        for m in range(1, 70)
    ]
    columns = arrow_events.known_events(
        WATCHED,
        table_of([[replace(e, schema_version=2, data={"value": 1.0}) for e in known]]),
    ).columns

    assert columns.identity.tolist() == [identity_of(e.source, e.id) for e in known]


LEADS = st.sampled_from(["", "0000", "0000-0000000", "0000-00000000\x00"])
POSITIONS = st.builds(str.__add__, LEADS, st.text("\x00a09é", max_size=9))


@given(rows=st.lists(st.tuples(st.integers(0, 2), POSITIONS), max_size=30))
def test_rows_are_ordered_as_texts_are(rows: list[tuple[int, str]]) -> None:
    key = np.array([own for own, _ in rows], np.int32)
    position = pa.array([text for _, text in rows], pa.large_string())

    order, mark = arrow_events.order_of_rows(key, 3, position)

    places = range(len(rows)) if order is None else order.tolist()
    found = [rows[place] for place in places]
    assert found == sorted(rows)
    before = [(-1, ""), *found]
    assert (mark == arrow_events.REPEATS).tolist() == [
        one == other for one, other in zip(found, before[: len(found)], strict=True)
    ]
