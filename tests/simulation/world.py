"""Virtual time, one source of chance, and every call to AWS as an SDK makes it.

A call is tried up to three times. An attempt can be refused, can be applied while its
answer is lost, or can be applied only later: after the caller was told that it failed.
A write inside an invocation is also where the process may die, and where the mapping
may lose patience and deliver the same records to somebody else.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Final, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError

from tests.simulation.faults import Fault

T = TypeVar("T")

START_US: Final = 1_767_614_400_000_000
SECOND_US: Final = 1_000_000
SDK_ATTEMPTS: Final = 3
DEEPEST: Final = 3
"""How many invocations go on inside one another."""

IN_PART: Final = ("FailedRecordCount", "UnprocessedKeys")
"""Names under which an answer tells what it left undone."""

GIVING_UP: Final = 0.4
"""Chance that an SDK has spent its retries after a failed attempt."""


class Crash(BaseException):
    """The process of an invocation is gone; no handler can catch it."""


def refusal(code: str, operation: str) -> ClientError:
    """Return the error of a service that answered with `code`."""
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


class Invocation:
    """One run of a function, and how to tell its mapping that it takes too long.

    Attributes
    ----------
    beside
        Lets its mapping run another one at the same time, if it does that.
    calls, refused
        How often it made each call, and how often that was refused, if only in part.
    disturbed
        How often somebody else may have written while it ran.
    items_read
        Entity and part of each item that it asked for.
    acknowledged
        Records that a stream took from it.
    """

    def __init__(
        self,
        name: str,
        abandon: Callable[[], None] | None,
        beside: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.abandon = abandon
        self.beside = beside
        self.is_abandoned = False
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.disturbed = 0
        self.items_read: set[tuple[str, str]] = set()
        self.acknowledged: set[tuple[str, str, bytes]] = set()


class World:
    """What all simulated services share.

    Parameters
    ----------
    rates
        Chance of each fault; one that is missing never fires.
    at
        Fire this one fault at this side effect, counted from 0, once, whatever the
        rates.
    """

    def __init__(
        self,
        seed: int,
        rates: Mapping[Fault, float],
        *,
        at: tuple[Fault, int] | None = None,
    ) -> None:
        self.random = Random(seed)
        self.rates = rates
        self.at = at
        self.now_us = START_US
        self.is_faulty = True
        self.fired: Counter[Fault] = Counter()
        self.violations: list[str] = []
        self.running: list[Invocation | None] = []
        self.outages: dict[str, int] = {}
        self.writes = 0
        self.overlap: Callable[[], None] = lambda: None
        self._late: list[tuple[int, int, str, Callable[[], object]]] = []
        self._landings = 0
        self._digest = hashlib.sha256()
        self.lines: list[str] = []

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Let nothing fail, as for somebody who only looks."""
        before, self.is_faulty = self.is_faulty, False
        try:
            yield
        finally:
            self.is_faulty = before

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        stamped = f"{(self.now_us - START_US) / SECOND_US:12.6f} {line}"
        self._digest.update(stamped.encode() + b"\n")
        self.lines.append(stamped)

    @property
    def trace_digest(self) -> str:
        """Return the sha256 of the trace so far."""
        return self._digest.hexdigest()

    def fire(self, fault: Fault, detail: str = "") -> None:
        """Count a fault that happened."""
        self.fired[fault] += 1
        self.note(f"! {fault.value} {detail}".rstrip())

    def chance(self, fault: Fault) -> bool:
        """Return whether `fault` happens now."""
        rate = self.rates.get(fault, 0.0)
        return self.is_faulty and rate > 0 and self.random.random() < rate

    def violate(self, sentence: str) -> None:
        """Record that an invariant broke."""
        self.violations.append(sentence)
        self.note(f"# {sentence}")

    def advance(self, duration_us: int) -> None:
        """Let time pass, and land every write that is due by then."""
        until_us = self.now_us + duration_us
        while self._late and self._late[0][0] <= until_us:
            due_us, _, operation, effect = heapq.heappop(self._late)
            self.now_us = max(self.now_us, due_us)
            self.disturb()
            self._land(operation, effect)
        self.now_us = max(self.now_us, until_us)

    def sleep(self, duration_s: float) -> None:
        """Sleep in virtual time; what adapters are given for ``time.sleep``."""
        self.advance(round(duration_s * SECOND_US))

    def land_all(self) -> bool:
        """Land every write that is still on its way, and return whether one was."""
        if not self._late:
            return False
        self.advance(max(due_us for due_us, *_ in self._late) - self.now_us)
        return True

    def _land(self, operation: str, effect: Callable[[], object]) -> None:
        self.note(f"lands late {operation}")
        try:
            effect()
        except ClientError as error:
            self.note(f"refused late {error.response['Error']['Code']}")

    @property
    def invocation(self) -> Invocation | None:
        """What runs now, None where it is no function."""
        return self.running[-1] if self.running else None

    def disturb(self) -> None:
        """Tell whatever runs that somebody else may have written meanwhile."""
        for invocation in self.running:
            if invocation is not None:
                invocation.disturbed += 1

    def read(self, service: str, operation: str, answer: Callable[[], T]) -> T:
        """Read as an SDK does: what is refused is asked again."""
        return self._count(
            operation,
            lambda: self._attempt(service, operation, answer, is_write=False),
        )

    def _count(self, operation: str, call: Callable[[], T]) -> T:
        """Make a call, and count it for whatever makes it."""
        invocation = self.invocation
        if invocation is None:
            return call()
        invocation.calls[operation] += 1
        try:
            answer = call()
        except (ClientError, ReadTimeoutError):
            invocation.refused[operation] += 1
            raise
        if isinstance(answer, dict) and any(map(answer.get, IN_PART)):
            invocation.refused[operation] += 1
        return answer

    def write(self, service: str, operation: str, effect: Callable[[], T]) -> T:
        """Write as an SDK does, with every way in which that is ambiguous."""
        place = self.writes
        self.writes += 1
        self._interrupt(operation, place)
        result = self._count(
            operation,
            lambda: self._attempt(
                service, operation, effect, is_write=True, place=place
            ),
        )
        if self.invocation is not None:
            self._crash_if(Fault.CRASH_AFTER, operation, place)
        return result

    def _chosen(self, fault: Fault, place: int) -> bool:
        if self.at == (fault, place):
            self.at = None
            return True
        return self.chance(fault)

    def _crash_if(self, fault: Fault, operation: str, place: int) -> None:
        if self._chosen(fault, place):
            self.fire(fault, operation)
            raise Crash

    def _interrupt(self, operation: str, place: int) -> None:
        invocation = self.invocation
        if invocation is None:
            return
        self._crash_if(Fault.CRASH_BEFORE, operation, place)
        if invocation.beside is not None and len(self.running) <= DEEPEST:
            invocation.beside()
        if invocation.abandon is None or invocation.is_abandoned:
            return
        if self._chosen(Fault.ZOMBIE, place):
            self.fire(Fault.ZOMBIE, f"{invocation.name} before {operation}")
            invocation.is_abandoned = True
            invocation.abandon()
            self.overlap()
            self.note(f"zombie goes on {invocation.name} {operation}")

    def _attempt(
        self,
        service: str,
        operation: str,
        effect: Callable[[], T],
        *,
        is_write: bool,
        place: int = -1,
    ) -> T:
        error: Exception = refusal("ServiceUnavailable", operation)
        for _ in range(SDK_ATTEMPTS):
            self.advance(self.random.randint(1, 40) * 1_000)
            if self.is_faulty and self.outages.get(service, 0) > self.now_us:
                self.fire(Fault.OUTAGE, operation)
                error = refusal("ServiceUnavailable", operation)
                self.advance(200_000)
            elif self.chance(Fault.THROTTLE):
                self.fire(Fault.THROTTLE, operation)
                error = refusal("ThrottlingException", operation)
                self.advance(100_000)
            elif is_write and self._chosen(Fault.APPLIED_TIMED_OUT, place):
                self.fire(Fault.APPLIED_TIMED_OUT, operation)
                self._land(operation, effect)
                error = ReadTimeoutError(endpoint_url=service)
            elif is_write and self._chosen(Fault.LATE_LANDING, place):
                self.fire(Fault.LATE_LANDING, operation)
                due_us = self.now_us + self.random.randint(1, 60_000) * 1_000
                self._landings += 1
                entry = (due_us, self._landings, operation, effect)
                heapq.heappush(self._late, entry)
                error = ReadTimeoutError(endpoint_url=service)
            else:
                return effect()
            if self.random.random() < GIVING_UP:
                break
        raise error
