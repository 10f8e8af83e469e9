"""A Kinesis event source mapping, as AWS documents it and this project sets it.

One batch a lane at a time, and as many lanes a shard as the parallelization factor
says, each with partition keys of its own, and no more than an invocation can carry; a
child after its parents; a partial answer moves the checkpoint to the lowest record that
it names, and one that names no record of the batch fails it whole; an error cuts the
batch in two; what is retried too often or is too old goes, whole, to the on-failure
destination. What the stream has forgotten is never seen.
"""

import base64
import json
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple
from zlib import crc32

from tests.simulation.answers import (
    EMPTY,
    first_failed,
    is_sound,
    malformed,
    widened,
)
from tests.simulation.faults import Fault
from tests.simulation.kinesis import Record, Shard, Stream
from tests.simulation.runtime import Runtime
from tests.simulation.work import is_done, is_explained
from tests.simulation.world import SECOND_US, World

PAYLOAD_BYTES: Final = 6 << 20
"""What a function can be invoked with."""

OVERHEAD_BYTES: Final = 400
"""More than a record takes in a payload beside its key and its data."""

BISECTING_SHARE: Final = 0.5
"""Of the malformed responses: AWS says that the batch failed, not whether it is cut."""

FIRST_PAUSE_US: Final = 250_000
LONGEST_PAUSE_US: Final = 60 * SECOND_US


@dataclass(slots=True)
class Batch:
    """Records that are delivered together, and how often they failed."""

    records: list[Record]
    failures: int = 0

    @property
    def numbers(self) -> list[str]:
        """Sequence numbers, in order, shape (n,)."""
        return [str(record.sequence_number) for record in self.records]


@dataclass(slots=True)
class Lane:
    """How far the mapping has come with some of the partition keys of one shard."""

    waiting: deque[Record] = field(default_factory=deque)
    batches: deque[Batch] = field(default_factory=deque)
    paused_until_us: int = 0
    is_busy: bool = False

    @property
    def is_drained(self) -> bool:
        """Whether nothing is left to deliver, and nobody is at work."""
        return not (self.batches or self.waiting or self.is_busy)


class Place(NamedTuple):
    """Where there is something to deliver: a lane of a shard."""

    shard: Shard
    lane: Lane


