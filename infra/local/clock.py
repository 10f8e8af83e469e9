"""The twin's time: driven in strides, or the machine's own.

Under the driven clock everything in this process that asks the time, moto included,
gets the same instant until the clock is moved. It moves only by `advance_to`, or to
the next due thing when nothing else is left to do, and never sleeps: a retry in
an hour is reached at once. Due things stand in one heap and fire in order.

Lambda processes keep the machine's clock, as does everything that guards against a
hang: time limits, process watches and HTTP run on real seconds.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import time_machine

from infra.local.errors import TwinError

# The turns of what is due at one instant.
WORK: Final = 0
ALARMS: Final = 1
AFTER_ALARMS: Final = 2


class Timer:
    """Something that becomes due at `due`; `cancel` it if it is not wanted any more.

    What is periodic, such as a schedule, comes again and again: it fires when the clock
    passes it, and nobody drives the clock to it. What has a later turn fires once
    everything of its instant that has an earlier one came to rest: first work, then
    looking at alarms, then what waits for their answer.
    """

    def __init__(
        self,
        due: datetime,
        fire: Callable[[], None],
        *,
        is_periodic: bool = False,
        turn: int = WORK,
    ) -> None:
        self.due = due
        self.fire = fire
        self.is_periodic = is_periodic
        self.turn = turn
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not fire."""
        self.is_cancelled = True


class Clock(Protocol):
    """What the twin asks of time."""

    @property
    def is_driven(self) -> bool:
        """Whether time moves only when it is told to."""

    def start(self) -> None:
        """Begin to tell the time."""

    def stop(self) -> None:
        """Give the machine's time back and forget all timers."""

    def now(self) -> datetime:
        """Return the instant, in UTC."""

    def call_at(
        self,
        due: datetime,
        fire: Callable[[], None],
        *,
        is_periodic: bool = False,
        turn: int = WORK,
    ) -> Timer:
        """Call `fire` once `due` is reached; it must return quickly."""

    def next_due(self) -> datetime | None:
        """Return when the earliest timer that is not periodic is due, or None."""


def machine_seconds() -> float:
    """Return the machine's time since the epoch, s, whatever a driven clock says."""
    if time_machine.escape_hatch.is_travelling():
        return float(time_machine.escape_hatch.time.time())
    return time.time()


def machine_now() -> datetime:
    """Return the machine's time in UTC, also while a driven clock stands."""
    return datetime.fromtimestamp(machine_seconds(), UTC)


