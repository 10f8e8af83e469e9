"""What comparing the online store with the log says of each projection, as decisions.

`retrodict.switching` says what follows for those who read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet
from retrodict.lifecycle import (
    Decided,
    Lifecycle,
    ProjectionVerified,
    ProjectionWithdrawn,
    Verified,
    decided,
)
from retrodict.pipeline import Pipeline
from retrodict.ports import OnlineItem
from retrodict.replaying import Comparison, digest_of, key_of, replay, same_fold
from retrodict.scoring import SCORING
from retrodict.switching import is_readable

KEYS_AT_ONCE: Final = 64
"""How many keys are read again before it is asked whether one of them is wrong."""

EventsOf = Callable[[Collection[str]], Iterable[StampedEvent]]


def verdicts(
    pipeline: Pipeline, found: Comparison, lifecycle: Lifecycle, events_of: EventsOf
) -> Iterator[Decided]:
    """Yield what a comparison with the whole log says of a pipeline's projections.

    A projection is verified where each item is the fold of the log up to the position
    that it applied last: events flow while it is compared. Nothing is said again. The
    time of a verdict is that of the newest event that it is about.

    Parameters
    ----------
    events_of
        Returns what the log holds of some keys.
    """
    for definition in pipeline.definitions:
        name = pipeline.entity(definition, "")
        own = [i for e, i in found.stored.items() if e.startswith(name)]
        if not own:
            continue
        time_us = max(item.time_us for item in own)
        is_equal = _is_equal(found, name, _beside(pipeline, definition), events_of)
        if is_equal is False and is_readable(pipeline, definition, lifecycle):
            why = "items differ from the log"
            yield _withdrawn(pipeline, definition.digest, time_us, why)
        if not is_equal:
            continue
        seen = Verified(
            digest_of({item.entity: item for item in own}),
            max(item.position for item in own),
        )
        if seen != lifecycle.verified.get(definition.digest):
            yield decided(
                ProjectionVerified,
                time_us,
                pipeline=pipeline.name,
                feature_set=definition.name,
                definition=definition.digest,
                items=len(own),
                digest=seen.digest,
                position=seen.position,
            )
    deployed = {definition.digest for definition in pipeline.definitions}
    newest_us = max((item.time_us for item in found.replayed.values()), default=0)
    for digest, known in sorted(lifecycle.verified.items()):
        if known is not None and digest not in deployed:
            why = "it is deployed no more, so nothing folds it"
            yield _withdrawn(pipeline, digest, newest_us, why)


def _beside(pipeline: Pipeline, definition: FeatureSet) -> tuple[str, ...]:
    """Return how entities begin of all projections of the same events."""
    return tuple(
        pipeline.entity(one, "")
        for one in pipeline.definitions
        if one.event is definition.event
    )


def _is_equal(
    found: Comparison, name: str, beside: tuple[str, ...], events_of: EventsOf
) -> bool | None:
    """Return whether a projection is the fold of the log; None if that cannot be said.

    It cannot where an item is ahead of the log, or its key is not archived yet, or
    where the log knows a key that has no item yet. Nor can it where another projection
    of the same events is ahead of the log, or of an item: what that one applied before
    this one was deployed, this one has from the log alone.
    """
    held = {**found.stored, **found.scoring}
    wrong = [
        entity
        for entity in (*found.differing, *found.apart, *found.unexplained)
        if entity.removeprefix(SCORING).startswith(name)
    ]
    told = [
        entity
        for entity in wrong
        if entity in held
        and entity not in found.ahead
        and entity.removeprefix(SCORING) in found.replayed
    ]
    is_behind = any(
        entity.removeprefix(SCORING).startswith(beside)
        for entity in (*found.ahead, *found.unexplained)
    )
    applied = _applied(held, beside)
    for first in range(0, len(told), KEYS_AT_ONCE):
        several = told[first : first + KEYS_AT_ONCE]
        by_key: dict[str, list[StampedEvent]] = {}
        for event in events_of({key_of(entity) for entity in several}):
            by_key.setdefault(event.key, []).append(event)
        for entity in several:
            item = held[entity]
            known = by_key.get(key_of(entity), [])
            if not _is_fold(item, known, item.position):
                return False
            last = applied[entity.startswith(SCORING), key_of(entity)]
            is_behind |= last > item.position and not _is_fold(item, known, last)
    return None if is_behind or len(told) < len(wrong) else True


def _applied(
    held: Mapping[str, OnlineItem], beside: tuple[str, ...]
) -> dict[tuple[bool, str], str]:
    """Return the last position that any of several projections applied.

    It is told by key, for what `score_events` keeps and for the rest.
    """
    found: dict[tuple[bool, str], str] = {}
    for entity, item in held.items():
        if entity.removeprefix(SCORING).startswith(beside):
            place = entity.startswith(SCORING), key_of(entity)
            found[place] = max(found.get(place, ""), item.position)
    return found


def _is_fold(item: OnlineItem, events: Sequence[StampedEvent], last: str) -> bool:
    """Return whether an item is the fold of a key's events up to a position."""
    prefix, _ = replay(event for event in events if event.position <= last)
    fold = prefix.get(item.entity.removeprefix(SCORING))
    return fold is not None and _is_same(item, fold)


def _is_same(item: OnlineItem, fold: OnlineItem) -> bool:
    if item.entity.startswith(SCORING):
        return same_fold(item, {fold.entity: fold})
    return item.content() == fold.content()


def _withdrawn(pipeline: Pipeline, digest: str, time_us: int, reason: str) -> Decided:
    return decided(
        ProjectionWithdrawn,
        time_us,
        pipeline=pipeline.name,
        definition=digest,
        reason=reason,
    )
