"""Rebuild one part of the keys, and join what all parts say.

The parts know nothing of each other, so each can run on a machine of its own. Items
that the log does not explain are in no part, since a part asks the store for what the
log knows. So when the store is only compared, each part also lists a share of it, and
what was listed beyond what all parts have asked for and found is what nobody explains.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from retrodict.buckets import BUCKETS
from retrodict.errors import IncompleteRebuildError
from retrodict.pipeline import load_pipelines
from retrodict.ports import EventLog, OnlineStore
from retrodict.replaying import (
    Comparison,
    combined,
    compare,
    current_projections,
    digest_of_part,
    projection_of,
    replay_log,
    split_scoring,
)
from retrodict.scoring import SCORING
from retrodict.verifying import Judgement, beside, judge, newest_us, told_of

_COUNTS: Final = (
    "events", "items", "differing", "scoring_items", "scoring_differing", "ahead",
    "written",
)  # fmt: skip
_MARK_BYTES: Final = 16
_MARKS: Final = 1 << 8 * _MARK_BYTES


@dataclass(frozen=True, slots=True)
class Tally:
    """Items of one projection that were listed, less those that were asked for.

    Attributes
    ----------
    items
        How many; 0 of all parts together where the log explains every item.
    mark
        Sum of the hashes of their entities, as hexadecimal digits: it tells that those
        listed are others than those asked for, even where they are as many.
    listed
        How many were listed.
    time_us
        Time of the newest event of those listed, microseconds.
    """

    items: int = 0
    mark: str = "0"
    listed: int = 0
    time_us: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Return the tally of both."""
        mark = (int(self.mark, 16) + int(other.mark, 16)) % _MARKS
        return Tally(
            self.items + other.items,
            f"{mark:x}",
            self.listed + other.listed,
            max(self.time_us, other.time_us),
        )

    @property
    def unexplained(self) -> int:
        """How many items the log does not explain; 0 only where it explains all."""
        return 0 if self.mark == "0" else max(1, self.items)


def rebuild_bucket(
    bucket: int, log: EventLog, store: OnlineStore, *, write: bool
) -> dict[str, Any]:
    """Replay one part of the keys, and write what differs unless told not to.

    Returns
    -------
    dict
        Counts and digests, JSON; see `combine`.

    Raises
    ------
    StateConflictError
        An item was written since it was read: rebuild the part again.
    StoreUnavailableError
        Log or store refused even after retries.
    """
    replayed, outcomes = replay_log(log, buckets=[bucket])
    held = store.load([*replayed, *(f"{SCORING}{entity}" for entity in replayed)])
    found = compare(replayed, held.values(), lambda keys: log.read(keys=keys))
    judged = {} if write else _judged(bucket, found, log, store)
    written = 0
    for item in found.repairs() if write else ():
        store.put(item)
        held[item.entity] = item
        written += 1
    after, _ = split_scoring(held.values())
    return {
        "bucket": bucket,
        "events": sum(outcomes.values()),
        "outcomes": dict(outcomes),
        "items": len(found.replayed),
        "differing": len(found.differing),
        "scoring_items": len(found.scoring),
        "scoring_differing": len(found.apart),
        "ahead": len(found.ahead),
        "written": written,
        "log_digest": digest_of_part(found.replayed),
        "store_digest": digest_of_part(after),
        **judged,
    }


def _judged(
    bucket: int, found: Comparison, log: EventLog, store: OnlineStore
) -> dict[str, Any]:
    """Return what a part says of each projection, and what it listed of the store."""
    judged = judge(found, lambda keys: log.read(keys=keys), digest_of_part)
    listed = store.entities(bucket, BUCKETS)
    asked = ((entity, 0) for entity in (*found.stored, *found.scoring))
    tallies = _tallied(asked, -1)
    for name, tally in _tallied(listed, 1).items():
        tallies[name] = tallies.get(name, Tally()) + tally
    return {
        "newest_us": newest_us(found),
        "projections": {name: asdict(one) for name, one in judged.items()},
        "tallies": {name: asdict(one) for name, one in tallies.items()},
    }


