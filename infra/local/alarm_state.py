"""What the state of an alarm is, from the periods it looks at: a pure rule.

The rule of AWS's user guide, "Configuring how CloudWatch alarms treat missing data":
an alarm looks at more periods than it needs; where they hold enough data points, only
the newest of those count and nothing is filled.
"""

from collections.abc import Sequence
from typing import Final

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT: Final = "INSUFFICIENT_DATA"
TREATMENTS: Final = ("missing", "ignore", "breaching", "notBreaching")


def state_of(  # noqa: PLR0911 - one answer a rule
    points: Sequence[bool | None],
    *,
    evaluation_periods: int,
    datapoints_to_alarm: int,
    treat_missing: str,
) -> str | None:
    """Return the state of an alarm, None to keep the one it has.

    Parameters
    ----------
    points
        Of each period of the evaluation range, oldest first: whether its data point
        breaches, None where there is none.

    Examples
    --------
    >>> state_of([False, None, True, None, True], evaluation_periods=3,
    ...          datapoints_to_alarm=2, treat_missing="missing")
    'ALARM'
    """
    real = [point for point in points if point is not None]
    if len(real) >= evaluation_periods:
        breaching = sum(real[-evaluation_periods:])
        return ALARM if breaching >= datapoints_to_alarm else OK
    breaching = sum(real)
    filled = evaluation_periods - len(real)
    if treat_missing == "breaching":
        return ALARM if breaching + filled >= datapoints_to_alarm else OK
    if breaching >= datapoints_to_alarm:
        return ALARM
    if treat_missing == "notBreaching":
        return OK
    if not all(real):
        return OK
    if treat_missing == "ignore":
        return None
    if not real:
        return INSUFFICIENT
    # Everything known breaches, but too little is known: ring only once the oldest of
    # it is as old as the alarm needs, so that one late point is no alarm yet.
    oldest = next(place for place, point in enumerate(points) if point is not None)
    return ALARM if len(points) - oldest >= datapoints_to_alarm else None
