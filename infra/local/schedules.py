"""Rules on a schedule: a moto gap, since moto keeps them and nothing ever fires.

A rate fires at the multiples of its length since 1970, so that a schedule of an hour
fires on the hour. Cron expressions are refused by name.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from infra.local.clock import Clock
from infra.local.template import ACCOUNT

_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}


def period_of(expression: str) -> timedelta | None:
    """Return the length of a rate, None for anything else.

    Examples
    --------
    >>> period_of("rate(3 hours)")
    datetime.timedelta(seconds=10800)
    >>> period_of("cron(0 12 * * ? *)") is None
    True
    """
    match = _RATE.fullmatch(expression)
    if match is None:
        return None
    return timedelta(seconds=int(match.group(1)) * _SECONDS[match.group(2)])


class Schedules:
    """Rules that fire as time goes by.

    Parameters
    ----------
    clock
        The twin's time.
    region
        Region of the events.
    """

    def __init__(self, clock: Clock, region: str) -> None:
        self._clock = clock
        self._region = region
        self._fired: dict[str, int] = {}

    def add(
        self,
        rule_arn: str,
        expression: str,
        fire: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Call `fire` with a scheduled event whenever the rule is due."""
        period = period_of(expression)
        if period is None:
            raise ValueError(f"no rate: {expression!r}")
        self._fired[rule_arn] = 0
        self._plan(rule_arn, period, fire)

    def status(self) -> dict[str, int]:
        """Return how often each rule has fired."""
        return {arn.split("/")[-1]: count for arn, count in self._fired.items()}

    def _plan(
        self,
        rule_arn: str,
        period: timedelta,
        fire: Callable[[Mapping[str, Any]], None],
    ) -> None:
        length = int(period.total_seconds())
        place = int(self._clock.now().timestamp()) // length + 1
        due = datetime.fromtimestamp(place * length, UTC)

        def now_due() -> None:
            self._fired[rule_arn] += 1
            self._plan(rule_arn, period, fire)
            fire(self._event(rule_arn, due))

        self._clock.call_at(due, now_due, is_periodic=True)

    def _event(self, rule_arn: str, due: datetime) -> dict[str, Any]:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT,
            "time": f"{due:%Y-%m-%dT%H:%M:%SZ}",
            "region": self._region,
            "resources": [rule_arn],
            "detail": {},
        }
