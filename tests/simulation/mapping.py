"""A Kinesis event source mapping, as AWS documents it and this project sets it.

One batch a shard at a time, a child after its parents; a partial answer moves the
checkpoint; an error cuts the batch in two; what is retried too often or is too old
goes, whole, to the on-failure destination.
"""

import base64
import json
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.simulation.faults import Fault
from tests.simulation.kinesis import Record, Shard, Stream
from tests.simulation.runtime import Runtime
from tests.simulation.world import SECOND_US, World

FIRST_PAUSE_US: Final = 250_000
LONGEST_PAUSE_US: Final = 60 * SECOND_US


@dataclass(slots=True)
class Batch:
    """Records that are delivered together, and how often they failed."""

    records: list[Record]
    failures: int = 0


@dataclass(slots=True)
class Reader:
    """How far the mapping has come in one shard."""

    next_number: int = 0
    batches: deque[Batch] = field(default_factory=deque)
    paused_until_us: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the simulation varies of a mapping.

    Attributes
    ----------
    waits
        Chance that it waits for more records where it could deliver, as a batching
        window has it.
    """

    batch_size: int
    retries: int
    oldest_us: int
    waits: float
    types: frozenset[str] | None = None


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
    """Deliver a stream to a function until every record was taken or given up."""

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
        self._world = world
        self._runtime = runtime
        self._stream = stream
        self._settings = settings
        self.stalled_until_us = 0
        self._readers: dict[int, Reader] = {}
        self._delivered: dict[tuple[str, int], int] = {}

    def ready(self) -> list[Shard]:
        """Return the shards that have something to deliver, if only after a pause."""
        return [
            shard
            for shard in self._stream.shards
            if not self._is_drained(shard)
            and all(self._is_done(self._stream.shards[p]) for p in shard.parents)
        ]

    def due_us(self, shard: Shard) -> int:
        """Return when a shard may be delivered, after what it failed with."""
        return max(self._reader(shard).paused_until_us, self.stalled_until_us)

    def _is_drained(self, shard: Shard) -> bool:
        reader = self._reader(shard)
        return not reader.batches and not shard.from_number(reader.next_number)

    def _is_done(self, shard: Shard) -> bool:
        return (
            not shard.is_open
            and self._is_drained(shard)
            and all(self._is_done(self._stream.shards[p]) for p in shard.parents)
        )

    def _reader(self, shard: Shard) -> Reader:
        return self._readers.setdefault(shard.number, Reader())

    def deliver(self, shard: Shard) -> None:
        """Invoke the function once for a shard and decide what becomes of the batch."""
        reader = self._reader(shard)
        if not reader.batches:
            random = self._world.random
            if self._world.is_faulty and random.random() < self._settings.waits:
                return
            size = random.randint(1, self._settings.batch_size)
            taken = shard.from_number(reader.next_number)[:size]
            reader.next_number = taken[-1].sequence_number + 1
            wanted = [r for r in taken if _matches(r, self._settings.types)]
            if wanted:
                reader.batches.append(Batch(wanted))
            return
        if self._world.chance(Fault.INVOKE_THROTTLED):
            self._world.fire(Fault.INVOKE_THROTTLED, self.function)
            self._world.advance(SECOND_US)
            return
        self._send(reader, reader.batches.popleft())

    def _send(self, reader: Reader, batch: Batch) -> None:
        oldest_us = self._world.now_us - self._settings.oldest_us
        expired = [r for r in batch.records if r.arrived_at_us < oldest_us]
        if expired:
            rest = [r for r in batch.records if r.arrived_at_us >= oldest_us]
            self._give_up(expired, Fault.AGE_EXCEEDED)
            if rest:
                reader.batches.appendleft(Batch(rest, batch.failures))
            return
        self._count(batch.records)
        is_abandoned = False

        def abandon() -> None:
            nonlocal is_abandoned
            is_abandoned = True
            self._failed(reader, batch)

        answer = self._runtime.invoke(self.function, payload(batch.records), abandon)
        if is_abandoned:
            return
        if answer is not None and self._world.chance(Fault.RESPONSE_LOST):
            self._world.fire(Fault.RESPONSE_LOST, self.function)
            answer = None
        if answer is None:
            self._failed(reader, batch)
        else:
            self._answered(reader, batch, answer)

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            name = record.shard_id, record.sequence_number
            self._delivered[name] = self._delivered.get(name, 0) + 1
            if self._delivered[name] > 1:
                self._world.fired[Fault.REDELIVERY] += 1

    def _answered(self, reader: Reader, batch: Batch, answer: dict[str, Any]) -> None:
        numbers = [str(record.sequence_number) for record in batch.records]
        failed = [f["itemIdentifier"] for f in answer["batchItemFailures"]]
        if any(name not in numbers for name in failed):
            self._world.violate(f"{self.function} answered {failed}, not of {numbers}")
            failed = numbers[:1]
        if not failed:
            return
        first = min(map(numbers.index, failed))
        rest = batch.records[first:]
        if first == 0:
            self._retry(reader, Batch(rest, batch.failures + 1))
            return
        self._world.fire(Fault.PARTIAL_BATCH, f"{self.function} {first}/{len(numbers)}")
        self._retry(reader, Batch(rest, batch.failures))

    def _failed(self, reader: Reader, batch: Batch) -> None:
        if len(batch.records) == 1:
            self._retry(reader, Batch(batch.records, batch.failures + 1))
            return
        self._world.fire(Fault.BISECT, f"{self.function} {len(batch.records)}")
        middle = len(batch.records) // 2
        for half in (batch.records[middle:], batch.records[:middle]):
            reader.batches.appendleft(Batch(half, batch.failures))

    def _retry(self, reader: Reader, batch: Batch) -> None:
        if batch.failures > self._settings.retries:
            self._give_up(batch.records, Fault.RETRIES_EXHAUSTED)
            return
        reader.batches.appendleft(batch)
        if batch.failures:
            pause_us = FIRST_PAUSE_US * 2 ** min(batch.failures - 1, 16)
            pause_us = min(pause_us, LONGEST_PAUSE_US)
            reader.paused_until_us = self._world.now_us + pause_us

    def _give_up(self, records: list[Record], fault: Fault) -> None:
        self._world.fire(fault, f"{self.function} {len(records)}")
        self.undelivered.append(records)


def _matches(record: Record, types: Collection[str] | None) -> bool:
    if types is None:
        return True
    try:
        found = json.loads(record.data).get("types", [])
    except (ValueError, AttributeError):
        return False
    return any(name in types for name in found)
