"""Keep the online store equal to the fold of the log.

Per batch and key: read once, fold, one conditional put, and none where nothing
changed, so delivering a batch again writes nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from retrodict.envelope import StampedEvent
from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.expressions import Number
from retrodict.features import FeatureSet
from retrodict.pipeline import definitions_of
from retrodict.ports import KeyedBatch, OnlineItem, OnlineStore
from retrodict.state import Folded, KeyState

LOST_RACES: int = 5
"""How often a key is folded again before the batch is given back."""


@dataclass(slots=True)
class Work:
    """What one delivered batch brings for one item of the online store.

    Attributes
    ----------
    sequence_number
        The first Kinesis record that holds an event of this work.
    """

    entity: str
    definition: FeatureSet
    sequence_number: str
    events: list[StampedEvent] = field(default_factory=list)


@dataclass(slots=True)
class Projected:
    """How far a batch came.

    Attributes
    ----------
    unfinished
        The record from which the batch must be delivered again, or None.
    failure
        Why, in a sentence.
    """

    folded: list[Folded] = field(default_factory=list)
    puts: int = 0
    unfinished: str | None = None
    failure: str | None = None


def features_json(features: dict[str, Number | None]) -> str:
    """Return feature values as text in which every double survives exactly.

    Examples
    --------
    >>> features_json({"mean": 0.1, "count": 3, "std": None})
    '{"mean":0.1,"count":3,"std":null}'
    """
    return json.dumps(features, separators=(",", ":"), allow_nan=False)


def item_of(entity: str, state: KeyState, version: int) -> OnlineItem:
    """Return `state` as the store keeps it."""
    return OnlineItem(
        entity=entity,
        version=version,
        definition=state.definition.digest,
        position=state.position,
        time_us=state.time_us or 0,
        features=features_json(state.features),
        state=state.encode(),
    )


def plan(batches: Iterable[tuple[str, KeyedBatch]]) -> list[Work]:
    """Gather delivered events by item, each with the record that began it.

    Parameters
    ----------
    batches
        Kinesis sequence number and content of each record, in order, shape (n,).
    """
    works: dict[str, Work] = {}
    for sequence_number, batch in batches:
        for event in batch.events:
            for pipeline, definition in definitions_of(event.type):
                entity = pipeline.entity(definition, batch.key)
                work = works.get(entity)
                if work is None:
                    work = works[entity] = Work(entity, definition, sequence_number)
                work.events.append(event)
    return list(works.values())


def project(works: Sequence[Work], store: OnlineStore) -> Projected:
    """Fold every work into the store; stop at the first that the store refuses.

    What was refused, and everything after it, is to be delivered again from the
    lowest record that holds any of it; what was already folded changes nothing then.
    """
    done = Projected()
    for place, work in enumerate(works):
        try:
            if place == 0:
                items = store.load([work.entity for work in works])
            _project_one(work, items.get(work.entity), store, done)
        except (StoreUnavailableError, StateConflictError) as error:
            rest = works[place:]
            done.unfinished = min((w.sequence_number for w in rest), key=int)
            done.failure = str(error)
            break
    return done


def _project_one(
    work: Work, item: OnlineItem | None, store: OnlineStore, done: Projected
) -> None:
    for attempt in range(LOST_RACES):
        if attempt:
            item = store.load([work.entity]).get(work.entity)
        before = KeyState.decode(work.definition, item.state if item else None)
        after, folded = before.fold(work.events)
        if after == before:
            break
        try:
            store.put(item_of(work.entity, after, (item.version if item else 0) + 1))
        except StateConflictError:
            if attempt == LOST_RACES - 1:
                raise
            continue
        done.puts += 1
        break
    done.folded += folded
