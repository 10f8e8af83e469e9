"""Statistics defined by their exact value, not by the path that computes them.

A sum is the correctly rounded exact sum, so the order of its terms cannot matter;
everything else is built on such sums [1]_. A result that no finite double can hold
is null. `Moments` are such sums before rounding, and can be added without loss.

References
----------
.. [1] J. R. Shewchuk (1997), "Adaptive Precision Floating-Point Arithmetic and Fast
   Robust Geometric Predicates", Discrete Comput. Geom. 18, 305-363.
   doi:10.1007/PL00009321
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import frexp, fsum, ldexp, sqrt
from operator import mul
from typing import Final, NamedTuple, Self

from retrodict.expressions import finite

_MANTISSA_BITS: Final = 53


def _scaled(values: Sequence[float]) -> tuple[list[int], int]:
    """Return `values` as integers, each ``value * 2**scale``, exactly; `scale` >= 0."""
    least = min(map(abs, values)) or min((abs(v) for v in values if v), default=1.0)
    scale = max(0, _MANTISSA_BITS - frexp(least)[1])
    try:
        factor = ldexp(1.0, scale)
        return [int(value * factor) for value in values], scale
    except OverflowError:
        ratios = [value.as_integer_ratio() for value in values]
        bottom = max(bottom for _, bottom in ratios)
        return [top * (bottom // own) for top, own in ratios], bottom.bit_length() - 1


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


def _rounded(top: int, scale: int) -> float | None:
    """Return ``top / 2**scale``, rounded once."""
    return _over(top, 1 << scale)


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
    if len(values) < 2:  # noqa: PLR2004 - a spread needs two values
        return None
    integers, scale = _scaled(values)
    return _std(len(values), sum(integers), sum(map(mul, integers, integers)), scale)


def _std(n: int, total: int, squares: int, scale: int) -> float | None:
    spread = _rounded(n * squares - total * total, 2 * scale)
    return None if spread is None else sqrt(spread / (n * (n - 1)))


def quantile(values: Sequence[float], share: Fraction) -> float | None:
    """Return a quantile of `values`, linear between neighbours and rounded once.

    It is the definition 7 of [2]_, computed exactly.

    Parameters
    ----------
    values
        Finite doubles in any order, shape (n,).
    share
        How much of the values lies below, from 0 to 1.

    Returns
    -------
    float or None
        In the unit of `values`; null for none.

    References
    ----------
    .. [2] R. J. Hyndman, Y. Fan (1996), "Sample Quantiles in Statistical Packages",
       Am. Stat. 50, 361-365. doi:10.2307/2684934

    Examples
    --------
    >>> quantile([4.0, 1.0, 2.0], Fraction(1, 2)), quantile([1.0, 2.0], Fraction(1, 10))
    (2.0, 1.1)
    """
    if not values:
        return None
    ordered = sorted(values)
    place, between = divmod(share * (len(ordered) - 1), 1)
    low = ordered[int(place)]
    if not between:
        return low
    high = ordered[int(place) + 1]
    exact = Fraction(low) + (Fraction(high) - Fraction(low)) * between
    return float(exact)


def weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float | None:
    """Return the exact weighted sum over the sum of the weights, rounded once.

    Parameters
    ----------
    values
        Finite doubles, shape (n,).
    weights
        Of any scale, not negative, shape (n,).

    Returns
    -------
    float or None
        In the unit of `values`; null where nothing has a weight.

    Examples
    --------
    >>> weighted_mean([1.0, 4.0], [1, 2]), weighted_mean([1.0], [0])
    (3.0, None)
    """
    whole = sum(weights)
    if not whole:
        return None
    integers, scale = _scaled(values)
    return _over(sum(map(mul, integers, weights)), whole << scale)


def weighted_std(values: Sequence[float], weights: Sequence[int]) -> float | None:
    """Return the weighted sample standard deviation, free of bias.

    The exact ``W * sum(w * x**2) - sum(w * x)**2`` over ``W**2 - sum(w**2)``, with
    ``W = sum(w)``, is rounded once and its square root taken. With equal weights it is
    the variance over n - 1 [3]_.

    Parameters
    ----------
    values
        Finite doubles, shape (n,).
    weights
        Of any scale, not negative, shape (n,).

    Returns
    -------
    float or None
        In the unit of `values`; null where fewer than two have a weight.

    References
    ----------
    .. [3] pandas, ``DataFrame.ewm(times=...).std(bias=False)``.

    Examples
    --------
    >>> weighted_std([2.0, 4.0], [5, 5]), weighted_std([3.0], [1])
    (1.4142135623730951, None)
    """
    whole = sum(weights)
    parts = whole * whole - sum(map(mul, weights, weights))
    if not parts:
        return None
    integers, scale = _scaled(values)
    products = list(map(mul, integers, weights))
    spread = whole * sum(map(mul, integers, products)) - sum(products) ** 2
    variance = _over(spread, parts << 2 * scale)
    return None if variance is None else sqrt(variance)


def _over(top: int, bottom: int) -> float | None:
    """Return ``top / bottom``, rounded once."""
    try:
        return finite(top / bottom)
    except OverflowError:
        return None


class Moments(NamedTuple):
    """Exact sums of some values, in their one normal form: equal sums, equal moments.

    Attributes
    ----------
    n
        Number of values.
    total
        Sum of the values times ``2**scale``.
    squares
        Sum of their squares times ``4**scale``, or None where it is not kept.
    scale
        The least one, at or above 0, that makes both of them integers.

    Examples
    --------
    >>> a, b = Moments.of([1.0, 2.0]), Moments.of([4.0])
    >>> Moments.merge([a, b]).mean() == mean([4.0, 2.0, 1.0])
    True
    >>> Moments.of([0.5, 0.5])
    Moments(n=2, total=1, squares=None, scale=0)
    """

    n: int
    total: int
    squares: int | None
    scale: int

    @classmethod
    def of(cls, values: Sequence[float], *, squares: bool = False) -> Self:
        """Return the moments of finite doubles, shape (n,)."""
        if not values:
            return cls(0, 0, 0 if squares else None, 0)
        integers, scale = _scaled(values)
        square = sum(map(mul, integers, integers)) if squares else None
        return cls(len(values), *_least(sum(integers), square, scale))

    @classmethod
    def merge(cls, several: Iterable[Self]) -> Self:
        """Return the moments of all the values together, shape (n,); n at least 1.

        Squares are kept only where all of them have theirs.
        """
        parts = list(several)
        scale = max(part.scale for part in parts)
        total = sum(part.total << (scale - part.scale) for part in parts)
        squares: int | None = 0
        for part in parts:
            if squares is None or part.squares is None:
                squares = None
                break
            squares += part.squares << 2 * (scale - part.scale)
        return cls(sum(part.n for part in parts), *_least(total, squares, scale))

    def sum(self) -> float | None:
        """Return what `exact_sum` returns for the values; null for none."""
        return _rounded(self.total, self.scale) if self.n else None

    def mean(self) -> float | None:
        """Return what `mean` returns for the values; null for none."""
        if not self.n:
            return None
        total = _rounded(self.total, self.scale)
        return None if total is None else finite(total / self.n)

    def std(self) -> float | None:
        """Return what `std` returns for the values; null for fewer than two.

        Raises
        ------
        ValueError
            The squares are not kept.
        """
        if self.squares is None:
            raise ValueError("a spread needs the sum of squares, which is not kept")
        if self.n < 2:  # noqa: PLR2004 - a spread needs two values
            return None
        return _std(self.n, self.total, self.squares, self.scale)


def _least(total: int, squares: int | None, scale: int) -> tuple[int, int | None, int]:
    """Return the same sums at the least scale."""
    spare = min(scale, _zeros(total))
    if squares is not None:
        spare = min(spare, _zeros(squares) // 2)
        squares >>= 2 * spare
    return total >> spare, squares, scale - spare


def _zeros(number: int) -> int:
    """Return how often 2 divides `number`; more than any scale for 0."""
    return (number & -number).bit_length() - 1 if number else 1 << 30
