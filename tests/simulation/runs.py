"""Runs from their plans to their figures, one after the other or on every core."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.faults import Fault
from tests.simulation.invariants import Checker
from tests.simulation.runtime import environment
from tests.simulation.simulation import Plan, Simulation, plan_of, state_limit

SEEDS_A_TASK: Final = 10

ENOUGH_SEEDS: Final = 200
"""Over so many seeds, every class of faults must have fired."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to.

    Attributes
    ----------
    writes
        Side effects, not counting those of the invariants.
    records, deliveries
        Records that consumers were given, and how often that was.
    calls
        Those of AWS that consumers made.
    training_sets
        Sets that were built and compared; the other runs had too little for one.
    digest
        Of its trace.
    """

    seed: int
    events: int
    writes: int
    records: int
    deliveries: int
    calls: int
    training_sets: int
    fired: Counter[Fault]
    violations: tuple[str, ...]
    digest: str


@dataclass(slots=True)
class Tally:
    """What many runs came to, in the order of their seeds."""

    runs: int = 0
    events: int = 0
    writes: int = 0
    records: int = 0
    deliveries: int = 0
    calls: int = 0
    training_sets: int = 0
    fired: Counter[Fault] = field(default_factory=Counter)
    broken: list[Run] = field(default_factory=list)
    _digests: list[str] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Count one more run."""
        self.runs += 1
        self.events += run.events
        self.writes += run.writes
        self.records += run.records
        self.deliveries += run.deliveries
        self.calls += run.calls
        self.training_sets += run.training_sets
        self.fired.update(run.fired)
        self._digests.append(run.digest)
        if run.violations:
            self.broken.append(run)

    @property
    def digest(self) -> str:
        """Return one digest over the traces of all runs."""
        return hashlib.sha256("\n".join(self._digests).encode()).hexdigest()

    @property
    def unseen(self) -> list[Fault]:
        """Return the classes of faults that never fired."""
        return [fault for fault in Fault if not self.fired[fault]]


def checked(
    plan: Plan, sabotage: Callable[[Simulation], None] | None = None
) -> Checker:
    """Carry out a plan, and check every invariant.

    Parameters
    ----------
    sabotage
        Breaks something before the run, to see whether the invariants notice.
    """
    with environment(), state_limit(plan.state_limit_bytes):
        simulation = Simulation(plan)
        if sabotage is not None:
            sabotage(simulation)
        with simulation.operator.deployments:
            simulation.run()
            checker = Checker(simulation)
            checker.check()
    return checker


def run_of(plan: Plan, sabotage: Callable[[Simulation], None] | None = None) -> Run:
    """Carry out a plan and return its figures."""
    checker = checked(plan, sabotage)
    world = checker.world
    return Run(
        seed=plan.seed,
        events=plan.events,
        writes=checker.simulation.writes,
        records=sum(one.records for one in checker.simulation.mappings),
        deliveries=sum(one.deliveries for one in checker.simulation.mappings),
        calls=checker.simulation.calls,
        training_sets=checker.training_sets,
        fired=world.fired,
        violations=tuple(world.violations),
        digest=world.trace_digest,
    )


def tally_of(
    seeds: Iterable[int], *, report: Callable[[Tally], None] = lambda _: None
) -> Tally:
    """Run seeds on every core, and report after each."""
    tally = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for run in pool.map(_run, seeds, chunksize=SEEDS_A_TASK):
            tally.add(run)
            report(tally)
    return tally


def _run(seed: int) -> Run:
    return run_of(plan_of(seed))
