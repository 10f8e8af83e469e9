"""What features are made of: statistics of a column over a window, and the moment.

A leaf says what it means, `describe`, and how it is computed from what a window
holds; `retrodict.vocabulary` has a word for each.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from retrodict import statistics
from retrodict.contracts import FieldRef
from retrodict.decay import weight
from retrodict.errors import FeatureDefinitionError
from retrodict.expressions import (
    OPERATIONS,
    Expression,
    Number,
    bound_text,
    finite,
)
from retrodict.panes import Summary
from retrodict.windows import (
    DAY_US,
    HOUR_US,
    LastDuration,
    LastEvents,
    LastPanes,
    SameSlot,
    Window,
)

Values = Sequence[float]
"""Finite doubles of a window, in the order of events, shape (n,)."""

_NUMBERS: Final = (int, float)

STATISTICS: Final[Mapping[str, Callable[[Values], Number | None]]] = {
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

OF_SUMMARIES: Final[Mapping[str, Callable[[Summary], Number | None]]] = {
    "count": lambda s: s.moments.n,
    "sum": lambda s: s.moments.sum(),
    "mean": lambda s: s.moments.mean(),
    "std": lambda s: s.moments.std(),
    "min": lambda s: s.bounds.low if s.bounds else None,
    "max": lambda s: s.bounds.high if s.bounds else None,
    "first": lambda s: s.bounds.first if s.bounds else None,
    "last": lambda s: s.bounds.last if s.bounds else None,
}
"""Statistics that panes can carry, because summaries can be merged exactly."""

BOUNDED: Final = frozenset({"min", "max", "first", "last"})
"""Those of them that need `retrodict.panes.Bounds`."""

_WHOLE: Final = frozenset({"count", "distinct"})

UNITS: Final[Mapping[str, str]] = {
    "count": "{event}",
    "distinct": "{value}",
    "share": "1",
    "rate": "{event}/s",
    "ratio": "1",
}
"""Units of the statistics that do not have their column's."""


class Category(Expression):
    """A text field as the place of its value in a list, and one place more for others.

    Attributes
    ----------
    values
        The values that are known, in the order of their numbers.
    """

    unit: str | None = "1"

    def __init__(self, field: FieldRef, values: Sequence[str]) -> None:
        self.field = field
        self.event = field.event
        self.values = tuple(values)
        self.name = f"{field.name} in {list(self.values)}"
        self._places = {value: float(n) for n, value in enumerate(self.values)}

    def describe(self) -> str:
        """Return field and values as text."""
        return f"category({self.field.describe()}, {list(self.values)})"

    def read(self, data: Mapping[str, object]) -> float | None:
        """Return the number of an event's value, that of the unseen, or null."""
        value = data.get(self.field.name)
        if value is None:
            return None
        return self._places.get(str(value), float(len(self.values)))


Column = FieldRef | Category
"""What a state keeps of each event, as a double or null."""


def read_column(column: Column, data: Mapping[str, object]) -> float | None:
    """Return what a state keeps of `column` of an event's data."""
    if isinstance(column, Category):
        return column.read(data)
    value = data.get(column.name)
    return None if value is None else float(value)  # type: ignore[arg-type]


def column_of(operand: object, use: str) -> Column:
    """Return `operand` if it is a column, a number field or a category.

    Raises
    ------
    FeatureDefinitionError
        It is something else.
    """
    if isinstance(operand, Category):
        return operand
    if not isinstance(operand, FieldRef) or operand.type not in _NUMBERS:
        raise FeatureDefinitionError(
            f"{use}() needs a number field of an event, such as Reading.value, or a "
            f"category(); got {operand!r}"
        )
    return operand


class Statistic(Expression):
    """A statistic of one column over one window.

    Attributes
    ----------
    unit
        Unit of the result as UCUM writes it, or None where the column has none.
    """

    def __init__(self, name: str, field: object, window: Window) -> None:
        self.name = name
        self.field = column_of(field, name)
        self.window = window
        self.unit: str | None = UNITS.get(name, self.field.unit)
        if isinstance(window, LastPanes | SameSlot) and name not in OF_SUMMARIES:
            raise FeatureDefinitionError(
                f"{name}() over panes: panes carry only "
                f"{', '.join(sorted(OF_SUMMARIES))} and rate; take last('10m') or "
                "last(n)"
            )
        if not isinstance(window, LastPanes | SameSlot | LastDuration | LastEvents):
            raise FeatureDefinitionError(
                f"{name}() needs a window, such as last('10m'); got {window!r}"
            )

    def describe(self) -> str:
        """Return statistic, column and window as text."""
        return f"{self.name}({self.field.describe()}, {self.window.describe()})"

    def compute(self, values: Values) -> Number | None:
        """Return the statistic of the values in the window, shape (n,)."""
        return STATISTICS[self.name](values)

    def summarise(self, summary: Summary) -> Number | None:
        """Return the statistic of a window of panes."""
        return OF_SUMMARIES[self.name](summary)


