"""Whatever mappings give up, redriven it is as if they had not; wherever it stops."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st
from retrodict.envelope import StampedEvent
from retrodict.replaying import compare, replay
from retrodict.state import order_of_knowing
from retrodict_aws.kinesis_batch import DeliveredRecord
from retrodict_aws.redriving import Redriven, Redriving
from retrodict_aws.s3_undelivered import Undelivered

from tests.events import reading
from tests.fakes import (
    FakeEventLog,
    FakeIngestStream,
    FakeOnlineStore,
    FakeQuarantine,
)
from tests.simulation.champion import CHAMPION, promoted
from tests.simulation.runtime import Runtime, environment
from tests.simulation.world import World
from tests.undelivered import event_of, given_up, records_of

# Powertools has doubts about the time, and about a batch without metrics.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FUNCTIONS = ("archive_events", "write_features", "score_events")


class Stopped(Exception):  # noqa: N818 - nothing of ours catches it
    """The command was interrupted."""


class Deployment:
    """The functions that read the validated stream, and what was given up of it."""

    def __init__(self) -> None:
        self.log = FakeEventLog()
        self.store = FakeOnlineStore()
        self.door = FakeIngestStream()
        self.quarantine = FakeQuarantine()
        self.runtime = Runtime(
            World(0, {}),
            {
                "archive_events": (self.log, self.quarantine),
                "write_features": (self.store, self.quarantine, self.door),
                "score_events": (self.store, promoted(), (self.door,)),
            },
            {CHAMPION.digest: CHAMPION}.__getitem__,
        )
        self.kept: dict[str, tuple[str, Undelivered]] = {}
        self.steps = 0
        self.stops_at = 0

    def step(self) -> None:
        """Count a step that changes something, and stop at one of them."""
        self.steps += 1
        if self.steps == self.stops_at:
            raise Stopped

    def give_up(self, function: str, event: dict[str, Any]) -> None:
        batch = given_up(function, event)
        self.kept[f"{function} {batch.name}"] = function, batch

    def invoke(self, arn: str, payload: bytes) -> Any:
        answer = self.run(arn.rsplit(":", 1)[1], json.loads(payload))
        self.step()
        return answer

    def run(self, function: str, event: dict[str, Any]) -> Any:
        with environment():
            return self.runtime.invoke(function, event)

    def redrive(self) -> list[Redriven]:
        """Do what the command does, function by function."""
        found = []
        for function in FUNCTIONS:

            def settle(batch: Undelivered, of: str = function) -> None:
                self.step()
                del self.kept[f"{of} {batch.name}"]
                self.step()

            redriving = Redriving(
                invoke=self.invoke, settle=settle, door=self.door, log=self.log,
                store=self.store, quarantine=self.quarantine,
            )  # fmt: skip
            own = [batch for of, batch in self.kept.values() if of == function]
            found.append(redriving.redrive(function, own))
        return found


@st.composite
def histories(draw: st.DrawFn) -> list[StampedEvent]:
    """Draw events of some keys: late ones, repeated ones, other payloads."""
    count = draw(st.integers(1, 24))
    return [
        reading(
            float(draw(st.integers(-5, 40))),
            at_s=draw(st.integers(0, 2_000)),
            id=str(draw(st.integers(1, 20))),
            key=draw(st.sampled_from(["s-1", "s-2", "s-3"])),
            number=number,
            late=draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(1, count + 1)
    ]


def cut(
    records: Sequence[DeliveredRecord], sizes: st.SearchStrategy[int], data: Any
) -> Iterator[Sequence[DeliveredRecord]]:
    place = 0
    while place < len(records):
        size = data.draw(sizes)
        yield records[place : place + size]
        place += size


@given(events=histories(), data=st.data())
def test_what_is_redriven_is_as_if_it_had_not_been_given_up(
    events: list[StampedEvent], data: st.DataObject
) -> None:
    deployment = Deployment()
    for function in FUNCTIONS:
        for several in cut(records_of(*events), st.integers(1, 5), data):
            delivery = event_of(several)
            if data.draw(st.booleans()):
                deployment.give_up(function, delivery)
                if not data.draw(st.booleans()):
                    continue
                note("given up after it was done in part")
                delivery = event_of(several[: data.draw(st.integers(1, 5))])
            answer = deployment.run(function, delivery)
            assert answer == {"batchItemFailures": []}
    batches = len(deployment.kept)

    deployment.stops_at = data.draw(st.integers(0, 3 * batches))
    try:
        deployment.redrive()
    except Stopped:
        note("interrupted")
        deployment.redrive()

    replayed, _ = replay(events)
    found = compare(
        replayed, deployment.store.scan(), lambda _: iter(order_of_knowing(events))
    )
    assert order_of_knowing([*deployment.log.read()]) == events
    assert (found.differing, found.apart, found.unexplained) == ((), (), ())
    assert deployment.kept == {}
    puts = deployment.store.puts
    assert [one.left for one in deployment.redrive()] == [{}, {}, {}]
    assert deployment.store.puts == puts
