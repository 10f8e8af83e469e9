"""Positions that edges tell of need not be read; what is known is the same."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading as Measured
from retrodict import derived_columns, kernel
from retrodict.arrow_events import (
    KnownEvents,
    begins_of,
    known_events,
    known_in,
    reading_of,
)
from retrodict.derived_columns import edges_of, identities_of
from retrodict.envelope import StampedEvent
from retrodict.errors import EventFormatError
from retrodict.features import feature_set, features
from retrodict.ports import Reading
from retrodict.vocabulary import last, mean
from retrodict.windows import check_of, identity_of
from retrodict_aws.segments import (
    Segment,
    encode,
    encode_table,
    events_schema_of,
    options_of,
    table_of,
)

from tests.events import NOON_US, SECOND_US, place, reading

CONTRACT = Measured.contract()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@features(Measured, lateness="2m", max_rate="1/s")
class Watched:
    """One column."""

    mean_3 = mean(Measured.value, last(3))


WATCHED = feature_set(Watched)


class Segments:
    """Segments of one part of the keys, as a log reads them."""

    def __init__(self, several: Sequence[bytes]) -> None:
        self.several = several
        self.asked: list[Reading] = []

    def read(self, reading: Reading) -> Iterator[pa.Table]:
        self.asked.append(reading)
        for body in self.several:
            yield from Segment("sensor.reading", BytesIO(body)).tables(reading)

    def known(self, *, positions: bool, keys: Sequence[str]) -> KnownEvents:
        [found] = known_in(
            [WATCHED], self.read, keys=keys, positions=positions, arrivals=True
        )
        return found

    def readings_for(self, keys: Sequence[str]) -> int:
        """Return how often it is read for what does not ask for positions."""
        self.asked.clear()
        self.known(positions=False, keys=keys)
        return len(self.asked)


def told(known: KnownEvents) -> object:
    columns = known.columns
    arrays: tuple[Any, ...] = (
        columns.key_start, columns.time_us, columns.identity, columns.check,
        columns.late, known.observed_at_us, *columns.values,
    )  # fmt: skip
    return columns.keys, [(str(a.dtype), a.tobytes()) for a in arrays], known.cut


def event(number: int, key: str, *, late: bool = False) -> StampedEvent:
    return reading(
        float(number),
        at_s=number,
        id=str(number),
        number=number,
        key=key,
        late=late,
        data={"site": None},
    )


def merged(events: Sequence[StampedEvent]) -> bytes:
    own = {e.position: e for e in events}
    ordered = sorted(own.values(), key=lambda e: (e.key, e.position))
    return encode_table(table_of(ordered, CONTRACT), CONTRACT)


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    """Draw merged days and small segments, some of them over one another."""
    lates, odd = draw(st.booleans()), draw(st.booleans())
    events = [
        replace(
            event(n, key, late=lates and n % 7 == 0),
            schema_version=9 if odd and n == 1 else 1,
        )
        if n > 1 or not odd
        else replace(event(n, key), data={"sensor_id": key, "value": 1, "site": None})
        for n, key in enumerate(
            draw(st.lists(st.sampled_from(["a", "b", "ä", ""]), max_size=30)), start=1
        )
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=4)))
    several = []
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        reach = draw(st.sampled_from([0, 0, 0, 3]))
        own = events[max(0, start - reach) : end]
        is_merged = draw(st.booleans())
        several.append(merged(own) if is_merged else encode(own, CONTRACT))
    return draw(st.permutations(several))


@settings(max_examples=300)
@given(several=logs(), keys=st.lists(st.sampled_from(["a", "b", "ä", "z"])))
def test_what_edges_tell_is_what_positions_tell(
    several: list[bytes], keys: list[str]
) -> None:
    log = Segments(several)

    by_edges = log.known(positions=False, keys=keys)
    by_positions = log.known(positions=True, keys=keys)

    assert told(by_edges) == told(by_positions)


DAYS = [
    [event(n, key) for n, key in enumerate("abcabcab", start=start)]
    for start in (1, 21, 41)
]


def test_merged_days_are_read_once_and_without_positions() -> None:
    log = Segments([merged(day) for day in DAYS])

    assert log.readings_for(["a", "c"]) == 1
    assert "position" not in log.asked[0].envelope
    known = log.known(positions=False, keys=["a", "c"])
    assert known.position is None
    assert known.columns.keys == ("a", "c")
    assert known.cut.first_position == place(1)
    assert known.cut.last_position == place(48)
    assert known.cut.events == 24


def test_what_nobody_has_merged_yet_is_put_behind_the_merged_days() -> None:
    today = [encode([event(n, key)], CONTRACT) for n, key in enumerate("cab", start=60)]
    log = Segments([*map(merged, DAYS), *today[::-1]])

    assert log.readings_for(["a", "b", "c"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        merged(DAYS[0]),
        merged([event(n, "a") for n in (10, 31, 35)]),
        encode([event(3, "c")], CONTRACT),
    ],
    ids=["the same day", "a run over another", "an event again"],
)
def test_runs_that_overlap_are_read_with_their_positions(other: bytes) -> None:
    log = Segments([*map(merged, DAYS), other])

    assert log.readings_for(["a"]) == 2
    assert "position" in log.asked[1].envelope
    assert told(log.known(positions=False, keys=["a"])) == told(
        log.known(positions=True, keys=["a"])
    )


@pytest.mark.parametrize("times", [1, 2])
def test_events_whose_positions_were_not_read_have_no_order_of_their_own(
    times: int,
) -> None:
    segments = Segments([merged([event(n, "s-1") for n in range(1, 9)])] * times)
    narrow = reading_of([WATCHED], positions=False)
    tables = [*segments.read(narrow)]
    assert not any("position" in table.column_names for table in tables)

    with pytest.raises(EventFormatError, match="has no 'position'"):
        known_events(WATCHED, tables)


def test_groups_that_somebody_has_cut_otherwise_are_read_with_their_positions() -> None:
    table = pq.read_table(BytesIO(merged(DAYS[0])))
    raw = BytesIO()
    pq.write_table(table, raw, **(options_of(CONTRACT) | {"row_group_size": 5}))
    log = Segments([raw.getvalue()])

    assert log.readings_for(["a"]) == 2
    assert told(log.known(positions=False, keys=["a"])) == told(
        log.known(positions=True, keys=["a"])
    )


def grouped(days: Sequence[Sequence[StampedEvent]]) -> pa.Table:
    """Return the row groups of several segments as one."""
    return pa.concat_tables([pq.read_table(BytesIO(merged(day))) for day in days])


def joined(table: pa.Table) -> Segments:
    raw = BytesIO()
    pq.write_table(table, raw, **options_of(CONTRACT))
    return Segments([raw.getvalue()])


def test_groups_that_somebody_has_joined_are_runs_of_their_own() -> None:
    halves = [[event(n, "a") for n in range(s, s + 9)] for s in (1, 10)]
    log, other = joined(grouped(halves)), joined(grouped(halves[::-1]))

    assert log.readings_for(["a"]) == 1
    assert other.readings_for(["a"]) == 1
    for one in (log, other):
        assert told(one.known(positions=False, keys=["a"])) == told(
            one.known(positions=True, keys=["a"])
        )


def test_a_group_that_lost_the_edge_of_another_is_read_with_its_positions() -> None:
    first, second = ([event(n, "a") for n in range(s, s + 9)] for s in (10, 1))
    table = grouped([first, second])
    cut = joined(pa.concat_tables([table.slice(0, 9), table.slice(10)]))

    assert cut.readings_for(["a"]) == 2
    assert told(cut.known(positions=False, keys=["a"])) == told(
        cut.known(positions=True, keys=["a"])
    )


def test_edges_are_found_anew_where_a_table_is_written_again() -> None:
    table = pq.read_table(BytesIO(merged(DAYS[0])))
    backwards = table.take(list(range(len(table)))[::-1])

    written = pq.read_table(BytesIO(encode_table(backwards, CONTRACT)))

    assert written["edge"].null_count == len(table)
    assert encode_table(table, CONTRACT) == merged(DAYS[0])


rows = st.lists(st.tuples(st.sampled_from(["", "a", "ab", "b"]), TEXTS), max_size=12)


@given(
    drawn=rows | rows.map(lambda own: sorted(set(own))), group_rows=st.integers(1, 5)
)
def test_edges_are_where_keys_begin_and_end(
    drawn: list[tuple[str, str]], group_rows: int
) -> None:
    keys, positions = [key for key, _ in drawn], [text for _, text in drawn]
    texts = pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "position": pa.array(positions, pa.string()),
        }
    )
    expected: list[str | None] = []
    for start in range(0, len(drawn), group_rows):
        own = drawn[start : start + group_rows]
        in_order = all(one < other for one, other in pairwise(own))
        ends = {key: n for n, (key, _) in enumerate(own)}
        begins = {key: n for n, (key, _) in [*enumerate(own)][::-1]}
        at = {*ends.values(), *begins.values()} if in_order else set()
        expected += [text if n in at else None for n, (_, text) in enumerate(own)]

    assert edges_of(texts, group_rows).to_pylist() == expected


@settings(max_examples=500)
@given(
    lengths=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 4) | st.integers(60, 200)),
        max_size=6,
    ),
    flips=st.lists(st.integers(0, 400), max_size=2),
    skip=st.integers(0, 9),
)
def test_runs_begin_where_edges_say_with_a_library_and_without(
    lengths: list[tuple[int, int]], flips: list[int], skip: int
) -> None:
    codes: list[int] = []
    told: list[bool] = []
    begins: list[int] = []
    for code, length in lengths:
        begins.append(len(codes))
        codes += [code] * length
        told += [True, *[False] * (length - 2), *[True] * (length > 1)]
    for flip in flips:
        if flip < len(told):
            told[flip] = not told[flip]
    edges = [None] * skip + ["p" if edge else None for edge in told]
    texts = pa.array(edges, pa.string())
    numbers = pa.array(codes, pa.int32())

    found = begins_of(numbers, texts[skip:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "library", lambda: None)
        plain = begins_of(numbers, texts[skip:])

    assert (found is None) == (plain is None)
    assert found is None or plain is None or found.tolist() == plain.tolist()
    if not flips and all(length != 2 for _, length in lengths):
        assert found is not None
        assert found.tolist() == begins


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("at", range(1, 200))
def test_a_key_that_changes_between_edges_is_no_run(
    at: int, *, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:
        monkeypatch.setattr(kernel, "library", lambda: None)
    keys = pa.array([0] * at + [1] * (200 - at), pa.int32())
    edges = pa.array(["p", *[None] * 198, "p"], pa.string())

    assert begins_of(keys, edges) is None


@pytest.mark.parametrize("instructions", [0, 1])
@given(
    st.lists(
        st.tuples(
            st.one_of(TEXTS, st.integers(0, 140).map(lambda size: "s" * size)),
            TEXTS,
            st.from_regex(r"\A[0-9a-fA-F]{64}\Z"),
        )
    )
)
def test_identities_are_those_of_the_state(
    instructions: int, drawn: list[tuple[str, str, str]]
) -> None:
    columns = [[*column] for column in zip(*drawn, strict=True)] or [[], [], []]
    arrays = [pa.array(column, pa.string()) for column in columns]
    table = pa.table(arrays, ["source", "id", "digest"])

    with pytest.MonkeyPatch.context() as patched:
        own = kernel.has_sha256() & instructions
        patched.setattr(kernel, "has_sha256", lambda: own)
        identity, check = identities_of(table)

    assert [n % 2**64 for n in identity.to_pylist()] == [
        identity_of(source, id_) for source, id_, _ in drawn
    ]
    assert check.to_pylist() == [check_of(digest) for *_, digest in drawn]


def test_without_a_library_the_columns_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = [replace(e, source="ä" * n) for n, e in enumerate(DAYS[0])]
    table = table_of(sorted(events, key=lambda e: (e.key, e.position)), CONTRACT)
    compiled = [*identities_of(table), edges_of(table, 3)]

    monkeypatch.setattr(kernel, "library", lambda: None)

    assert [*identities_of(table), edges_of(table, 3)] == compiled
    assert derived_columns.with_derived(table, 3).column_names == [
        *events_schema_of(CONTRACT).names, "identity", "check", "edge",
    ]  # fmt: skip


def test_a_late_event_is_told_of_and_so_is_one_that_has_to_be_lifted() -> None:
    late = [replace(event(1, "a"), late=True), event(2, "a")]
    other = [replace(event(1, "a"), data={"value": 1}), event(2, "a")]
    asked = Reading(("key", "time_us", "late", "identity", "check", "edge"), (), 1)

    [plain] = Segment("sensor.reading", BytesIO(merged(DAYS[0]))).tables(asked)
    [with_late] = Segment("sensor.reading", BytesIO(merged(late))).tables(asked)
    [whole] = Segment("sensor.reading", BytesIO(merged(other))).tables(asked)

    assert plain.column_names == ["key", "time_us", "identity", "check", "edge"]
    assert with_late["late"].to_pylist() == [True, False]
    assert {"source", "id", "digest", "position", "data", "raw_data"} < {
        *whole.column_names
    }
    assert NOON_US + SECOND_US in plain["time_us"].to_pylist()
