"""A seeded producer: readings, labels and everything that should not be sent."""

import hashlib
import json
from typing import Any, Final

from retrodict.errors import RecordTooLargeError, StreamUnavailableError
from retrodict.ports import LARGEST_RECORD_BYTES, IngestStream
from retrodict.stamps import to_text

from tests.simulation.faults import Fault
from tests.simulation.world import SECOND_US, World

Sent = tuple[str, bytes]

MINUTE_US: Final = 60 * SECOND_US
LABEL_SHARE: Final = 0.04
MENDED_SHARE: Final = 0.3
"""Chance that a clock is set right before the next event of its key."""

OURS_SHARE: Final = 0.8
"""Of the puts; the others go another way than ours."""

TOO_LONG_SHARE: Final = 0.3
"""Of the padded records; the others are padded with spaces, and as sound as before."""

SIZES: Final = {
    Fault.RECORD_TOO_LARGE: (1, 1, 9 << 20),
    Fault.LARGEST_RECORD: (0,),
}
"""By how many bytes a record is larger than the largest."""

CANARY: Final = "canary"
"""Part of every key, id and text that is sent; whoever finds it, finds data."""

KPL_MAGIC: Final = b"\xf3\x89\x9a\xc2"
CLOCKS_US: Final = (-24 * 60 * MINUTE_US, -5 * 60 * MINUTE_US, 4 * MINUTE_US)
AHEAD_US: Final = 24 * 60 * MINUTE_US


class Producer:
    """Make records, put them, and remember which were acknowledged.

    Attributes
    ----------
    sent
        Every record that was ever put, acknowledged or not.
    acked
        Every record of a put that returned, but for those it told of as too large.
    too_large
        Every record that a put told of as too large.
    values
        Every reading, as text.
    """

    def __init__(
        self,
        world: World,
        stream: IngestStream,
        other: IngestStream,
        *,
        events: int,
        keys: int,
    ) -> None:
        self.sent: list[Sent] = []
        self.acked: list[Sent] = []
        self.too_large: list[Sent] = []
        self.values: list[str] = []
        self.events = events
        self._world = world
        self._stream = stream
        self._other = other
        self._keys = [f"{CANARY}-s-{number}" for number in range(keys)]
        self._made: list[Sent] = []
        self._waiting: list[Sent] = []
        self._is_ours = True
        self._next_id = 0
        self._serial = 0
        self._clocks_us: dict[str, int] = {}
        self._ids: dict[str, list[str]] = {key: [] for key in self._keys}
        self._times: dict[str, list[int]] = {key: [] for key in self._keys}

    @property
    def is_done(self) -> bool:
        """Whether everything was made, and put or given up."""
        return self._next_id >= self.events and not self._waiting

    @property
    def is_half_done(self) -> bool:
        """Whether half of it was made."""
        return self._next_id >= self.events // 2

    def produce(self) -> None:
        """Put the next few records, or again those of a put that failed."""
        random = self._world.random
        if not self._waiting:
            self._world.advance(random.randint(1, 60) * SECOND_US)
            if self._world.chance(Fault.QUIET_SPELL):
                self._world.fire(Fault.QUIET_SPELL)
                self._world.advance(random.randint(15, 90) * MINUTE_US)
            self._is_ours = random.random() < OURS_SHARE
            number = min(random.randint(1, 12), self.events - self._next_id)
            self._waiting = [self._make() for _ in range(number)]
            self._made += self._waiting
            while self._made and self._world.chance(Fault.PRODUCER_RETRY):
                self._world.fire(Fault.PRODUCER_RETRY)
                self._waiting.append(random.choice(self._made))
            if self._world.chance(Fault.REQUEST_TOO_LARGE):
                self._waiting += [self._make(Fault.LARGEST_RECORD) for _ in range(6)]
                self._is_ours = False
        self.sent += self._waiting
        self._world.running.append(None)
        try:
            (self._stream if self._is_ours else self._other).put(self._waiting)
        except RecordTooLargeError as error:
            told = [self._waiting[place] for place in error.places]
            for key, data in told:
                self._world.fire(Fault.RECORD_TOO_LARGE, f"{key} {len(data)}")
            self.too_large += told
            self.acked += [sent for sent in self._waiting if sent not in told]
            self._waiting = []
        except StreamUnavailableError:
            self._world.note(f"put refused {len(self._waiting)}")
            if self._world.chance(Fault.PRODUCER_GAVE_UP):
                self._world.fire(Fault.PRODUCER_GAVE_UP)
                self._waiting = []
        else:
            self.acked += self._waiting
            self._waiting = []
        finally:
            self._world.running.pop()

    def _make(self, size: Fault | None = None) -> Sent:
        """Return the next record, as large as `size` says or chance will have it."""
        key, data = self._make_one()
        for fault, excess in SIZES.items():
            if size is fault or self._world.chance(fault):
                beyond = self._world.random.choice(excess)
                wanted = LARGEST_RECORD_BYTES - len(key.encode()) + beyond
                if not beyond:
                    self._world.fire(fault, key)
                return key, self._padded(data, wanted)
        return key, data

    def _padded(self, data: bytes, size: int) -> bytes:
        """Return a record of a size: sound if it was, or with a site too long."""
        head, mark, tail = data.partition(b'"site": "')
        if mark and self._world.random.random() < TOO_LONG_SHARE:
            return head + mark + b"x" * (size - len(data)) + tail
        return data.ljust(size)

    def _make_one(self) -> Sent:
        random = self._world.random
        self._next_id += 1
        self._serial += 1
        key = random.choice(self._keys)
        if self._world.chance(Fault.EPOCH_RESET):
            self._world.fire(Fault.EPOCH_RESET)
            self._serial = 1
        time_us = self._clock_us(key) - random.randint(0, 300) * SECOND_US
        if self._world.chance(Fault.LATE_EVENT):
            self._world.fire(Fault.LATE_EVENT, key)
            time_us -= random.randint(10, 60) * MINUTE_US
        if random.random() < LABEL_SHARE:
            at_us = random.choice(self._times[key] or [time_us])
            is_anomaly = random.random() < 0.5
            return key, _label(self._serial, key, time_us, at_us, is_anomaly=is_anomaly)
        identifier = f"{CANARY}-{self._serial}"
        if self._ids[key] and self._world.chance(Fault.IDENTITY_CONFLICT):
            self._world.fire(Fault.IDENTITY_CONFLICT, key)
            identifier = random.choice(self._ids[key][-9:])
        self._ids[key].append(identifier)
        self._times[key].append(time_us)
        value = random.uniform(10, 30)
        self.values.append(repr(value))
        document = _reading(identifier, key, time_us, value)
        if self._world.chance(Fault.POISON):
            self._world.fire(Fault.POISON, key)
            return key, self._poison(document)
        if self._world.chance(Fault.KPL_AGGREGATED):
            self._world.fire(Fault.KPL_AGGREGATED, key)
            return key, _aggregated(key, json.dumps(document).encode())
        return key, json.dumps(document).encode()

    def _clock_us(self, key: str) -> int:
        """Return the time by the clock of a producer, which may be far off a while."""
        if self._world.chance(Fault.CLOCK_OFF):
            self._world.fire(Fault.CLOCK_OFF, key)
            self._clocks_us[key] = self._world.random.choice((*CLOCKS_US, AHEAD_US))
        elif self._world.random.random() < MENDED_SHARE:
            self._clocks_us.pop(key, None)
        return self._world.now_us + self._clocks_us.get(key, 0)

    def _poison(self, document: dict[str, Any]) -> bytes:
        whole = json.dumps(document).encode()
        hot = {**document, "data": {**document["data"], "value": 1_000.0}}
        other = {**document, "dataschema": "sensor.reading/v9"}
        elsewhere = {**document, "subject": f"{CANARY}-s-elsewhere"}
        ahead = {**document, "time": to_text(self._world.now_us + 86_400 * SECOND_US)}
        broken = [hot, hot, hot, other, elsewhere, ahead, {"id": document["id"]}]
        chosen = self._world.random.choice([whole[:-9], b"", b"\x1f\x8b", *broken])
        if chosen is other:
            self._world.fire(Fault.UNKNOWN_VERSION)
        return chosen if isinstance(chosen, bytes) else json.dumps(chosen).encode()


