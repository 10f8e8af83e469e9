"""What statistics are by definition, with ``Fraction``: the oracle of every law."""

from collections.abc import Sequence
from fractions import Fraction
from math import isfinite, sqrt


def finite(value: float) -> float | None:
    """Return `value` with one zero, null where it is not finite."""
    return value + 0.0 if isfinite(value) else None


def rounded(exact: Fraction) -> float | None:
    """Return the nearest double, null where there is none."""
    try:
        return finite(float(exact))
    except OverflowError:
        return None


def mean(values: Sequence[float]) -> float | None:
    """Return the rounded exact sum over the number of values."""
    total = rounded(sum(map(Fraction, values), Fraction()))
    return finite(total / len(values)) if values and total is not None else None


def std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation from the rounded exact spread."""
    n = len(values)
    if n < 2:
        return None
    squares = n * sum((Fraction(v) ** 2 for v in values), Fraction())
    spread = rounded(squares - sum(map(Fraction, values), Fraction()) ** 2)
    return None if spread is None else sqrt(spread / (n * (n - 1)))
