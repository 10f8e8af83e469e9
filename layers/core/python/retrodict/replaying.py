"""Replay the log into the online store: the whole of it, or one part of the keys.

What a part of the keys folds to does not depend on the other parts, so they can be
replayed on as many machines. The digest over all items is made of the digests of the
parts, so it is the same number whoever computed them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from retrodict.arrow_events import known_by, reading_of
from retrodict.buckets import BUCKETS, bucket_of, passes
from retrodict.bulk_states import items_of
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet
from retrodict.online import item_of
from retrodict.pipeline import Pipeline, definitions_of, load_pipelines
from retrodict.ports import ColumnLog, EventLog, OnlineItem
from retrodict.scoring import SCORING
from retrodict.state import KeyState, order_of_knowing


def replay(
    events: Iterable[StampedEvent],
) -> tuple[dict[str, OnlineItem], Counter[str]]:
    """Fold the whole log: the item of every key, and the outcome of every event.

    Parameters
    ----------
    events
        In any order, copies included.
    """
    by_key: dict[tuple[str, str], list[StampedEvent]] = {}
    for event in events:
        by_key.setdefault((event.type, event.key), []).append(event)
    items: dict[str, OnlineItem] = {}
    outcomes: Counter[str] = Counter()
    for (event_type, key), known in by_key.items():
        ordered = order_of_knowing(known)
        for pipeline, definition in definitions_of(event_type):
            state, folded = KeyState(definition).fold(ordered)
            outcomes.update(one.outcome.value for one in folded)
            if state.entries:
                entity = pipeline.entity(definition, key)
                items[entity] = item_of(entity, state, 1)
    return items, outcomes


def replay_log(
    log: EventLog | ColumnLog, *, buckets: Collection[int] | None = None
) -> tuple[dict[str, OnlineItem], Counter[str]]:
    """Return what `replay` returns for all of a log, or for some parts of the keys.

    A log that gives its events as columns is folded in bulk, as many parts at once as
    memory allows; the bytes are the same.
    """
    if not isinstance(log, ColumnLog):
        return replay(log.read(buckets=buckets))
    by_type: dict[str, list[tuple[Pipeline, FeatureSet]]] = {}
    for pipeline in load_pipelines().values():
        for definition in pipeline.definitions:
            several = by_type.setdefault(definition.event.contract().type, [])
            several.append((pipeline, definition))
    items: dict[str, OnlineItem] = {}
    outcomes: Counter[str] = Counter()
    for event_type, several in by_type.items():
        definitions = [definition for _, definition in several]
        reading = reading_of(definitions, arrivals=False)
        for parts in passes(log.size_bytes(event_type)):
            wanted = [part for part in parts if buckets is None or part in buckets]
            if not wanted:
                continue
            tables = log.tables(event_type, reading, buckets=wanted)
            known = known_by(definitions, tables)
            for (pipeline, definition), own in zip(several, known, strict=True):
                entity = partial(pipeline.entity, definition)
                found, counted = items_of(definition, own, entity)
                items |= {item.entity: item for item in found}
                outcomes += counted
    return items, outcomes


def key_of(entity: str) -> str:
    """Return the entity key in the partition key of an item.

    Examples
    --------
    >>> key_of("sensor_anomaly.Sensor.0123456789ab#s-1#2")
    's-1#2'
    """
    return entity.partition("#")[2]


def digest_of(items: Mapping[str, OnlineItem]) -> str:
    """Return one digest over every byte that a rebuild must reproduce."""
    parts: list[dict[str, OnlineItem]] = [{} for _ in range(BUCKETS)]
    for entity, item in items.items():
        parts[bucket_of(key_of(entity))][entity] = item
    return combined([digest_of_part(part) for part in parts])


def digest_of_part(items: Mapping[str, OnlineItem]) -> str:
    """Return the digest of the items of one part of the keys."""
    digest = hashlib.sha256()
    for entity in sorted(items):
        for part in items[entity].content():
            raw = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def combined(digests: Sequence[str]) -> str:
    """Return the digest of all items from those of the parts, in their order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def split_scoring(
    items: Iterable[OnlineItem],
) -> tuple[dict[str, OnlineItem], dict[str, OnlineItem]]:
    """Return what `write_features` keeps, and what `score_events` keeps beside it."""
    kept: dict[str, OnlineItem] = {}
    scoring: dict[str, OnlineItem] = {}
    for item in items:
        (scoring if item.entity.startswith(SCORING) else kept)[item.entity] = item
    return kept, scoring


def scored_entities(entities: Iterable[str]) -> list[str]:
    """Return those of the entities that `score_events` keeps a state of as well."""
    prefixes = tuple(
        pipeline.entity(definition, "")
        for pipeline in load_pipelines().values()
        if pipeline.model is not None
        for definition in pipeline.served
    )
    return [entity for entity in entities if entity.startswith(prefixes)]