def _aggregated(key: str, data: bytes) -> bytes:
    """Return a record as the Kinesis Producer Library aggregates two of them.

    .. [1] https://github.com/awslabs/amazon-kinesis-producer
       (aggregation-format.md): magic, a protobuf message, and its MD5.
    """
    name = key.encode()
    record = b"\x08\x00\x1a" + _varint(len(data)) + data
    held = b"\x1a" + _varint(len(record)) + record
    message = b"\x0a" + _varint(len(name)) + name + held * 2
    digest = hashlib.md5(message, usedforsecurity=False).digest()
    return KPL_MAGIC + message + digest


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _reading(identifier: str, key: str, time_us: int, value: float) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": identifier,
        "source": "plant",
        "type": "sensor.reading",
        "subject": key,
        "time": to_text(time_us),
        "dataschema": "sensor.reading/v1",
        "data": {"sensor_id": key, "value": value, "site": f"{CANARY}-{identifier}"},
    }


def _label(
    number: int, key: str, time_us: int, at_us: int, *, is_anomaly: bool
) -> bytes:
    document = {
        "specversion": "1.0",
        "id": f"{CANARY}-label-{number}",
        "source": "person",
        "type": "retrodict.label.given",
        "subject": key,
        "time": to_text(time_us),
        "dataschema": "retrodict.label.given/v1",
        "data": {"entity": key, "is_anomaly": is_anomaly, "at_us": at_us},
    }
    return json.dumps(document).encode()
