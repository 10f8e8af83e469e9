"""What comparing the online store with the log says of each projection, as decisions.

`retrodict.switching` says what follows for those who read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

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
from retrodict.pipeline import Pipeline, load_pipelines
from retrodict.ports import OnlineItem
from retrodict.replaying import (
    Comparison,
    combined,
    digest_of,
    key_of,
    projection_of,
    replay,
    same_fold,
)
from retrodict.scoring import SCORING
from retrodict.switching import is_readable

KEYS_AT_ONCE: Final = 64
"""How many keys are read again before it is asked whether one of them is wrong."""

EventsOf = Callable[[Collection[str]], Iterable[StampedEvent]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a comparison with the log says of one projection.

    Attributes
    ----------
    is_equal
        Whether each item is the fold of the log up to the position that it applied
        last: events flow while it is compared. None if that cannot be said.
    items
        How many the store holds.
    digest
        Of those; of a part of the keys, that of the part.
    position
        The last that any of them has applied.
    time_us
        Time of the newest event of any of them, microseconds.
    """

    is_equal: bool | None
    items: int
    digest: str
    position: str
    time_us: int

    @classmethod
    def join(cls, parts: Sequence["Judgement"]) -> "Judgement":
        """Return the judgement of all parts of the keys, given in their order."""
        told = {part.is_equal for part in parts}
        return cls(
            False if False in told else None if None in told else True,
            sum(part.items for part in parts),
            combined([part.digest for part in parts]),
            max(part.position for part in parts),
            max(part.time_us for part in parts),
        )

    @property
    def state(self) -> str:
        """What is said of it.

        It is `verified` where that is recorded, `differing` where it is withdrawn, and
        `filling` where nothing can be said yet.
        """
        if not self.items:
            return "empty"
        return {True: "verified", False: "differing", None: "filling"}[self.is_equal]


def told_of(
    judged: Mapping[str, Judgement], retired: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return what is said of each projection, JSON.

    Parameters
    ----------
    retired
        How many items there are of each projection that is deployed no more.
    """
    return {
        **{n: {"state": one.state, **asdict(one)} for n, one in judged.items()},
        **{n: {"state": "retired", "items": items} for n, items in retired.items()},
    }


def judgements_in(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Judgement]:
    """Return the judgements in what `told_of` gives."""
    names = [field.name for field in fields(Judgement)]
    return {
        projection: Judgement(**{name: one[name] for name in names})
        for projection, one in told.items()
        if one["state"] != "retired"
    }


def judge(
    found: Comparison,
    events_of: EventsOf,
    digest: Callable[[Mapping[str, OnlineItem]], str] = digest_of,
) -> dict[str, Judgement]:
    """Return what a comparison says of the projection of each deployed definition.

    Parameters
    ----------
    events_of
        Returns what the log holds of some keys.
    digest
        Returns the digest of the items of a projection.
    """
    judged: dict[str, Judgement] = {}
    for pipeline in load_pipelines().values():
        for definition in pipeline.definitions:
            name = pipeline.entity(definition, "")
            own = {e: i for e, i in found.stored.items() if e.startswith(name)}
            judged[projection_of(name)] = Judgement(
                _is_equal(found, name, beside(pipeline, definition), events_of),
                len(own),
                digest(own),
                max((item.position for item in own.values()), default=""),
                max((item.time_us for item in own.values()), default=0),
            )
    return judged


def newest_us(found: Comparison) -> int:
    """Return the time of the newest event that the log gives, microseconds."""
    return max((item.time_us for item in found.replayed.values()), default=0)


def verdicts(
    pipeline: Pipeline,
    judged: Mapping[str, Judgement],
    newest_us: int,
    lifecycle: Lifecycle,
) -> Iterator[Decided]:
    """Yield what a comparison with the whole log says of a pipeline's projections.

    Nothing is said again. The time of a verdict is that of the newest event that it is
    about.

    Parameters
    ----------
    newest_us
        Time of the newest event that the log gives, microseconds.
    """
    for definition in pipeline.definitions:
        own = judged[projection_of(pipeline.entity(definition, ""))]
        if not own.items:
            continue
        if own.is_equal is False and is_readable(pipeline, definition, lifecycle):
            why = "items differ from the log"
            yield _withdrawn(pipeline, definition.digest, own.time_us, why)
        seen = Verified(own.digest, own.position)
        if own.is_equal and seen != lifecycle.verified.get(definition.digest):
            yield decided(
                ProjectionVerified,
                own.time_us,
                pipeline=pipeline.name,
                feature_set=definition.name,
                definition=definition.digest,
                items=own.items,
                digest=own.digest,
                position=own.position,
            )
    deployed = {definition.digest for definition in pipeline.definitions}
    for digest, known in sorted(lifecycle.verified.items()):
        if known is not None and digest not in deployed:
            why = "it is deployed no more, so nothing folds it"
            yield _withdrawn(pipeline, digest, newest_us, why)


def beside(pipeline: Pipeline, definition: FeatureSet) -> tuple[str, ...]:
    """Return how entities begin of all projections of the same events."""
    return tuple(
        pipeline.entity(one, "")
        for one in pipeline.definitions
        if one.event is definition.event
    )


def _is_equal(
    found: Comparison, name: str, rivals: tuple[str, ...], events_of: EventsOf
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
        entity.removeprefix(SCORING).startswith(rivals)
        for entity in (*found.ahead, *found.unexplained)
    )
    applied = _applied(held, rivals)
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
    held: Mapping[str, OnlineItem], rivals: tuple[str, ...]
) -> dict[tuple[bool, str], str]:
    """Return the last position that any of several projections applied.

    It is told by key, for what `score_events` keeps and for the rest.
    """
    found: dict[tuple[bool, str], str] = {}
    for entity, item in held.items():
        if entity.removeprefix(SCORING).startswith(rivals):
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
