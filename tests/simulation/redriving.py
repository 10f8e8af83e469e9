"""A contract that was too strict, mended, and what it rejected put in again."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pipelines.sensor_anomaly.contract import LOWEST
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.errors import StreamUnavailableError
from retrodict.pipeline import load_catalog
from retrodict.ports import IngestStream
from retrodict.rejection import redrivable
from retrodict.validation import Accepted, Arrival, Catalog, validate
from retrodict_aws.s3_quarantine import S3Quarantine

from tests.simulation.faults import Fault
from tests.simulation.world import World

Sent = tuple[str, bytes]
Documents = list[Mapping[str, Any]]


class Mended(Event, type="sensor.reading", version=1):
    """A reading of a sensor that may be an oven."""

    sensor_id: Key[str] = field(pattern=r"[a-z0-9-]{1,64}")
    value: float = field(ge=LOWEST, le=2_000, unit="Cel")
    site: str | None = field(default=None, max_length=64)


MENDED: Final = Catalog(
    {**load_catalog().contracts, "sensor.reading": Mended}, load_catalog().lateness_us
)


def sent_by(document: Mapping[str, Any]) -> Sent:
    """Return the partition key and the bytes that a quarantine document keeps."""
    return document["partition_key"], base64.b64decode(document["bytes_base64"])


def redrive(world: World, quarantine: S3Quarantine, door: IngestStream) -> Documents:
    """Put what is in quarantine on the ingest stream again, as the command does."""
    with world.calm():
        chosen = redrivable([*quarantine.read()])
    while chosen:
        try:
            door.put([sent_by(document) for document in chosen])
        except StreamUnavailableError:
            world.note("redrive refused")
        else:
            break
    for document in chosen:
        world.fire(Fault.QUARANTINE_REDRIVEN, document["position"])
    return chosen


def never_rejected(document: Mapping[str, Any]) -> StampedEvent | None:
    """Return the event of a reject had its contract been right; None if it is none."""
    key, raw = sent_by(document)
    arrival = Arrival(document["position"], key, document["arrival_us"])
    verdict = validate(raw, arrival, MENDED)
    return verdict.event if isinstance(verdict, Accepted) else None


def is_same_but_later(first: StampedEvent, again: StampedEvent) -> bool:
    """Return whether an event came in again as it was, if as an explicit late one."""
    lateness_us = MENDED.lateness_us[first.type]
    return again == replace(
        first,
        position=again.position,
        observed_at_us=again.observed_at_us,
        late=again.observed_at_us - first.time_us > lateness_us,
    )
