"""Statistics defined by their exact value, not by the path that computes them.

A sum is the correctly rounded exact sum, so the order of its terms cannot matter;
everything else is built on such sums [1]_. A result that no finite double can hold
is null.

References
----------
.. [1] J. R. Shewchuk (1997), "Adaptive Precision Floating-Point Arithmetic and Fast
   Robust Geometric Predicates", Discrete Comput. Geom. 18, 305-363.
   doi:10.1007/PL00009321
"""

from collections.abc import Sequence
from math import fsum, sqrt

from retrodict.expressions import finite


def _scaled(values: Sequence[float]) -> tuple[list[int], int]:
    """Return `values` as integers over one common power of two."""
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(denominator for _, denominator in ratios)
    return [top * (scale // bottom) for top, bottom in ratios], scale


def exact_sum(values: Sequence[float]) -> float | None:
    """Return the exact sum of `values`, rounded once to the nearest double.

    Parameters
    ----------
    values
        Finite doubles, shape (n,).

    Returns
    -------
    float or None
        In the unit of `values`; 0.0 for none, null where it overflows.

    Examples
    --------
    >>> exact_sum([1e16, 1.0, -1e16]), exact_sum([1e308, 1e308, -1e308])
    (1.0, 1e+308)
    """
    try:
        return finite(fsum(values))
    except OverflowError:
        integers, scale = _scaled(values)
        return _rounded(sum(integers), scale)


def _rounded(top: int, bottom: int) -> float | None:
    try:
        return finite(top / bottom)
    except OverflowError:
        return None


def mean(values: Sequence[float]) -> float | None:
    """Return the exact sum divided by the number of values, each rounded once.

    Parameters
    ----------
    values
        Finite doubles, shape (n,).

    Returns
    -------
    float or None
        In the unit of `values`; null for none.

    Examples
    --------
    >>> mean([1.0, 2.0, 4.0]), mean([])
    (2.3333333333333335, None)
    """
    if not values:
        return None
    total = exact_sum(values)
    return None if total is None else finite(total / len(values))


def std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1) of `values`.

    The exact ``n * sum(x**2) - sum(x)**2`` is rounded once, divided by
    ``n * (n - 1)``, and its square root taken.

    Parameters
    ----------
    values
        Finite doubles, shape (n,).

    Returns
    -------
    float or None
        In the unit of `values`; null for fewer than two values.

    Examples
    --------
    >>> std([2.0, 4.0]), std([3.0])
    (1.4142135623730951, None)
    """
    n = len(values)
    if n < 2:  # noqa: PLR2004 - a spread needs two values
        return None
    integers, scale = _scaled(values)
    spread = n * sum(value * value for value in integers) - sum(integers) ** 2
    rounded = _rounded(spread, scale * scale)
    return None if rounded is None else sqrt(rounded / (n * (n - 1)))
