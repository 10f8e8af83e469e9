"""Give inputs to a validator, one by one, and keep what became of them.

A module of its own, because the workers of a pool cannot import ``__main__``.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from retrodict.validation import (
    Accepted,
    Arrival,
    Catalog,
    Rejected,
    validate,
)

from tests import lane
from tests.fuzz import oracle
from tests.fuzz.inputs import Input, catalog, inputs

MOST_FAILURES: Final = 5
SHRINKING_S: Final = 10.0
BATCH: Final = 100

Validator = Callable[[bytes, Arrival, Catalog], object]


@dataclass
class Report:
    """What became of a number of inputs.

    Attributes
    ----------
    inputs, accepted, fast
        By generator; fast are those that were accepted without a closer look.
    reasons
        Records by reason; a record with several counts for each.
    slowest_s
        Time of the slowest input, seconds.
    failures
        Inputs with what is wrong about them, the first few.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    fast: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: Input | None = None
    failures: list[tuple[Input, str]] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Take in the report of other inputs."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.fast += other.fast
        self.reasons += other.reasons
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        self.failures = (self.failures + other.failures)[:MOST_FAILURES]


def complaint(
    given: Input, validator: Validator, known: Catalog
) -> tuple[str | None, object, float]:
    """Judge one input; return what is wrong, the verdict, and its time in seconds."""
    verdict: object = None
    began = time.perf_counter()
    try:
        verdict = validator(given.raw, given.arrival, known)
        took = time.perf_counter() - began
        wrong = oracle.complaint(given.raw, given.arrival, known.contracts, verdict)
        if wrong is None:
            wrong = batch_complaint([given], [verdict], known)
    except Exception:  # noqa: BLE001 - whatever is raised is what is looked for
        return f"raised\n{traceback.format_exc()}", verdict, time.perf_counter() - began
    return wrong, verdict, took


def batch_complaint(
    given: Sequence[Input], verdicts: Sequence[object], known: Catalog
) -> str | None:
    """Judge inputs as one batch; return how it differs from their verdicts."""
    judged = [one for one in verdicts if isinstance(one, Accepted | Rejected)]
    records = [(one.raw, one.arrival) for one in given]
    return lane.disagreement(records, judged, known)


def fuzz(given: Iterable[Input], validator: Validator, known: Catalog) -> Report:
    """Judge inputs, each alone and many as a batch, until too many fail."""
    report = Report()
    batch: list[Input] = []
    verdicts: list[object] = []
    for one in given:
        wrong, verdict, took = complaint(one, validator, known)
        batch.append(one)
        verdicts.append(verdict)
        if wrong is None and len(batch) == BATCH:
            wrong = batch_complaint(batch, verdicts, known)
        if len(batch) == BATCH:
            batch, verdicts = [], []
        report.inputs[one.generator] += 1
        if took > report.slowest_s:
            report.slowest_s, report.slowest = took, one
        if isinstance(verdict, Accepted):
            report.fast[one.generator] += lane.is_fast(one.raw, one.arrival, known)
            report.accepted[one.generator] += 1
        elif isinstance(verdict, Rejected):
            report.reasons.update({str(v.reason) for v in verdict.violations})
        if wrong is not None:
            report.failures.append((one, wrong))
            if len(report.failures) == MOST_FAILURES:
                break
    return report


def fuzz_chunk(seed: int, task: tuple[int, int]) -> Report:
    """Judge one chunk, in a worker."""
    return fuzz(inputs(seed, *task), validate, catalog())


def shrink(given: Input, validator: Validator, known: Catalog) -> Input:
    """Cut pieces out of a failing input for as long as it fails the same way."""

    def kind(one: Input) -> str | None:
        wrong = complaint(one, validator, known)[0]
        return wrong and wrong.strip().splitlines()[-1].split(":")[0]

    wanted, until = kind(given), time.perf_counter() + SHRINKING_S
    size = len(given.raw) // 2
    while size and time.perf_counter() < until:
        at = 0
        while at < len(given.raw) and time.perf_counter() < until:
            less = given._replace(raw=given.raw[:at] + given.raw[at + size :])
            if kind(less) == wanted:
                given = less
            else:
                at += size
        size //= 2
    return given
