"""A training set sees what was known at its rows' positions, and nothing after."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import retrodict
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines.sensor_anomaly.contract import Reading
from retrodict.envelope import StampedEvent
from retrodict.errors import TrainingRowsError
from retrodict.features import feature_set, features
from retrodict.point_in_time import Split, labels, manifest_of
from retrodict.state import KeyState, Outcome, order_of_knowing
from retrodict.vocabulary import count, last, last_value, mean, quantile

from tests.events import NOON_US, SECOND_US, entries_of, place, reading
from tests.fakes import FakeEventLog


@features(Reading, lateness="2m", max_rate="1/s")
class Near:
    """Two leaves and arithmetic."""

    latest = last_value(Reading.value, last(1))
    mean_1m = mean(Reading.value, last("1m"))
    change = Reading.value - mean_1m


@features(Reading, lateness="2m", max_rate="1/s")
class Far:
    """A second set, with a word that is not compiled."""

    count_5m = count(Reading.value, last("5m"))
    median_5m = quantile(Reading.value, 0.5, last("5m"))


NEAR, FAR = feature_set(Near), feature_set(Far)
SETS = [NEAR, FAR]


@st.composite
def logs(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of two keys, some of them out of order and some late."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(-5, 40).map(float),
                st.integers(0, 900),
                st.sampled_from(["s-1", "s-2"]),
                st.booleans(),
            ),
            max_size=20,
        )
    )
    return [
        reading(value, at_s=at_s, id=str(n), number=n, key=key, late=late)
        for n, (value, at_s, key, late) in enumerate(drawn, start=1)
    ]


@st.composite
def asks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rows of known and unknown keys."""
    return draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "key": st.sampled_from(["s-1", "s-2", "s-3"]),
                    "time": st.integers(-10, 1_000).map(
                        lambda s: NOON_US + s * SECOND_US
                    ),
                    "position": st.integers(0, 21).map(place),
                    "label": st.booleans(),
                }
            ),
            min_size=1,
            max_size=6,
        )
    )


def by_the_definition(
    events: Sequence[StampedEvent], row: dict[str, Any]
) -> dict[str, Any]:
    """Return the features of a row from the events that count for it, and no others."""
    found: dict[str, Any] = {}
    for definition in SETS:
        known = [e for e in order_of_knowing(events) if e.key == row["key"]]
        known = [e for e in known if e.position <= row["position"]]
        _, folded = KeyState(definition).fold(known)
        applied = [f.event for f in folded if f.outcome is Outcome.APPLIED]
        past = [e for e in applied if e.time_us <= row["time"]]
        at = definition.at(entries_of(definition, past), row["time"])
        found |= {f"{definition.name}.{name}": value for name, value in at.items()}
    return found


@given(events=logs(), rows=asks())
def test_a_row_is_a_function_of_its_past(
    events: list[StampedEvent], rows: list[dict[str, Any]]
) -> None:
    found = retrodict.training_set(events, rows, features=SETS).to_pylist()

    for row, got in zip(rows, found, strict=True):
        assert got == row | by_the_definition(events, row)


@given(events=logs(), rows=asks(), future=logs())
def test_nothing_after_its_time_or_position_can_change_a_row(
    events: list[StampedEvent], rows: list[dict[str, Any]], future: list[StampedEvent]
) -> None:
    before = retrodict.training_set(events, rows, features=SETS).to_pylist()
    moved = [
        reading(
            float(e.data["value"]),
            at_s=(e.time_us - NOON_US) / SECOND_US,
            id=f"later-{e.id}",
            number=100 + n,
            key=e.key,
        )
        for n, e in enumerate(future)
    ]

    after = retrodict.training_set([*events, *moved], rows, features=SETS).to_pylist()

    assert after == before
    latest = max(row["time"] for row in rows) + 1
    changed = [
        e
        if e.time_us < latest
        else reading(
            -99.0,
            at_s=(e.time_us - NOON_US) / SECOND_US,
            id=e.id,
            number=int(e.position[-9:]),
            key=e.key,
            late=e.late,
        )
        for e in events
    ]
    other = retrodict.training_set(changed, rows, features=SETS).to_pylist()
    assert other == before