def _tallied(entities: Iterable[tuple[str, int]], sign: int) -> dict[str, Tally]:
    """Return what was listed of each projection, or, less, asked for."""
    counted: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    newest: dict[str, int] = {}
    for entity, time_us in entities:
        name = projection_of(entity)
        raw = hashlib.sha256(entity.encode()).digest()[:_MARK_BYTES]
        counted[name] += 1
        marks[name] += int.from_bytes(raw, "big")
        newest[name] = max(newest.get(name, 0), time_us)
    return {
        name: Tally(
            sign * items,
            f"{sign * marks[name] % _MARKS:x}",
            items if sign > 0 else 0,
            newest[name],
        )
        for name, items in counted.items()
    }


def combine(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return what all parts of the keys did, with the digests of the whole.

    Where they only compared, it says of each projection what `judge` says of the whole.

    Raises
    ------
    IncompleteRebuildError
        A part is missing, or came twice.
    """
    told = {part["bucket"]: part for part in parts if part is not None}
    if sorted(told) != [*range(BUCKETS)] or len(parts) != BUCKETS:
        missing = sorted({*range(BUCKETS)} - told.keys())
        raise IncompleteRebuildError(
            f"expected the {BUCKETS} parts of the keys, each once, got {len(parts)} "
            f"results without those of {missing}: look at the failed executions of "
            "the map, and rebuild again"
        )
    ordered = [told[bucket] for bucket in range(BUCKETS)]
    outcomes: Counter[str] = Counter()
    for part in ordered:
        outcomes.update(part["outcomes"])
    done = {
        **{name: sum(part[name] for part in ordered) for name in _COUNTS},
        "outcomes": dict(outcomes),
        "log_digest": combined([part["log_digest"] for part in ordered]),
        "store_digest": combined([part["store_digest"] for part in ordered]),
    }
    return done | _joined(ordered, done) if "tallies" in ordered[0] else done


def _joined(
    parts: Sequence[Mapping[str, Any]], done: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what all parts say of each projection, and of items in no part."""
    tallies: dict[str, Tally] = {}
    for part in parts:
        for name, one in part["tallies"].items():
            tallies[name] = tallies.get(name, Tally()) + Tally(**one)
    current = current_projections()
    scoring = sum(
        one.unexplained for name, one in tallies.items() if name.startswith(SCORING)
    )
    retired = {
        name: one.listed
        for name, one in tallies.items()
        if name not in current and not name.startswith(SCORING)
    }
    return {
        "unexplained": sum(tallies.get(name, Tally()).unexplained for name in current),
        "scoring_items": done["scoring_items"] + scoring,
        "scoring_differing": done["scoring_differing"] + scoring,
        "newest_us": max(part["newest_us"] for part in parts),
        "projections": told_of(_joined_judgements(parts, tallies), retired),
    }


def _joined_judgements(
    parts: Sequence[Mapping[str, Any]], tallies: Mapping[str, Tally]
) -> dict[str, Judgement]:
    """Return the judgement of each projection; an item in no part leaves it open."""
    found: dict[str, Judgement] = {}
    for pipeline in load_pipelines().values():
        for definition in pipeline.definitions:
            name = projection_of(pipeline.entity(definition, ""))
            joined = Judgement.join(
                [Judgement(**part["projections"][name]) for part in parts]
            )
            rivals = map(projection_of, beside(pipeline, definition))
            is_open = any(
                tallies[one].unexplained
                for one in (*rivals, f"{SCORING}{name}")
                if one in tallies
            )
            if is_open and joined.is_equal:
                joined = replace(joined, is_equal=None)
            own = tallies.get(name, Tally())
            found[name] = replace(
                joined,
                items=max(joined.items, own.listed),
                time_us=max(joined.time_us, own.time_us),
            )
    return found
