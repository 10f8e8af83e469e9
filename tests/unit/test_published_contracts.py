"""What is published under ``events/`` is what the code does, for ever.

A difference means that a contract changed: raise its version, add an upcaster, and
publish the new files beside the old ones.
"""

import json
from pathlib import Path

import pytest
from retrodict.contracts import Event, published
from retrodict.pipeline import load_catalog, load_pipelines
from retrodict.validation import Accepted, Arrival, validate

from tests.events import NOON_US, place

EVENTS = Path(__file__).parents[2] / "events"
CONTRACTS = sorted(
    {event for pipeline in load_pipelines().values() for event in pipeline.events},
    key=lambda event: event.contract().type,
)
GOLDEN = sorted(
    path for path in EVENTS.glob("*/v*.json") if not path.name.endswith(".schema.json")
)


@pytest.mark.parametrize("event", CONTRACTS, ids=lambda event: event.__name__)
def test_published_files_are_those_of_the_code(event: type[Event]) -> None:
    files = {name: (EVENTS / name).read_text() for name in published(event)}

    assert files == published(event)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name + path.stem)
def test_every_golden_example_is_accepted_by_the_current_code(path: Path) -> None:
    raw = path.read_bytes()
    key = json.loads(raw)["subject"]

    verdict = validate(raw, Arrival(place(1), key, NOON_US), load_catalog())

    assert isinstance(verdict, Accepted)
    assert f"{verdict.event.type}/{path.stem}" == json.loads(raw)["dataschema"]


def test_every_event_type_and_version_has_an_example_and_a_schema() -> None:
    schemas = {
        path.parent / path.name.split(".")[0] for path in EVENTS.glob("*/*.schema.json")
    }

    assert schemas == {path.parent / path.stem for path in GOLDEN}
    assert {path.parent.name for path in GOLDEN} >= {
        event.contract().type for event in CONTRACTS
    }
