"""Keep the online store equal to the fold of the log.

Per batch and key: read once, fold, tell what must not be folded, one conditional put,
and none where nothing changed, so delivering a batch again writes nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from retrodict import batch_fold
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


def project(
    works: Sequence[Work],
    store: OnlineStore,
    tell: Callable[[Sequence[tuple[Work, Sequence[Folded]]]], None],
) -> Projected:
    """Fold every work into the store; stop at the first that the store refuses.

    What was refused, and everything after it, is to be delivered again from the
    lowest record that holds any of it; what was already folded, also of what comes
    after it, changes nothing then.

    Parameters
    ----------
    tell
        Called once, before anything is written, with what became of every event of
        every work: a state that holds a judgement would not make it again after a
        crash.

    Raises
    ------
    StoreUnavailableError
        The store refused to be read, or whatever `tell` writes to: nothing was folded.
    """
    items = store.load([work.entity for work in works])
    steps = _fold(works, items)
    tell([(work, step.folded) for work, step in zip(works, steps, strict=True)])
    done = Projected()
    refusals = store.put_all([step.item for step in steps if step.item is not None])
    for place, (work, step) in enumerate(zip(works, steps, strict=True)):
        try:
            if step.item is not None:
                done.puts += _settle(work, next(refusals), store)
        except (StoreUnavailableError, StateConflictError) as error:
            rest = works[place:]
            done.unfinished = min((w.sequence_number for w in rest), key=int)
            done.failure = str(error)
            break
        done.folded += step.folded
    return done


class _Step(NamedTuple):
    """What a work makes of the item that the store holds; no item if nothing."""

    item: OnlineItem | None
    folded: list[Folded]


def _fold(works: Sequence[Work], items: Mapping[str, OnlineItem]) -> list[_Step]:
    """Fold works into what the store holds, those of a definition together."""
    by_definition: dict[FeatureSet, list[Work]] = {}
    for work in works:
        by_definition.setdefault(work.definition, []).append(work)
    steps: dict[str, _Step] = {}
    for definition, own in by_definition.items():
        stored = [items.get(work.entity) for work in own]
        states = [item.state if item else None for item in stored]
        found = batch_fold.fold(definition, states, [work.events for work in own])
        outcomes = iter(found.outcomes)
        for place, work in enumerate(own):
            item, state, before = None, found.states[place], stored[place]
            if state is not None:
                item = OnlineItem(
                    entity=work.entity,
                    version=(before.version if before else 0) + 1,
                    definition=definition.digest,
                    position=found.positions[place],
                    time_us=found.times_us[place],
                    features=features_json(found.features_of(place)),
                    state=state,
                )
            # `map` asks for the events first, so none of the outcomes is lost.
            steps[work.entity] = _Step(item, list(map(Folded, work.events, outcomes)))
    return [steps[work.entity] for work in works]


def _settle(
    work: Work,
    refusal: StateConflictError | StoreUnavailableError | None,
    store: OnlineStore,
) -> int:
    """Fold and put again where somebody else was faster; return the puts."""
    for _ in range(LOST_RACES - 1):
        if not isinstance(refusal, StateConflictError):
            break
        [step] = _fold([work], store.load([work.entity]))
        if step.item is None:
            return 0
        [refusal] = store.put_all([step.item])
    if refusal is not None:
        raise refusal
    return 1
