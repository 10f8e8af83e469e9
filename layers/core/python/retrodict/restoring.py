"""Items that missed a batch, written again as the fold of the log.

A batch that its mapping gave up is folded too late: a key's state has passed the
positions of its events, and takes them for judged. The log has the events in the order
of their positions, so the item is folded again from there. An item is left, and said to
be, where the log does not hold yet what it applied, or what it missed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retrodict.envelope import StampedEvent
from retrodict.errors import StateConflictError
from retrodict.online import LOST_RACES, Work, item_of
from retrodict.ports import EventLog, OnlineItem, OnlineStore
from retrodict.scoring import StreamWork, stream_prediction_id
from retrodict.state import Folded, KeyState, Outcome, order_of_knowing
from retrodict.system_events import PredictionMade

Known = Mapping[tuple[str, str], Sequence[StampedEvent]]


@dataclass(slots=True)
class Restored:
    """What became of the items of some works.

    Attributes
    ----------
    written
        How many did not hold their fold, and do now.
    judged
        What became of the events that an item had passed, in the fold of the log: who
        folded without them could not tell of a conflict or a burst among them.
    unpredicted
        How many events of a scoring work were passed over, and have no prediction in
        the log, by entity.
    left
        Why an item could not be written, by entity.
    """

    written: int = 0
    judged: list[tuple[Work, list[Folded]]] = field(default_factory=list)
    unpredicted: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def restore(
    works: Sequence[Work | StreamWork],
    passed: Mapping[str, str],
    log: EventLog,
    store: OnlineStore,
) -> Restored:
    """Write every item that is not the fold of the log, the works' events included.

    A scoring item is the fold up to what was scored last: what comes after that is on
    its way, and is scored when it is delivered.

    Parameters
    ----------
    works
        The events that were missed, by item.
    passed
        The position that each item had applied last before they were delivered again.

    Raises
    ------
    StoreUnavailableError
        Log or store refused even after retries; restoring again goes on.
    """
    done = Restored()
    known = _known(works, log)
    for work in works:
        ordered = known.get((work.definition.event.contract().type, _key(work)), ())
        held = {event.position for event in ordered}
        reason = _lacks(work, held)
        if reason is None:
            reason = _restore(work, ordered, held, store, done)
        if reason is not None:
            done.left[work.entity] = reason
            continue
        judged = _judged(work, ordered, passed.get(work.entity, ""))
        if isinstance(work, Work):
            done.judged.append((work, judged))
            continue
        told = known.get((PredictionMade.contract().type, _key(work)), ())
        count = _unpredicted(work, judged, {event.id for event in told})
        if count:
            done.unpredicted[work.entity] = count
    return done


def _known(works: Sequence[Work | StreamWork], log: EventLog) -> Known:
    """Return what the log holds of the works' keys, by type and key, in order."""
    types = {work.definition.event.contract().type for work in works}
    if any(isinstance(work, StreamWork) for work in works):
        types.add(PredictionMade.contract().type)
    found: dict[tuple[str, str], list[StampedEvent]] = {}
    for event in log.read(types, keys={_key(work) for work in works}):
        found.setdefault((event.type, event.key), []).append(event)
    return {name: order_of_knowing(events) for name, events in found.items()}


def _key(work: Work | StreamWork) -> str:
    return work.events[0].key


def _lacks(work: Work | StreamWork, held: Collection[str]) -> str | None:
    lacking = [event.position for event in work.events if event.position not in held]
    if not lacking:
        return None
    return (
        f"the log does not hold {len(lacking)} of the {len(work.events)} events that "
        f"{work.entity!r} missed, the first at {lacking[0]}: redrive what "
        "archive_events gave up, or wait until it has caught up"
    )


def _restore(
    work: Work | StreamWork,
    ordered: Sequence[StampedEvent],
    held: Collection[str],
    store: OnlineStore,
    done: Restored,
) -> str | None:
    """Write one item if it is to be; return why it cannot be, or None."""
    for _ in range(LOST_RACES):
        item = store.load([work.entity]).get(work.entity)
        if item is not None and item.position not in held:
            return (
                f"{work.entity!r} is ahead of the log, which does not hold "
                f"{item.position} yet: wait until archive_events has caught up, and "
                "where the key never rests, let the mapping rest meanwhile"
            )
        wanted = _fold(work, ordered, item)
        if wanted is None or (item is not None and wanted.content() == item.content()):
            return None
        try:
            store.put(wanted)
        except StateConflictError:
            continue
        done.written += 1
        return None
    return f"{work.entity!r} was written by others each time: data is flowing"


def _fold(
    work: Work | StreamWork, ordered: Sequence[StampedEvent], item: OnlineItem | None
) -> OnlineItem | None:
    """Return the item as the log has it, None if it holds nothing."""
    is_scoring = isinstance(work, StreamWork)
    until = None
    if is_scoring:
        until = _scored_until(work, ordered, item)
    events = [e for e in ordered if until is None or e.position <= until]
    state, _ = KeyState(work.definition).fold(events)
    if not state.entries:
        return None
    found = item_of(work.entity, state, item.version + 1 if item is not None else 1)
    if not is_scoring:
        return found
    # What a scoring item remembers of its alerts is kept.
    return replace(found, features=item.features if item is not None else "{}")


def _scored_until(
    work: Work | StreamWork, ordered: Sequence[StampedEvent], item: OnlineItem | None
) -> str:
    """Return the last position that a scoring item may have been given.

    What its state would apply past the position that it has, it was not given yet.
    """
    last = work.events[-1].position
    if item is None:
        return last
    state = KeyState.decode(work.definition, item.state)
    _, folded = state.fold([e for e in ordered if e.position > item.position])
    until = max(last, item.position)
    for one in folded:
        if one.outcome is Outcome.APPLIED and one.event.position > last:
            break
        until = max(until, one.event.position)
    return until


def _judged(
    work: Work | StreamWork, ordered: Sequence[StampedEvent], until: str
) -> list[Folded]:
    """Return what became of the work's events up to a position."""
    _, folded = KeyState(work.definition).fold(ordered)
    missed = {event.position for event in work.events if event.position <= until}
    return [one for one in folded if one.event.position in missed]


def _unpredicted(
    work: StreamWork, judged: Sequence[Folded], predicted: Collection[str]
) -> int:
    """Count the applied events that have no prediction."""
    return sum(
        one.outcome is Outcome.APPLIED
        and stream_prediction_id(work.pipeline.name, one.event) not in predicted
        for one in judged
    )
