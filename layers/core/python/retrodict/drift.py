"""Drift: how far a window of the log has moved from what a model was trained on.

The reference keeps bin edges and counts of the training rows only; a window is counted
on the same edges. Every measure names its statistic, its sample size and a threshold
that was calibrated on past windows of the log: constant thresholds cry wolf where
rows follow each other in time.

References
----------
.. [1] S. Kullback and R. A. Leibler (1951), "On Information and Sufficiency",
   Ann. Math. Statist. 22(1), 79-86. doi:10.1214/aoms/1177729694
.. [2] F. J. Massey (1951), "The Kolmogorov-Smirnov Test for Goodness of Fit",
   JASA 46(253), 68-78. doi:10.1080/01621459.1951.10500769
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Final, Self

from retrodict.errors import PermanentError
from retrodict.model import Monitor

BINS: Final = 10
EPSILON: Final = 1e-6
QUANTILES: Final = 101
TRIM: Final = 5
"""Quantiles left out at either end, %."""

ROBUST: Final = 1.8
"""Deequ's factor of the distance that chance alone reaches, for alpha = 0.003."""

DEFAULTS: Final[Mapping[str, float]] = {"psi": 0.2, "ks": 0.1, "wasserstein": 0.3}
"""Least threshold of each statistic, whatever past windows say."""

MARGIN: Final = 1.25
"""How far above the worst past window a threshold lies at least."""

FEW_WINDOWS: Final = 3
"""With fewer past windows there is no spread to calibrate on, and twice the worst is
taken."""


