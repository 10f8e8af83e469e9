"""The state of one key: a set of events, and the fold that grows it.

A set union is idempotent and does not care for order, so redelivery, order of
arrival and the cut into batches cannot change what a state holds. What the state
forgets can never be needed again: it lies behind the horizon, where nothing is
folded any more.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Self

from retrodict import codec
from retrodict.envelope import StampedEvent
from retrodict.expressions import Number
from retrodict.features import FeatureSet
from retrodict.panes import Pane, Panes
from retrodict.upcasting import newest
from retrodict.windows import Entry, check_of, identity_of


class Outcome(StrEnum):
    """What became of an event when it met the state of its key."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    LATE = "late"
    BEHIND = "behind"
    TOO_FAST = "too_fast"


OUTCOMES: Final = tuple(Outcome)
"""What the numbers that the compiled folds give for outcomes stand for."""


class Folded(NamedTuple):
    """One event, its outcome, and the features served with it.

    Attributes
    ----------
    features
        At (key, the event's time, its position); null unless asked for, unless the
        event was applied, and where its window reaches behind the horizon.
    """

    event: StampedEvent
    outcome: Outcome
    features: dict[str, Number | None] | None = None


@dataclass(frozen=True, slots=True)
class KeyState:
    """Everything a key needs to go on.

    Attributes
    ----------
    position
        Position of the last event that was applied; empty for none.
    entries
        Applied events in the order (time, identity), shape (n,).
    panes
        What is kept of the events before them, by grid and time, shape (m,).
    """

    definition: FeatureSet
    position: str = ""
    entries: tuple[Entry, ...] = ()
    panes: tuple[Pane, ...] = ()

    @classmethod
    def decode(cls, definition: FeatureSet, blob: bytes | None) -> Self:
        """Read a state from its bytes; none is the state of a new key.

        Raises
        ------
        StateFormatError
            The bytes are not a state of this definition.
        """
        if blob is None:
            return cls(definition)
        position, entries, panes = codec.decode(blob, definition.digest)
        return cls(definition, position, tuple(entries), tuple(panes))

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return codec.encode(
            self.definition.digest,
            self.position,
            len(self.definition.columns),
            self.entries,
            self.panes,
        )

    @property
    def time_us(self) -> int | None:
        """Time of the newest applied event, microseconds."""
        return self.entries[-1].time_us if self.entries else None

    @property
    def features(self) -> dict[str, Number | None]:
        """Every feature as of the newest applied event."""
        panes = Panes(self.panes, self.definition.grids)
        return self.definition.at(self.entries, panes=panes)

    def fold(
        self, events: Iterable[StampedEvent], *, emit: bool = False
    ) -> tuple[Self, list[Folded]]:
        """Apply `events` in the order they became known.

        Parameters
        ----------
        events
            Events of this key in the order of their positions, shape (n,).
        emit
            Compute the features served with each applied event.

        Returns
        -------
        tuple
            The new state, and one outcome an event, shape (n,).
        """
        fold = Fold(self)
        outcomes = [fold.apply(event, emit=emit) for event in events]
        after = type(self)(
            self.definition, fold.position, tuple(fold.entries), fold.kept_panes()
        )
        return after, outcomes


