"""A Kinesis stream in memory: shards with lineage, split and merged as it flows."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from retrodict.ports import LARGEST_RECORD_BYTES

from tests.simulation.faults import Fault
from tests.simulation.world import World, refusal

HASH_KEYS: Final = 1 << 128
CALL_BYTES: Final = 5 << 20
"""Of AWS's two limits of a request, now 10 MiB, the one that holds everywhere."""

CALL_RECORDS: Final = 500


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the stream keeps it."""

    shard_id: str
    sequence_number: int
    partition_key: str
    arrived_at_us: int
    data: bytes


@dataclass(slots=True)
class Shard:
    """A range of hash keys, open until it is split or merged."""

    number: int
    first: int
    last: int
    parents: tuple[int, ...] = ()
    records: list[Record] = field(default_factory=list)
    is_open: bool = True
    next_number: int = 0

    @property
    def id(self) -> str:
        """Name of the shard as Kinesis writes it."""
        return f"shardId-{self.number:012d}"


class Stream:
    """One stream; sequence numbers order the records of a shard, and no others.

    Attributes
    ----------
    retention_us
        After so long it forgets a record, read or not.
    """

    def __init__(self, world: World, name: str, shards: int, retention_us: int) -> None:
        self.world = world
        self.name = name
        self.retention_us = retention_us
        self.shards: list[Shard] = []
        width = HASH_KEYS // shards
        for place in range(shards):
            last = HASH_KEYS - 1 if place == shards - 1 else (place + 1) * width - 1
            self._add(place * width, last)

    def _add(self, first: int, last: int, parents: tuple[int, ...] = ()) -> None:
        shard = Shard(len(self.shards), first, last, parents)
        shard.next_number = self.world.random.randint(80, 99)
        self.shards.append(shard)

    def put(self, partition_key: str, data: bytes) -> Record:
        """Append one record to the open shard that holds its hash key."""
        digest = hashlib.md5(partition_key.encode(), usedforsecurity=False)
        place = int(digest.hexdigest(), 16)
        shard = next(s for s in self.open_shards() if s.first <= place <= s.last)
        skew_us = 0
        if self.world.chance(Fault.ARRIVAL_SKEW):
            self.world.fire(Fault.ARRIVAL_SKEW, self.name)
            skew_us = self.world.random.randint(1, 2_000) * 1_000
        arrived_at_us = (self.world.now_us - skew_us) // 1_000 * 1_000
        number = shard.next_number
        shard.next_number += self.world.random.randint(1, 3)
        record = Record(shard.id, number, partition_key, arrived_at_us, data)
        shard.records.append(record)
        sha = hashlib.sha256(data).hexdigest()[:8]
        self.world.note(f"{self.name} {shard.number}:{number} {partition_key} {sha}")
        return record

    def open_shards(self) -> Iterator[Shard]:
        """Yield the shards that take records."""
        return (shard for shard in self.shards if shard.is_open)

    def records(self) -> Iterator[Record]:
        """Yield every record, shard by shard."""
        for shard in self.shards:
            yield from shard.records

    def split(self) -> None:
        """Close one shard and open two that share its range."""
        parent = self.world.random.choice([*self.open_shards()])
        if parent.last - parent.first < 2:
            return
        self.world.fire(Fault.SPLIT, f"{self.name} {parent.number}")
        parent.is_open = False
        middle = (parent.first + parent.last) // 2
        self._add(parent.first, middle, (parent.number,))
        self._add(middle + 1, parent.last, (parent.number,))

    def merge(self) -> None:
        """Close two neighbours and open one that holds both ranges."""
        found = sorted(self.open_shards(), key=lambda shard: shard.first)
        if len(found) < 2:
            return
        place = self.world.random.randrange(len(found) - 1)
        low, high = found[place : place + 2]
        self.world.fire(Fault.MERGE, f"{self.name} {low.number} {high.number}")
        low.is_open = high.is_open = False
        self._add(low.first, high.last, (low.number, high.number))


class KinesisClient:
    """The calls that the adapters make of Kinesis.

    Parameters
    ----------
    is_ours
        Whether code of this project makes them: it never asks for too much at once.
    """

    def __init__(
        self, world: World, streams: dict[str, Stream], *, is_ours: bool = True
    ) -> None:
        self._world = world
        self._streams = streams
        self._is_ours = is_ours

    def put_records(
        self, *, StreamName: str, Records: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Put records; any of them may be refused while the others are kept.

        Too much at once is refused as a whole, as Kinesis does.
        """
        sizes = [len(r["Data"]) + len(r["PartitionKey"].encode()) for r in Records]
        code = ""
        if max(sizes) > LARGEST_RECORD_BYTES or len(sizes) > CALL_RECORDS:
            code = "ValidationException"
        elif sum(sizes) > CALL_BYTES:
            code = "InvalidArgumentException"
            self._world.fire(Fault.REQUEST_TOO_LARGE, f"{StreamName} {sum(sizes)}")
        if code:
            if self._is_ours:
                self._world.violate(f"a call to {StreamName} of {sum(sizes)} bytes")
            raise refusal(code, "PutRecords")
        answer = self._world.write(
            "kinesis",
            f"PutRecords {StreamName}",
            lambda: self._put(self._streams[StreamName], [*Records]),
        )
        self._acknowledge(StreamName, Records, answer)
        return answer

    def _acknowledge(
        self, stream: str, records: list[dict[str, Any]], answer: dict[str, Any]
    ) -> None:
        invocation = self._world.invocation
        if invocation is None:
            return
        for record, result in zip(records, answer["Records"], strict=True):
            name = stream, record["PartitionKey"], record["Data"]
            if name in invocation.acknowledged:
                self._world.violate(f"{invocation.name} put again what {stream} took")
            if "ErrorCode" not in result:
                invocation.acknowledged.add(name)

    def _put(self, stream: Stream, entries: list[dict[str, Any]]) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        refused: list[str] = []
        for entry in entries:
            key = entry["PartitionKey"]
            if self._world.chance(Fault.PARTIAL_PUT):
                self._world.fire(Fault.PARTIAL_PUT, f"{stream.name} {key}")
                refused.append(key)
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
                continue
            if key in refused:
                self._world.fire(Fault.SAME_KEY_REORDER, f"{stream.name} {key}")
            record = stream.put(key, entry["Data"])
            answers.append({"SequenceNumber": str(record.sequence_number)})
        return {"FailedRecordCount": len(refused), "Records": answers}
