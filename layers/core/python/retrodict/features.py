"""Features: numbers about an entity, as they were known at one position.

A feature at (key, t, p) is a function of the *set* of events of that key that were
applied at or before position p and happened at or before t, taken in the order
(time, source, id). One definition folds online, computes over the log and answers
behind an endpoint, so there is nothing for them to disagree about.
"""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final, NamedTuple

from retrodict import statistics
from retrodict.contracts import Event, FieldRef
from retrodict.errors import FeatureDefinitionError, PermanentError
from retrodict.expressions import (
    COMPARISONS,
    OPERATIONS,
    Arithmetic,
    Constant,
    Expression,
    Number,
    Program,
    finite,
)
from retrodict.panes import DAY_HOURS, HOUR_US, Panes
from retrodict.stamps import FUTURE_TOLERANCE_US, duration_us
from retrodict.statistics import Moments

DYNAMODB_ITEM_BYTES: Final = 400 * 1024
"""What one DynamoDB item may hold; the state of a key is one item."""

ITEM_OVERHEAD_BYTES: Final = 16 * 1024
"""Room in that item for keys, stamps and the current feature values."""

ENTRY_BYTES: Final = 96
"""Typical size of one event in a state: stamps, a 36 character id, a digest."""

PANE_BYTES: Final = 24
"""Typical size of one hour and field in a state; as much again for squares."""

MOST_DAYS: Final = 60

_RATE: Final = re.compile(r"(\d+)/(s|m|h|d)")
_NUMBERS: Final = (int, float)


class Entry(NamedTuple):
    """One event as the state of a key holds it; tuples sort as windows need.

    Attributes
    ----------
    values
        The fields that the feature set reads, in its order.
    """

    time_us: int
    source: str
    id: str
    digest: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class LastEvents:
    """The window of the `count` latest events."""

    count: int

    def describe(self) -> str:
        """Return the window as text."""
        return f"last({self.count})"

    def start(self, entries: Sequence[Entry], end: int, time_us: int) -> int:  # noqa: ARG002
        """Return the first place of the window before `end`."""
        return max(0, end - self.count)


@dataclass(frozen=True, slots=True)
class LastDuration:
    """The window ``(t - width, t]``; `width_us` in microseconds."""

    width_us: int

    def describe(self) -> str:
        """Return the window as text."""
        return f"last({self.width_us}us)"

    def start(self, entries: Sequence[Entry], end: int, time_us: int) -> int:
        """Return the first place of the window before `end`."""
        return bisect_right(entries, time_us - self.width_us, 0, end, key=_time)


@dataclass(frozen=True, slots=True)
class SameHour:
    """The same hour of the day, UTC, in each of the `days` days before.

    Attributes
    ----------
    at_least
        Fewer events than this have no statistic.
    """

    days: int
    at_least: int

    def describe(self) -> str:
        """Return the window as text."""
        return f"same_hour(days={self.days}, at_least={self.at_least})"

    def hours(self, time_us: int) -> range:
        """Return the hours of the window since the epoch, from the oldest."""
        hour = time_us // HOUR_US
        return range(hour - DAY_HOURS * self.days, hour, DAY_HOURS)


Window = LastEvents | LastDuration | SameHour


def last(window: int | str) -> Window:
    """Return a window: the last `window` events, or the last stretch of time.

    A window ends at, and includes, the current event.

    Raises
    ------
    FeatureDefinitionError
        `window` is neither a positive count nor a duration.

    Examples
    --------
    >>> last(3).describe(), last("10m").describe()
    ('last(3)', 'last(600000000us)')
    """
    if isinstance(window, bool) or not isinstance(window, int | str):
        raise FeatureDefinitionError(
            f"expected a count of events or a duration, got {window!r}: write last(3) "
            "or last('10m')"
        )
    if isinstance(window, int):
        if window < 1:
            raise FeatureDefinitionError(f"expected last(n) with n >= 1, got {window}")
        return LastEvents(window)
    try:
        return LastDuration(duration_us(window))
    except PermanentError as error:
        raise FeatureDefinitionError(f"last({window!r}): {error}") from error


STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], Number | None]]] = {
    "count": len,
    "mean": statistics.mean,
    "std": statistics.std,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "last": lambda values: values[-1] if values else None,
    "sum": lambda values: statistics.exact_sum(values) if values else None,
    "first": lambda values: values[0] if values else None,
    "distinct": lambda values: len(set(values)),
}