@settings(max_examples=25)
@given(events=logs(), rows=asks(), data=st.data())
def test_a_set_is_the_same_whatever_order_its_events_are_read_in(
    events: list[StampedEvent], rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events)) + events[:3]

    one = retrodict.training_set(events, rows, features=SETS)
    other = retrodict.training_set(shuffled, rows, features=SETS)

    assert one.equals(other)
    assert manifest_of(one) == manifest_of(other)


@pytest.mark.parametrize("event_bytes", [50, 16 << 20])
@settings(max_examples=40)
@given(
    events=logs(),
    rows=asks(),
    cut_us=st.none() | st.integers(NOON_US, NOON_US + 600 * SECOND_US),
    corrected=st.booleans(),
    by=st.sampled_from(["position", "known_at", "time"]),
)
def test_a_log_in_columns_gives_the_set_of_its_events(  # noqa: PLR0913, PLR0917
    event_bytes: int,
    events: list[StampedEvent],
    rows: list[dict[str, Any]],
    cut_us: int | None,
    corrected: bool,  # noqa: FBT001
    by: str,
) -> None:
    log = FakeEventLog()
    log.event_bytes = event_bytes
    for start in range(0, len(events), 5):
        name = f"type=sensor.reading/arrived=2026-01-05/segment-{start}"
        log.append(name, events[start : start + 7])
    asked = [{k: v for k, v in row.items() if k != "position"} for row in rows]
    if by != "time":
        told = {"position": "position", "known_at": "time"}[by]
        asked = [a | {by: r[told]} for a, r in zip(asked, rows, strict=True)]
    options: dict[str, Any] = {
        "features": SETS, "until_us": cut_us, "corrected": corrected
    }  # fmt: skip

    one = retrodict.training_set(log, asked, **options)
    other = retrodict.training_set(list(log.read()), asked, **options)

    assert one.equals(other)
    assert manifest_of(one) == manifest_of(other)


def ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


EVENTS = [
    reading(20.0, at_s=0, id="1", number=1),
    reading(22.0, at_s=60, id="2", number=2),
    reading(30.0, at_s=50, id="3", number=3),
]
AT_60 = NOON_US + 60 * SECOND_US


def test_built_twice_a_set_has_the_same_bytes() -> None:
    rows = [{"key": "s-1", "time": AT_60}]

    one, other = (retrodict.training_set(EVENTS, rows, features=NEAR) for _ in range(2))

    assert ipc(one) == ipc(other)
    digest = manifest_of(one)["training_set"]
    shorter = retrodict.training_set(EVENTS[:2], rows, features=NEAR)
    assert manifest_of(shorter)["training_set"] != digest


def test_served_is_what_was_known_then_and_corrected_what_is_known_now() -> None:
    rows = [{"key": "s-1", "time": AT_60, "known_at": AT_60 - 5 * SECOND_US}]
    late = [
        reading(20.0, at_s=0, id="1", number=1),
        reading(22.0, at_s=60, id="2", number=2),
    ]

    served = retrodict.training_set(late, rows, features=NEAR)
    corrected = retrodict.training_set(late, rows, features=NEAR, corrected=True)

    assert served["latest"].to_pylist() == [20.0]
    assert corrected["latest"].to_pylist() == [22.0]


def test_a_row_knows_the_positions_that_had_all_arrived() -> None:
    skewed = [
        replace(reading(20.0, at_s=0, id="1", number=1), observed_at_us=AT_60),
        replace(reading(22.0, at_s=1, id="2", number=2), observed_at_us=NOON_US),
    ]
    rows = [{"key": "s-1", "time": AT_60, "known_at": at} for at in (NOON_US, AT_60)]

    found = retrodict.training_set(skewed, rows, features=NEAR)

    assert found["latest"].to_pylist() == [None, 22.0]


def test_the_log_is_cut_at_an_arrival() -> None:
    rows = [{"key": "s-1", "time": AT_60}]

    cut = retrodict.training_set(EVENTS, rows, features=NEAR, until_us=NOON_US)

    assert cut["latest"].to_pylist() == [20.0]
    assert manifest_of(cut)["events"] == 1


