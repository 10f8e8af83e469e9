"""A seeded fleet of sensors: what a producer really sends, good and bad.

Readings follow a daily cycle with noise. Now and then a sensor fails for a while: it
reads too much or too little, sticks, or jumps about, and the truth says so. From a day
on, some sensors move for good, which is real drift and no failure. Records come late,
twice, out of order, under a used identity, and broken. The same seed gives the same
bytes.
"""

import heapq
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import Final

from retrodict.stamps import from_datetime, to_text

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
START_US: Final = from_datetime(datetime(2026, 1, 5, tzinfo=UTC))


class Kind(StrEnum):
    """What is special about a record; a plain one is NORMAL."""

    NORMAL = "normal"
    FAULTY = "faulty"
    DRIFTED = "drifted"
    LATE = "late"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the fleet behaves.

    Attributes
    ----------
    sensors
        Number of sensors, named ``s-000`` and so on.
    period_s
        Time between two readings of a sensor, seconds.
    days
        Length of the series, days.
    as_import
        Whether each record declares when it arrived, so that it may be sent faster.
    late, duplicate, disorder, conflicting, broken
        Share of the readings that this happens to.
    faults_a_sensor
        Failures of each sensor, one in each equal part of the series.
    fault_s
        How long one lasts, seconds.
    first_fit_day
        Day on which the first model is trained.
    drift_day
        Day from which `drifting` of the sensors read `drift` degrees more for good,
        with `drift_noise` degrees of noise beside what they had.
    """

    seed: int = 1
    sensors: int = 20
    period_s: int = 300
    days: float = 7.0
    start_us: int = START_US
    late: float = 0.005
    duplicate: float = 0.01
    disorder: float = 0.02
    conflicting: float = 0.001
    broken: float = 0.005
    faults_a_sensor: int = 1
    fault_s: int = 7_200
    first_fit_day: float = 4.0
    drift_day: float = 5.0
    drifting: float = 0.3
    drift: float = 4.0
    drift_noise: float = 0.0
    as_import: bool = False


SCENARIO: Final = Plan(
    days=9.0,
    faults_a_sensor=3,
    fault_s=1_500,
    first_fit_day=4.0,
    drift_day=6.0,
    drift=5.0,
    drift_noise=0.8,
)
"""What `retrodict run` sends: failures before, during and after a real drift.