class ProfileFormatError(PermanentError):
    """What should be a reference profile is none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The distribution of one column in the training rows.

    Attributes
    ----------
    edges
        Inner edges of equal-frequency bins, ascending, shape (n_bins - 1,); the first
        and the last bin are open.
    counts
        Rows in each bin, shape (n_bins,).
    quantiles
        At equal steps from the least to the greatest value, shape (101,).
    std
        Standard deviation; the unit that Wasserstein's distance is told in.
    thresholds
        By statistic.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]
    std: float
    thresholds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """One statistic of one column over one window.

    Attributes
    ----------
    value
        ``psi`` in nats over equal-frequency bins of the reference; ``ks`` the distance
        left after what chance reaches, 0 to 1; ``wasserstein`` in standard deviations
        of the reference.
    """

    feature: str
    statistic: str
    value: float
    threshold: float
    sample_size: int

    @property
    def ratio(self) -> float:
        """Value over threshold; above 1 has drifted."""
        return self.value / self.threshold


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ascending values, linear between neighbours.

    Examples
    --------
    >>> quantile([1.0, 2.0, 4.0], 0.75)
    3.0
    """
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def bin_counts(ordered: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Return how many of some ascending values fall into each bin, ends open.

    Examples
    --------
    >>> bin_counts([1.0, 2.0, 3.0], [2.0])
    [1, 2]
    """
    places = [bisect_left(ordered, edge) for edge in edges]
    return [b - a for a, b in zip([0, *places], [*places, len(ordered)], strict=True)]


def population_stability_index(
    expected: Sequence[int], observed: Sequence[int]
) -> float:
    """Return the symmetric Kullback-Leibler divergence of two histograms [1]_.

    `EPSILON` is added to every share, which then sum to 1 again, so that an empty bin
    says much, not everything.

    Parameters
    ----------
    expected, observed
        Counts on the same bins, shape (n_bins,).

    Returns
    -------
    float
        Nats; 0 only for equal shares.

    Examples
    --------
    >>> round(population_stability_index([50, 50], [40, 60]), 4)
    0.0405
    """
    old, new = _shares(expected), _shares(observed)
    return math.fsum((n - o) * math.log(n / o) for o, n in zip(old, new, strict=True))


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    raised = [count / total + EPSILON for count in counts]
    whole = math.fsum(raised)
    return [share / whole for share in raised]


def kolmogorov_smirnov(expected: Sequence[float], observed: Sequence[float]) -> float:
    """Return the greatest distance of two empirical distributions [2]_.

    Parameters
    ----------
    expected, observed
        Ascending values, shapes (n,) and (m,).

    Examples
    --------
    >>> kolmogorov_smirnov([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
    0.5
    """
    n, m = len(expected), len(observed)
    i = j = 0
    worst = 0.0
    while i < n and j < m:
        value = min(expected[i], observed[j])
        i = bisect_right(expected, value, i)
        j = bisect_right(observed, value, j)
        worst = max(worst, abs(i / n - j / m))
    return worst


def binned_distance(expected: Sequence[int], observed: Sequence[int]) -> float:
    """Return the Kolmogorov-Smirnov distance of two histograms on the same bins."""
    n, m = sum(expected), sum(observed)
    a = b = 0
    worst = 0.0
    for old, new in zip(expected, observed, strict=True):
        a, b = a + old, b + new
        worst = max(worst, abs(a / n - b / m))
    return worst


def beyond_chance(distance: float, n: int, m: int) -> float:
    """Return what is left of a distance after what chance reaches, as Deequ does.

    Examples
    --------
    >>> round(beyond_chance(0.198, 5000, 1000), 4)
    0.1356
    """
    return max(0.0, distance - ROBUST * math.sqrt((n + m) / (n * m)))


def wasserstein(reference: Reference, ordered: Sequence[float]) -> float:
    """Return the earth mover's distance of the middles, in reference deviations.

    Both distributions are read at the same quantiles, from `TRIM` to 1 - `TRIM`: a few
    anomalies in the tails, which the model is there for, are no drift.
    """
    step = 1 / (QUANTILES - 1)
    kept = range(TRIM, QUANTILES - TRIM)
    apart = (
        abs(quantile(ordered, place * step) - reference.quantiles[place])
        for place in kept
    )
    return math.fsum(apart) / len(kept) / reference.std


def reference_of(values: Sequence[float]) -> Reference:
    """Return the reference of one column, without thresholds yet.

    Parameters
    ----------
    values
        Finite values of the training rows, shape (n,), n > 0.
    """
    ordered = sorted(values)
    inner = [quantile(ordered, place / BINS) for place in range(1, BINS)]
    edges = tuple(sorted(set(inner)))
    mean = math.fsum(ordered) / len(ordered)
    spread = math.fsum((value - mean) ** 2 for value in ordered) / len(ordered)
    step = 1 / (QUANTILES - 1)
    return Reference(
        edges=edges,
        counts=tuple(bin_counts(ordered, edges)),
        quantiles=tuple(quantile(ordered, p * step) for p in range(QUANTILES)),
        std=max(math.sqrt(spread), 1e-9),
        thresholds=DEFAULTS,
    )


def statistics_of(reference: Reference, values: Sequence[float]) -> dict[str, float]:
    """Return every statistic of a window against a reference.

    Parameters
    ----------
    values
        Finite values of the window, shape (m,), m > 0.
    """
    ordered = sorted(values)
    counts = bin_counts(ordered, reference.edges)
    distance = binned_distance(reference.counts, counts)
    return {
        "psi": population_stability_index(reference.counts, counts),
        "ks": beyond_chance(distance, sum(reference.counts), len(ordered)),
        "wasserstein": wasserstein(reference, ordered),
    }


@dataclass(frozen=True, slots=True)
class Profile:
    """The reference of every column that is watched."""

    columns: Mapping[str, Reference]

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Sequence[float]],
        times_us: Sequence[int],
        monitor: Monitor,
    ) -> Self:
        """Profile training rows, and calibrate thresholds on their past windows.

        A threshold lies three deviations above the mean of what past windows of the
        same length reach, `MARGIN` above the worst of them, and never under the
        default.

        Parameters
        ----------
        columns
            Finite values by column, each of shape (n_rows,).
        times_us
            Event time of each row, microseconds, shape (n_rows,).
        """
        windows = _windows(times_us, monitor)
        found = {}
        for name, values in columns.items():
            reference = reference_of(values)
            past = [
                statistics_of(reference, [values[row] for row in rows])
                for rows in windows
            ]
            thresholds = {
                statistic: _threshold(least, [one[statistic] for one in past])
                for statistic, least in DEFAULTS.items()
            }
            found[name] = Reference(
                reference.edges, reference.counts, reference.quantiles, reference.std,
                thresholds,
            )  # fmt: skip
        return cls(found)

    def measure(self, columns: Mapping[str, Sequence[float]]) -> list[Measure]:
        """Measure a window; columns without values are left out."""
        return [
            Measure(
                name, statistic, value, reference.thresholds[statistic], len(values)
            )
            for name, reference in self.columns.items()
            if (values := columns.get(name))
            for statistic, value in statistics_of(reference, values).items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON can say it; doubles keep every bit."""
        return {
            name: {
                "edges": list(r.edges),
                "counts": list(r.counts),
                "quantiles": list(r.quantiles),
                "std": r.std,
                "thresholds": dict(r.thresholds),
            }
            for name, r in self.columns.items()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ProfileFormatError
            It is no profile.
        """
        try:
            return cls({name: _reference(name, r) for name, r in document.items()})
        except (
            KeyError, TypeError, ValueError, AttributeError, OverflowError,
        ) as error:  # fmt: skip
            raise ProfileFormatError(f"not a reference profile: {error!r}") from error


def _reference(name: str, document: Mapping[str, Any]) -> Reference:
    """Return the reference of one column, if a window can be measured by it."""
    thresholds = document["thresholds"]
    found = Reference(
        edges=tuple(map(float, document["edges"])),
        counts=tuple(map(index, document["counts"])),
        quantiles=tuple(map(float, document["quantiles"])),
        std=float(document["std"]),
        thresholds={s: float(thresholds[s]) for s in DEFAULTS},
    )
    units = (found.std, *found.thresholds.values())
    if not all(map(math.isfinite, (*found.edges, *found.quantiles, *units))):
        raise ValueError(f"column {name!r} has a number that is not finite")
    if list(found.edges) != sorted(set(found.edges)) or not found.quantiles:
        raise ValueError(f"column {name!r} has no ascending edges, or no quantiles")
    if len(found.counts) != len(found.edges) + 1:
        raise ValueError(
            f"column {name!r} has {len(found.counts)} counts on "
            f"{len(found.edges)} edges"
        )
    if min(found.counts) < 0 or not any(found.counts):
        raise ValueError(f"column {name!r} has a count under 0, or no rows")
    if min(units) <= 0:
        raise ValueError(f"column {name!r} has a deviation or threshold of 0 or less")
    return found


def _windows(times_us: Sequence[int], monitor: Monitor) -> list[list[int]]:
    """Return the rows of each past window, half overlapping, with enough rows."""
    if not times_us:
        return []
    order = sorted(range(len(times_us)), key=times_us.__getitem__)
    ordered = [times_us[row] for row in order]
    width, end = monitor.window_us, ordered[-1]
    found = []
    while end - width >= ordered[0] - width // 2:
        low, high = bisect_right(ordered, end - width), bisect_right(ordered, end)
        if high - low >= monitor.min_rows:
            found.append(order[low:high])
        end -= width // 2
    return found


def _threshold(least: float, past: Sequence[float]) -> float:
    if not past:
        return least
    worst = max(past)
    if len(past) < FEW_WINDOWS:
        return max(least, 2 * worst)
    mean = math.fsum(past) / len(past)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in past) / (len(past) - 1))
    return max(least, mean + 3 * spread, MARGIN * worst)


def drifted_share(measures: Sequence[Measure]) -> float:
    """Return the share of columns of which any statistic is over its threshold."""
    columns = {m.feature for m in measures}
    drifted = {m.feature for m in measures if m.ratio > 1}
    return len(drifted) / len(columns) if columns else 0.0