LAGGED: Final[Mapping[str, str]] = {"difference": "-", "ratio": "/"}
"""Statistics of the newest and the oldest value of a window, by operation."""

OF_MOMENTS: Final[Mapping[str, Callable[[Moments], Number | None]]] = {
    "mean": Moments.mean,
    "std": Moments.std,
}
"""Statistics that hours can carry, because their sums can be added exactly."""

NOTHING: Final = Moments(0, 0, 0, 0)


UNITS: Final[Mapping[str, str]] = {
    "count": "{event}",
    "distinct": "{value}",
    "share": "1",
    "rate": "{event}/s",
}
"""Units of the statistics that do not have their field's."""


class Statistic(Expression):
    """A statistic of one field over one window.

    Attributes
    ----------
    unit
        Unit of the result as UCUM writes it, or None where the field has none.
    """

    def __init__(self, name: str, field: object, window: Window) -> None:
        self.name = name
        self.field = _numeric(field, name)
        self.window = window
        self.unit: str | None = UNITS.get(name, self.field.unit)

    def describe(self) -> str:
        """Return statistic, field and window as text."""
        return f"{self.name}({self.field.describe()}, {self.window.describe()})"

    def compute(self, values: Sequence[float]) -> Number | None:
        """Return the statistic of the values in the window, shape (n,)."""
        return STATISTICS[self.name](values)


class Quantile(Statistic):
    """A quantile of one field over one window; `share` is exact, such as 9/10."""

    def __init__(self, field: object, share: float, window: Window) -> None:
        super().__init__("quantile", field, window)
        self.share = Fraction(repr(share))

    def describe(self) -> str:
        """Return share, field and window as text."""
        where = f"{self.field.describe()}, {self.window.describe()}"
        return f"quantile({where}, {self.share})"

    def compute(self, values: Sequence[float]) -> Number | None:
        """Return the quantile of the values in the window, shape (n,)."""
        return statistics.quantile(values, self.share)


class Share(Statistic):
    """The share of a window's values that compare with a constant as asked."""

    def __init__(
        self, field: object, operator: str, bound: Number, window: Window
    ) -> None:
        super().__init__("share", field, window)
        self.operator = operator
        self.bound = bound

    def describe(self) -> str:
        """Return condition and window as text."""
        condition = f"{self.field.describe()} {self.operator} {self.bound!r}"
        return f"share({condition}, {self.window.describe()})"

    def compute(self, values: Sequence[float]) -> Number | None:
        """Return how many of the values meet the condition over how many there are."""
        if not values:
            return None
        holds = OPERATIONS[self.operator]
        return sum(holds(value, self.bound) or 0 for value in values) / len(values)


class Rate(Statistic):
    """Events a second over a stretch of time."""

    def __init__(self, field: object, window: Window) -> None:
        if not isinstance(window, LastDuration):
            raise FeatureDefinitionError(
                f"rate() needs a stretch of time, such as last('10m'); got {window!r}"
            )
        super().__init__("rate", field, window)
        self.seconds = window.width_us / 1_000_000

    def compute(self, values: Sequence[float]) -> Number | None:
        """Return the number of values over the length of the window."""
        return len(values) / self.seconds


class Elapsed(Expression):
    """Seconds between the current event and the one before it."""

    unit = "s"

    def describe(self) -> str:
        """Return what it is as text."""
        return "elapsed()"