class Fold:
    """The working copy of a state while events are folded into it, one by one."""

    def __init__(self, state: KeyState) -> None:
        self.definition = state.definition
        self.contract = state.definition.event.contract()
        self.position = state.position
        self.entries: list[Entry] = list(state.entries)
        self.known = {entry.identity: entry for entry in self.entries}
        self.panes = Panes(state.panes, state.definition.grids)
        self.entry_bytes = codec.entry_bytes(len(state.definition.columns))

    def apply(self, event: StampedEvent, *, emit: bool) -> Folded:
        """Judge an event in the order of positions, and apply it where it is to be."""
        entry = Entry(
            event.time_us,
            identity_of(event.source, event.id),
            check_of(event.digest),
            self.definition.values_of(newest(event, self.contract).data),
        )
        # A key arrives in order of position, so one that is not new was judged before.
        outcome = self.take(
            entry, is_late=event.late, is_known=event.position <= self.position
        )
        if outcome is not Outcome.APPLIED:
            return Folded(event, outcome)
        self.position = max(self.position, event.position)
        return Folded(event, outcome, self.served(entry) if emit else None)

    def take(self, entry: Entry, *, is_late: bool, is_known: bool) -> Outcome:
        """Judge an entry, and apply it where it is to be."""
        outcome = self._judge(entry, is_late=is_late, is_known=is_known)
        if outcome is Outcome.APPLIED:
            insort(self.entries, entry)
            self.known[entry.identity] = entry
            self._forget()
        return outcome

    def kept_panes(self) -> tuple[Pane, ...]:
        """Return the panes that a feature may still read, in order."""
        self._forget_panes()
        return self.panes.kept()

    def _judge(self, entry: Entry, *, is_late: bool, is_known: bool) -> Outcome:
        if is_known:
            # A key arrives in order of position, so this one was judged before, and
            # what it was judged by may be gone, or may have come since.
            return Outcome.DUPLICATE
        known = self.known.get(entry.identity)
        if known is not None:
            return Outcome.DUPLICATE if known == entry else Outcome.CONFLICTING
        if is_late:
            return Outcome.LATE
        if entry.time_us <= self._horizon():
            return Outcome.BEHIND
        return Outcome.APPLIED if self._fits(entry.time_us) else Outcome.TOO_FAST

    def _fits(self, time_us: int) -> bool:
        """Return whether the state has room for one more event, at `time_us`."""
        room_bytes = self.definition.state_limit_bytes - codec.HEAD_BYTES
        room_bytes -= (len(self.entries) + 1) * self.entry_bytes
        if self.panes.most_bytes <= room_bytes:
            return True
        self._forget_panes()
        if self.panes.size_bytes() <= room_bytes:
            return True
        dropped = self.entries[: self._droppable(time_us)]
        room_bytes += len(dropped) * self.entry_bytes
        return self.panes.size_with(dropped) <= room_bytes

    def _droppable(self, newest_us: int) -> int:
        """Return how many entries nothing reads once `newest_us` is the newest time."""
        horizon_us = newest_us - self.definition.kept_us
        behind = bisect_right(self.entries, horizon_us, key=_time)
        return max(0, behind - self.definition.depth)

    def _horizon(self) -> int:
        if not self.entries:
            return -(1 << 62)
        return self.entries[-1].time_us - self.definition.kept_us

    def _forget(self) -> None:
        """Drop what lies behind the horizon, but for what last(n) still reads."""
        drop = self._droppable(self.entries[-1].time_us)
        if drop:
            sealing, is_new_pane = bool(self.definition.grids), False
            for entry in self.entries[:drop]:
                del self.known[entry.identity]
                if sealing:  # nothing can join an event that is held no more
                    is_new_pane |= self.panes.seal(entry)
            del self.entries[:drop]
            if is_new_pane:
                self._forget_panes()

    def _forget_panes(self) -> None:
        if self.entries:
            self.panes.forget(self.entries[-1].time_us, self.definition.reach_us)

    def served(self, entry: Entry) -> dict[str, Number | None] | None:
        """Return the features served with an applied entry, if it is not too old."""
        leaves = self.served_leaves(entry)
        return None if leaves is None else self.definition.program.run(leaves)

    def served_leaves(self, entry: Entry) -> list[Number | None] | None:
        """Return what those features are computed of."""
        newest = self.entries[-1].time_us
        if entry.time_us < newest - self.definition.reach_us:
            return None
        return self.definition.leaves_at(self.entries, entry.time_us, self.panes)


def _time(entry: Entry) -> int:
    return entry.time_us


def order_of_knowing(events: Sequence[StampedEvent]) -> list[StampedEvent]:
    """Return `events` by position, each position once, as a log replay needs them."""
    return sorted({e.position: e for e in events}.values(), key=lambda e: e.position)
