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
from typing import Self

from retrodict import codec
from retrodict.envelope import StampedEvent
from retrodict.expressions import Number
from retrodict.features import Entry, FeatureSet
from retrodict.panes import Pane, Panes


class Outcome(StrEnum):
    """What became of an event when it met the state of its key."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    LATE = "late"
    BEHIND = "behind"
    TOO_FAST = "too_fast"


@dataclass(frozen=True, slots=True)
class Folded:
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
        Applied events in the order (time, source, id), shape (n,).
    panes
        What is kept of the events before them, by hour and field, in order, shape
        (m,).
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
            len(self.definition.fields),
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
        panes = Panes(self.panes, self.definition.pane_columns)
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
        fold = _Fold(self)
        outcomes = [fold.apply(event, emit=emit) for event in events]
        after = type(self)(
            self.definition, fold.position, tuple(fold.entries), fold.kept_panes()
        )
        return after, outcomes


class _Fold:
    """The working copy of a state while a batch is folded into it."""

    def __init__(self, state: KeyState) -> None:
        self.definition = state.definition
        self.position = state.position
        self.entries: list[Entry] = list(state.entries)
        self.digests = {(e.source, e.id): e.digest for e in self.entries}
        self.panes = Panes(state.panes, state.definition.pane_columns)
        self.size_bytes = sum(map(_entry_bytes, self.entries))

    def apply(self, event: StampedEvent, *, emit: bool) -> Folded:
        values = self.definition.values_of(event.data)
        entry = Entry(event.time_us, event.source, event.id, event.digest, values)
        outcome = self._judge(event, entry)
        if outcome is not Outcome.APPLIED:
            return Folded(event, outcome)
        insort(self.entries, entry)
        self.digests[event.source, event.id] = event.digest
        self.size_bytes += _entry_bytes(entry)
        self.position = max(self.position, event.position)
        self._forget()
        return Folded(event, outcome, self._served(entry) if emit else None)

    def kept_panes(self) -> tuple[Pane, ...]:
        """Return the panes that a feature may still read, in order."""
        self._forget_panes()
        return self.panes.kept()

    def _judge(self, event: StampedEvent, entry: Entry) -> Outcome:
        known = self.digests.get((event.source, event.id))
        if known is not None:
            same = known == event.digest
            return Outcome.DUPLICATE if same else Outcome.CONFLICTING
        if event.late:
            return Outcome.LATE
        if event.time_us <= self._horizon():
            return Outcome.BEHIND
        if event.position <= self.position:
            # A key arrives in order of position, so this one was judged before, and
            # of all that is not applied only this judgement depends on the moment.
            return Outcome.TOO_FAST
        return Outcome.APPLIED if self._fits(entry) else Outcome.TOO_FAST

    def _fits(self, entry: Entry) -> bool:
        room_bytes = self.definition.state_limit_bytes
        room_bytes -= self.size_bytes + _entry_bytes(entry)
        if self.panes.most_bytes <= room_bytes:
            return True
        self._forget_panes()
        return self.panes.size_bytes() <= room_bytes

    def _horizon(self) -> int:
        if not self.entries:
            return -(1 << 62)
        return self.entries[-1].time_us - self.definition.kept_us

    def _forget(self) -> None:
        """Drop what lies behind the horizon, but for what last(n) still reads."""
        behind = bisect_right(self.entries, self._horizon(), key=_time)
        drop = behind - self.definition.depth
        if drop > 0:
            sealing, is_new_hour = bool(self.definition.pane_columns), False
            for entry in self.entries[:drop]:
                del self.digests[entry.source, entry.id]
                self.size_bytes -= _entry_bytes(entry)
                if sealing:  # nothing can join an event that is held no more
                    is_new_hour |= self.panes.seal(entry)
            del self.entries[:drop]
            if is_new_hour:
                self._forget_panes()

    def _forget_panes(self) -> None:
        if self.entries:
            newest_us = self.entries[-1].time_us
            self.panes.forget(self.definition.oldest_hour(newest_us))

    def _served(self, entry: Entry) -> dict[str, Number | None] | None:
        newest = self.entries[-1].time_us
        if entry.time_us < newest - (
            self.definition.kept_us - self.definition.window_us
        ):
            return None
        return self.definition.at(self.entries, entry.time_us, self.panes)


def _time(entry: Entry) -> int:
    return entry.time_us


def _entry_bytes(entry: Entry) -> int:
    """Return an upper bound of what `entry` adds to the encoded state, bytes."""
    stamps, a_source_of_its_own = 24, len(entry.source.encode()) + 4
    values = 8 * len(entry.values) + 10
    return stamps + a_source_of_its_own + len(entry.id.encode()) + 34 + values


def order_of_knowing(events: Sequence[StampedEvent]) -> list[StampedEvent]:
    """Return `events` by position, each position once, as a log replay needs them."""
    return sorted({e.position: e for e in events}.values(), key=lambda e: e.position)
