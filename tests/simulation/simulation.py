"""One run: a seed, a world, the real functions in it, and a scheduler over all."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from random import Random
from typing import Final

from retrodict.chunks import SMALL_BYTES
from retrodict.errors import TransientError
from retrodict.pipeline import (
    folded_types,
    load_catalog,
    load_pipelines,
    scored_types,
)
from retrodict.replaying import compare, key_of, replay
from retrodict.scoring import SCORING
from retrodict.state import order_of_knowing
from retrodict.training_build import build_set
from retrodict.training_sets import Refusal
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_event_stream import KinesisEventStream, KinesisIngestStream
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.s3_quarantine import S3Quarantine

from tests.simulation.champion import CHAMPION, promoted
from tests.simulation.faults import Fault, rates_of
from tests.simulation.kinesis import KinesisClient, Record, Stream
from tests.simulation.learning import LEARNER, digest_of_set, log_of
from tests.simulation.mapping import EventSourceMapping, Settings, payload
from tests.simulation.other_producer import OtherProducer
from tests.simulation.producer import Producer
from tests.simulation.redriving import MENDED, Documents, bring_in, redrive
from tests.simulation.runtime import Runtime
from tests.simulation.stores import DynamoDBClient, S3Client
from tests.simulation.switching import BEGINNING, Operator
from tests.simulation.upkeep import NIGHT_US, Upkeep
from tests.simulation.world import DEEPEST, SECOND_US, World

STEPS: Final = 20_000
"""How many steps a run may take to come to rest once its faults have stopped."""

CHUNKED_BYTES: Final = 200
"""Beyond a state of a few events, so that most have chunks."""

CRAMPED_BYTES: Final = 1_450
"""State of about thirty events, so that a burst does not fit."""

COMPACTING_SHARE: Final = 0.25
SCORING_SHARE: Final = 0.25
REDRIVING_SHARE: Final = 0.25
CHANGING_SHARE: Final = 0.1
"""Of the seeds; the others are spared the time."""

FILLING_SHARE: Final = 0.12
VERIFYING_SHARE: Final = 0.02
"""Of the steps after a definition was changed."""

FILLED_SHARE: Final = 0.4
"""Of the times that nothing is left to take, and the new projection is compared."""

PAUSED_STEPS: Final = 60
"""For how long producers pause at most, so that what they sent is taken."""

OVERLAPPING_STEPS: Final = 12
MARGIN_US: Final = 3_600 * SECOND_US
"""How long before its stream forgets a record a mapping gives it up."""

SERVICES: Final = ("dynamodb", "kinesis", "s3")


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
    waits: float
    rates: Mapping[Fault, float]
    state_limit_bytes: int | None = None
    small_bytes: int = SMALL_BYTES
    lanes: int = 1
    compacts: bool = False
    scores: bool = False
    redrives: bool = False
    changes: bool = False
    at: tuple[Fault, int] | None = None


def plan_of(seed: int) -> Plan:
    """Draw a plan; most runs never give a record up, as the deployed mappings do."""
    random = Random(seed)
    plan = Plan(
        seed=seed,
        events=random.randint(30, 140),
        keys=random.randint(2, 6),
        shards=random.randint(1, 3),
        batch_size=random.choice((3, 10, 40)),
        retries=random.choice((2, 4, 10_000, 10_000)),
        oldest_us=random.choice((1_800, 86_400, 86_400, 86_400)) * SECOND_US,
        waits=random.choice((0.0, 0.0, 0.6, 0.9)),
        rates=rates_of(random),
        state_limit_bytes=random.choice((None, None, None, CRAMPED_BYTES)),
        small_bytes=random.choice((SMALL_BYTES, CHUNKED_BYTES)),
        lanes=random.choice((1, 1, 2, 10)),
        compacts=random.random() < COMPACTING_SHARE,
        scores=random.random() < SCORING_SHARE,
        redrives=random.random() < REDRIVING_SHARE,
        changes=random.random() < CHANGING_SHARE,
    )
    return replace(plan, scores=False, state_limit_bytes=None) if plan.changes else plan


@contextmanager
def state_limit(limit_bytes: int | None) -> Iterator[None]:
    """Let a key send beyond its rate sooner than after thousands of events."""
    definitions = [d for p in load_pipelines().values() for d in p.definitions]
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
        retention_us = plan.oldest_us + MARGIN_US
        self.ingest = Stream(world, "ingest", plan.shards, retention_us)
        self.events = Stream(world, "events", plan.shards, retention_us)
        self.predictions = Stream(world, "predictions", 1, retention_us)
        streams = {
            "ingest": self.ingest, "events": self.events,
            "predictions": self.predictions,
        }  # fmt: skip
        self.kinesis = KinesisClient(world, streams)
        self.dynamodb = DynamoDBClient(world)
        self.s3 = S3Client(world, immutable=("log",))
        self.log = S3EventLog(self.s3, "log", contracts=load_catalog().contracts)
        self.quarantine = S3Quarantine(self.s3, "quarantine")
        self.store = DynamoDBOnlineStore(
            self.dynamodb,
            "online",
            sleep=world.sleep,
            small_bytes=plan.small_bytes,
        )
        door = KinesisIngestStream(self.kinesis, "ingest", sleep=world.sleep)
        validated = KinesisEventStream(self.kinesis, "events", sleep=world.sleep)
        other = OtherProducer(KinesisClient(world, streams, is_ours=False), "ingest")
        self.producer = Producer(world, door, other, events=plan.events, keys=plan.keys)
        self.door = door
        predictions = KinesisIngestStream(
            self.kinesis, "predictions", sleep=world.sleep
        )
        self.runtime = Runtime(
            world,
            {
                "validate_records": (validated, self.quarantine),
                "archive_events": (self.log, self.quarantine),
                "write_features": (self.store, self.quarantine, door),
                "score_events": (self.store, promoted(), (door, predictions)),
                "compact_log": (self.log, self.quarantine),
            },
            {CHAMPION.digest: CHAMPION}.__getitem__,
        )
        self.upkeep = Upkeep(world, self.runtime, self.s3)
        self.operator = Operator(world, self.dynamodb, self.s3, self.store)
        settings = Settings(
            plan.batch_size,
            plan.retries,
            plan.oldest_us,
            plan.waits,
            lanes=plan.lanes,
        )
        types = folded_types(load_pipelines().values())
        mapping = partial(EventSourceMapping, world, self.runtime)
        self.validation = mapping(self.ingest, "validate_records", settings)
        self.archive = mapping(self.events, "archive_events", settings)
        self.features = mapping(
            self.events, "write_features", replace(settings, types=types)
        )
        self.scoring = mapping(
            self.events,
            "score_events",
            replace(settings, types=scored_types(load_pipelines().values())),
        )
        self.mappings = [self.validation, self.archive, self.features]
        if plan.scores:
            self.mappings.append(self.scoring)
        self.foreign: list[Record] = []
        self.redriven: list[Record] = []
        self.mended: dict[str, int] | None = None
        self.put_again: Documents = []
        self.forgotten: frozenset[str] = frozenset()
        self.gapped: frozenset[str] = frozenset()
        self.restored: frozenset[str] = frozenset()
        self.unscored: frozenset[str] = frozenset()
        self.writes = 0
        self.calls = 0
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
        if self.plan.redrives:
            self._mend()
        self._repair()
        if self.plan.changes:
            self._switch()
        if self.plan.compacts:
            self._compact()
        self.writes = self.world.writes
        self.calls = self.runtime.calls

    def _step(self, *, produces: bool = True) -> None:
        actions: list[Callable[[], None]] = []
        if produces and not self.producer.is_done:
            actions.append(self.producer.produce)
        waits: list[int] = []
        for mapping in self.mappings:
            for place in mapping.ready():
                if mapping.due_us(place) > self.world.now_us:
                    waits.append(mapping.due_us(place))
                else:
                    actions.append(partial(mapping.deliver, place))
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
        if world.chance(Fault.FOREIGN_RECORD):
            world.fire(Fault.FOREIGN_RECORD)
            self.foreign.append(self.events.put("foreign", b"no event of ours: canary"))
        self._disturb_a_consumer()
        if self.plan.changes and self.producer.is_half_done:
            self._change()
        if self.plan.compacts:
            self._disturb_the_log()
        if world.chance(Fault.SET_DURING_FAULTS):
            self._build_a_set()

    def _disturb_a_consumer(self) -> None:
        world = self.world
        if world.chance(Fault.STALL):
            mapping = world.random.choice(self.mappings)
            world.fire(Fault.STALL, mapping.function)
            length_us = world.random.randint(1, 90) * 60 * SECOND_US
            mapping.stalled_until_us = world.now_us + length_us
        if world.chance(Fault.SWITCHED_OFF):
            mapping = world.random.choice(self.mappings)
            world.fire(Fault.SWITCHED_OFF, mapping.function)
            length_us = self.ingest.retention_us + world.random.randint(0, MARGIN_US)
            mapping.stalled_until_us = world.now_us + length_us
        if world.chance(Fault.LANES_CHANGED):
            world.random.choice(self.mappings).set_lanes(world.random.randint(1, 10))

    def _change(self) -> None:
        """Deploy another definition, and do now and then what an operator does."""
        if not self.operator.is_deployed:
            self.operator.deploy()
        if self.world.random.random() < FILLING_SHARE:
            for _ in range(PAUSED_STEPS):
                if all(mapping.is_at_rest for mapping in self.mappings):
                    self.operator.verify()
                    # An alarm rings while the log lacks what was given up: it would be
                    # taken from the items as well.
                    is_whole = not self.archive.undelivered
                    if is_whole and self.world.random.random() < FILLED_SHARE:
                        self.operator.fill()
                    break
                self._step(produces=False)
        if self.world.random.random() < VERIFYING_SHARE:
            self.operator.verify()

    def _switch(self) -> None:
        """Fill and verify where nothing fails: then the new definition is read."""
        if not self.operator.is_deployed:
            self.operator.deploy()
        self.rebuild()
        self.operator.verify()
        if not (self.operator.is_switched or self.forgotten):
            self.world.violate("filled, and not verified")

    def _build_a_set(self) -> None:
        """Build a training set of what is archived by now, while things fail."""
        before, until_us = self.upkeep.known(), self.world.now_us
        try:
            found = build_set(LEARNER, S3EventLog(self.s3, "log"), until_us)
        except TransientError as error:
            self.world.note(f"no set could be built: {error}")
            return
        if self.upkeep.known() != before or isinstance(found, Refusal):
            return
        self.world.fire(Fault.SET_DURING_FAULTS)
        expected = build_set(
            LEARNER, log_of(order_of_knowing([*before.values()])), until_us
        )
        if found.digest != digest_of_set(expected):
            self.world.violate(f"until {until_us} {found} was built, not {expected}")

    def _disturb_the_log(self) -> None:
        world = self.world
        at_rest = all(mapping.is_at_rest for mapping in self.mappings)
        if at_rest and world.chance(Fault.NIGHT):
            world.fire(Fault.NIGHT)
            world.advance(NIGHT_US)
        if world.chance(Fault.COMPACTION):
            self.upkeep.compact()

    def _compact(self) -> None:
        """Let days pass with faults, then without, until the log is compacted."""
        self.world.is_faulty = True
        for _ in range(self.world.random.randint(1, 2)):
            self.world.advance(NIGHT_US)
            if self.world.chance(Fault.ARCHIVED_AGAIN):
                self._archive_again()
            self.upkeep.compact()
            self.upkeep.read_meanwhile()
            self.upkeep.damage()
        self.world.is_faulty = False
        self.world.land_all()
        self.upkeep.settle()

    def _archive_again(self) -> None:
        """Deliver old records once more, as a redrive does, and those of one lane."""
        shards = [shard for shard in self.events.shards if shard.records]
        if not shards:
            return
        records = self.world.random.choice(shards).records
        first = self.world.random.randrange(len(records))
        last = first + self.world.random.randint(1, 10)
        several = records[first:last]
        key = several[0].partition_key
        self.world.fire(Fault.ARCHIVED_AGAIN)
        self.runtime.invoke("archive_events", payload(several))
        own = [record for record in several if record.partition_key == key]
        self.runtime.invoke("archive_events", payload(own))

    def _settle(self) -> None:
        """Deliver until nothing is left, late writes included."""
        for _ in range(STEPS):
            is_at_rest = all(mapping.is_at_rest for mapping in self.mappings)
            if is_at_rest and not self.world.land_all():
                return
            self._step()
        self.world.violate(f"not at rest after {STEPS} steps")

    def _mend(self) -> None:
        """Mend a contract, and put in again what it rejected, while things fail."""
        self.mended = {shard.id: shard.next_number for shard in self.ingest.shards}
        self.runtime.catalog = MENDED
        self.world.is_faulty = True
        self.put_again = redrive(self.world, self.quarantine, self.door)
        for _ in range(self.world.random.randint(0, 30)):
            self._disturb()
            self._step()
        self.world.is_faulty = False
        self._settle()

    def _repair(self) -> None:
        """Do what an operator does about records in the on-failure destination.

        What is put in again can grow too old again while its consumer still stalls, so
        there may be more than one round.
        """
        missed: list[Record] = []
        unscored: list[Record] = []
        while any(mapping.undelivered for mapping in self.mappings):
            self.redriven += self._bring_in(self.validation)
            self._settle()
            self._bring_in(self.archive)
            missed += self._bring_in(self.features)
            unscored += self._bring_in(self.scoring)
            self._settle()
        self.forgotten = frozenset(r.partition_key for r in self.archive.trimmed)
        self.restored = frozenset(record.partition_key for record in missed)
        lost = [*self.redriven, *self.archive.trimmed, *self.features.trimmed]
        self.restored -= {record.partition_key for record in lost}
        missed += lost
        self.gapped = frozenset(record.partition_key for record in missed)
        missed += [*self.validation.trimmed, *self.scoring.trimmed, *unscored]
        self.unscored = frozenset(record.partition_key for record in missed)
        if missed:
            self.rebuild()

    def _bring_in(self, mapping: EventSourceMapping) -> list[Record]:
        """Redrive what a mapping gave up, and return it."""
        given_up = [*chain(*mapping.undelivered)]
        left = bring_in(
            self.world,
            self.runtime,
            mapping,
            self.door,
            self.log,
            self.store,
            self.quarantine,
        )
        if left and not self.archive.trimmed:
            self.world.violate(f"{mapping.function} was redriven, but for {left}")
        return given_up

    def rebuild(self) -> None:
        """Write what the log gives over what the online store has, where they differ.

        Raises
        ------
        StateConflictError, StoreUnavailableError
            Never: nothing else runs, and the faults have stopped.
        """
        self.world.fire(Fault.REBUILD)
        found = compare(
            replay(self.log.read())[0],
            self.store.scan(),
            lambda keys: self.log.read(keys=keys),
        )
        for item in found.repairs():
            is_scoring = item.entity.startswith(SCORING)
            if is_scoring and not self.plan.scores:
                continue
            gapped = self.unscored if is_scoring else self.gapped - self.restored
            is_filled = item.entity.startswith(BEGINNING)
            if key_of(item.entity) not in gapped and not is_filled:
                self.world.violate(f"{item.entity} differs before it was rebuilt")
            self.store.put(item)
