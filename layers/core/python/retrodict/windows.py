"""Windows: which events of a key a statistic looks at.

A window ends at, and includes, the current event. Events of a key stand in the order
(time, identity), which neither arrival nor the cut into batches can change.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from retrodict.errors import FeatureDefinitionError, PermanentError
from retrodict.stamps import duration_us

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WEEK_US: Final = 7 * DAY_US

MOST_SLOTS: Final = 60
"""How many earlier days or weeks a window of slots may read."""

MOST_PANES: Final = 2_000
"""How many panes a window may have."""

_IDENTITY_BYTES: Final = 8
_CHECK_DIGITS: Final = 4


class Entry(NamedTuple):
    """One event as the state of a key holds it; tuples sort as windows need.

    Attributes
    ----------
    identity
        See `identity_of`.
    check
        The first 16 bits of the payload's digest: an identity that comes with another
        time, another check or other values is in conflict with this event.
    values
        The columns that the feature set reads, in its order.
    """

    time_us: int
    identity: int
    check: int
    values: tuple[float | None, ...]


def identity_of(source: str, id: str) -> int:  # noqa: A002 - the CloudEvents name
    """Return the identity of an event among those of its key, 64 bits of a SHA-256.

    Examples
    --------
    >>> identity_of("plant", "1") == identity_of("plant", "2")
    False
    >>> identity_of("a", "bc") == identity_of("ab", "c")
    False
    """
    raw = source.encode()
    digest = hashlib.sha256(len(raw).to_bytes(4, "big") + raw + id.encode()).digest()
    return int.from_bytes(digest[:_IDENTITY_BYTES], "big")


def check_of(digest: str) -> int:
    """Return what a state keeps of the digest of a payload, 16 bits.

    Examples
    --------
    >>> check_of("ffff" + 60 * "0")
    65535
    """
    return int(digest[:_CHECK_DIGITS], 16)


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
class LastPanes:
    """The pane of the current event and those before it: `count` panes of `every_us`.

    Panes begin at whole multiples of `every_us` since the epoch, so the window is
    ``(t - width, t]`` to the granularity of a pane: it begins where its oldest pane
    does.
    """

    count: int
    every_us: int

    at_least = 1

    def describe(self) -> str:
        """Return the window as text."""
        return f"last({self.count * self.every_us}us, every={self.every_us}us)"

    def panes(self, time_us: int) -> range:
        """Return the panes of the window since the epoch, from the oldest."""
        newest = time_us // self.every_us
        return range(newest - self.count + 1, newest + 1)

    @property
    def reach(self) -> int:
        """How many panes before the newest the window reads."""
        return self.count - 1


@dataclass(frozen=True, slots=True)
class SameSlot:
    """The same hour of the day or of the week, UTC, in each of `count` before.

    Attributes
    ----------
    period_hours
        24 for the hour of the day, 168 for that of the week.
    at_least
        Fewer events than this have no statistic.
    """

    count: int
    period_hours: int
    at_least: int

    every_us = HOUR_US

    def describe(self) -> str:
        """Return the window as text."""
        return (
            f"same_hour(every={self.period_hours}h, count={self.count}, "
            f"at_least={self.at_least})"
        )

    def panes(self, time_us: int) -> range:
        """Return the hours of the window since the epoch, from the oldest."""
        hour = time_us // HOUR_US
        return range(hour - self.period_hours * self.count, hour, self.period_hours)

    @property
    def reach(self) -> int:
        """How many hours before the newest the window reads."""
        return self.period_hours * self.count


Held = LastEvents | LastDuration
"""Windows over events that a state holds one by one."""

Paned = LastPanes | SameSlot
"""Windows that panes carry, and so only statistics that can be added up."""

Window = Held | Paned


def last(window: int | str, *, every: str | None = None) -> Window:
    """Return a window: the last `window` events, or the last stretch of time.

    A window ends at, and includes, the current event.

    Parameters
    ----------
    every
        Granularity of a long stretch of time: the state keeps sums of panes of this
        length where it would keep events, and the window begins where its oldest pane
        does. It is exact at that granularity.

    Raises
    ------
    FeatureDefinitionError
        `window` is neither a positive count nor a duration, or `every` does not
        divide it.

    Examples
    --------
    >>> last(3).describe(), last("10m").describe()
    ('last(3)', 'last(600000000us)')
    >>> last("7d", every="1h").count
    168
    """
    if isinstance(window, bool) or not isinstance(window, int | str):
        raise FeatureDefinitionError(
            f"expected a count of events or a duration, got {window!r}: write last(3) "
            "or last('10m')"
        )
    if isinstance(window, int):
        if every is not None:
            raise FeatureDefinitionError(
                f"last({window}, every={every!r}): panes need a stretch of time, such "
                "as last('7d', every='1h')"
            )
        if window < 1:
            raise FeatureDefinitionError(f"expected last(n) with n >= 1, got {window}")
        return LastEvents(window)
    width_us = _duration(window, f"last({window!r})")
    if every is None:
        return LastDuration(width_us)
    every_us = _duration(every, f"last({window!r}, every={every!r})")
    count, rest = divmod(width_us, every_us)
    if rest or count < 1:
        raise FeatureDefinitionError(
            f"last({window!r}, every={every!r}): a pane must divide its window; take "
            "one that does, such as every='1h' of '7d'"
        )
    if count > MOST_PANES:
        raise FeatureDefinitionError(
            f"last({window!r}, every={every!r}): {count} panes, at most {MOST_PANES}: "
            "take longer panes"
        )
    return LastPanes(count, every_us)


def _duration(text: str, where: str) -> int:
    try:
        return duration_us(text)
    except PermanentError as error:
        raise FeatureDefinitionError(f"{where}: {error}") from error


def _time(entry: Entry) -> int:
    """Return the time of an entry: the key that windows are searched by."""
    return entry.time_us
