"""One run: a seed, a world, the real functions in it, and a scheduler over all."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from random import Random
from typing import Final

from retrodict.pipeline import folded_types, load_pipelines
from retrodict.replaying import replay
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_event_stream import KinesisEventStream, KinesisIngestStream
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine

from tests.simulation.faults import Fault, rates_of
from tests.simulation.kinesis import KinesisClient, Record, Stream
from tests.simulation.mapping import EventSourceMapping, Settings, payload
from tests.simulation.producer import Producer
from tests.simulation.runtime import Runtime
from tests.simulation.stores import DynamoDBClient, S3Client
from tests.simulation.world import SECOND_US, World

STEPS: Final = 20_000
"""How many steps a run may take to come to rest once its faults have stopped."""

CRAMPED_BYTES: Final = 1_450
"""State of about thirty events, so that a burst does not fit."""

OVERLAPPING_STEPS: Final = 12
SERVICES: Final = ("dynamodb", "kinesis", "s3")
DEEPEST: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of; everything else follows from its seed."""

    seed: int
    events: int
    keys: int
    shards: int
    batch_size: int
    retries: int
    oldest_us: int
    rates: Mapping[Fault, float]
    state_limit_bytes: int | None = None
    at: tuple[Fault, int] | None = None


def plan_of(seed: int) -> Plan:
    """Draw a plan; most runs never give a record up, as the deployed mappings do."""
    random = Random(seed)
    return Plan(
        seed=seed,
        events=random.randint(30, 140),
        keys=random.randint(2, 6),
        shards=random.randint(1, 3),
        batch_size=random.choice((3, 10, 40)),
        retries=random.choice((2, 4, 10_000, 10_000)),
        oldest_us=random.choice((1_800, 86_400, 86_400, 86_400)) * SECOND_US,
        rates=rates_of(random),
        state_limit_bytes=random.choice((None, None, None, CRAMPED_BYTES)),
    )


@contextmanager
def state_limit(limit_bytes: int | None) -> Iterator[None]:
    """Let a key send beyond its rate sooner than after thousands of events."""
    definitions = [d for p in load_pipelines().values() for d in p.features]
    before = [definition.state_limit_bytes for definition in definitions]
    for definition in definitions:
        definition.state_limit_bytes = limit_bytes or definition.state_limit_bytes
    try:
        yield
    finally:
        for definition, limit in zip(definitions, before, strict=True):
            definition.state_limit_bytes = limit


