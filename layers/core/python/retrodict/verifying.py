"""What comparing the online store with the log says of each projection, as decisions.

`retrodict.switching` says what follows for those who read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from retrodict.envelope import StampedEvent
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
        is_equal = _is_equal(found, name, events_of)
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


def _is_equal(found: Comparison, name: str, events_of: EventsOf) -> bool | None:
    """Return whether a projection is the fold of the log; None if that cannot be said.

    It cannot where an item is ahead of the log, or its key is not archived yet, or
    where the log knows a key that has no item yet.
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
    for first in range(0, len(told), KEYS_AT_ONCE):
        several = told[first : first + KEYS_AT_ONCE]
        by_key: dict[str, list[StampedEvent]] = {}
        for event in events_of({key_of(entity) for entity in several}):
            by_key.setdefault(event.key, []).append(event)
        for entity in several:
            item = held[entity]
            known = by_key.get(key_of(entity), [])
            prefix, _ = replay(e for e in known if e.position <= item.position)
            fold = prefix.get(entity.removeprefix(SCORING))
            if fold is None or not _is_same(item, fold):
                return False
    return None if len(told) < len(wrong) else True


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
