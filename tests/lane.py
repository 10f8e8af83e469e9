"""Records as a batch of the ingest stream, judged plainly and by the fast lane."""

import base64
from collections.abc import Iterable
from typing import Any

from retrodict import validation
from retrodict.ports import KeyedBatch
from retrodict.validation import (
    Accepted,
    Arrival,
    Catalog,
    Rejected,
    validate_batch,
)
from retrodict.wire import line_of
from retrodict_aws.kinesis_batch import DeliveredBatch

Given = tuple[bytes, Arrival]


def lambda_event(given: Iterable[Given]) -> dict[str, Any]:
    """Return records as an event source mapping delivers them."""
    return {
        "Records": [
            {
                "eventID": f"shardId-{shard}:{sequence}",
                "kinesis": {
                    "partitionKey": arrival.partition_key,
                    "sequenceNumber": sequence,
                    "approximateArrivalTimestamp": arrival.arrived_at_us / 1e6,
                    "data": base64.b64encode(raw).decode(),
                },
            }
            for raw, arrival in given
            for shard, _, sequence in [arrival.position.partition("-")]
        ]
    }


def batch_of(given: Iterable[Given]) -> DeliveredBatch:
    """Return records as the function that validates them takes them."""
    return DeliveredBatch(lambda_event(given))


def is_fast(raw: bytes, arrival: Arrival, catalog: Catalog) -> bool:
    """Tell whether a record needs no closer look."""
    (read,) = catalog.fast_lane.read(batch_of([(raw, arrival)]))
    return isinstance(read, KeyedBatch)


def disagreement(
    given: list[Given], verdicts: list[Accepted | Rejected], catalog: Catalog
) -> str | None:
    """Return how a batch is judged otherwise than its records one by one, by bytes."""
    judged = validate_batch(batch_of(given), catalog)
    events: dict[str, list[bytes]] = {}
    types: dict[str, set[str]] = {}
    for verdict in verdicts:
        if isinstance(verdict, Accepted):
            events.setdefault(verdict.event.key, []).append(verdict.event.to_json())
            types.setdefault(verdict.event.key, set()).add(verdict.event.type)
    rejected = [verdict for verdict in verdicts if isinstance(verdict, Rejected)]
    lines = b"".join(line_of(verdict.as_json()) for verdict in rejected)
    if judged.rejected.text != lines or len(judged.rejected) != len(rejected):
        return f"rejected in a batch {judged.rejected.text!r}, one by one {lines!r}"
    found = {batch.key: batch.events for batch in judged.batches}
    for key in events.keys() | found.keys():
        wired = found.get(key)
        wanted = b",".join(events.get(key, []))
        if wired is None or wired.text != wanted:  # type: ignore[attr-defined]
            return (
                f"accepted in a batch {wired and wired.text!r}, one by one {wanted!r}"  # type: ignore[attr-defined]
            )
        if (len(wired), set(wired.types)) != (len(events[key]), types[key]):  # type: ignore[attr-defined]
            return f"counted {len(wired)} of {key!r}, one by one {len(events[key])}"
    if judged.accepted != len(verdicts) - len(rejected):
        return f"counted {judged.accepted} of {len(verdicts) - len(rejected)} accepted"
    return None


def validate(raw: bytes, arrival: Arrival, catalog: Catalog) -> Accepted | Rejected:
    """Judge one record as `retrodict.validation` does; a batch of it must agree.

    Kinesis tells arrivals to the millisecond: what came between two is not delivered.
    """
    verdict = validation.validate(raw, arrival, catalog)
    if arrival.arrived_at_us % 1_000:
        return verdict
    wrong = disagreement([(raw, arrival)], [verdict], catalog)
    assert wrong is None, wrong
    return verdict
