"""Run seeds on every core and say what was injected and what broke.

``make simulate SEEDS=1000`` runs seeds 0 to 999; ``python -m tests.simulation --seed 7
--trace`` prints what happened in one. Ends with 1 when an invariant broke, or when
there were enough seeds and a class of faults never fired.
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence

from tests.simulation.faults import Fault
from tests.simulation.invariants import sentences
from tests.simulation.runs import ENOUGH_SEEDS, Tally, checked, tally_of
from tests.simulation.simulation import plan_of


def trace(seed: int) -> int:
    """Print the trace of one run; return the exit code."""
    world = checked(plan_of(seed)).world
    print("\n".join(world.lines))
    print(f"trace sha256:{world.trace_digest}")
    return int(bool(world.violations))


def simulate(seeds: Sequence[int]) -> int:
    """Run seeds and print what they came to; return the exit code."""
    began = time.perf_counter()
    told = 0

    def report(tally: Tally) -> None:
        nonlocal told
        for run in tally.broken[told:]:
            told_of = sentences(run.violations, 400)
            print(f"seed {run.seed} broke:\n{told_of}", flush=True)
        told = len(tally.broken)

    tally = tally_of(seeds, report=report)
    print(summary(tally, time.perf_counter() - began))
    misses = bool(tally.unseen) and len(seeds) >= ENOUGH_SEEDS
    return int(bool(tally.broken) or misses)


def summary(tally: Tally, seconds: float) -> str:
    """Return the figures of many runs as lines."""
    width = max(map(len, Fault))
    lines = [
        f"{tally.runs} runs in {seconds:.0f} s",
        f"{tally.events} events, {tally.writes} writes, {tally.fired.total()} faults",
        f"{tally.deliveries / tally.records:.2f} deliveries a record and consumer",
        f"{tally.calls / tally.records:.2f} calls of AWS a record and consumer",
        f"{tally.training_sets} training sets compared",
        *(f"  {fault.value:<{width}} {tally.fired[fault]:>9}" for fault in Fault),
        *(f"never fired: {fault.value}" for fault in tally.unseen),
        f"traces sha256:{tally.digest}",
        f"{sum(len(run.violations) for run in tally.broken)} violations",
        *(
            f"  again with: python -m tests.simulation --seed {run.seed} --trace"
            for run in tally.broken
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; return the exit code."""
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=ENOUGH_SEEDS, help="how many")
    parser.add_argument("--seed", type=int, help="the first, or the only one")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    chosen = parser.parse_args(arguments)
    first = chosen.seed or 0
    if chosen.trace:
        return trace(first)
    return simulate(range(first, first + chosen.seeds))


if __name__ == "__main__":
    sys.exit(main())