def same_fold(item: OnlineItem, replayed: Mapping[str, OnlineItem]) -> bool:
    """Return whether a scoring item folds the same events as the log gives."""
    other = replayed.get(item.entity.removeprefix(SCORING))
    return other is not None and (other.position, other.state) == (
        item.position,
        item.state,
    )


def projection_of(entity: str) -> str:
    """Return the name of the projection that an item belongs to.

    Examples
    --------
    >>> projection_of("sensor_anomaly.Sensor.0123456789ab#s-1#2")
    'sensor_anomaly.Sensor.0123456789ab'
    """
    return entity.partition("#")[0]


def current_projections() -> set[str]:
    """Return the names of the projections of the deployed definitions."""
    return {
        projection_of(pipeline.entity(definition, ""))
        for pipeline in load_pipelines().values()
        for definition in pipeline.definitions
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the log gives, beside what the store holds.

    Attributes
    ----------
    differing
        Entities whose item is missing or has other bytes, in order.
    apart
        Scoring entities whose state is missing or is another fold, in order.
    ahead
        Those of both that have applied an event which the log did not hold when it
        was read. They are not behind the log, so they are not written.
    """

    replayed: Mapping[str, OnlineItem]
    stored: Mapping[str, OnlineItem]
    scoring: Mapping[str, OnlineItem]
    differing: tuple[str, ...]
    apart: tuple[str, ...]
    ahead: frozenset[str]

    @property
    def retired(self) -> dict[str, OnlineItem]:
        """Stored items of definitions that are not deployed any more, by entity.

        Nothing reads or writes them; they are kept until somebody deletes them.
        """
        current = current_projections()
        return {
            entity: item
            for entity, item in self.stored.items()
            if projection_of(entity) not in current
        }

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Stored entities of deployed definitions that the log knows nothing of."""
        found = self.stored.keys() - self.replayed.keys() - self.retired.keys()
        return tuple(sorted(found))

    def repairs(self) -> Iterator[OnlineItem]:
        """Yield what to write, each over the version that was read."""
        held = {**self.stored, **self.scoring}
        for entity in (*self.differing, *self.apart):
            fold = self.replayed.get(entity.removeprefix(SCORING))
            if fold is None or entity in self.ahead:
                continue
            found = held.get(entity)
            features = fold.features
            if entity.startswith(SCORING):  # when a key alerted last is kept
                features = found.features if found else "{}"
            yield replace(
                fold,
                entity=entity,
                features=features,
                version=found.version + 1 if found else 1,
            )


def compare(
    replayed: Mapping[str, OnlineItem],
    items: Iterable[OnlineItem],
    events_of: Callable[[Collection[str]], Iterable[StampedEvent]],
) -> Comparison:
    """Compare the fold of the log with what a store holds of both kinds of items.

    An item is ahead of the log where the log does not hold the position that it
    applied last. That position is past the fold also where an item was folded in
    another order, as after a redrive; so those keys are read, and folded, once more.

    Parameters
    ----------
    events_of
        Returns what the log holds of some keys.
    """
    stored, scoring = split_scoring(items)
    held = {**stored, **scoring}
    past = _past(replayed, held)
    ahead = frozenset[str]()
    if past:
        known = list(events_of({key_of(entity) for entity in past}))
        positions = {event.position for event in known}
        ahead = frozenset(e for e in past if held[e].position not in positions)
        again, _ = replay(known)
        wanted = {entity.removeprefix(SCORING) for entity in past}
        replayed = {**replayed, **{e: i for e, i in again.items() if e in wanted}}
    differing, apart = _differing(replayed, stored), _apart(replayed, scoring)
    ahead &= {*differing, *apart}
    return Comparison(replayed, stored, scoring, differing, apart, ahead)


def _past(
    replayed: Mapping[str, OnlineItem], held: Mapping[str, OnlineItem]
) -> list[str]:
    """Return the entities that have applied a position past that of their fold."""
    return [
        entity
        for entity, item in held.items()
        if (fold := replayed.get(entity.removeprefix(SCORING))) is not None
        and item.position > fold.position
    ]


def _differing(
    replayed: Mapping[str, OnlineItem], stored: Mapping[str, OnlineItem]
) -> tuple[str, ...]:
    return tuple(
        sorted(
            entity
            for entity, item in replayed.items()
            if entity not in stored or stored[entity].content() != item.content()
        )
    )


def _apart(
    replayed: Mapping[str, OnlineItem], scoring: Mapping[str, OnlineItem]
) -> tuple[str, ...]:
    apart = [e for e, item in scoring.items() if not same_fold(item, replayed)]
    apart += [
        f"{SCORING}{entity}"
        for entity in scored_entities(replayed)
        if f"{SCORING}{entity}" not in scoring
    ]
    return tuple(sorted(apart))