def test_rows_without_an_earlier_event_are_kept_with_nulls() -> None:
    rows = [{"key": "s-9", "time": AT_60}, {"key": "s-1", "time": NOON_US - 1}]

    found = retrodict.training_set(EVENTS, rows, features=FAR).to_pylist()

    assert [row["median_5m"] for row in found] == [None, None]
    assert [row["count_5m"] for row in found] == [0, 0]


@pytest.mark.parametrize("form", ["arrow", "pandas", "polars"])
def test_any_table_goes_in_and_any_comes_out(form: str) -> None:
    when = datetime.fromtimestamp(AT_60 / 1e6, UTC)
    frames = [
        pa.table({"key": ["s-1"], "time": pa.array([when], pa.timestamp("ms", "UTC"))}),
        pd.DataFrame({"key": ["s-1"], "time": [pd.Timestamp(when)]}),
        pl.DataFrame({"key": ["s-1"], "time": [when]}),
        [{"key": "s-1", "time": when}],
    ]

    for rows in frames:
        found = retrodict.training_set(EVENTS, rows, features=NEAR, to=form)
        kind = {"arrow": pa.Table, "pandas": pd.DataFrame, "polars": pl.DataFrame}
        assert isinstance(found, kind[form])
        assert [float(str(value)) for value in found["mean_1m"]] == [26.0]
        assert len(found["time"]) == 1
    if form == "pandas":
        assert manifest_of(found)["rows"] == 1


def test_a_split_by_time_leaves_a_gap() -> None:
    rows = [
        {"key": "s-1", "time": NOON_US + s * SECOND_US} for s in (0, 1, 61, 90, 200)
    ]
    split = Split(NOON_US, NOON_US + 90 * SECOND_US, embargo="1m")

    found = retrodict.training_set(EVENTS, rows, features=NEAR, split=split)

    assert found["split"].to_pylist() == [
        "train",
        None,
        "validation",
        "validation",
        "test",
    ]
    with pytest.raises(TrainingRowsError, match="before training does"):
        Split(10, 5)


def label(
    number: int, at_us: int | None, observed_us: int, *, truth: bool
) -> StampedEvent:
    data = {"entity": "s-1", "is_anomaly": truth, "at_us": at_us, "prediction_id": None}
    given = reading(
        0.0, at_s=(observed_us - NOON_US) / SECOND_US, id=f"l-{number}", number=number
    )
    return replace(given, type="retrodict.label.given", data=data)


def test_labels_that_arrive_late_are_labels_of_their_time() -> None:
    day_us = 86_400 * SECOND_US
    log = FakeEventLog()
    log.append("type=sensor.reading/a", EVENTS)
    given_labels = [
        label(7, AT_60, AT_60 + day_us, truth=False),
        label(8, AT_60, AT_60 + 2 * day_us, truth=True),
        label(9, None, AT_60, truth=True),
    ]
    log.append("type=retrodict.label.given/b", given_labels)

    rows = labels(log)
    found = retrodict.training_set(log, rows, features=NEAR)
    early = labels(log, until_us=AT_60 + day_us)

    assert found["label"].to_pylist() == [True]
    assert found["latest"].to_pylist() == [22.0]
    assert early["label"].to_pylist() == [False]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"key": "s-1"}], "no column 'time'"),
        ([{"key": "s-1", "time": "noon"}], "times with a time zone"),
        ([{"key": "s-1", "time": datetime(2026, 1, 5)}], "times with a time zone"),  # noqa: DTZ001
        ([{"key": 7, "time": 1}], "expected texts"),
        ([{"key": "a", "time": 1}, {"key": None, "time": 1}], "row 1 has no 'key'"),
        ([{"key": "a", "time": 1, "position": "p", "known_at": 1}], "leave one"),
        ([{"key": "a", "time": 1, "latest": 2.0}], "a column 'latest'"),
        (7, "cannot read rows from int"),
        ("ab", "cannot read rows from str"),
    ],
)
def test_rows_that_are_none_are_refused_with_a_remedy(rows: Any, told: str) -> None:
    with pytest.raises(TrainingRowsError, match=told):
        retrodict.training_set(EVENTS, rows, features=NEAR)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(TrainingRowsError, match="expected one of arrow"):
        retrodict.training_set([], [], features=NEAR, to="numpy")
