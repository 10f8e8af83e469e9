"""A consumer is delivered what it reads, and nothing is read by nobody."""

import json

import pytest
from retrodict.envelope import StampedEvent
from retrodict.ports import KeyedBatch
from retrodict.retraining import ASKS
from retrodict_aws.kinesis_event_stream import encode

from infra.local.event_pattern import EventPattern
from tests.events import reading
from tests.infra.conftest import ENVIRONMENTS, Assembly

MAPPING = "AWS::Lambda::EventSourceMapping"
READS = {
    "WriteFeatures": {"sensor.reading"},
    "ScoreEvents": {"sensor.reading"},
    "DecideRetraining": set(ASKS),
}
WHOLE = ("ValidateRecords", "ArchiveEvents")


def pattern_of(assembly: Assembly, environment: str, consumer: str) -> str | None:
    """Return the filter of the one Kinesis mapping of a function, if it has one."""
    [mapping] = [
        m
        for stack in ("Compute", "Learning")
        for m in assembly.template(environment, stack)["Resources"].values()
        if m["Type"] == MAPPING
        and m["Properties"]["FunctionName"]["Ref"].startswith(consumer)
    ]
    criteria = mapping["Properties"].get("FilterCriteria")
    if criteria is None:
        return None
    [one] = criteria["Filters"]
    return str(one["Pattern"])


def record(*types: str) -> dict[str, object]:
    """Return what a filter sees of a record that holds events of some types."""
    events: list[StampedEvent] = []
    for number, event_type in enumerate(types, start=1):
        event = reading(1.0, id=str(number), number=number)
        wire = {**event.to_wire(), "type": event_type}
        events.append(StampedEvent.from_wire(wire))
    [raw] = encode(KeyedBatch("s-1", events))
    return {"partitionKey": "s-1", "data": json.loads(raw)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("consumer", READS)
def test_a_consumer_is_delivered_records_with_an_event_that_it_reads(
    assembly: Assembly, environment: str, consumer: str
) -> None:
    written = pattern_of(assembly, environment, consumer)
    assert written is not None
    pattern = EventPattern.of_json(written)

    for event_type in READS[consumer]:
        assert pattern.matches(record(event_type))
        assert pattern.matches(record("retrodict.prediction.made", event_type))
    assert not pattern.matches(record("retrodict.prediction.made"))
    assert not pattern.matches(record("retrodict.label.given", "test.other"))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("consumer", WHOLE)
def test_one_consumer_of_each_stream_takes_everything(
    assembly: Assembly, environment: str, consumer: str
) -> None:
    assert pattern_of(assembly, environment, consumer) is None