class Quantile(Statistic):
    """A quantile of one column over one window; `share` is exact, such as 9/10."""

    def __init__(self, field: object, share: float, window: Window) -> None:
        super().__init__("quantile", field, window)
        self.share = Fraction(repr(share))

    def describe(self) -> str:
        """Return share, column and window as text."""
        where = f"{self.field.describe()}, {self.window.describe()}"
        return f"quantile({where}, {self.share})"

    def compute(self, values: Values) -> Number | None:
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
        condition = f"{self.field.describe()} {self.operator} {bound_text(self.bound)}"
        return f"share({condition}, {self.window.describe()})"

    def compute(self, values: Values) -> Number | None:
        """Return how many of the values meet the condition over how many there are."""
        if not values:
            return None
        holds = OPERATIONS[self.operator]
        return sum(holds(value, self.bound) or 0 for value in values) / len(values)


class Rate(Statistic):
    """Events a second over a stretch of time."""

    def __init__(self, field: object, window: Window) -> None:
        if not isinstance(window, LastDuration | LastPanes):
            raise FeatureDefinitionError(
                f"rate() needs a stretch of time, such as last('10m'); got {window!r}"
            )
        super().__init__("count", field, window)
        self.name, self.unit = "rate", UNITS["rate"]
        self.width_us = (
            window.width_us
            if isinstance(window, LastDuration)
            else window.count * window.every_us
        )

    def compute(self, values: Values) -> Number | None:
        """Return the number of values over the length of the window."""
        return len(values) / (self.width_us / 1_000_000)

    def summarise(self, summary: Summary) -> Number | None:
        """Return the number of values over the length of the window."""
        return summary.moments.n / (self.width_us / 1_000_000)


class Decayed(Statistic):
    """A mean or spread whose weights halve with the age of a value."""

    WEIGHTED: Final[Mapping[str, Callable[[Values, Sequence[int]], float | None]]] = {
        "mean": statistics.weighted_mean,
        "std": statistics.weighted_std,
    }

    def __init__(
        self, name: str, field: object, window: Window, half_life_us: int
    ) -> None:
        super().__init__(f"decayed_{name}", field, window)
        self.half_life_us = half_life_us
        self._of = self.WEIGHTED[name]

    def describe(self) -> str:
        """Return statistic, column, window and half-life as text."""
        where = f"{self.field.describe()}, {self.window.describe()}"
        return f"{self.name}({where}, half_life={self.half_life_us}us)"

    def compute_aged(self, values: Values, ages_us: Sequence[int]) -> Number | None:
        """Return the statistic of values of some ages, microseconds, shape (n,)."""
        return self._of(values, [weight(age, self.half_life_us) for age in ages_us])


class Custom(Statistic):
    """A plain function of the values in a window."""

    def __init__(
        self,
        function: Callable[[tuple[float, ...]], Number | None],
        version: int,
        field: object,
        window: Window,
        unit: str | None,
    ) -> None:
        super().__init__("statistic", field, window)
        self.function = function
        self.version = version
        self.unit = unit

    def describe(self) -> str:
        """Return name, version, column and window as text."""
        where = f"{self.field.describe()}, {self.window.describe()}"
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        return f"{name}[v{self.version}]({where})"

    def compute(self, values: Values) -> Number | None:
        """Return what the function returns, or null where it is no finite number."""
        try:
            found = self.function(tuple(values))
        except (ArithmeticError, ValueError):
            return None
        return None if found is None else finite(float(found))


class Elapsed(Expression):
    """Seconds between the current event and the one before it."""

    unit = "s"

    def describe(self) -> str:
        """Return what it is as text."""
        return "elapsed()"


class Calendar(Expression):
    """A part of the current event's time, UTC."""

    PARTS: Final[Mapping[str, Callable[[int], int]]] = {
        "hour_of_day": lambda time_us: time_us % DAY_US // HOUR_US,
        # The epoch was a Thursday; Monday is 0.
        "day_of_week": lambda time_us: (time_us // DAY_US + 3) % 7,
    }

    def __init__(self, part: str) -> None:
        self.part = part
        self.unit = "h" if part == "hour_of_day" else "d"

    def describe(self) -> str:
        """Return which part as text."""
        return f"{self.part}()"


def is_integral(leaf: Expression) -> bool:
    """Return whether the plain fold has whole numbers of unbounded size for a leaf."""
    is_count = isinstance(leaf, Statistic) and leaf.name in _WHOLE
    return is_count or isinstance(leaf, Calendar)