Fewer readings fail (0.6 %) than the model may alert on (1 %). Four days give the first
model three with a usual value for the hour.
"""


@dataclass(frozen=True, slots=True, order=True)
class Sent:
    """One record as it reaches the stream.

    Attributes
    ----------
    arrival_us
        When it reaches the stream, microseconds.
    is_anomaly
        The truth: whether the sensor was failing. No producer knows it.
    time_us
        When the reading was taken, microseconds.
    """

    arrival_us: int
    number: int
    key: str
    data: bytes
    kind: Kind
    is_anomaly: bool
    time_us: int


_BREAKS: Final = (
    lambda raw: raw[: len(raw) // 2],
    lambda raw: raw + b"{}",
    lambda raw: raw.replace(b'"value":', b'"value":NaN,"x":'),
    lambda raw: raw.replace(b'"value":', b'"value":"hot","x":'),
    lambda raw: raw.replace(b'"value":', b'"value":1e4,"value":'),
    lambda raw: raw.replace(b'"type":"sensor.reading"', b'"type":"sensor.unknown"'),
    lambda raw: b"\x1f\x8b" + raw,
    lambda raw: raw[:0],
)


def simulate(plan: Plan) -> Iterator[Sent]:
    """Yield the records of a fleet in the order of their arrival.

    Examples
    --------
    >>> records = list(simulate(Plan(sensors=2, days=0.1)))
    >>> records == list(simulate(Plan(sensors=2, days=0.1)))
    True
    >>> sorted({record.key for record in records})
    ['s-000', 's-001']
    """
    random = Random(plan.seed)  # noqa: S311 - a simulation, repeatable on purpose
    seeds = [random.getrandbits(64) for _ in range(plan.sensors)]
    moving = random.sample(range(plan.sensors), round(plan.drifting * plan.sensors))
    streams = [
        _sensor(plan, f"s-{number:03d}", Random(seed), drifts=number in moving)  # noqa: S311
        for number, seed in enumerate(seeds)
    ]
    for number, sent in enumerate(heapq.merge(*streams)):
        data = _imported(sent) if plan.as_import else sent.data
        yield replace(sent, number=number, data=data)


def truth(plan: Plan) -> dict[tuple[str, int], bool]:
    """Return whether each reading is an anomaly, by key and its time, microseconds.

    Examples
    --------
    >>> found = truth(Plan(sensors=2, days=1))
    >>> len(found), 0 < sum(found.values()) < 100
    (576, True)
    """
    return {(sent.key, sent.time_us): sent.is_anomaly for sent in simulate(plan)}


def kinds(plan: Plan) -> Counter[Kind]:
    """Return how many records of each kind a fleet sends.

    Examples
    --------
    >>> kinds(Plan(sensors=2, days=1, late=0, broken=1))[Kind.BROKEN]
    576
    """
    return Counter(sent.kind for sent in simulate(plan))


class _Fault:
    """A stretch of readings that are wrong in one way.

    Parameters
    ----------
    size
        How far from the truth, degrees.
    """

    def __init__(self, start_us: int, end_us: int, how: str, size: float) -> None:
        self.start_us = start_us
        self.end_us = end_us
        self._how = how
        self._size = size
        self._stuck: float | None = None

    def disturb(self, value: float, random: Random) -> float:
        """Return what the sensor reads instead of `value`."""
        if self._how == "erratic":
            return value + random.gauss(0, abs(self._size))
        if self._how == "shifted":
            return value + self._size
        if self._stuck is None:
            self._stuck = value + self._size
        return self._stuck


def _faults(plan: Plan, random: Random) -> list[_Fault]:
    part_us = int(plan.days * DAY_US) // max(1, plan.faults_a_sensor)
    length_us = min(part_us, plan.fault_s * SECOND_US)
    found = []
    for number in range(plan.faults_a_sensor):
        start_us = number * part_us + random.randrange(part_us - length_us + 1)
        how = random.choice(("shifted", "stuck", "erratic"))
        size = random.uniform(6, 12) * random.choice((-1, 1))
        found.append(_Fault(start_us, start_us + length_us, how, size))
    return found


def _sensor(plan: Plan, key: str, random: Random, *, drifts: bool) -> Iterator[Sent]:
    """Yield the records of one sensor by arrival; numbers break ties."""
    waiting: list[Sent] = []
    number = 0
    base, phase = random.gauss(20, 3), random.uniform(0, 0.3)
    length_us = int(plan.days * DAY_US)
    faults = _faults(plan, random)
    for reading, offset_us in enumerate(range(0, length_us, plan.period_s * SECOND_US)):
        time_us = plan.start_us + offset_us + random.randrange(SECOND_US)
        angle = 2 * math.pi * (offset_us / DAY_US + phase)
        value = base + 4 * math.sin(angle) + random.gauss(0, 0.4)
        has_drifted = drifts and offset_us >= plan.drift_day * DAY_US
        if has_drifted:
            value += plan.drift + random.gauss(0, plan.drift_noise)
        fault = next((f for f in faults if f.start_us <= offset_us < f.end_us), None)
        if fault is not None:
            value = fault.disturb(value, random)
        kind = Kind.FAULTY if fault else Kind.DRIFTED if has_drifted else Kind.NORMAL
        for sent in _sendings(plan, random, key, reading, time_us, value, kind, number):
            heapq.heappush(waiting, sent)
            number = max(number, sent.number + 1)
        while waiting and waiting[0].arrival_us <= time_us:
            yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def _sendings(  # noqa: PLR0913, PLR0917 - the whole circumstance of one reading
    plan: Plan,
    random: Random,
    key: str,
    reading: int,
    time_us: int,
    value: float,
    kind: Kind,
    number: int,
) -> Iterator[Sent]:
    is_anomaly = kind is Kind.FAULTY
    arrival_us = time_us + random.randrange(2 * SECOND_US)
    if random.random() < plan.late:
        kind = Kind.LATE
        arrival_us += random.randrange(1, 4) * 3600 * SECOND_US
    elif random.random() < plan.disorder:
        arrival_us += random.randrange(2 * plan.period_s) * SECOND_US
    raw = _event(key, reading, time_us, value)
    if random.random() < plan.broken:
        kind, raw = Kind.BROKEN, random.choice(_BREAKS)(raw)
    yield Sent(arrival_us, number, key, raw, kind, is_anomaly, time_us)
    if random.random() < plan.duplicate:
        again_us = arrival_us + random.randrange(30 * SECOND_US)
        kind = Kind.DUPLICATE
        yield Sent(again_us, number + 1, key, raw, kind, is_anomaly, time_us)
    if random.random() < plan.conflicting:
        other = _event(key, reading, time_us, value + 1)
        again_us = arrival_us + random.randrange(1, 30 * SECOND_US)
        kind = Kind.CONFLICTING
        yield Sent(again_us, number + 2, key, other, kind, is_anomaly, time_us)


def _imported(sent: Sent) -> bytes:
    declared = f'{{"importid":"fleet","observedat":"{to_text(sent.arrival_us)}",'
    return sent.data.replace(b'{"specversion"', declared.encode() + b'"specversion"', 1)


def _event(key: str, reading: int, time_us: int, value: float) -> bytes:
    event = {
        "specversion": "1.0",
        "id": f"{key}-{reading}",
        "source": "urn:fleet:simulated",
        "type": "sensor.reading",
        "subject": key,
        "time": to_text(time_us),
        "dataschema": "sensor.reading/v1",
        "data": {"sensor_id": key, "value": round(value, 3), "site": "hall-1"},
    }
    return json.dumps(event, separators=(",", ":")).encode()
