"""A label file says whose, which, and the truth, or is refused with its line."""

import json
from pathlib import Path

import pytest
from click import UsageError
from retrodict.pipeline import load_catalog
from retrodict.validation import Accepted, Arrival, validate

from cli.label import read_labels, to_event
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
