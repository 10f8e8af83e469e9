"""A seeded fleet of sensors: what a producer really sends, good and bad.

Readings follow a daily cycle with noise. Some sensors fail for a while, with labels;
from a day on, some move for good, which is real drift. Records come late, twice, out
of order, under a used identity, and broken. The same seed gives the same bytes.
"""

import heapq
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
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
        Stretches of faulty readings of each sensor.
    drift_day
        Day from which `drifting` of the sensors read `drift` degrees more for good.
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
    drift_day: float = 5.0
    drifting: float = 0.3
    drift: float = 4.0
    as_import: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Sent:
    """One record as it reaches the stream.

    Attributes
    ----------
    arrival_us
        When it reaches the stream, microseconds.
    is_anomaly
        The truth: whether the sensor was failing. No producer knows it.
    """

    arrival_us: int
    number: int
    key: str
    data: bytes
    kind: Kind
    is_anomaly: bool


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
    streams = [
        _sensor(plan, f"s-{number:03d}", Random(random.getrandbits(64)))  # noqa: S311
        for number in range(plan.sensors)
    ]
    for number, sent in enumerate(heapq.merge(*streams)):
        data = _imported(sent) if plan.as_import else sent.data
        yield Sent(sent.arrival_us, number, sent.key, data, sent.kind, sent.is_anomaly)


def _sensor(plan: Plan, key: str, random: Random) -> Iterator[Sent]:
    """Yield the records of one sensor by arrival; numbers break ties."""
    waiting: list[Sent] = []
    number = 0
    base, phase = random.gauss(20, 3), random.uniform(0, 0.3)
    drifts = random.random() < plan.drifting
    length_us = int(plan.days * DAY_US)
    faults = [
        (start, start + plan.fault_s * SECOND_US, random.choice((-9.0, 9.0)))
        for start in (random.randrange(length_us) for _ in range(plan.faults_a_sensor))
    ]
    for reading, offset_us in enumerate(range(0, length_us, plan.period_s * SECOND_US)):
        time_us = plan.start_us + offset_us + random.randrange(SECOND_US)
        angle = 2 * math.pi * (offset_us / DAY_US + phase)
        value = base + 4 * math.sin(angle) + random.gauss(0, 0.4)
        has_drifted = drifts and offset_us >= plan.drift_day * DAY_US
        value += plan.drift * has_drifted
        fault = next((s for a, b, s in faults if a <= offset_us < b), 0.0)
        kind = Kind.FAULTY if fault else Kind.DRIFTED if has_drifted else Kind.NORMAL
        for sent in _sendings(
            plan, random, key, reading, time_us, value + fault, kind, number
        ):
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
    yield Sent(arrival_us, number, key, raw, kind, is_anomaly)
    if random.random() < plan.duplicate:
        again_us = arrival_us + random.randrange(30 * SECOND_US)
        yield Sent(again_us, number + 1, key, raw, Kind.DUPLICATE, is_anomaly)
    if random.random() < plan.conflicting:
        other = _event(key, reading, time_us, value + 1)
        again_us = arrival_us + random.randrange(1, 30 * SECOND_US)
        yield Sent(again_us, number + 2, key, other, Kind.CONFLICTING, is_anomaly)


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
