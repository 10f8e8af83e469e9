"""When a rule on a schedule is due: ``rate(…)`` and ``cron(…)``, in UTC.

A rate is due at the multiples of its length since 1970, so that a schedule of an hour
fires on the hour; AWS counts from when the rule was made. Of cron, ``L``, ``W`` and
``#`` are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Protocol

_RATE: Final = re.compile(r"rate\((?:1 (minute|hour|day)|(\d+) (minute|hour|day)s)\)")
_CRON: Final = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}
_MONTHS: Final[Mapping[str, int]] = {
    "JAN": 1,
    "FEB": 2,
    "MAR": 3,
    "APR": 4,
    "MAY": 5,
    "JUN": 6,
    "JUL": 7,
    "AUG": 8,
    "SEP": 9,
    "OCT": 10,
    "NOV": 11,
    "DEC": 12,
}
_DAYS: Final[Mapping[str, int]] = {
    "SUN": 1,
    "MON": 2,
    "TUE": 3,
    "WED": 4,
    "THU": 5,
    "FRI": 6,
    "SAT": 7,
}
_LAST_YEAR: Final = 2199
_LONGEST_GAP_DAYS: Final = 366 * 9  # between two leap days around 2100


class ScheduleExpression(Protocol):
    """When something is due, again and again."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first due instant after another one, None if there is none."""


@dataclass(frozen=True)
class Rate:
    """Due at every multiple of a length since 1970."""

    length: timedelta

    def next_after(self, instant: datetime) -> datetime:
        """Return the next multiple."""
        seconds = int(self.length.total_seconds())
        place = int(instant.timestamp()) // seconds + 1
        return datetime.fromtimestamp(place * seconds, UTC)


@dataclass(frozen=True)
class Cron:
    """Due at the given minutes, of the given hours, of the days that all else allows.

    Attributes
    ----------
    days
        Of the month; None for every day that `weekdays` allows.
    weekdays
        1 for Sunday; None for every day that `days` allows.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    years: frozenset[int]

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the next due minute within the years, None if there is none."""
        first = instant.astimezone(UTC).replace(second=0, microsecond=0)
        first += timedelta(minutes=1)
        for ahead in range(_LONGEST_GAP_DAYS):
            day = first.date() + timedelta(days=ahead)
            if not (
                day.year in self.years
                and day.month in self.months
                and (self.days is None or day.day in self.days)
                and (self.weekdays is None or day.isoweekday() % 7 + 1 in self.weekdays)
            ):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    due = datetime.combine(day, time(hour, minute), UTC)
                    if due >= first:
                        return due
        return None


def parse(expression: str) -> ScheduleExpression:
    """Read a schedule.

    Raises
    ------
    ValueError
        If it is none, or one that the twin does not understand.

    Examples
    --------
    >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> parse("rate(3 hours)").next_after(noon)
    datetime.datetime(2026, 3, 1, 15, 0, tzinfo=datetime.timezone.utc)
    >>> parse("cron(30 6 ? * MON-FRI *)").next_after(noon)
    datetime.datetime(2026, 3, 2, 6, 30, tzinfo=datetime.timezone.utc)
    >>> parse("cron(0 6 L * ? *)")
    Traceback (most recent call last):
        ...
    ValueError: expected a day of the month from 1 to 31, got 'L'
    """
    rate = _RATE.fullmatch(expression)
    if rate is not None:
        count, unit = int(rate.group(2) or 1), rate.group(1) or rate.group(3)
        if not count or (count == 1 and rate.group(2)):
            raise ValueError(f"expected a rate like rate(1 hour), got {expression!r}")
        return Rate(timedelta(seconds=count * _SECONDS[unit]))
    cron = _CRON.fullmatch(expression)
    if cron is None:
        raise ValueError(f"expected rate(…) or cron(… six fields), got {expression!r}")
    minutes, hours, days, months, weekdays, years = cron.groups()
    if (days == "?") == (weekdays == "?"):
        raise ValueError(
            "expected ? for either the day of the month or the day of the week, got "
            f"{expression!r}"
        )
    return Cron(
        tuple(sorted(_values(minutes, 0, 59, "a minute"))),
        tuple(sorted(_values(hours, 0, 23, "an hour"))),
        None if days == "?" else _values(days, 1, 31, "a day of the month"),
        _values(months, 1, 12, "a month", _MONTHS),
        None if weekdays == "?" else _values(weekdays, 1, 7, "a weekday", _DAYS),
        _values(years, 1970, _LAST_YEAR, "a year"),
    )


def _values(
    field: str,
    low: int,
    high: int,
    what: str,
    names: Mapping[str, int] | None = None,
) -> frozenset[int]:
    def number(text: str) -> int:
        value = (names or {}).get(text.upper())
        if value is None and text.isdecimal():
            value = int(text)
        if value is None or not low <= value <= high:
            raise ValueError(f"expected {what} from {low} to {high}, got {text!r}")
        return value

    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        begin, is_range, end = span.partition("-")
        first = low if span == "*" else number(begin)
        if span == "*" or (step and not is_range):
            last = high
        else:
            last = number(end) if is_range else first
        if last < first or (step and (not step.isdecimal() or not int(step))):
            raise ValueError(f"expected {what} from {low} to {high}, got {part!r}")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)
