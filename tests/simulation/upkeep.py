"""Compaction in the simulation: the real function, and what it must never do.

What it deletes must stand, to the byte, in merged segments that are older than the
time of grace. Whenever it ends, however it ends, the log reads as before.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Final

from retrodict.compaction import DAY_US, GRACE_US, digest_of_events, once
from retrodict.envelope import StampedEvent
from retrodict.errors import LogConflictError, StoreUnavailableError, TransientError
from retrodict.replaying import replay_log
from retrodict.stamps import to_text
from retrodict_aws.s3_event_log import ENDING, PREFIX, S3EventLog
from retrodict_aws.segments import DamagedSegmentError, Segment

from tests.simulation.faults import Fault
from tests.simulation.runtime import Runtime
from tests.simulation.stores import Object, S3Client
from tests.simulation.world import World

BUCKET: Final = "log"
NIGHT_US: Final = DAY_US + DAY_US // 12
DAMAGES: Final = (Fault.TRUNCATED, Fault.HALF_WRITTEN, Fault.BIT_FLIPPED)
RUNS_TO_SETTLE: Final = 8

Known = Mapping[str, StampedEvent]


class Upkeep:
    """Compact the log of a simulation, and watch what becomes of it."""

    def __init__(self, world: World, runtime: Runtime, s3: S3Client) -> None:
        self._world = world
        self._runtime = runtime
        self._s3 = s3
        self._log = S3EventLog(s3, BUCKET, kept_events=10_000)
        self._held: dict[str, dict[str, StampedEvent]] = {}
        s3.before_delete = self._check_deletion

    def known(self) -> Known:
        """Return what the log holds, by position, read without faults."""
        with self._world.calm():
            return once(self._log.read())

    def compact(self) -> None:
        """Run the function once, perhaps beside itself, and see what the log says."""
        world = self._world
        before = self.known()
        world.fire(Fault.COMPACTION)
        event = {"time": to_text(world.now_us)}
        refusals = (LogConflictError, TransientError)

        def again() -> None:
            world.fire(Fault.TWO_COMPACTIONS)
            self._runtime.invoke("compact_log", event, refusals=refusals)

        writes = world.writes
        answer = self._runtime.invoke("compact_log", event, again, refusals=refusals)
        refusal = self._runtime.refusal
        if isinstance(refusal, LogConflictError):
            world.violate(f"compaction found a conflict: {refusal}")
        if answer is None and refusal is None and world.writes > writes:
            world.fire(Fault.COMPACTION_DIED)
        after = self.known()
        lost = [p for p, one in before.items() if after.get(p) != one]
        if lost:
            world.violate(f"compaction changed what the log says of {lost}")

    def read_meanwhile(self) -> None:
        """Read as others do while segments come and go; it may only be refused."""
        expected = self.known()
        with suppress(StoreUnavailableError):
            found = once(S3EventLog(self._s3, BUCKET).read())
            self._world.fire(Fault.READ_WHILE_COMPACTED)
            if any(found.get(p) != one for p, one in expected.items()):
                self._world.violate("a reader of the log missed what it holds")

    def damage(self) -> None:
        """Damage a segment: whoever reads must name it, and nobody may merge it."""
        segments = self._s3.buckets.get(BUCKET, {})
        for fault in DAMAGES:
            if not segments or not self._world.chance(fault):
                continue
            key = self._world.random.choice(sorted(segments))
            self._world.fire(fault, key)
            sound = segments[key]
            segments[key] = self._damaged(fault, sound)
            below = key.rsplit("/", 1)[0].split("/bucket=")[0]
            beside = {other for other in segments if other.startswith(below)}
            with self._world.calm():
                self._must_refuse(key)
                event = {"time": to_text(self._world.now_us)}
                refusals = (LogConflictError, TransientError)
                self._runtime.invoke("compact_log", event, refusals=refusals)
            gone = sorted(beside - segments.keys())
            if gone:
                self._world.violate(f"{gone} went while {key} was damaged")
            segments[key] = sound

    def _damaged(self, fault: Fault, sound: Object) -> Object:
        random, body = self._world.random, sound.body
        place = random.randrange(len(body))
        match fault:
            case Fault.TRUNCATED:
                body = body[:place]
            case Fault.HALF_WRITTEN:
                body = body[:place] + bytes(len(body) - place)
            case _:
                bit = bytes([body[place] ^ 1 << random.randrange(8)])
                body = body[:place] + bit + body[place + 1 :]
        if body == sound.body:  # it ended with zeros
            body += b"\0"
        return replace(sound, body=body)

    def _must_refuse(self, key: str) -> None:
        name = key.removeprefix(PREFIX).removesuffix(ENDING)
        log = S3EventLog(self._s3, BUCKET)
        readers: tuple[Callable[[], object], ...] = (
            lambda: [*log.read()],
            lambda: [*log.tables(name.split("/")[0].removeprefix("type="))],
            lambda: replay_log(log) if "type=sensor.reading" in name else [*log.read()],
        )
        for read in readers:
            try:
                read()
            except DamagedSegmentError as error:
                if error.name != name:
                    self._world.violate(f"{error.name} is sound, {name} is damaged")
            else:
                self._world.violate(f"{name} is damaged, and nobody said so")

    def settle(self) -> None:
        """Compact, day after day without faults, until there is nothing to merge."""
        before = digest_of_events(self.known().values())
        for _ in range(RUNS_TO_SETTLE):
            self._world.advance(NIGHT_US)
            self.compact()
            if all(partition.is_settled for partition in self._log.partitions()):
                break
        else:
            self._world.violate(f"not compacted after {RUNS_TO_SETTLE} days")
        if digest_of_events(self.known().values()) != before:
            self._world.violate("the compacted log has another digest")

    def _check_deletion(self, bucket: str, key: str) -> None:
        if bucket != BUCKET:
            return
        self._world.fire(Fault.SEGMENTS_DELETED)
        below = key.rsplit("/", 1)[0].split("/bucket=", maxsplit=1)[0]
        held: dict[str, StampedEvent] = {}
        for other, found in self._s3.buckets[BUCKET].items():
            is_old = self._world.now_us - found.written_us >= GRACE_US
            if other != key and other.startswith(f"{below}/bucket=") and is_old:
                held |= self._events_of(other)
        for position, event in self._events_of(key).items():
            if held.get(position) != event:
                self._world.violate(f"{key} was deleted, and {position} with it")

    def _events_of(self, key: str) -> dict[str, StampedEvent]:
        """Return what a segment holds, read once: it never changes."""
        if key not in self._held:
            event_type = key.removeprefix(f"{PREFIX}type=").split("/")[0]
            body = BytesIO(self._s3.buckets[BUCKET][key].body)
            self._held[key] = once(Segment(event_type, body).events())
        return self._held[key]