class Calendar(Expression):
    """A part of the current event's time, UTC."""

    PARTS: Final[Mapping[str, Callable[[int], int]]] = {
        "hour_of_day": lambda time_us: time_us // HOUR_US % DAY_HOURS,
        # The epoch was a Thursday; Monday is 0.
        "day_of_week": lambda time_us: (time_us // (DAY_HOURS * HOUR_US) + 3) % 7,
    }

    def __init__(self, part: str) -> None:
        self.part = part
        self.unit = "h" if part == "hour_of_day" else "d"

    def describe(self) -> str:
        """Return which part as text."""
        return f"{self.part}()"


def _numeric(field: object, use: str) -> FieldRef:
    if not isinstance(field, FieldRef) or field.type not in _NUMBERS:
        raise FeatureDefinitionError(
            f"{use}() needs a number field of an event, such as Reading.value; got "
            f"{field!r}"
        )
    return field


def count(field: object, window: Window) -> Statistic:
    """Count the events in `window` whose `field` is not null; 0 when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> count(Reading.value, last("10m")).describe()
    'count(sensor.reading.value, last(600000000us))'
    """
    return Statistic("count", field, window)


def mean(field: object, window: Window) -> Statistic:
    """Average `field` over `window`: `statistics.mean`; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> mean(Reading.value, last(3)).describe()
    'mean(sensor.reading.value, last(3))'
    """
    return Statistic("mean", field, window)


def same_hour_mean(field: object, days: int, *, at_least: int = 1) -> Statistic:
    """Average `field` over the same hour of earlier days: what is usual at this time.

    The hour is that of the current event, UTC, in each of the `days` days before; the
    event's own day is left out. Exact: `statistics.mean` of all those values.

    Parameters
    ----------
    at_least
        With fewer events that have the field, the average is null.

    Raises
    ------
    FeatureDefinitionError
        `days` is not between 1 and `MOST_DAYS`, or `at_least` is not positive.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_mean(Reading.value, days=7).describe()
    'mean(sensor.reading.value, same_hour(days=7, at_least=1))'
    """
    return Statistic("mean", field, _same_hour(days, at_least))


def same_hour_std(field: object, days: int, *, at_least: int = 2) -> Statistic:
    """Spread of `field` over the same hour of earlier days; see `same_hour_mean`.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_std(Reading.value, days=7, at_least=12).unit
    'Cel'
    """
    return Statistic("std", field, _same_hour(days, at_least))


def _same_hour(days: int, at_least: int) -> SameHour:
    for name, number, most in (("days", days, MOST_DAYS), ("at_least", at_least, None)):
        is_count = isinstance(number, int) and not isinstance(number, bool)
        if not is_count or number < 1 or (most is not None and number > most):
            upper = "" if most is None else f", at most {most}"
            raise FeatureDefinitionError(
                f"expected {name} to be a whole number, at least 1{upper}; got "
                f"{number!r}"
            )
    return SameHour(days, at_least)


def std(field: object, window: Window) -> Statistic:
    """Spread of `field` over `window`: `statistics.std`; null for fewer than two.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> std(Reading.value, last("10m")).unit
    'Cel'
    """
    return Statistic("std", field, window)


def minimum(field: object, window: Window) -> Statistic:
    """Smallest `field` in `window`; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> minimum(Reading.value, last(3)).describe()
    'min(sensor.reading.value, last(3))'
    """
    return Statistic("min", field, window)


def maximum(field: object, window: Window) -> Statistic:
    """Largest `field` in `window`; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> maximum(Reading.value, last(3)).describe()
    'max(sensor.reading.value, last(3))'
    """
    return Statistic("max", field, window)


def last_value(field: object, window: Window) -> Statistic:
    """Latest `field` in `window` that is not null; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> last_value(Reading.value, last("10m")).describe()
    'last(sensor.reading.value, last(600000000us))'
    """
    return Statistic("last", field, window)


def total(field: object, window: Window) -> Statistic:
    """Sum `field` over `window`: the exact sum, rounded once; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> total(Reading.value, last(3)).describe()
    'sum(sensor.reading.value, last(3))'
    """
    return Statistic("sum", field, window)


def first_value(field: object, window: Window) -> Statistic:
    """Earliest `field` in `window` that is not null; null when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> first_value(Reading.value, last("10m")).describe()
    'first(sensor.reading.value, last(600000000us))'
    """
    return Statistic("first", field, window)


def distinct(field: object, window: Window) -> Statistic:
    """Count the different values of `field` in `window`; 0 when empty.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> distinct(Reading.value, last(24)).unit
    '{value}'
    """
    return Statistic("distinct", field, window)


def quantile(field: object, share: float, window: Window) -> Statistic:
    """Quantile of `field` over `window`: `statistics.quantile`; null when empty.

    Parameters
    ----------
    share
        From 0, the minimum, over 0.5, the median, to 1, the maximum; as written.

    Raises
    ------
    FeatureDefinitionError
        `share` is not between 0 and 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> quantile(Reading.value, 0.9, last("10m")).describe()
    'quantile(sensor.reading.value, last(600000000us), 9/10)'
    """
    is_number = isinstance(share, _NUMBERS) and not isinstance(share, bool)
    if not is_number or not 0 <= share <= 1:
        raise FeatureDefinitionError(
            f"expected a share from 0 to 1, such as 0.5 for the median; got {share!r}"
        )
    return Quantile(field, share, window)


def share(condition: object, window: Window) -> Statistic:
    """Share of the values in `window` that meet a condition; null when empty.

    Parameters
    ----------
    condition
        A field compared with a number, such as ``Reading.value > 30``.

    Raises
    ------
    FeatureDefinitionError
        `condition` is something else.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> share(Reading.value > 30, last("10m")).describe()
    'share(sensor.reading.value > 30, last(600000000us))'
    """
    if (
        not isinstance(condition, Arithmetic)
        or condition.operator not in COMPARISONS
        or not isinstance(condition.left, FieldRef)
        or not isinstance(condition.right, Constant)
    ):
        raise FeatureDefinitionError(
            "share() needs a field compared with a number, such as Reading.value > 30; "
            f"got {condition!r}"
        )
    return Share(condition.left, condition.operator, condition.right.value, window)


def rate(field: object, window: Window) -> Statistic:
    """Events a second in `window`, a stretch of time, whose `field` is not null.

    Raises
    ------
    FeatureDefinitionError
        `window` is a number of events.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> rate(Reading.value, last("10m")).unit
    '{event}/s'
    """
    return Rate(field, window)


def elapsed() -> Expression:
    """Seconds since the event before the current one; null for the first.

    Examples
    --------
    >>> elapsed().describe()
    'elapsed()'
    """
    return Elapsed()


def hour_of_day() -> Expression:
    """Hour of the current event's time, UTC, 0 to 23.

    Examples
    --------
    >>> hour_of_day().describe()
    'hour_of_day()'
    """
    return Calendar("hour_of_day")


def day_of_week() -> Expression:
    """Day of the current event's time, UTC: Monday is 0, Sunday 6.

    Examples
    --------
    >>> day_of_week().describe()
    'day_of_week()'
    """
    return Calendar("day_of_week")


def difference(field: object, lag: int = 1) -> Statistic:
    """Return the latest `field` minus that of `lag` events before; null when fewer.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> difference(Reading.value).describe()
    'difference(sensor.reading.value, last(2))'
    """
    if lag < 1:
        raise FeatureDefinitionError(f"expected a lag of at least 1 event, got {lag}")
    return Statistic("difference", field, LastEvents(lag + 1))


def ratio(field: object, lag: int = 1) -> Statistic:
    """Return the latest `field` over that of `lag` events before; null when fewer.

    Null too where the earlier one is zero.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> ratio(Reading.value, lag=24).describe()
    'ratio(sensor.reading.value, last(25))'
    """
    if lag < 1:
        raise FeatureDefinitionError(f"expected a lag of at least 1 event, got {lag}")
    return Statistic("ratio", field, LastEvents(lag + 1))


class Feature(Expression):
    """A named expression of a feature set."""

    def __init__(self, name: str, expression: Expression) -> None:
        self.name = name
        self.expression = expression

    def evaluate(self, lookup: Callable[[Expression], Number | None]) -> Number | None:
        """Return the value of the expression."""
        return self.expression.evaluate(lookup)

    def operands(self) -> tuple[Expression, ...]:
        """Return the expression."""
        return (self.expression,)

    def describe(self) -> str:
        """Return the meaning of the expression; the name is no part of it."""
        return self.expression.describe()


def _leaves(expression: Expression) -> Iterator[Expression]:
    operands = expression.operands()
    if not operands:
        yield expression
    for operand in operands:
        yield from _leaves(operand)


class FeatureSet:
    """The features of one event type, by entity key.

    Attributes
    ----------
    name
        Name of the decorated class.
    fields
        The event fields that the features read, in the order states keep them.
    statistics
        The distinct statistics; each is computed once, however many features read it.
    window_us, depth
        The longest stretch of time and the most events that any feature looks
        back; together with `lateness_us` they say what a state must keep.
    pane_days, pane_columns
        Days of hours that a state keeps sums of, and of which fields: the place of
        each, and whether its squares are summed too.
    state_limit_bytes
        Encoded size at which a key is said to send faster than `max_rate`.
    """

    def __init__(
        self,
        name: str,
        event: type[Event],
        expressions: Mapping[str, Expression],
        *,
        lateness_us: int,
        max_rate: str,
    ) -> None:
        self.name = name
        self.event = event
        self.lateness_us = lateness_us
        self.max_rate = max_rate
        self.features = {
            feature: Feature(feature, expression)
            for feature, expression in expressions.items()
        }
        leaves = [leaf for e in expressions.values() for leaf in _leaves(e)]
        read = {x.field.name: x.field for x in leaves if isinstance(x, Statistic)}
        read |= {x.name: x for x in leaves if isinstance(x, FieldRef)}
        self._check(leaves, read.values())
        self.fields = tuple(sorted(read))
        self._program = Program(self.features)
        self.statistics = tuple(
            x for x in self._program.leaves if isinstance(x, Statistic)
        )
        windows = [statistic.window for statistic in self.statistics]
        self.window_us = max(
            (w.width_us for w in windows if isinstance(w, LastDuration)), default=0
        )
        before = any(isinstance(x, Elapsed) for x in self._program.leaves)
        counts = [w.count for w in windows if isinstance(w, LastEvents)]
        self.depth = max([1 + before, *counts])
        self.pane_days = max(
            (w.days for w in windows if isinstance(w, SameHour)), default=0
        )
        self.pane_columns: dict[int, bool] = {}
        for statistic in self.statistics:
            if isinstance(statistic.window, SameHour):
                column = self.fields.index(statistic.field.name)
                squares = self.pane_columns.get(column, False)
                self.pane_columns[column] = squares or statistic.name == "std"
        self.state_limit_bytes = DYNAMODB_ITEM_BYTES - ITEM_OVERHEAD_BYTES
        self._check_size()
        self._views: list[_View] = []
        self._leaves = [self._plan(leaf) for leaf in self._program.leaves]
        self.digest = hashlib.sha256(self.describe().encode()).hexdigest()

    @property
    def kept_us(self) -> int:
        """How far behind the newest event of a key its state reaches, microseconds."""
        return self.window_us + self.lateness_us + FUTURE_TOLERANCE_US

    def describe(self) -> str:
        """Return the canonical text of the whole definition; `digest` hashes it."""
        lines = [f"{name} = {f.describe()}" for name, f in self.features.items()]
        head = f"{self.event.contract().type} lateness={self.lateness_us}us"
        return "\n".join([head, *sorted(lines)])

    def __getattr__(self, name: str) -> Feature:
        features: dict[str, Feature] = self.__dict__.get("features", {})
        if name in features:
            return features[name]
        raise AttributeError(
            f"feature set {self.__dict__.get('name')!r} has no feature {name!r}; it "
            f"has {sorted(features)[:10]}"
        )

    def values_of(self, data: Mapping[str, object]) -> tuple[float | None, ...]:
        """Return what a state keeps of an event's data: its fields as doubles."""
        return tuple(
            None if (value := data.get(name)) is None else float(value)  # type: ignore[arg-type]
            for name in self.fields
        )

    def oldest_hour(self, newest_us: int) -> int:
        """Return the oldest hour that a feature may still read, since the epoch.

        An in-time event may lie as far behind the newest as the state reaches.
        """
        reach_us = self.lateness_us + FUTURE_TOLERANCE_US
        return (newest_us - reach_us) // HOUR_US - DAY_HOURS * self.pane_days

    def at(
        self,
        entries: Sequence[Entry],
        time_us: int | None = None,
        panes: Panes | None = None,
    ) -> dict[str, Number | None]:
        """Return every feature at `time_us`, by default that of the newest entry.

        Parameters
        ----------
        entries
            Applied events of one key in order, shape (n,).
        panes
            What is kept of the events before them, if anything.

        Returns
        -------
        dict
            A number or null for each feature, in the order of definition.
        """
        if time_us is None:
            end = len(entries)
            time_us = entries[-1].time_us if entries else 0
        else:
            end = bisect_right(entries, time_us, key=_time)
        if panes is None:
            panes = Panes((), self.pane_columns)
        found = [view.read(entries, end, time_us, panes) for view in self._views]
        return self._program.run(
            [finite(compute(found[place])) for place, compute in self._leaves]
        )

    def _plan(self, leaf: Expression) -> tuple[int, Callable[[Any], Number | None]]:
        """Return the view that a leaf reads, one for all that read it, and how."""
        view, compute = _reading(leaf, self.fields)
        if view not in self._views:
            self._views.append(view)
        return self._views.index(view), compute

    def _check(self, leaves: Iterable[Expression], fields: Iterable[FieldRef]) -> None:
        if not self.features:
            raise FeatureDefinitionError(f"feature set {self.name!r} has no features")
        for field in fields:
            _numeric(field, "a feature")
            if field.event is not self.event:
                raise FeatureDefinitionError(
                    f"feature set {self.name!r} is over {self.event.__name__}, but "
                    f"reads {field.describe()}: use one feature set an event type"
                )
        unknown = [
            leaf
            for leaf in leaves
            if not isinstance(
                leaf, Statistic | FieldRef | Constant | Elapsed | Calendar
            )
        ]
        if unknown:
            raise FeatureDefinitionError(
                f"feature set {self.name!r} holds {unknown[0]!r}, which is neither a "
                "statistic, a field nor a number"
            )

    def _check_size(self) -> None:
        match = _RATE.fullmatch(self.max_rate)
        if match is None or int(match.group(1)) == 0:
            raise FeatureDefinitionError(
                f"max_rate={self.max_rate!r}: expected events per unit of time, such "
                "as '2/s' or '60/h'"
            )
        events = int(match.group(1)) * self.kept_us // duration_us("1" + match.group(2))
        needed = (events + self.depth) * (ENTRY_BYTES + 8 * len(self.fields))
        hours = (self.pane_days + 1) * DAY_HOURS if self.pane_columns else 0
        pane_bytes = PANE_BYTES * sum(1 + sq for sq in self.pane_columns.values())
        needed += hours * pane_bytes
        if needed > self.state_limit_bytes:
            raise FeatureDefinitionError(
                f"feature set {self.name!r}: a key that sends {self.max_rate} for "
                f"{self.kept_us / 1e6:.0f} s (window {self.window_us / 1e6:.0f} s + "
                f"lateness {self.lateness_us / 1e6:.0f} s + 300 s) keeps {events} + "
                f"{self.depth} events of about {ENTRY_BYTES + 8 * len(self.fields)} "
                f"bytes, and {hours} hours of {pane_bytes} bytes = {needed} bytes, but "
                f"a DynamoDB item holds {self.state_limit_bytes}: shorten the window "
                "or the lateness, or declare a lower max_rate"
            )


def _time(entry: Entry) -> int:
    return entry.time_us


@dataclass(frozen=True, slots=True)
class _Values:
    """A field over the events of a window, in order; `nulls` keeps the empty ones."""

    window: LastEvents | LastDuration
    column: int
    nulls: bool

    def read(
        self,
        entries: Sequence[Entry],
        end: int,
        time_us: int,
        panes: Panes,  # noqa: ARG002 - views are read alike
    ) -> list[float | None]:
        column = self.column
        start = self.window.start(entries, end, time_us)
        found = [entry.values[column] for entry in entries[start:end]]
        if self.nulls or None not in found:
            return found
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class _Hours:
    """A field over the events of some hours: those sealed, and those still held."""

    window: SameHour
    column: int
    squares: bool

    def read(
        self, entries: Sequence[Entry], end: int, time_us: int, panes: Panes
    ) -> Moments:
        hours = self.window.hours(time_us)
        parts = []
        sealed = panes.over(hours, self.column)
        if sealed is not None:
            parts.append(sealed)
        if end and entries[0].time_us < (hours[-1] + 1) * HOUR_US:
            held = self._held(entries, hours)
            if held:
                parts.append(Moments.of(held, squares=self.squares))
        if sum(part.n for part in parts) < self.window.at_least:
            return NOTHING
        return Moments.merge(parts) if len(parts) > 1 else parts[0]

    def _held(self, entries: Sequence[Entry], hours: range) -> list[float]:
        found = []
        for hour in hours:
            start = bisect_left(entries, hour * HOUR_US, key=_time)
            end = bisect_left(entries, (hour + 1) * HOUR_US, start, key=_time)
            found += [entry.values[self.column] for entry in entries[start:end]]
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class _Times:
    """The times of the current event and the one before it, microseconds."""

    def read(
        self,
        entries: Sequence[Entry],
        end: int,
        time_us: int,  # noqa: ARG002 - views are read alike
        panes: Panes,  # noqa: ARG002
    ) -> list[int]:
        return [entry.time_us for entry in entries[max(0, end - 2) : end]]


_View = _Values | _Hours | _Times


def _reading(
    leaf: Expression, fields: Sequence[str]
) -> tuple[_View, Callable[[Any], Number | None]]:
    """Return what of a key's events `leaf` reads, and what it makes of that."""
    if isinstance(leaf, Elapsed):
        return _Times(), _elapsed
    if isinstance(leaf, Calendar):
        return _Times(), partial(_part, part=Calendar.PARTS[leaf.part])
    if isinstance(leaf, FieldRef):
        return _Values(LastEvents(1), fields.index(leaf.name), nulls=True), _newest
    if not isinstance(leaf, Statistic):
        raise FeatureDefinitionError(f"cannot evaluate {leaf!r}")
    column, window = fields.index(leaf.field.name), leaf.window
    if isinstance(window, SameHour):
        squares = leaf.name == "std"
        return _Hours(window, column, squares=squares), OF_MOMENTS[leaf.name]
    if isinstance(window, LastEvents) and leaf.name in LAGGED:
        view = _Values(window, column, nulls=True)
        apply = OPERATIONS[LAGGED[leaf.name]]
        return view, partial(_lagged, events=window.count, apply=apply)
    return _Values(window, column, nulls=False), leaf.compute


def _newest(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _lagged(
    values: Sequence[float | None],
    events: int,
    apply: Callable[[Number, Number], Number | None],
) -> Number | None:
    if len(values) < events:
        return None
    newest, oldest = values[-1], values[0]
    return None if newest is None or oldest is None else apply(newest, oldest)


def _elapsed(times_us: Sequence[int]) -> float | None:
    if len(times_us) < 2:  # noqa: PLR2004 - between two events
        return None
    return (times_us[1] - times_us[0]) / 1_000_000


def _part(times_us: Sequence[int], part: Callable[[int], int]) -> int | None:
    return part(times_us[-1]) if times_us else None


def feature_set(decorated: object) -> FeatureSet:
    """Return a class decorated with ``@features`` as what it is: a feature set.

    Type checkers take a decorated class for a class; this tells them.

    Raises
    ------
    FeatureDefinitionError
        It was not decorated.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.features import Sensor
    >>> feature_set(Sensor).name
    'Sensor'
    """
    if not isinstance(decorated, FeatureSet):
        raise FeatureDefinitionError(
            f"expected a class decorated with @features, got {decorated!r}"
        )
    return decorated


def features(
    event: type[Event], *, lateness: str = "0s", max_rate: str
) -> Callable[[type], FeatureSet]:
    """Turn a class of expressions into the feature set of `event`.

    Parameters
    ----------
    lateness
        How long after it happened an event may arrive and still count.
    max_rate
        How fast one key may send, such as ``"2/s"``; the size of its state follows
        and is checked here against what a DynamoDB item can hold.

    Raises
    ------
    FeatureDefinitionError
        A member is no expression, or the state of a key would not fit.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> @features(Reading, lateness="10m", max_rate="1/s")
    ... class Sensor:
    ...     mean_3 = mean(Reading.value, last(3))
    ...     deviation = Reading.value - mean_3
    >>> Sensor.deviation.describe()
    '(sensor.reading.value - mean(sensor.reading.value, last(3)))'
    """
    try:
        lateness_us = 0 if lateness == "0s" else duration_us(lateness)
    except PermanentError as error:
        raise FeatureDefinitionError(f"lateness: {error}") from error

    def decorate(cls: type) -> FeatureSet:
        members = {k: v for k, v in vars(cls).items() if not k.startswith("_")}
        wrong = [k for k, v in members.items() if not isinstance(v, Expression)]
        if wrong:
            raise FeatureDefinitionError(
                f"{cls.__name__}.{wrong[0]} is no feature: write a statistic or "
                "arithmetic over statistics and event fields"
            )
        return FeatureSet(
            cls.__name__, event, members, lateness_us=lateness_us, max_rate=max_rate
        )

    return decorate
