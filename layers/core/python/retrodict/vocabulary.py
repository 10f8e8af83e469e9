"""The words that features are written in: statistics, baselines, the calendar.

Each is exact by definition: of the values, in the order of events, and never of the
path that computed it. `retrodict.windows.last` says over which events. A word over no
values is null, but for counts.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Final

from retrodict.contracts import FieldRef
from retrodict.errors import FeatureDefinitionError, PermanentError
from retrodict.expressions import (
    COMPARISONS,
    Arithmetic,
    Constant,
    Expression,
    Number,
)
from retrodict.leaves import (
    Calendar,
    Category,
    Custom,
    Decayed,
    Elapsed,
    Quantile,
    Rate,
    Share,
    Statistic,
)
from retrodict.stamps import duration_us
from retrodict.windows import MOST_SLOTS, LastEvents, SameSlot, Window
from retrodict.windows import last as last  # noqa: PLC0414 - a word as well

DAY_HOURS: Final = 24
WEEK_HOURS: Final = 168

_NUMBERS: Final = (int, float)


def count(field: object, window: Window) -> Statistic:
    """Count the events in `window` whose `field` is not null; 0 when empty.

    Returns
    -------
    Statistic
        ``{event}``, whole.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), aggregate functions: nulls are left out.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> count(Reading.value, last("10m")).describe()
    'count(sensor.reading.value, last(600000000us))'
    >>> count(Reading.value, last("10m")).compute([20.5, 21.0])
    2
    """
    return Statistic("count", field, window)


def mean(field: object, window: Window) -> Statistic:
    """Average `field` over `window`: `statistics.mean`; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] J. R. Shewchuk (1997), Discrete Comput. Geom. 18, 305-363.
       doi:10.1007/PL00009321; the correctly rounded exact sum.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> mean(Reading.value, last(3)).describe()
    'mean(sensor.reading.value, last(3))'
    >>> mean(Reading.value, last(3)).compute([20.0, 21.0, 23.5])
    21.5
    """
    return Statistic("mean", field, window)


def same_hour_mean(field: object, days: int, *, at_least: int = 1) -> Statistic:
    """Average `field` over the same hour of earlier days: what is usual at this time.

    The hour is that of the current event, UTC, in each of the `days` days before; the
    event's own day is left out. Exact: `statistics.mean` of all those values. The
    residual is the field less this.

    Parameters
    ----------
    at_least
        With fewer events that have the field, the average is null.

    Returns
    -------
    Statistic
        In the unit of `field`.

    Raises
    ------
    FeatureDefinitionError
        `days` is not between 1 and `MOST_SLOTS`, or `at_least` is not positive.

    References
    ----------
    .. [1] R. J. Hyndman, G. Athanasopoulos (2021), "Forecasting: Principles and
       Practice", 3rd ed., section 5.2, the seasonal naive method.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_mean(Reading.value, days=7).describe()
    'mean(sensor.reading.value, same_hour(every=24h, count=7, at_least=1))'
    """
    return Statistic("mean", field, _same_hour("days", days, DAY_HOURS, at_least))


def same_hour_std(field: object, days: int, *, at_least: int = 2) -> Statistic:
    """Spread of `field` over the same hour of earlier days; see `same_hour_mean`.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.6, the
       standard deviation with n - 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_std(Reading.value, days=7, at_least=12).unit
    'Cel'
    """
    return Statistic("std", field, _same_hour("days", days, DAY_HOURS, at_least))


def same_hour_of_week_mean(
    field: object, weeks: int, *, at_least: int = 1
) -> Statistic:
    """Average `field` over the same hour of the week in earlier weeks.

    As `same_hour_mean`, where a Monday is not like a Sunday.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] R. J. Hyndman, G. Athanasopoulos (2021), "Forecasting: Principles and
       Practice", 3rd ed., section 5.2, the seasonal naive method.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_of_week_mean(Reading.value, weeks=4).describe()
    'mean(sensor.reading.value, same_hour(every=168h, count=4, at_least=1))'
    """
    return Statistic("mean", field, _same_hour("weeks", weeks, WEEK_HOURS, at_least))


def same_hour_of_week_std(field: object, weeks: int, *, at_least: int = 2) -> Statistic:
    """Spread of `field` over the same hour of the week in earlier weeks.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.6, the
       standard deviation with n - 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> same_hour_of_week_std(Reading.value, weeks=4).unit
    'Cel'
    """
    return Statistic("std", field, _same_hour("weeks", weeks, WEEK_HOURS, at_least))


def _same_hour(unit: str, count: int, period_hours: int, at_least: int) -> SameSlot:
    for name, number, most in ((unit, count, MOST_SLOTS), ("at_least", at_least, None)):
        is_count = isinstance(number, int) and not isinstance(number, bool)
        if not is_count or number < 1 or (most is not None and number > most):
            upper = "" if most is None else f", at most {most}"
            raise FeatureDefinitionError(
                f"expected {name} to be a whole number, at least 1{upper}; got "
                f"{number!r}"
            )
    return SameSlot(count, period_hours, at_least)


def std(field: object, window: Window) -> Statistic:
    """Spread of `field` over `window`: `statistics.std`; null for fewer than two.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.6, the
       standard deviation with n - 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> std(Reading.value, last("10m")).unit
    'Cel'
    >>> std(Reading.value, last("10m")).compute([2.0, 4.0])
    1.4142135623730951
    """
    return Statistic("std", field, window)


def minimum(field: object, window: Window) -> Statistic:
    """Smallest `field` in `window`; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), aggregate functions: nulls are left out.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> minimum(Reading.value, last(3)).describe()
    'min(sensor.reading.value, last(3))'
    >>> minimum(Reading.value, last(3)).compute([21.0, 20.5, 23.0])
    20.5
    """
    return Statistic("min", field, window)


def maximum(field: object, window: Window) -> Statistic:
    """Largest `field` in `window`; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), aggregate functions: nulls are left out.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> maximum(Reading.value, last(3)).describe()
    'max(sensor.reading.value, last(3))'
    >>> maximum(Reading.value, last(3)).compute([21.0, 20.5, 23.0])
    23.0
    """
    return Statistic("max", field, window)


def last_value(field: object, window: Window) -> Statistic:
    """Latest `field` in `window` that is not null; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), LAST_VALUE with IGNORE NULLS.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> last_value(Reading.value, last("10m")).describe()
    'last(sensor.reading.value, last(600000000us))'
    >>> last_value(Reading.value, last("10m")).compute([21.0, 20.5])
    20.5
    """
    return Statistic("last", field, window)


def total(field: object, window: Window) -> Statistic:
    """Sum `field` over `window`: the exact sum, rounded once; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] J. R. Shewchuk (1997), Discrete Comput. Geom. 18, 305-363.
       doi:10.1007/PL00009321; the correctly rounded exact sum.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> total(Reading.value, last(3)).describe()
    'sum(sensor.reading.value, last(3))'
    >>> total(Reading.value, last(3)).compute([1e16, 1.0, -1e16])
    1.0
    """
    return Statistic("sum", field, window)


def first_value(field: object, window: Window) -> Statistic:
    """Earliest `field` in `window` that is not null; null when empty.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), FIRST_VALUE with IGNORE NULLS.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> first_value(Reading.value, last("10m")).describe()
    'first(sensor.reading.value, last(600000000us))'
    >>> first_value(Reading.value, last("10m")).compute([21.0, 20.5])
    21.0
    """
    return Statistic("first", field, window)


def distinct(field: object, window: Window) -> Statistic:
    """Count the different values of `field` in `window`; 0 when empty.

    Returns
    -------
    Statistic
        ``{value}``, whole.

    References
    ----------
    .. [1] ISO/IEC 9075-2 (SQL), COUNT(DISTINCT).

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> distinct(Reading.value, last(24)).unit
    '{value}'
    >>> distinct(Reading.value, last(24)).compute([20.5, 21.0, 20.5])
    2
    """
    return Statistic("distinct", field, window)


def quantile(field: object, share: float, window: Window) -> Statistic:
    """Quantile of `field` over `window`: `statistics.quantile`; null when empty.

    Parameters
    ----------
    share
        From 0, the minimum, over 0.5, the median, to 1, the maximum; as written.

    Returns
    -------
    Statistic
        In the unit of `field`.

    Raises
    ------
    FeatureDefinitionError
        `share` is not between 0 and 1.

    References
    ----------
    .. [1] R. J. Hyndman, Y. Fan (1996), Am. Stat. 50, 361-365, definition 7.
       doi:10.2307/2684934

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> quantile(Reading.value, 0.9, last("10m")).describe()
    'quantile(sensor.reading.value, last(600000000us), 9/10)'
    >>> quantile(Reading.value, 0.9, last("10m")).compute([1.0, 2.0])
    1.9
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

    Returns
    -------
    Statistic
        ``1``, from 0 to 1.

    Raises
    ------
    FeatureDefinitionError
        `condition` is something else.

    References
    ----------
    .. [1] The relative frequency: the mean of the condition as 0 or 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> share(Reading.value > 30, last("10m")).describe()
    'share(sensor.reading.value > 30, last(600000000us))'
    >>> share(Reading.value > 30, last("10m")).compute([20.0, 31.0])
    0.5
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

    Returns
    -------
    Statistic
        ``{event}/s``.

    Raises
    ------
    FeatureDefinitionError
        `window` is a number of events.

    References
    ----------
    .. [1] D. R. Cox, P. A. W. Lewis (1966), "The Statistical Analysis of Series of
       Events", section 2.1: events over the time in which they came.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> rate(Reading.value, last("10m")).unit
    '{event}/s'
    >>> rate(Reading.value, last("10m")).compute([20.5] * 60)
    0.1
    """
    return Rate(field, window)


def decayed_mean(field: object, window: Window, *, half_life: str) -> Statistic:
    """Average `field` over `window`, an event weighing half of one a half-life newer.

    Exponentially weighted: ``2**(-age / half_life)`` with the age at the current event.
    `statistics.weighted_mean` of the weights of `decay.weight`; null when empty.

    Parameters
    ----------
    half_life
        A duration, such as ``"2m"``.

    Returns
    -------
    Statistic
        In the unit of `field`.

    Raises
    ------
    FeatureDefinitionError
        `half_life` is no duration, or `window` has panes.

    References
    ----------
    .. [1] G. Zumbach, U. Mueller (2001), "Operators on Inhomogeneous Time Series",
       Int. J. Theor. Appl. Finance 4(1), 147-177. doi:10.1142/S0219024901000900

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> decayed_mean(Reading.value, last("10m"), half_life="2m").unit
    'Cel'
    >>> minute = 60_000_000
    >>> word = decayed_mean(Reading.value, last("10m"), half_life="2m")
    >>> word.compute_aged([1.0, 4.0], [2 * minute, 0])
    3.0
    """
    return Decayed("mean", field, window, _half_life(half_life))


def decayed_std(field: object, window: Window, *, half_life: str) -> Statistic:
    """Spread of `field` over `window` with the weights of `decayed_mean`.

    `statistics.weighted_std`; null for fewer than two.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] pandas, ``DataFrame.ewm(times=...).std(bias=False)``.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> decayed_std(Reading.value, last(24), half_life="1h").describe()
    'decayed_std(sensor.reading.value, last(24), half_life=3600000000us)'
    """
    return Decayed("std", field, window, _half_life(half_life))


def _half_life(text: str) -> int:
    try:
        return duration_us(text)
    except PermanentError as error:
        raise FeatureDefinitionError(f"half_life: {error}") from error


def category(field: object, values: Sequence[str]) -> Category:
    """Return a text field as a number: the place of its value in `values`.

    A value that is not among them is unseen and has the number ``len(values)``, so a
    model can tell it from all others; null stays null. A category is a column: it may
    stand in a statistic, such as ``distinct(category(...), last("1h"))``.

    Returns
    -------
    Category
        ``1``, a whole number from 0 to ``len(values)``.

    Raises
    ------
    FeatureDefinitionError
        `field` is no text field, or `values` are not different texts.

    References
    ----------
    .. [1] scikit-learn, ``OrdinalEncoder(handle_unknown="use_encoded_value")``.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> site = category(Reading.site, ["north", "south"])
    >>> [site.read({"site": s}) for s in ("south", "moon", None)]
    [1.0, 2.0, None]
    """
    if not isinstance(field, FieldRef) or field.type is not str:
        raise FeatureDefinitionError(
            f"category() needs a text field of an event, such as Reading.site; got "
            f"{field!r}"
        )
    names = list(values)
    are_texts = not isinstance(values, str) and all(isinstance(v, str) for v in names)
    if not names or not are_texts or len(set(names)) != len(names):
        raise FeatureDefinitionError(
            f"category() needs at least one value, each a text and different; got "
            f"{values!r}"
        )
    if field.choices is not None and not set(names) <= set(field.choices):
        unknown = sorted(set(names) - set(field.choices))
        raise FeatureDefinitionError(
            f"category(): {field.describe()} can never be {unknown[0]!r}; its choices "
            f"are {list(field.choices)}"
        )
    return Category(field, names)


Word = Callable[[object, Window], Statistic]


def statistic(
    *, version: int, unit: str | None = None
) -> Callable[[Callable[[tuple[float, ...]], Number | None]], Word]:
    """Turn a plain function of a window's values into a word: the escape hatch.

    The function gets the values of the window that are not null, in the order of
    events, and nothing else; it returns a number or None. It must depend on nothing
    but them. An ArithmeticError or a ValueError makes the feature null, as does a
    result that is not finite.

    Parameters
    ----------
    version
        Part of the digest: raise it when what the function means changes.
    unit
        Of the result, as UCUM writes it.

    Raises
    ------
    FeatureDefinitionError
        The function is local or a lambda, so that its name says nothing; `version` is
        no whole positive number; or it fails for no, one or three values.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> from retrodict.vocabulary import spread  # @statistic(version=1)
    >>> spread(Reading.value, last(24)).describe()
    'retrodict.vocabulary.spread[v1](sensor.reading.value, last(24))'
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise FeatureDefinitionError(
            f"@statistic(version={version!r}): expected a whole number, at least 1"
        )

    def decorate(function: Callable[[tuple[float, ...]], Number | None]) -> Word:
        name = getattr(function, "__qualname__", repr(function))
        if not callable(function) or "<" in name:
            raise FeatureDefinitionError(
                f"@statistic: {name} has no name of its own; define it with def at the "
                "top of a module"
            )
        for probe in ((), (1.5,), (1.5, -2.0, 1.5)):
            try:
                found = function(probe)
            except (ArithmeticError, ValueError):
                continue
            except Exception as error:
                raise FeatureDefinitionError(
                    f"@statistic: {name}({probe}) raised {error!r}; return None where "
                    "there is no result"
                ) from error
            if found is not None and not isinstance(found, _NUMBERS):
                raise FeatureDefinitionError(
                    f"@statistic: {name}({probe}) returned {found!r}, which is neither "
                    "a number nor None"
                )

        @wraps(function)
        def word(field: object, window: Window) -> Statistic:
            return Custom(function, version, field, window, unit)

        return word

    return decorate


