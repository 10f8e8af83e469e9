"""Throw a million inputs at the validator, and judge each verdict by an oracle.

Run with ``python -m tests.fuzz``. Ends with 1 when something raised, a verdict broke a
promise, an input of 1 MiB took too long, or a reason or a generator was never seen;
prints the input as hexadecimal digits, as small as it could be made.
"""

import argparse
import os
import sys
import time
from functools import partial
from multiprocessing import get_context
from typing import Final

from retrodict.reasons import Reason
from retrodict.validation import Catalog, validate

from tests.fuzz.harness import Report, complaint, fuzz, fuzz_chunk, shrink
from tests.fuzz.inputs import (
    GENERATORS,
    LONGEST,
    Input,
    catalog,
    edge_cases,
    marks_out_of_order,
    minutes_beyond_an_hour,
    worst_cases,
)

CHUNK: Final = 5_000
WORST_S: Final = 0.25
SHOWN_DIGITS: Final = 4_000
NOT_OF_THE_VALIDATOR: Final = frozenset(
    {
        Reason.IDENTITY_CONFLICT, Reason.RATE_EXCEEDED, Reason.UNREADABLE_EVENT,
        Reason.UNREADABLE_FILE,
    }
)  # fmt: skip
"""Reasons that other functions give."""


def seconds_of(given: Input, known: Catalog) -> float:
    """Return how long the validator takes, the best of three, seconds."""
    best = float("inf")
    for _ in range(3):
        best = min(best, complaint(given, validate, known)[2])
        if best < WORST_S / 5 or best > WORST_S * 5:
            break
    return best


def never_given(report: Report) -> set[str]:
    """Return the reasons and the generators that no input has shown to work."""
    reasons = set(Reason) - NOT_OF_THE_VALIDATOR - set(map(Reason, report.reasons))
    return reasons | (GENERATORS.keys() - report.inputs.keys())


def print_row(name: str, count: int, taken: int, fast: int) -> None:
    """Print one line of the table."""
    print(f"{name:<28}{count:>10,}{taken:>10,}{fast:>10,}{count - taken:>10,}")


def print_report(report: Report) -> None:
    """Print the table."""
    print(
        f"\n{'generator':<28}{'inputs':>10}{'accepted':>10}{'fast':>10}{'rejected':>10}"
    )
    for name, count in sorted(report.inputs.items()):
        print_row(name, count, report.accepted[name], report.fast[name])
    fast = report.fast.total()
    print_row("all", report.inputs.total(), report.accepted.total(), fast)
    print(f"\n{'rejected for':<28}{'records':>10}")
    for reason, number in report.reasons.most_common():
        print(f"{reason:<28}{number:>10,}")
    print(f"never given: {', '.join(sorted(never_given(report))) or 'none'}")
    if report.slowest is not None:
        print(
            f"\nslowest {report.slowest_s * 1e3:.1f} ms, {report.slowest.generator}, "
            f"{len(report.slowest.raw):,} bytes: {report.slowest.raw[:60]!r}"
        )


def print_failures(report: Report, known: Catalog) -> None:
    """Print each failing input, made small, so that it can be given again."""
    for given, wrong in report.failures:
        small = shrink(given, validate, known)
        digits = small.raw.hex()
        print(f"\nFAILED {given.generator}, partition key {given.partition_key!r}")
        print(wrong)
        print(f"{len(small.raw)} of {len(given.raw)} bytes are enough:")
        print(digits if len(digits) <= SHOWN_DIGITS else given.raw.hex())


def worst(known: Catalog) -> bool:
    """Print how long each input of 1 MiB takes; return whether all are fast enough."""
    report, slow = Report(), 0
    print(f"\n{'1 MiB of':<42}{'ms':>8}")
    for given in (*worst_cases(), marks_out_of_order(LONGEST // 64)):
        report.add(fuzz([given], validate, known))
        took = seconds_of(given, known)
        slow += took >= WORST_S
        size = "" if len(given.raw) > LONGEST * 0.9 else f"  {len(given.raw):,} bytes"
        mark = "  TOO SLOW" if took >= WORST_S else ""
        print(f"{given.generator:<42}{took * 1e3:>8.1f}{size}{mark}", flush=True)
    print_failures(report, known)
    return not slow and not report.failures


def main() -> int:
    """Fuzz and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    known = catalog()
    began = time.perf_counter()
    report = fuzz((*edge_cases(), *minutes_beyond_an_hour()), validate, known)
    tasks = [
        (chunk, min(CHUNK, chosen.inputs - chunk * CHUNK))
        for chunk in range(-(-chosen.inputs // CHUNK))
    ]
    with get_context("spawn").Pool(chosen.workers) as pool:
        for part in pool.imap(partial(fuzz_chunk, chosen.seed), tasks):
            report.add(part)
    took = time.perf_counter() - began
    print(f"seed {chosen.seed}, {chosen.workers} workers, {took:.0f} s", end="")
    print(f", {report.inputs.total() / took:,.0f} inputs/s")
    print_report(report)
    print_failures(report, known)
    fast = worst(known)
    sound = not report.failures and fast and not never_given(report)
    print("\nno input broke a promise" if sound else "\nFAILED: see above")
    return int(not sound)


if __name__ == "__main__":
    sys.exit(main())
