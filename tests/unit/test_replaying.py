"""Records of the past are sent stride by stride, each declaring when it arrived."""

import json
from datetime import timedelta

import pytest

from cli.replaying import Arrived, declare_arrival, strides

MINUTE = timedelta(minutes=1)
MINUTE_US = 60_000_000


def arrived(*minutes: float) -> list[Arrived]:
    return [Arrived(int(m * MINUTE_US), "k", b"{}") for m in minutes]


def test_every_record_is_in_exactly_one_stride() -> None:
    records = arrived(0, 0.5, 1, 1.5, 3.25)

    found = list(strides(records, MINUTE, 0))

    assert [r for _, held in found for r in held] == records


def test_a_stride_holds_what_arrived_before_its_end() -> None:
    for end_us, held in strides(arrived(0, 0.5, 1, 1.5, 3.25), MINUTE, 0):
        assert all(end_us - MINUTE_US <= r.arrival_us < end_us for r in held)


def test_idle_strides_are_walked_too() -> None:
    ends = [end for end, _ in strides(arrived(0, 3.25), MINUTE, 0)]

    assert ends == [MINUTE_US, 2 * MINUTE_US, 3 * MINUTE_US, 4 * MINUTE_US]


def test_an_event_declares_when_it_arrived() -> None:
    document = json.loads(declare_arrival(b' {"id": "1", "data": {}}', MINUTE_US))

    assert document == {
        "importid": "replay",
        "observedat": "1970-01-01T00:01:00.000000Z",
        "id": "1",
        "data": {},
    }


def test_a_record_of_an_import_stays_of_that_import() -> None:
    raw = declare_arrival(b'{"importid":"file","id":"1"}', MINUTE_US)

    pairs = json.loads(raw, object_pairs_hook=list)
    assert sorted(pairs) == [
        ("id", "1"),
        ("importid", "file"),
        ("observedat", "1970-01-01T00:01:00.000000Z"),
    ]


@pytest.mark.parametrize(
    "raw",
    [b"", b"broken", b"[1]", b"{}", b'{"id":"1"', b'{"observedat":"x"}', b"[" * 5_000],
)
def test_what_is_no_event_travels_as_it_is(raw: bytes) -> None:
    assert declare_arrival(raw, MINUTE_US) == raw