@statistic(version=1)
def spread(values: tuple[float, ...]) -> float | None:
    """Return the greatest value less the least; null when empty.

    Returns
    -------
    float or None
        In the unit of the values.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.6, the range.

    Examples
    --------
    >>> spread.__wrapped__((1.0, 4.0, 2.0))
    3.0
    """
    return max(values) - min(values) if values else None


def elapsed() -> Expression:
    """Seconds since the event before the current one; null for the first.

    Returns
    -------
    Expression
        In ``s``, exact to the microsecond.

    References
    ----------
    .. [1] D. R. Cox, P. A. W. Lewis (1966), "The Statistical Analysis of Series of
       Events", section 1.2: the interval between events.

    Examples
    --------
    >>> elapsed().describe()
    'elapsed()'
    """
    return Elapsed()


def hour_of_day() -> Expression:
    """Hour of the current event's time, UTC, 0 to 23.

    Returns
    -------
    Expression
        In ``h``.

    References
    ----------
    .. [1] ISO 8601-1:2019, 24-hour clock.

    Examples
    --------
    >>> hour_of_day().describe()
    'hour_of_day()'
    """
    return Calendar("hour_of_day")


def day_of_week() -> Expression:
    """Day of the current event's time, UTC: Monday is 0, Sunday 6.

    Returns
    -------
    Expression
        In ``d``.

    References
    ----------
    .. [1] Python, ``datetime.date.weekday``; ISO 8601-1:2019 counts from 1.

    Examples
    --------
    >>> day_of_week().describe()
    'day_of_week()'
    """
    return Calendar("day_of_week")


def difference(field: object, lag: int = 1) -> Statistic:
    """Return the latest `field` minus that of `lag` events before; null when fewer.

    Returns
    -------
    Statistic
        In the unit of `field`.

    References
    ----------
    .. [1] G. E. P. Box, G. M. Jenkins (1970), "Time Series Analysis", section 4.1:
       differences at a lag.

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

    Returns
    -------
    Statistic
        ``1``.

    References
    ----------
    .. [1] The index of a value over an earlier one, as ``pandas.Series.pct_change``
       plus 1.

    Examples
    --------
    >>> from pipelines.sensor_anomaly.contract import Reading
    >>> ratio(Reading.value, lag=24).describe()
    'ratio(sensor.reading.value, last(25))'
    """
    if lag < 1:
        raise FeatureDefinitionError(f"expected a lag of at least 1 event, got {lag}")
    return Statistic("ratio", field, LastEvents(lag + 1))
