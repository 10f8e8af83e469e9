"""What a program prints in the embedded metric format becomes metrics, and logs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.emf import declared_metrics
from infra.local.log_lines import MOST_LINES
from infra.local.metrics import Metrics, ran_for
from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, function, ref, resource
from tests.contract.twin.conftest import Start

BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)


def line(time: datetime = BEGIN, **members: Any) -> bytes:
    """Return a line that declares the metric `load` of `members`."""
    directive = {
        "Namespace": "Test",
        "Dimensions": members.pop("dimension_sets", [[]]),
        "Metrics": [{"Name": "load", "Unit": "Percent"}],
    }
    told = {
        "Timestamp": int(time.timestamp() * 1000),
        "CloudWatchMetrics": [directive],
    }
    return json.dumps({"_aws": told, "load": 1, **members}).encode() + b"\n"


def test_a_line_puts_its_metric_under_every_dimension_set() -> None:
    sets = [["service"], ["service", "pipeline"]]
    written = line(dimension_sets=sets, service="s", pipeline="p")

    found = list(declared_metrics(written))

    assert [m.dimensions for m in found] == [
        {"service": "s"},
        {"service": "s", "pipeline": "p"},
    ]
    assert {(m.namespace, m.name, m.values, m.unit, m.time) for m in found} == {
        ("Test", "load", (1.0,), "Percent", BEGIN)
    }


def test_an_array_is_as_many_values() -> None:
    (found,) = declared_metrics(line(load=[1, 2.5, 2]))

    assert found.values == (1.0, 2.5, 2.0)


def test_lines_among_other_output_are_found() -> None:
    written = b"starting\n" + line() + b'{"level":"INFO"}\n' + line() + b"Traceback\n"

    assert len(list(declared_metrics(written))) == 2


@pytest.mark.parametrize(
    "written",
    [
        b'"_aws" is a word\n',
        b'{"_aws":{"Timestamp":0}}\n',
        b'{"_aws":{"Timestamp":"soon","CloudWatchMetrics":[]}}\n',
        b'{"_aws":{"Timestamp":0,"CloudWatchMetrics":[{"Metrics":4}]},"load":1}\n',
        line(load="1"),
        line(load=True),
        line(load=[1, None]),
        line(load=[]),
        line(load=list(range(101))),
        line(load=float("nan")),
        line(dimension_sets=[["absent"]]),
        line(dimension_sets=[["number"]], number=4),
        line()[:-5],
        b"[" + line() + b"]",
    ],
)
def test_what_does_not_hold_declares_nothing(written: bytes) -> None:
    assert list(declared_metrics(written)) == []


def test_a_time_that_cloudwatch_does_not_take_becomes_no_metric() -> None:
    metrics = Metrics(lambda: BEGIN)

    metrics.read_lines(line(BEGIN - timedelta(days=15)))
    metrics.read_lines(line(BEGIN + timedelta(hours=3)))
    metrics.read_lines(line(BEGIN - timedelta(days=13)))

    assert metrics.status() == {"metrics": 1, "values": 1, "out_of_time": 2}


def test_what_a_program_stamps_with_the_machine_s_time_is_of_the_twin_s_now() -> None:
    metrics = Metrics(lambda: BEGIN)
    ran = ran_for(0.5)

    metrics.read_lines(line(ran[1] - timedelta(seconds=0.2)), ran=ran)
    metrics.read_lines(line(BEGIN - timedelta(hours=1)), ran=ran)

    (name,) = metrics.names()
    found = metrics.between(name, BEGIN - timedelta(days=1), BEGIN + timedelta(days=1))
    assert [value.time for value in found] == [BEGIN - timedelta(hours=1), BEGIN]


PRINTING = """
import json
import time

def lambda_handler(event, context):
    print("a line")
    print(json.dumps({
        "_aws": {
            "Timestamp": event.get("at_ms") or int(time.time() * 1000),
            "CloudWatchMetrics": [{
                "Namespace": "Test",
                "Dimensions": [["of"]],
                "Metrics": [{"Name": "load", "Unit": "Count"}],
            }],
        },
        "of": "one",
        "load": [1, 4],
    }))
"""


def printing(start: Start) -> Twin:
    return start(
        {
            "Role": ROLE,
            "Logs": resource("AWS::Logs::LogGroup", LogGroupName="group"),
            "Function": function("code", LoggingConfig={"LogGroup": ref("Logs")}),
        },
        {"code": {"handler.py": PRINTING}},
        outputs={"Function": {"Value": ref("Function")}},
        start_at=BEGIN,
    )


def invoke(twin: Twin, **event: Any) -> None:
    name = twin.outputs()["Function"]
    body = json.dumps(event).encode()
    twin.client("lambda").invoke(FunctionName=name, Payload=body)


def test_what_a_function_prints_can_be_asked_for(start: Start) -> None:
    twin = printing(start)
    earlier = BEGIN - timedelta(hours=1)

    invoke(twin)
    invoke(twin, at_ms=int(earlier.timestamp() * 1000))
    answer = twin.client("cloudwatch").get_metric_statistics(
        Namespace="Test",
        MetricName="load",
        Dimensions=[{"Name": "of", "Value": "one"}],
        StartTime=earlier,
        EndTime=BEGIN + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum", "SampleCount"],
    )

    assert answer["Datapoints"] == [
        {"Timestamp": time, "Unit": "Count", "Sum": 5.0, "SampleCount": 2.0}
        for time in (earlier, BEGIN)
    ]


def test_what_a_function_prints_stands_in_its_log_group(start: Start) -> None:
    twin = printing(start)
    logs = twin.client("logs")
    invoke(twin)
    twin.advance(seconds=60)
    invoke(twin)

    found = logs.filter_log_events(logGroupName="group", filterPattern="line")
    (stream,) = logs.describe_log_streams(logGroupName="group")["logStreams"]
    all_lines = logs.get_log_events(
        logGroupName="group", logStreamName=stream["logStreamName"], startFromHead=True
    )["events"]

    begin_ms = int(BEGIN.timestamp() * 1000)
    assert [event["timestamp"] for event in found["events"]] == [
        begin_ms,
        begin_ms + 60_000,
    ]
    assert [event["message"][:6] for event in all_lines] == ["a line", '{"_aws'] * 2


def test_of_a_stream_the_newest_lines_are_kept(start: Start) -> None:
    twin = start({}, start_at=BEGIN)
    for chunk in range(3):
        lines = b"".join(b"%d-%d\n" % (chunk, place) for place in range(4_000))
        twin.logs.add("group", "stream", lines)

    shown = twin.client("logs").get_log_events(
        logGroupName="group", logStreamName="stream", startFromHead=True, limit=10_000
    )["events"]

    assert len(shown) == MOST_LINES
    assert shown[0]["message"] == "0-2000"
