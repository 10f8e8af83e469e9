"""No bytes make the validator raise or break a promise; the oracle is no yes-man."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from retrodict import strict_json
from retrodict.fast_lane import Columns, FastLane, Refused, Unsure
from retrodict.ports import KeyedBatch
from retrodict.validation import Accepted, Arrival, Catalog, Rejected, validate
from retrodict.wire import WireEvents

from tests.fuzz.__main__ import never_given
from tests.fuzz.harness import fuzz
from tests.fuzz.inputs import (
    Input,
    catalog,
    edge_cases,
    inputs,
    minutes_beyond_an_hour,
)

INPUTS = 20_000


def test_no_input_breaks_a_promise_and_every_reason_is_given() -> None:
    given = (*edge_cases(), *minutes_beyond_an_hour(), *inputs(7, 0, INPUTS))

    report = fuzz(given, validate, catalog())

    assert report.failures == []
    assert never_given(report) == set()
    assert report.fast["ordinary, or nearly"] > 100
    assert report.inputs.total() == len(given)


def _raises(raw: bytes, arrival: Arrival, known: Catalog) -> object:
    if b"NaN" in raw:
        raise ValueError("not a number")
    return validate(raw, arrival, known)


def _keeps_the_last_key(raw: bytes, arrival: Arrival, known: Catalog) -> object:
    try:
        raw = json.dumps(json.loads(raw)).encode()
    except (ValueError, RecursionError):
        return validate(raw, arrival, known)
    verdict = validate(raw, arrival, known)
    return (
        structs.replace(verdict, raw=raw) if isinstance(verdict, Rejected) else verdict
    )


def _loses_bytes(raw: bytes, arrival: Arrival, known: Catalog) -> object:
    verdict = validate(raw, arrival, known)
    if isinstance(verdict, Rejected):
        return structs.replace(verdict, raw=verdict.raw[:100])
    return verdict


def _rejects_all(raw: bytes, arrival: Arrival, known: Catalog) -> object:
    verdict = strict_json.parse(b"nothing")
    assert isinstance(verdict, tuple)
    return Rejected(raw, arrival, verdict, None)


def _changed(**changes: Any) -> Callable[[bytes, Arrival, Catalog], object]:
    def judge(raw: bytes, arrival: Arrival, known: Catalog) -> object:
        verdict = validate(raw, arrival, known)
        if isinstance(verdict, Accepted):
            return Accepted(replace(verdict.event, **changes))
        return verdict

    return judge


@pytest.mark.parametrize(
    ("sabotaged", "found"),
    [
        (_raises, "raised"),
        (_keeps_the_last_key, "a key twice"),
        (_loses_bytes, "its bytes or its arrival were lost"),
        (_rejects_all, "a strict reader objects nothing"),
        (_changed(id="another"), "accepted {"),
        (_changed(time_us=1_767_607_200_000_001), "accepted time"),
        (_changed(data={}), "and then said something else"),
        (_changed(key="another"), "under another key"),
        (lambda *_: None, "no verdict"),
    ],
)
def test_the_oracle_catches_a_sabotaged_validator(
    sabotaged: Callable[[bytes, Arrival, Catalog], object], found: str
) -> None:
    known = catalog()
    complaints = [
        wrong
        for one in (*edge_cases(), *inputs(7, 0, 2_000))
        for _, wrong in fuzz([one], sabotaged, known).failures
    ]

    assert any(found in wrong for wrong in complaints)


class _Hasty(FastLane):
    """A lane that takes the beginning of an event for the event."""

    def read(self, columns: Columns) -> Iterator[KeyedBatch | Unsure | Refused]:
        for one in super().read(columns):
            if isinstance(one, KeyedBatch) and isinstance(one.events, WireEvents):
                wired = one.events
                cut = WireEvents(wired.text[:-1], len(wired), wired.types)
                yield KeyedBatch(one.key, cut)
            else:
                yield one


def test_a_lane_that_is_not_narrow_enough_is_noticed() -> None:
    known = catalog()
    vars(known)["fast_lane"] = _Hasty(known.contracts, known.lateness_us)

    found = fuzz(inputs(7, 0, 200), validate, known).failures

    assert found
    assert all("in a batch" in wrong for _, wrong in found)


def test_a_strict_reader_objects_to_what_the_standard_library_takes() -> None:
    for raw in (b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":1e999}'):
        loose = Input("loose", raw)
        assert isinstance(validate(raw, loose.arrival, catalog()), Rejected)
        assert fuzz([loose], validate, catalog()).failures == []
