"""A label file says whose, which, and the truth, or is refused with its line."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click import UsageError
from retrodict.pipeline import load_catalog
from retrodict.stamps import from_datetime
from retrodict.validation import Accepted, Arrival, validate

from cli.label import read_labels, spread, to_event
from tests.events import NOON_US, place


def written(path: Path, text: str) -> Path:
    file = path / "labels.csv"
    file.write_text(text)
    return file


def test_a_label_names_a_prediction_or_a_time(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "entity,prediction_id,time,is_anomaly\n"
        f"s-1,{'a' * 32},,true\ns-2,,1970-01-01T00:00:01Z,0\ns-3,,1970-01-01,no\n",
    )

    assert list(read_labels(file)) == [
        {"entity": "s-1", "is_anomaly": True, "prediction_id": "a" * 32},
        {"entity": "s-2", "is_anomaly": False, "at_us": 1_000_000},
        {"entity": "s-3", "is_anomaly": False, "at_us": 0},
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("entity,is_anomaly\ns-1,true\n", "prediction_id or time"),
        ("time,is_anomaly\n1970-01-01,true\n", "expected entity"),
        ("entity,time,is_anomaly\ns-1,1970-01-01,maybe\n", "line 2: is_anomaly"),
        ("entity,time,is_anomaly\n,1970-01-01,true\n", "line 2: no entity"),
        ("entity,time,is_anomaly\ns-1,,true\n", "neither a prediction_id nor a time"),
        ("entity,time,is_anomaly\ns-1,yesterday,true\n", "yesterday"),
    ],
)
def test_a_file_that_says_too_little_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        list(read_labels(written(tmp_path, text)))

    assert sentence in str(caught.value)


def test_a_label_keeps_the_contract_and_its_identity() -> None:
    label = {"entity": "s-1", "is_anomaly": True, "at_us": NOON_US}

    key, raw = to_event(label, NOON_US, "urn:test")

    verdict = validate(raw, Arrival(place(1), key, NOON_US), load_catalog())
    assert isinstance(verdict, Accepted)
    assert (
        json.loads(to_event(label, NOON_US + 1, "urn:test")[1])["id"]
        == (json.loads(raw)["id"])
    )


def test_a_stretch_is_a_label_for_each_event_in_it(tmp_path: Path) -> None:
    rows = written(
        tmp_path,
        "entity,time,until,is_anomaly\n"
        "office,2026-01-05 00:00:01,2026-01-05 00:00:03,true\n"
        "office,2026-01-05 00:00:09,,false\n",
    )
    midnight = from_datetime(datetime(2026, 1, 5, tzinfo=UTC))
    times = [midnight + second * 1_000_000 for second in (4, 3, 2, 1, 1, 0)]

    found = list(spread(read_labels(rows), {"office": times, "hall": [times[1]]}))

    assert [((o["at_us"] - midnight) // 1_000_000, o["is_anomaly"]) for o in found] == [
        (1, True), (2, True), (3, True), (9, False),
    ]  # fmt: skip
    assert all("until_us" not in one for one in found)


@pytest.mark.parametrize(
    ("stretch", "why"),
    [
        ("2026-01-05 00:00:03,2026-01-05 00:00:01", "until lies before time"),
        ("2026-01-06,2026-01-07", "no event of 'office'"),
        ("2026-01-06,soon", "soon"),
    ],
)
def test_a_stretch_that_labels_nothing_is_refused(
    tmp_path: Path, stretch: str, why: str
) -> None:
    file = written(tmp_path, f"entity,time,until,is_anomaly\noffice,{stretch},true\n")

    with pytest.raises(UsageError, match=why):
        list(spread(read_labels(file), {"office": [0]}))