@dataclass(slots=True)
class Reader:
    """The lanes of one shard, and how many of its records they were given."""

    lanes: list[Lane]
    given: int = 0

    def give(self, records: Sequence[Record]) -> None:
        """Append records to the lanes of their partition keys."""
        for record in records:
            place = crc32(record.partition_key.encode()) % len(self.lanes)
            self.lanes[place].waiting.append(record)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the simulation varies of a mapping.

    Attributes
    ----------
    waits
        Chance that it waits for more records where it could deliver, as a batching
        window has it.
    lanes
        Parallelization factor: how many batches of a shard are handled side by side.
    """

    batch_size: int
    retries: int
    oldest_us: int
    waits: float
    types: frozenset[str] | None = None
    lanes: int = 1


def payload(records: Sequence[Record]) -> dict[str, Any]:
    """Return the event that a function is invoked with."""
    return {
        "Records": [
            {
                "eventID": f"{record.shard_id}:{record.sequence_number}",
                "eventSource": "aws:kinesis",
                "kinesis": {
                    "partitionKey": record.partition_key,
                    "sequenceNumber": str(record.sequence_number),
                    "approximateArrivalTimestamp": record.arrived_at_us / 1_000_000,
                    "data": base64.b64encode(record.data).decode(),
                },
            }
            for record in records
        ]
    }


class EventSourceMapping:
    """Deliver a stream to a function until every record was taken or given up.

    While it is on it reads long before the stream forgets, whatever the scheduler does.

    Attributes
    ----------
    undelivered
        What went to the on-failure destination.
    trimmed
        What the stream forgot before it was read.
    """

    def __init__(
        self,
        world: World,
        runtime: Runtime,
        stream: Stream,
        function: str,
        settings: Settings,
    ) -> None:
        self.function = function
        self.undelivered: list[list[Record]] = []
        self.trimmed: list[Record] = []
        self._world = world
        self._runtime = runtime
        self._stream = stream
        self._settings = settings
        self._lanes = settings.lanes
        self.stalled_until_us = 0
        self._readers: dict[int, Reader] = {}
        self._delivered: dict[tuple[str, int], int] = {}

    def ready(self) -> list[Place]:
        """Return where there is something to deliver, if only after a pause."""
        return [
            Place(shard, lane)
            for shard in self._stream.shards
            for lane in self._reader(shard).lanes
            if (lane.batches or lane.waiting) and not lane.is_busy
            if all(self._is_done(self._stream.shards[p]) for p in shard.parents)
        ]

    @property
    def records(self) -> int:
        """How many records it delivered."""
        return len(self._delivered)

    @property
    def deliveries(self) -> int:
        """How many it delivered, each as often as it did."""
        return sum(self._delivered.values())

    @property
    def is_at_rest(self) -> bool:
        """Whether everything that is on the stream was taken or given up."""
        return all(
            lane.is_drained
            for shard in self._stream.shards
            for lane in self._reader(shard).lanes
        )

    def due_us(self, place: Place) -> int:
        """Return when a lane may be delivered, after what it failed with."""
        return max(place.lane.paused_until_us, self.stalled_until_us)

    def _is_done(self, shard: Shard) -> bool:
        return (
            not shard.is_open
            and all(lane.is_drained for lane in self._reader(shard).lanes)
            and all(self._is_done(self._stream.shards[p]) for p in shard.parents)
        )

    def _reader(self, shard: Shard) -> Reader:
        """Return the lanes of a shard, with all that is on it by now."""
        reader = self._readers.get(shard.number)
        if reader is None:
            lanes = [Lane() for _ in range(self._lanes)]
            reader = self._readers[shard.number] = Reader(lanes)
        if reader.given < len(shard.records):
            reader.give(shard.records[reader.given :])
            reader.given = len(shard.records)
        return reader

    def set_lanes(self, lanes: int) -> None:
        """Change the parallelization factor; what was not taken is cut otherwise."""
        readers = self._readers.values()
        if any(lane.is_busy for reader in readers for lane in reader.lanes):
            return
        self._world.fire(Fault.LANES_CHANGED, f"{self.function} {lanes}")
        self._lanes = lanes
        for reader in readers:
            left = [
                record
                for lane in reader.lanes
                for several in (*(b.records for b in lane.batches), lane.waiting)
                for record in several
            ]
            reader.lanes = [Lane() for _ in range(lanes)]
            reader.give(sorted(left, key=attrgetter("sequence_number")))

    def deliver(self, place: Place) -> None:
        """Invoke the function once for a lane and decide what becomes of the batch."""
        lane = place.lane
        if not lane.batches:
            random = self._world.random
            if self._world.is_faulty and random.random() < self._settings.waits:
                return
            size = random.randint(1, self._settings.batch_size)
            taken = self._taken(lane.waiting, size)
            wanted = [r for r in taken if _matches(r, self._settings.types)]
            if wanted:
                lane.batches.append(Batch(wanted))
            return
        if self._world.chance(Fault.INVOKE_THROTTLED):
            self._world.fire(Fault.INVOKE_THROTTLED, self.function)
            self._world.advance(SECOND_US)
            return
        self._send(place, lane.batches.popleft())

    def _taken(self, waiting: deque[Record], size: int) -> list[Record]:
        """Take the next records, but for those that the stream has forgotten."""
        taken: list[Record] = []
        payload_bytes = 0
        oldest_us = self.stalled_until_us - self._stream.retention_us
        while waiting and len(taken) < size:
            payload_bytes += _bytes_of(waiting[0])
            if taken and payload_bytes > PAYLOAD_BYTES:
                self._world.fire(Fault.PAYLOAD_CUT, f"{self.function} {len(taken)}")
                break
            record = waiting.popleft()
            if record.arrived_at_us >= oldest_us:
                taken.append(record)
                continue
            payload_bytes -= _bytes_of(record)
            self._world.fire(Fault.TRIMMED, f"{self.function} {record.partition_key}")
            self.trimmed.append(record)
        return taken

    def _send(self, place: Place, batch: Batch) -> None:
        lane = place.lane
        oldest_us = self._world.now_us - self._settings.oldest_us
        expired = [r for r in batch.records if r.arrived_at_us < oldest_us]
        if expired:
            rest = [r for r in batch.records if r.arrived_at_us >= oldest_us]
            self._give_up(expired, Fault.AGE_EXCEEDED)
            if rest:
                lane.batches.appendleft(Batch(rest, batch.failures))
            return
        self._count(batch.records)
        is_abandoned = False
        lane.is_busy = True

        def abandon() -> None:
            nonlocal is_abandoned
            is_abandoned = True
            lane.is_busy = False
            self._failed(lane, batch)

        event = payload(batch.records)
        if sum(map(_bytes_of, batch.records)) > PAYLOAD_BYTES // 2:
            size = len(json.dumps(event, separators=(",", ":")))
            if size > PAYLOAD_BYTES:
                self._world.violate(f"{self.function} was given {size} bytes")
        answer = self._runtime.invoke(
            self.function,
            event,
            abandon,
            beside=lambda: self._beside(place) if not is_abandoned else None,
        )
        if is_abandoned:
            return
        lane.is_busy = False
        if answer is None:
            self._failed(lane, batch)
            return
        self._judge(batch, answer)
        if self._world.chance(Fault.RESPONSE_LOST):
            self._world.fire(Fault.RESPONSE_LOST, self.function)
            self._failed(lane, batch)
            return
        self._answered(lane, batch, json.dumps(answer).encode())

    def _judge(self, batch: Batch, answer: dict[str, Any]) -> None:
        """Check that a function asks for what it did not do, and for no more."""
        numbers = batch.numbers
        if not is_sound(answer, numbers):
            self._world.violate(f"{self.function} answered {answer} to {numbers}")
            return
        first = first_failed(json.dumps(answer).encode(), numbers)
        invocation = self._runtime.invocation
        if first is None or invocation is None:
            return
        if not is_explained(invocation):
            self._world.violate(f"{self.function} asks again, and nothing was refused")
        if is_done(invocation, batch.records[first].partition_key):
            self._world.violate(f"{self.function} asks again for what it did")

    def _beside(self, busy: Place) -> None:
        """Deliver another lane of the same shard while one is at work."""
        others = [
            place
            for place in self.ready()
            if place.shard is busy.shard and self.due_us(place) <= self._world.now_us
        ]
        if others and self._world.chance(Fault.SIDE_BY_SIDE):
            place = self._world.random.choice(others)
            if not place.lane.batches:
                self.deliver(place)
            if place.lane.batches:
                self._world.fire(
                    Fault.SIDE_BY_SIDE, f"{self.function} {place.shard.id}"
                )
                self.deliver(place)

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            name = record.shard_id, record.sequence_number
            self._delivered[name] = self._delivered.get(name, 0) + 1
            if self._delivered[name] > 1:
                self._world.fired[Fault.REDELIVERY] += 1

    def _answered(self, lane: Lane, batch: Batch, raw: bytes) -> None:
        """Do what AWS does with a response, which may have come to harm."""
        world, numbers = self._world, batch.numbers
        first = first_failed(raw, numbers)
        if world.chance(Fault.MALFORMED_RESPONSE):
            world.fire(Fault.MALFORMED_RESPONSE, self.function)
            raw = malformed(world.random, raw, numbers)
            if first_failed(raw, numbers) != 0:
                world.violate(f"{raw!r} was not taken for a failed batch")
            if world.random.random() < BISECTING_SHARE:
                self._failed(lane, batch)
                return
        elif world.chance(Fault.SEVERAL_FAILURES):
            raw = widened(world.random, first, numbers)
            world.fire(Fault.SEVERAL_FAILURES, f"{self.function} {raw.decode()}")
        elif first is None and world.chance(Fault.EMPTY_RESPONSE):
            raw = world.random.choice(EMPTY)
            world.fire(Fault.EMPTY_RESPONSE, f"{self.function} {raw.decode()}")
        first = first_failed(raw, numbers)
        if first is None:
            return
        rest = batch.records[first:]
        if first == 0:
            self._retry(lane, Batch(rest, batch.failures + 1))
            return
        world.fire(Fault.PARTIAL_BATCH, f"{self.function} {first}/{len(numbers)}")
        self._retry(lane, Batch(rest, batch.failures))

    def _failed(self, lane: Lane, batch: Batch) -> None:
        if len(batch.records) == 1:
            self._retry(lane, Batch(batch.records, batch.failures + 1))
            return
        self._world.fire(Fault.BISECT, f"{self.function} {len(batch.records)}")
        middle = len(batch.records) // 2
        for half in (batch.records[middle:], batch.records[:middle]):
            lane.batches.appendleft(Batch(half, batch.failures))

    def _retry(self, lane: Lane, batch: Batch) -> None:
        if batch.failures > self._settings.retries:
            self._give_up(batch.records, Fault.RETRIES_EXHAUSTED)
            return
        lane.batches.appendleft(batch)
        if batch.failures:
            pause_us = FIRST_PAUSE_US * 2 ** min(batch.failures - 1, 16)
            pause_us = min(pause_us, LONGEST_PAUSE_US)
            lane.paused_until_us = self._world.now_us + pause_us

    def _give_up(self, records: list[Record], fault: Fault) -> None:
        self._world.fire(fault, f"{self.function} {len(records)}")
        self.undelivered.append(records)


def _bytes_of(record: Record) -> int:
    """Return more than a record takes in a payload."""
    encoded = 4 * ((len(record.data) + 2) // 3)
    return encoded + len(record.partition_key.encode()) + OVERHEAD_BYTES


def _matches(record: Record, types: Collection[str] | None) -> bool:
    if types is None:
        return True
    try:
        found = json.loads(record.data).get("types", [])
    except (ValueError, AttributeError):
        return False
    return any(name in types for name in found)
