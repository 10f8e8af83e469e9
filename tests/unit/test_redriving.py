"""What is put on the ingest stream again is each record once, as it was sent."""

import base64
from typing import Any

from retrodict.pipeline import load_catalog
from retrodict.rejection import redrivable, rejections_of
from retrodict.stamps import position
from retrodict.state import Folded, Outcome
from retrodict.validation import Arrival, Rejected, validate

from tests.events import reading

RAW = b'{"value": 1000}'


def reject(key: str, number: int, raw: bytes = RAW) -> dict[str, Any]:
    place = position("shardId-000000000000", str(number))
    found = validate(raw, Arrival(place, key, 0), load_catalog())
    assert isinstance(found, Rejected)
    return found.as_json()


def test_bytes_rejected_under_two_partition_keys_are_put_again_under_both() -> None:
    documents = [reject("s-1", 1), reject("s-2", 2), reject("s-1", 3)]

    found = redrivable(documents)

    assert [one["partition_key"] for one in found] == ["s-1", "s-2"]
    assert {base64.b64decode(one["bytes_base64"]) for one in found} == {RAW}


def test_what_is_in_the_log_and_was_not_folded_is_not_put_again() -> None:
    event = reading(1.0)
    outcomes = (Outcome.CONFLICTING, Outcome.TOO_FAST)
    told = rejections_of(Folded(event, outcome) for outcome in outcomes)

    assert len(told) == 2
    assert redrivable([*told, reject("s-1", 1)]) == [reject("s-1", 1)]


def test_the_name_of_a_file_is_no_record() -> None:
    assert redrivable([{**reject("s-1", 1), "partition_key": ""}]) == []
