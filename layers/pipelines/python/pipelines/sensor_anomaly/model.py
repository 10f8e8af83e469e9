"""The anomaly model: an isolation forest on how far a sensor is from itself."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from retrodict.envelope import StampedEvent, digest_of
from retrodict.errors import PermanentError
from retrodict.forest import IsolationForest, from_estimator, prove_equal
from retrodict.model import Canary, Gates, Model, Monitor, Retraining
from retrodict.training_sets import identity

from pipelines.sensor_anomaly.contract import HIGHEST, LOWEST
from pipelines.sensor_anomaly.features import Sensor

PROVEN_ROWS: Final = 500
"""Rows on which the flat trees are proven equal to scikit-learn's."""

SHARE: Final = 0.02
"""Share of the events that become anomalies."""

STRETCH: Final = 12
"""Most events of one injected anomaly."""

LEAST_STRETCHES: Final = 4
"""Fewest anomalies in all, however few the events: one alone may chance to look usual.
"""

SIGMA: Final = 1.349
"""Distance of the quartiles of a normal distribution, in standard deviations."""

LEAST_SPREAD: Final = 0.5
"""Taken for the spread of a key whose values hardly move, degrees Celsius."""


class FitOptionError(PermanentError):
    """An option of the fit is unknown, or out of its range."""


class _Option(NamedTuple):
    default: float
    low: float
    high: float
    kind: type


OPTIONS: Final[Mapping[str, _Option]] = {
    "trees": _Option(100, 1, 1_000, int),
    "max_samples": _Option(256, 2, 65_536, int),
    "max_features": _Option(1.0, 0.05, 1.0, float),
}
"""Trees, rows a tree is grown on, and the share of the features that it may see."""


def fit(
    rows: Sequence[Sequence[float]], seed: int, options: Mapping[str, Any]
) -> IsolationForest:
    """Fit an isolation forest and return it as data.

    Parameters
    ----------
    rows
        Features, shape (n_samples, n_features).
    options
        See `OPTIONS`; what is not given has its default.

    Raises
    ------
    FitOptionError
        An option is unknown, or out of its range.
    UnequalForestError
        The data would score differently from the estimator.
    """
    from sklearn.ensemble import IsolationForest as Estimator  # noqa: PLC0415 - 3 s

    chosen = checked(options)
    estimator = Estimator(
        n_estimators=chosen["trees"],
        max_samples=min(chosen["max_samples"], len(rows)),
        max_features=float(chosen["max_features"]),
        random_state=seed,
    ).fit(rows)
    forest = from_estimator(estimator)
    prove_equal(estimator, forest, rows[:PROVEN_ROWS])
    return forest


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option of the fit, given or by default.

    Raises
    ------
    FitOptionError
        An option is unknown, or out of its range.

    Examples
    --------
    >>> checked({"trees": 50})
    {'trees': 50, 'max_samples': 256, 'max_features': 1.0}
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise FitOptionError(f"no option {unknown[0]!r}; there is {', '.join(OPTIONS)}")
    chosen = {
        name: options.get(name, option.default) for name, option in OPTIONS.items()
    }
    for name, value in chosen.items():
        option = OPTIONS[name]
        kinds = (int,) if option.kind is int else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not option.low <= value <= option.high:
            what = "a whole number" if option.kind is int else "a number"
            raise FitOptionError(
                f"{name} must be {what} from {option.low} to {option.high}, got "
                f"{value!r}"
            )
    return chosen


def inject(
    events: Sequence[StampedEvent], seed: int
) -> tuple[list[StampedEvent], set[str]]:
    """Let sensors fail for a while in events of the past; see `Inject`.

    About `SHARE` of each sensor's events, in stretches: spikes, a level that shifts,
    or a value that sticks where it does not belong. The size is one to two and a half
    times the sensor's own spread, and what results keeps the contract.

    Returns
    -------
    tuple
        All events in the order given, and the identities of those that were changed.
    """
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    changed = list(events)
    anomalous: set[str] = set()
    by_key = _by_key(events)
    least = math.ceil(LEAST_STRETCHES / max(1, len(by_key)))
    for _, places in sorted(by_key.items()):
        values = [float(events[place].data["value"]) for place in places]
        spread = _spread(values)
        for stretch in _stretches(len(places), least, random):
            disturb = random.choice((_spike, _shift, _stick))
            size = random.uniform(1.0, 2.5) * spread * random.choice((-1, 1))
            for step, at in enumerate(stretch):
                value = disturb(values[at], values[stretch[0]], size, step)
                value = min(HIGHEST, max(LOWEST, value))
                if value != values[at]:
                    event = events[places[at]]
                    changed[places[at]] = _with_value(event, value)
                    anomalous.add(identity(event))
    return changed, anomalous


def _by_key(events: Sequence[StampedEvent]) -> dict[str, list[int]]:
    """Return the places of each key's events by time; of copies only the first."""
    found: dict[str, dict[str, int]] = {}
    for place, event in enumerate(events):
        found.setdefault(event.key, {}).setdefault(identity(event), place)

    def when(place: int) -> tuple[int, str, str]:
        return events[place].time_us, events[place].source, events[place].id

    return {key: sorted(places.values(), key=when) for key, places in found.items()}


def _stretches(events: int, least: int, random: Random) -> Iterator[range]:
    """Yield stretches of places, one in each equal part: `SHARE` of the events."""
    number = min(events, max(least, round(events * SHARE / STRETCH)))
    length = max(1, min(STRETCH, round(events * SHARE / number)))
    part = events // number
    for first in range(0, part * number, part):
        start = first + random.randrange(part - length + 1)
        yield range(start, start + length)


def _spike(value: float, _first: float, size: float, step: int) -> float:
    return value + size if step % 4 == 0 else value


def _shift(value: float, _first: float, size: float, _step: int) -> float:
    return value + size


def _stick(_value: float, first: float, size: float, _step: int) -> float:
    return first + size


def _spread(values: Sequence[float]) -> float:
    """Return a spread that a few outliers cannot move: quartiles, as a deviation."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return max(LEAST_SPREAD, (ordered[-1 - quarter] - ordered[quarter]) / SIGMA)


def _with_value(event: StampedEvent, value: float) -> StampedEvent:
    data = {**event.data, "value": value}
    digest = digest_of(event.type, event.schema_version, event.key, event.time_us, data)
    return replace(event, data=data, digest=digest)


model = Model(
    # What is usual at this hour, the last two hours of readings at five minutes, and
    # the reading before: together they saw failures best, and all of them count events,
    # so that an hourly series has them too.
    features=[Sensor.residual, Sensor.trend, Sensor.change],
    fit=fit,
    inject=inject,
    alert_budget=0.01,
    fit_window="30d",
    held_out="1d",
    held_out_rows=200,
    max_age="2h",
    onset_gap="2h",
    gates=Gates(min_rows=400, max_null_share=0.6, min_roc_auc=0.75, max_alert_rate=5.0),
    retraining=Retraining(cool_down="24h", daily_budget=2, every="30d"),
    rollout=Canary(percent=20, bake_s=600),
    monitor=Monitor(window="24h", min_rows=20),
)