class Simulation:
    """The pipeline from the producer to the online store and the log."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = world = World(plan.seed, plan.rates, at=plan.at)
        self.ingest = Stream(world, "ingest", plan.shards)
        self.events = Stream(world, "events", plan.shards)
        streams = {"ingest": self.ingest, "events": self.events}
        self.kinesis = KinesisClient(world, streams)
        self.dynamodb = DynamoDBClient(world)
        self.s3 = S3Client(world, immutable=("log",))
        self.log = S3EventLog(self.s3, "log")
        self.quarantine = S3Quarantine(self.s3, "quarantine")
        self.store = DynamoDBOnlineStore(self.dynamodb, "online", sleep=world.sleep)
        door = KinesisIngestStream(self.kinesis, "ingest", sleep=world.sleep)
        validated = KinesisEventStream(self.kinesis, "events", sleep=world.sleep)
        self.producer = Producer(world, door, events=plan.events, keys=plan.keys)
        self.door = door
        self.runtime = Runtime(
            world,
            {
                "validate_records": (validated, self.quarantine),
                "archive_events": (self.log, self.quarantine),
                "write_features": (self.store, self.quarantine),
            },
        )
        settings = Settings(plan.batch_size, plan.retries, plan.oldest_us)
        types = folded_types(load_pipelines().values())
        mapping = partial(EventSourceMapping, world, self.runtime)
        self.validation = mapping(self.ingest, "validate_records", settings)
        self.archive = mapping(self.events, "archive_events", settings)
        self.features = mapping(
            self.events, "write_features", replace(settings, types=types)
        )
        self.mappings = (self.validation, self.archive, self.features)
        self.foreign: list[Record] = []
        self.redriven: list[Record] = []
        self.gapped: frozenset[str] = frozenset()
        self.writes = 0
        self._depth = 0
        world.overlap = self._overlap

    def run(self) -> None:
        """Run with faults, stop them, repair what was given up, and come to rest."""
        while not self.producer.is_done:
            self._disturb()
            self._step()
        for _ in range(self.world.random.randint(0, 60)):
            self._disturb()
            self._step()
        self.world.is_faulty = False
        self._settle()
        self._repair()
        self.writes = self.world.writes

    def _step(self) -> None:
        actions: list[Callable[[], None]] = []
        if not self.producer.is_done:
            actions.append(self.producer.produce)
        waits: list[int] = []
        for mapping in self.mappings:
            for shard in mapping.ready():
                if mapping.due_us(shard) > self.world.now_us:
                    waits.append(mapping.due_us(shard))
                else:
                    actions.append(partial(mapping.deliver, shard))
        if actions:
            self.world.random.choice(actions)()
        else:
            until_us = min(waits, default=self.world.now_us + SECOND_US)
            self.world.advance(until_us - self.world.now_us)

    def _overlap(self) -> None:
        """Let others work while an invocation that was given up hangs."""
        if self._depth == DEEPEST:
            return
        self._depth += 1
        for _ in range(self.world.random.randint(1, OVERLAPPING_STEPS)):
            self._step()
        self._depth -= 1

    def _disturb(self) -> None:
        world = self.world
        for stream in (self.ingest, self.events):
            if world.chance(Fault.SPLIT) and len(stream.shards) < 12:
                stream.split()
            if world.chance(Fault.MERGE) and len(stream.shards) < 12:
                stream.merge()
        if world.chance(Fault.OUTAGE):
            service = world.random.choice(SERVICES)
            length_us = world.random.randint(1, 180) * SECOND_US
            world.outages[service] = world.now_us + length_us
            world.note(f"outage of {service} for {length_us} us")
        if world.chance(Fault.STALL):
            mapping = world.random.choice(self.mappings)
            world.fire(Fault.STALL, mapping.function)
            length_us = world.random.randint(1, 90) * 60 * SECOND_US
            mapping.stalled_until_us = world.now_us + length_us
        if world.chance(Fault.FOREIGN_RECORD):
            world.fire(Fault.FOREIGN_RECORD)
            self.foreign.append(self.events.put("foreign", b"no event of ours"))

    def _settle(self) -> None:
        """Deliver until nothing is left, late writes included."""
        for _ in range(STEPS):
            is_at_rest = not any(mapping.ready() for mapping in self.mappings)
            if is_at_rest and not self.world.land_all():
                return
            self._step()
        self.world.violate(f"not at rest after {STEPS} steps")

    def _repair(self) -> None:
        """Do what an operator does about records in the on-failure destination.

        What is put in again can grow too old again while its consumer still stalls, so
        there may be more than one round.
        """
        while given_up := [*chain(*self.validation.undelivered)]:
            self.world.fire(Fault.REDRIVE, f"validate_records {len(given_up)}")
            self.validation.undelivered.clear()
            self.redriven += given_up
            self.door.put((r.partition_key, r.data) for r in given_up)
            self._settle()
        for records in self.archive.undelivered:
            self.world.fire(Fault.REDRIVE, f"archive_events {len(records)}")
            self.runtime.invoke("archive_events", payload(records))
        missed = [*self.redriven, *chain(*self.features.undelivered)]
        self.gapped = frozenset(record.partition_key for record in missed)
        if missed:
            self.rebuild()

    def rebuild(self) -> None:
        """Write what the log gives over what the online store has, where they differ.

        Raises
        ------
        StateConflictError, StoreUnavailableError
            Never: nothing else runs, and the faults have stopped.
        """
        self.world.fire(Fault.REBUILD)
        stored = {item.entity: item for item in self.store.scan()}
        for entity, item in sorted(replay(self.log.read())[0].items()):
            old = stored.get(entity)
            if old is None or old.content() != item.content():
                if entity.partition("#")[2] not in self.gapped:
                    self.world.violate(f"{entity} differs before it was rebuilt")
                version = old.version + 1 if old else 1
                self.store.put(replace(item, version=version))
