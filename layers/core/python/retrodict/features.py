"""Features: numbers about an entity, as they were known at one position.

A feature at (key, t, p) is a function of the *set* of events of that key that were
applied at or before position p and happened at or before t, taken in the order
(time, identity). One definition folds online, computes over the log and answers behind
an endpoint, so there is nothing for them to disagree about.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from retrodict.contracts import Event, FieldRef
from retrodict.errors import FeatureDefinitionError, PermanentError
from retrodict.expressions import Constant, Expression, Number, Program, finite
from retrodict.leaves import (
    Calendar,
    Category,
    Column,
    Elapsed,
    Statistic,
    column_of,
    read_column,
)
from retrodict.panes import Grid, Keeping, Panes
from retrodict.stamps import FUTURE_TOLERANCE_US, duration_us
from retrodict.views import View, keeping, place_of, reading
from retrodict.windows import (
    Entry,
    LastDuration,
    LastEvents,
    LastPanes,
    SameSlot,
)

DYNAMODB_ITEM_BYTES: Final = 400 * 1024
"""What one DynamoDB item may hold; the state of a key is one item."""

ITEM_OVERHEAD_BYTES: Final = 16 * 1024
"""Room in that item for keys, stamps and the current feature values."""

ENTRY_BYTES: Final = 13
"""Typical size of one event in a state beside its values: time, identity, check."""

VALUE_BYTES: Final = 8

PANE_BYTES: Final = 24
"""Typical size of one pane; as much again for squares, and for bounds."""

_RATE: Final = re.compile(r"(\d+)/(s|m|h|d)")


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
    columns
        What the features read of an event, in the order that states keep it.
    fields
        The names of the columns.
    statistics
        The distinct statistics; each is computed once, however many features read it.
    window_us, depth
        The longest stretch of time that is kept event by event, and the most events
        that any feature looks back; with `lateness_us` they say what a state keeps.
    grids
        The panes that a state keeps of the events before.
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
        self.columns = self._read(leaves)
        self.fields = tuple(column.name for column in self.columns)
        self.program = Program(self.features)
        self.statistics = tuple(
            x for x in self.program.leaves if isinstance(x, Statistic)
        )
        windows = [statistic.window for statistic in self.statistics]
        self.window_us = max(
            (w.width_us for w in windows if isinstance(w, LastDuration)), default=0
        )
        before = any(isinstance(x, Elapsed) for x in self.program.leaves)
        counts = [w.count for w in windows if isinstance(w, LastEvents)]
        self.depth = max([1 + before, *counts])
        self.grids = self._grids()
        self.state_limit_bytes = DYNAMODB_ITEM_BYTES - ITEM_OVERHEAD_BYTES
        self._check_size()
        self._views: list[View] = []
        self._leaves = [self._plan(leaf) for leaf in self.program.leaves]
        self.digest = hashlib.sha256(self.describe().encode()).hexdigest()

    @property
    def kept_us(self) -> int:
        """How far behind the newest event of a key its state reaches, microseconds."""
        return self.window_us + self.reach_us

    @property
    def reach_us(self) -> int:
        """How far behind the newest event one is still served with features."""
        return self.lateness_us + FUTURE_TOLERANCE_US

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
        """Return what a state keeps of an event's data: its columns as doubles."""
        return tuple(read_column(column, data) for column in self.columns)

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
        return self.program.run(self.leaves_at(entries, time_us, panes))

    def leaves_at(
        self,
        entries: Sequence[Entry],
        time_us: int | None = None,
        panes: Panes | None = None,
    ) -> list[Number | None]:
        """Return what the program of the features reads, as `at` does."""
        if time_us is None:
            end = len(entries)
            time_us = entries[-1].time_us if entries else 0
        else:
            end = bisect_right(entries, time_us, key=_time)
        if panes is None:
            panes = Panes((), self.grids)
        found = [view.read(entries, end, time_us, panes) for view in self._views]
        return [finite(compute(found[place])) for place, compute in self._leaves]

    def _plan(self, leaf: Expression) -> tuple[int, Callable[[Any], Number | None]]:
        """Return the view that a leaf reads, one for all that read it, and how."""
        view, compute = reading(leaf, self.columns)
        if view not in self._views:
            self._views.append(view)
        return self._views.index(view), compute

    def _read(self, leaves: Iterable[Expression]) -> tuple[Column, ...]:
        """Return the columns under the leaves, and refuse what is no leaf."""
        if not self.features:
            raise FeatureDefinitionError(f"feature set {self.name!r} has no features")
        found: dict[str, Column] = {}
        for leaf in leaves:
            if isinstance(leaf, FieldRef | Category | Statistic):
                column = leaf.field if isinstance(leaf, Statistic) else leaf
                column = column_of(column, "a feature")
                if column.event is not self.event:
                    raise FeatureDefinitionError(
                        f"feature set {self.name!r} is over {self.event.__name__}, but "
                        f"reads {column.describe()}: use one feature set an event type"
                    )
                found[column.name] = column
            elif not isinstance(leaf, Constant | Elapsed | Calendar):
                raise FeatureDefinitionError(
                    f"feature set {self.name!r} holds {leaf!r}, which is neither a "
                    "statistic, a field nor a number"
                )
        return tuple(found[name] for name in sorted(found))

    def _grids(self) -> dict[Grid, Keeping]:
        found: dict[Grid, Keeping] = {}
        for statistic in self.statistics:
            if isinstance(statistic.window, LastPanes | SameSlot):
                column = place_of(statistic.field, self.columns)
                grid = Grid(statistic.window.every_us, column)
                needed = keeping(statistic)
                found[grid] = needed.with_(found.get(grid, needed))
        return dict(sorted(found.items()))

    def _check_size(self) -> None:
        match = _RATE.fullmatch(self.max_rate)
        if match is None or int(match.group(1)) == 0:
            raise FeatureDefinitionError(
                f"max_rate={self.max_rate!r}: expected events per unit of time, such "
                "as '2/s' or '60/h'"
            )
        unit_us = duration_us("1" + match.group(2))
        raw_us = self.kept_us + max((g.every_us for g in self.grids), default=0)
        events = int(match.group(1)) * self.kept_us // unit_us
        each = ENTRY_BYTES + VALUE_BYTES * len(self.columns)
        panes = sum(
            k.reach + 1 + -(-raw_us // g.every_us) for g, k in self.grids.items()
        )
        pane_bytes = sum(
            PANE_BYTES
            * (1 + k.squares + k.bounds)
            * (k.reach + 1 + -(-raw_us // g.every_us))
            for g, k in self.grids.items()
        )
        needed = (events + self.depth) * each + pane_bytes
        if needed > self.state_limit_bytes:
            raise FeatureDefinitionError(
                f"feature set {self.name!r}: a key that sends {self.max_rate} for "
                f"{self.kept_us / 1e6:.0f} s (window {self.window_us / 1e6:.0f} s + "
                f"lateness {self.lateness_us / 1e6:.0f} s + 300 s) keeps {events} + "
                f"{self.depth} events of about {each} bytes, and {panes} panes of "
                f"{pane_bytes} bytes together = {needed} bytes, but a DynamoDB item "
                f"holds {self.state_limit_bytes}: shorten the window or the lateness, "
                "declare panes (every=) for a long window, or a lower max_rate"
            )


def _time(entry: Entry) -> int:
    return entry.time_us


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
    >>> from retrodict.vocabulary import last, mean
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
