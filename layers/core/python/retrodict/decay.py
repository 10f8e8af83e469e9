"""Weights that halve with age, as integers: the same bits on every machine.

``2 ** -x`` of a C library may differ in its last bit between platforms, and a feature
must not. These weights are defined by integer arithmetic alone.
"""

from functools import cache, lru_cache
from math import isqrt
from typing import Final

_BITS: Final = 64
_STEPS: Final = 40
"""Ages are told apart to ``2**-40`` of a half-life."""


@cache
def _roots() -> tuple[int, ...]:
    """Return ``2**64 * 2**-(2**-k)`` for k = 1 to `_STEPS`, each rounded down."""
    roots = [isqrt(1 << (2 * _BITS - 1))]
    while len(roots) < _STEPS:
        roots.append(isqrt(roots[-1] << _BITS))
    return tuple(roots)


@lru_cache(maxsize=1 << 14)
def weight(age_us: int, half_life_us: int) -> int:
    """Return ``2**64 * 2**(-age / half_life)``, rounded down step by step.

    Parameters
    ----------
    age_us
        Not negative, microseconds.
    half_life_us
        Microseconds.

    Returns
    -------
    int
        From ``2**64`` at age 0 to 0 after some 64 half-lives.

    Examples
    --------
    >>> weight(0, 10) == 2**64, weight(20, 10) == 2**62
    (True, True)
    >>> weight(5, 10) / 2**64
    0.7071067811865476
    """
    halves, rest = divmod(age_us, half_life_us)
    if halves > _BITS:
        return 0
    fraction = (rest << _STEPS) // half_life_us
    found = 1 << _BITS
    for place, root in enumerate(_roots(), start=1):
        if fraction >> (_STEPS - place) & 1:
            found = found * root >> _BITS
    return found >> halves