class _Heap:
    """Timers by due time, of one instant by turn, then by arrival."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._entries: list[tuple[datetime, int, int, Timer]] = []
        self._order = itertools.count()

    def push(self, timer: Timer) -> None:
        with self.changed:
            entry = (timer.due, timer.turn, next(self._order), timer)
            heapq.heappush(self._entries, entry)
            self.changed.notify_all()

    def first(self) -> Timer | None:
        with self.changed:
            while self._entries and self._entries[0][-1].is_cancelled:
                heapq.heappop(self._entries)
            return self._entries[0][-1] if self._entries else None

    def next_work(self) -> datetime | None:
        """Return when the earliest timer that is not periodic is due, or None."""
        with self.changed:
            return min(
                (
                    due
                    for due, _, _, timer in self._entries
                    if not (timer.is_cancelled or timer.is_periodic)
                ),
                default=None,
            )

    def pop_due(self, now: datetime, *, turn: int | None = None) -> Timer | None:
        """Take what is due first, unless it is not of the wanted turn."""
        with self.changed:
            timer = self.first()
            if timer is None or timer.due > now:
                return None
            if turn is not None and timer.turn != turn:
                return None
            heapq.heappop(self._entries)
            return timer

    def clear(self) -> None:
        with self.changed:
            self._entries.clear()
            self.changed.notify_all()


class DrivenClock:
    """Time that stands until it is moved.

    Parameters
    ----------
    start
        The first instant; the machine's now if None.
    """

    is_driven = True

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or machine_now()
        self._heap = _Heap()
        self._moving = threading.RLock()
        self._travel = time_machine.travel(self._now, tick=False)
        self._traveller: time_machine.Traveller | None = None
        self._followers: list[Callable[[datetime], None]] = []

    def start(self) -> None:
        """Stop the time of this process at the clock's instant."""
        self._traveller = self._travel.start()

    def stop(self) -> None:
        """Give the machine's time back and forget all timers."""
        if self._traveller is not None:
            self._travel.stop()
            self._traveller = None
        self._heap.clear()

    def follow(self, follower: Callable[[datetime], None]) -> None:
        """Call `follower` with the new instant at every move, before anything fires."""
        self._followers.append(follower)

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        return self._now

    def call_at(
        self,
        due: datetime,
        fire: Callable[[], None],
        *,
        is_periodic: bool = False,
        turn: int = WORK,
    ) -> Timer:
        """Call `fire` when the clock is moved to `due` or past it."""
        timer = Timer(due, fire, is_periodic=is_periodic, turn=turn)
        self._heap.push(timer)
        return timer

    def next_due(self) -> datetime | None:
        """Return when the earliest timer that is not periodic is due, or None."""
        return self._heap.next_work()

    def advance_to(self, instant: datetime, settle: Callable[[], None]) -> None:
        """Move to `instant`, firing everything due on the way, in order.

        Parameters
        ----------
        instant
            Where to stop. The clock never goes back.
        settle
            Waits until what a fired timer started has come to rest.

        Raises
        ------
        TwinError
            If `instant` is in the past of the clock.
        """
        with self._moving:
            if instant < self._now:
                raise TwinError(
                    f"the clock stands at {self._now.isoformat()} and cannot go back "
                    f"to {instant.isoformat()}"
                )
            settle()
            while (first := self._heap.first()) is not None and first.due <= instant:
                self._move(max(first.due, self._now))
                while timer := self._heap.pop_due(self._now, turn=first.turn):
                    timer.fire()
                settle()
            self._move(instant)

    def _move(self, instant: datetime) -> None:
        self._now = instant
        if self._traveller is not None:
            self._traveller.move_to(instant)
        for follower in self._followers:
            follower(instant)


class MachineClock:
    """The machine's time; one thread fires what becomes due.

    Attributes
    ----------
    failed
        Called with an error of what was fired; the thread goes on.
    """

    is_driven = False

    def __init__(self) -> None:
        self.failed: Callable[[Exception], None] | None = None
        self._heap = _Heap()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to fire timers."""
        self._thread = threading.Thread(
            target=self._run, name="twin-clock", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Forget all timers and end the thread."""
        self._stopping = True
        self._heap.clear()
        if self._thread is not None:
            self._thread.join()

    def now(self) -> datetime:
        """Return the machine's instant, in UTC."""
        return machine_now()

    def call_at(
        self,
        due: datetime,
        fire: Callable[[], None],
        *,
        is_periodic: bool = False,
        turn: int = WORK,
    ) -> Timer:
        """Call `fire` at `due`."""
        timer = Timer(due, fire, is_periodic=is_periodic, turn=turn)
        self._heap.push(timer)
        return timer

    def next_due(self) -> datetime | None:
        """Return when the earliest timer that is not periodic is due, or None."""
        return self._heap.next_work()

    def _run(self) -> None:
        while not self._stopping:
            while (timer := self._heap.pop_due(self.now())) is not None:
                self._fire(timer)
            with self._heap.changed:
                if self._stopping:
                    return
                first = self._heap.first()
                wait = None if first is None else first.due - self.now()
                if wait is None or wait > timedelta(0):
                    self._heap.changed.wait(wait.total_seconds() if wait else None)

    def _fire(self, timer: Timer) -> None:
        try:
            timer.fire()
        except Exception as error:
            if self.failed is None:
                raise
            self.failed(error)
