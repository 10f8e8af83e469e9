"""Driven time moves only when told to or when nothing else is left to do."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from infra.local.clock import machine_now
from infra.local.errors import TwinError, TwinTimeoutError
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, function, mapping, ref, resource
from tests.contract.twin.conftest import Start

HANDLER = """
def lambda_handler(event, context):
    pass
"""


def started(start: Start, handler: str = HANDLER, **options: Any) -> Twin:
    """Start a twin whose function waits an hour for a full batch."""
    return start(
        {
            "Role": ROLE,
            "Stream": resource("AWS::Kinesis::Stream", ShardCount=1),
            "Function": function("code"),
            "Mapping": mapping(
                "Stream", "Function", MaximumBatchingWindowInSeconds=300
            ),
        },
        {"code": {"handler.py": handler}},
        outputs={"Stream": {"Value": ref("Stream")}},
        **options,
    )


def send(twin: Twin) -> None:
    twin.client("kinesis").put_record(
        StreamName=twin.outputs()["Stream"], Data=b"x", PartitionKey="k"
    )


def post(twin: Twin, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Call the twin's own paths, as the command line does."""
    request = Request(
        f"{twin.endpoint_url}/_retrodict/{path}",
        data=json.dumps(body or {}).encode(),
        method="POST",
    )
    try:
        with urlopen(request) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def test_driven_time_starts_now_and_stands(start: Start) -> None:
    twin = started(start)
    first = twin.clock.now()

    time.sleep(0.05)

    assert twin.clock.now() == first
    assert datetime.now(UTC) == first  # noqa: TID251 - what moto sees
    assert abs(machine_now() - first) < timedelta(minutes=1)


def test_a_record_arrives_at_the_instant_of_the_clock(start: Start) -> None:
    twin = started(start)
    kinesis = twin.client("kinesis")

    twin.advance(to="2030-01-01T00:00:00Z")
    send(twin)

    iterator = kinesis.get_shard_iterator(
        StreamName=twin.outputs()["Stream"],
        ShardId="shardId-000000000000",
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    arrived = record["ApproximateArrivalTimestamp"]
    assert arrived == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_window_ends_when_time_reaches_it_and_not_before(start: Start) -> None:
    twin = started(start)
    send(twin)

    twin.advance(seconds=299)
    (before,) = (m["delivered"] for m in twin.mappings.status().values())
    twin.advance(seconds=1)
    (after,) = (m["delivered"] for m in twin.mappings.status().values())

    assert (before, after) == (0, 1)


def test_waiting_for_rest_jumps_over_a_window(start: Start) -> None:
    twin = started(start)
    first = twin.clock.now()
    send(twin)

    twin.wait_idle()

    assert twin.clock.now() - first == timedelta(seconds=300)


def test_waiting_ends_with_an_error_that_names_who_is_behind(start: Start) -> None:
    twin = started(start, "import time\ndef lambda_handler(e, c):\n    time.sleep(2)\n")
    send(twin)

    with pytest.raises(TwinTimeoutError, match=r"App-Function.*: 1"):
        twin.wait_idle(timeout=0.5)


def test_the_clock_does_not_go_back(start: Start) -> None:
    twin = started(start)

    with pytest.raises(TwinError, match="cannot go back"):
        twin.advance(to="2020-01-01T00:00:00Z")


def test_real_time_moves_by_itself_and_is_not_driven(start: Start) -> None:
    twin = started(start, real_time=True)
    first = twin.clock.now()

    time.sleep(0.01)

    assert twin.clock.now() > first
    with pytest.raises(TwinError, match="cannot be moved"):
        twin.advance(seconds=1)


def test_the_paths_of_the_twin_show_and_move_it(start: Start) -> None:
    twin = started(start)
    before = twin.clock.now()
    send(twin)

    advanced, moved = post(twin, "advance", {"seconds": 60})
    idle, _ = post(twin, "idle?timeout=30")
    with urlopen(f"{twin.endpoint_url}/_retrodict/status") as answer:
        status = json.load(answer)

    assert (advanced, idle) == (200, 200)
    assert moved["now"] == (before + timedelta(seconds=60)).isoformat()
    assert status["outputs"] == twin.outputs()
    assert status["clock"]["is_driven"] is True
    assert [f["invocations"] for f in status["functions"].values()] == [1]
    assert [m["lag_records"] for m in status["mappings"].values()] == [0]
    assert post(twin, "kill?function=function") == (200, {"killed": True})


@pytest.mark.parametrize(
    ("path", "body", "code", "error"),
    [
        ("advance", {"seconds": -1}, 400, "cannot go back"),
        ("advance", {}, 400, "either seconds or to"),
        ("advance", {"to": "2030-01-01T00:00:00"}, 400, "names no time zone"),
        ("kill", {}, 400, "say which function"),
        ("kill?function=none", {}, 404, "expected one function like 'none'"),
        ("nothing", {}, 404, "there is no POST nothing"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    start: Start, path: str, body: dict[str, Any], code: int, error: str
) -> None:
    answered, answer = post(started(start), path, body)

    assert answered == code
    assert error in answer["error"]
