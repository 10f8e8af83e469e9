"""Bring in again what event source mappings gave up, and lose and double nothing.

What `validate_records` was to judge never became known, so it enters by the door again
and gets a position now: one of the past would say that it was known when predictions
were made without it. An event that did get through is there twice, under one identity,
and counts once.

Every other function is invoked with the batch as its mapping would have: positions are
those of before, and what it did is not done twice. Its items of the online store may
have passed the batch; they are folded again from the log.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from retrodict import online, scoring
from retrodict.errors import (
    PermanentError,
    StillUndeliveredError,
    TransientError,
)
from retrodict.excess import excess_records
from retrodict.ports import EventLog, IngestStream, OnlineStore, Quarantine
from retrodict.rejection import rejections_of
from retrodict.restoring import Restored, restore

from retrodict_aws.kinesis_batch import DeliveredRecord, segment_name
from retrodict_aws.kinesis_event_stream import read_batches
from retrodict_aws.s3_undelivered import Undelivered

DOOR: Final = "validate_records"
FIRST: Final = (DOOR, "archive_events")
"""Whose batches come first: what others restore is read from the log."""

KEEPING_ITEMS: Final[Mapping[str, Callable[..., Sequence[Any]]]] = {
    "write_features": online.plan,
    "score_events": scoring.plan,
}
"""Who keeps items of the online store, and how the works of a batch are planned."""

Invoke = Callable[[str, bytes], Any]
Settle = Callable[[Undelivered], None]


@dataclass(slots=True)
class Redriven:
    """How far the batches of a function came.

    Attributes
    ----------
    batches, records
        What was brought in.
    restored
        Items of the online store that had passed a batch, and hold it now.
    unpredicted
        How many events were passed over when the stream was scored, and have no
        prediction in the log, by scoring item.
    left
        Why a batch is still where it was, by name.
    """

    batches: int = 0
    records: int = 0
    restored: int = 0
    unpredicted: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def followed_by(self, again: "Redriven") -> "Redriven":
        """Return both together, where the second began with what the first left."""
        return Redriven(
            batches=self.batches + again.batches,
            records=self.records + again.records,
            restored=self.restored + again.restored,
            unpredicted={**self.unpredicted, **again.unpredicted},
            left=again.left,
        )


class Redriving:
    """Brings batches in again.

    Parameters
    ----------
    invoke
        Invokes the function of that ARN with a payload, and returns its answer.
    settle
        Is told of each batch once everything that it holds is in.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        *,
        invoke: Invoke,
        settle: Settle,
        door: IngestStream,
        log: EventLog,
        store: OnlineStore,
        quarantine: Quarantine,
    ) -> None:
        self._invoke = invoke
        self._settle = settle
        self._door = door
        self._log = log
        self._store = store
        self._quarantine = quarantine
        # What each item had applied before this began to deliver to it.
        self._passed: dict[str, str] = {}

    def redrive(self, function: str, batches: Iterable[Undelivered]) -> Redriven:
        """Bring in the batches of one function, in the order of their positions.

        Each is settled or left, with the reason; running it again, also after a crash
        anywhere, goes on with what is left.

        Parameters
        ----------
        function
            Name of its folder, ``write_features``.
        """
        done = Redriven()
        ordered = sorted(batches, key=attrgetter("place"))
        plan = KEEPING_ITEMS.get(function)
        if plan is not None:
            self._restore(ordered, plan, done)
        else:
            bring = self._put if function == DOOR else self._deliver
            for batch in ordered:
                if self._is_brought(bring, batch, done):
                    self._settled(batch, done)
        return done

    def persist(
        self,
        function: str,
        batches: Sequence[Undelivered],
        wait: Callable[[], bool],
    ) -> Redriven:
        """Bring in the batches of one function, and again what is left.

        Parameters
        ----------
        wait
            Called before each further attempt; returns whether there is to be one.
        """
        done = self.redrive(function, batches)
        while done.left and wait():
            again = [batch for batch in batches if batch.name in done.left]
            done = done.followed_by(self.redrive(function, again))
        return done

    def _restore(
        self,
        batches: Sequence[Undelivered],
        plan: Callable[..., Sequence[Any]],
        done: Redriven,
    ) -> None:
        """Deliver batches to who keeps items, and restore the items they touch."""
        works = {b.name: plan(read_batches(b.records)[0]) for b in batches}
        entities = sorted({w.entity for several in works.values() for w in several})
        before = self._store.load(entities, with_state=False)
        for entity in entities:
            place = before[entity].position if entity in before else ""
            self._passed.setdefault(entity, place)
        brought = [b for b in batches if self._is_brought(self._deliver, b, done)]
        held = chain.from_iterable(read_batches(b.records)[0] for b in brought)
        found = restore(plan(held), self._passed, self._log, self._store)
        done.restored += found.written
        done.unpredicted |= found.unpredicted
        self._tell([r for b in brought for r in b.records], found)
        for batch in brought:
            reasons = [
                found.left[work.entity]
                for work in works[batch.name]
                if work.entity in found.left
            ]
            if reasons:
                done.left[batch.name] = reasons[0]
            else:
                self._settled(batch, done)

    def _tell(self, records: Sequence[DeliveredRecord], found: Restored) -> None:
        """Tell of conflicts and bursts as `write_features` would have."""
        judged = found.judged
        rejected = rejections_of(one for _, several in judged for one in several)
        if rejected:
            told = hashlib.sha256(json.dumps(rejected).encode()).hexdigest()[:12]
            name = f"{segment_name(records)}-features-{told}"
            self._quarantine.put(name, rejected)
        self._door.put(
            excess_records((w.entity, w.definition, folded) for w, folded in judged)
        )

    @staticmethod
    def _is_brought(
        bring: Callable[[Undelivered], None], batch: Undelivered, done: Redriven
    ) -> bool:
        try:
            bring(batch)
        except (PermanentError, TransientError) as error:
            done.left[batch.name] = str(error)
            return False
        return True

    def _settled(self, batch: Undelivered, done: Redriven) -> None:
        self._settle(batch)
        done.batches += 1
        done.records += batch.count

    def _put(self, batch: Undelivered) -> None:
        self._door.put((record.partition_key, record.data) for record in batch.records)

    def _deliver(self, batch: Undelivered) -> None:
        """Invoke the function with a batch.

        Raises
        ------
        StillUndeliveredError
            It failed, or did not take every record.
        """
        answer = self._invoke(batch.function_arn, batch.payload)
        if answer != {"batchItemFailures": []}:
            raise StillUndeliveredError(
                f"{batch.function_arn.rsplit(':', 1)[-1]} did not take all of "
                f"{batch.count} records from {batch.first} on {batch.shard_id}, it "
                f"answered {answer!r}: see its log, and redrive again"
            )
