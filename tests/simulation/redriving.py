"""What an operator brings in again, through the code that the commands run.

Rejects of a contract that was too strict, once it is mended; and batches that a mapping
gave up.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pipelines.sensor_anomaly.contract import LOWEST
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.errors import StreamUnavailableError
from retrodict.pipeline import load_catalog
from retrodict.ports import EventLog, IngestStream, OnlineStore, Quarantine
from retrodict.rejection import redrivable
from retrodict.validation import Accepted, Arrival, Catalog, validate
from retrodict_aws.redriving import Redriving
from retrodict_aws.s3_quarantine import S3Quarantine
from retrodict_aws.s3_undelivered import Undelivered

from tests.simulation.faults import Fault
from tests.simulation.mapping import EventSourceMapping, payload
from tests.simulation.runtime import Runtime
from tests.simulation.world import World
from tests.undelivered import given_up

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


def bring_in(  # noqa: PLR0913, PLR0917 - what the command is given
    world: World,
    runtime: Runtime,
    mapping: EventSourceMapping,
    door: IngestStream,
    log: EventLog,
    store: OnlineStore,
    quarantine: Quarantine,
) -> dict[str, str]:
    """Redrive what a mapping gave up, as the command does; return what is left."""
    batches = [given_up(mapping.function, payload(r)) for r in mapping.undelivered]
    mapping.undelivered.clear()
    settled: list[Undelivered] = []
    redriving = Redriving(
        invoke=lambda _, event: runtime.invoke(mapping.function, json.loads(event)),
        settle=settled.append,
        door=door,
        log=log,
        store=store,
        quarantine=quarantine,
    )
    for batch in batches:
        world.fire(Fault.REDRIVE, f"{mapping.function} {batch.count}")
    left = redriving.redrive(mapping.function, batches).left
    if len(settled) + len(left) != len(batches):
        world.violate(f"{mapping.function}: of {len(batches)}, {len(settled)} settled")
    return left


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
