"""Judge one record: an event with its stamps, or a reject with every reason.

Total on any bytes: nothing here raises because of what a producer sent.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retrodict.contracts import Contract, Event
from retrodict.envelope import Envelope, StampedEvent, digest_of, open_envelope
from retrodict.reasons import Reason, Tag, Violation, violation
from retrodict.stamps import FUTURE_TOLERANCE_US
from retrodict.strict_json import Parsed, parse

Identity = tuple[str, str, str]
"""Source, id and entity key of an event."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a record came.

    Attributes
    ----------
    arrived_at_us
        When the stream took it, microseconds.
    """

    position: str
    partition_key: str
    arrived_at_us: int


@dataclass(frozen=True)
class Catalog:
    """The contracts there are, and how late each event type may come.

    Attributes
    ----------
    lateness_us
        By event type, microseconds; zero where it is not named.
    """

    contracts: Mapping[str, type[Event]]
    lateness_us: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that keeps every promise."""

    event: StampedEvent


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that broke promises, with its bytes.

    Attributes
    ----------
    identity
        Source, id and key as far as they could be read, or None.
    """

    raw: bytes
    arrival: Arrival
    violations: tuple[Violation, ...]
    identity: Identity | None

    def as_json(self) -> dict[str, Any]:
        """Return the quarantine document."""
        source, identifier, key = self.identity or (None, None, None)
        return {
            "position": self.arrival.position,
            "arrival_us": self.arrival.arrived_at_us,
            "partition_key": self.arrival.partition_key,
            "codes": list(dict.fromkeys(v.reason.value for v in self.violations)),
            "reasons": [found.as_json() for found in self.violations],
            "source": source,
            "id": identifier,
            "key": key,
            "sha256": hashlib.sha256(self.raw).hexdigest(),
            "bytes_base64": base64.b64encode(self.raw).decode(),
        }


def validate(raw: bytes, arrival: Arrival, catalog: Catalog) -> Accepted | Rejected:
    """Judge `raw` by the contract that it names.

    Examples
    --------
    >>> arrival = Arrival("000000000000-1", "s-1", 1_767_607_200_000_000)
    >>> validate(b"", arrival, Catalog({})).violations[0].reason.value
    'empty'
    """
    parsed = parse(raw)
    if not isinstance(parsed, Parsed):
        return Rejected(raw, arrival, parsed, None)
    document, tags = _as_cloudevent(parsed, arrival, catalog)
    envelope, found = open_envelope(document)
    contract, data, more, extra_tags = _judge_data(envelope, catalog)
    tags |= extra_tags
    found += more
    found += _judge_keys(envelope, contract, data, arrival)
    observed_at_us = _observed_at(envelope, arrival)
    found += _judge_time(envelope, observed_at_us)
    if found or contract is None or envelope.time_us is None:
        identity = _identity(envelope)
        return Rejected(raw, arrival, tuple(dict.fromkeys(found)), identity)
    if envelope.extra:
        tags.add(Tag.EXTRA_ATTRIBUTE)
    key = str(envelope.subject)
    if not key.isascii():
        tags.add(Tag.NON_ASCII_KEY)
    lateness_us = catalog.lateness_us.get(contract.type, 0)
    return Accepted(
        StampedEvent(
            key=key,
            source=str(envelope.source),
            id=str(envelope.id),
            type=contract.type,
            schema_version=contract.version,
            time_us=envelope.time_us,
            observed_at_us=observed_at_us,
            position=arrival.position,
            late=observed_at_us - envelope.time_us > lateness_us,
            tags=tuple(sorted(tag.value for tag in tags)),
            digest=digest_of(
                contract.type, contract.version, key, envelope.time_us, data
            ),
            data=data,
            causation_id=envelope.causation_id,
            correlation_id=envelope.correlation_id,
        )
    )


def _as_cloudevent(
    parsed: Parsed, arrival: Arrival, catalog: Catalog
) -> tuple[dict[str, Any], set[Tag]]:
    """Wrap a plain payload that a contract knows; leave everything else as it is."""
    document: dict[str, Any] = parsed.value
    tags = set(parsed.tags)
    if "specversion" in document or "type" in document:
        return document, tags
    for event in catalog.contracts.values():
        contract = event.contract()
        plain = contract.plain
        if plain is None or not {plain.id, plain.key, plain.time} <= document.keys():
            continue
        names = {spec.name for spec in contract.fields}
        dropped = {plain.id, plain.time} - names
        return {
            "specversion": "1.0",
            "id": document[plain.id],
            "source": plain.source,
            "type": contract.type,
            "subject": document[plain.key],
            "time": document[plain.time],
            "dataschema": contract.schema_name(),
            "data": {k: v for k, v in document.items() if k not in dropped},
        }, tags | {Tag.PLAIN_PAYLOAD}
    return document, tags


def _judge_data(
    envelope: Envelope, catalog: Catalog
) -> tuple[Contract | None, dict[str, Any], list[Violation], set[Tag]]:
    if envelope.type is None:
        return None, {}, [], set()
    event = catalog.contracts.get(envelope.type)
    if event is None:
        expected = f"one of {sorted(catalog.contracts)}"
        reason = Reason.UNKNOWN_EVENT_TYPE
        return None, {}, [violation("type", reason, expected, envelope.type)], set()
    contract = event.contract()
    version = envelope.schema_version
    if version is None:
        return contract, {}, [], set()
    if version not in contract.versions() or envelope.schema_type != contract.type:
        expected = f"one of {[contract.schema_name(n) for n in contract.versions()]}"
        got = f"{envelope.schema_type}/v{version}"
        reason = Reason.UNKNOWN_SCHEMA_VERSION
        return contract, {}, [violation("dataschema", reason, expected, got)], set()
    if not isinstance(envelope.data, dict):
        wrong = violation("data", Reason.WRONG_TYPE, "a JSON object", envelope.data)
        return contract, {}, [wrong], set()
    tags = set()
    lifted: Mapping[str, Any] = envelope.data
    if version != contract.version:
        tags.add(Tag.UPCAST)
        lifted = contract.upcast(lifted, version)
    found: list[Violation] = []
    data, has_extra = contract.check(lifted, found)
    if has_extra and contract.keeps_extra:
        tags.add(Tag.EXTRA_FIELD)
    return contract, data, found, tags


def _judge_keys(
    envelope: Envelope,
    contract: Contract | None,
    data: Mapping[str, Any],
    arrival: Arrival,
) -> list[Violation]:
    key = envelope.subject
    if key is None:
        return []
    found: list[Violation] = []
    if contract is not None:
        broken: list[Violation] = []
        contract.key.check(key, broken)
        found += [violation("subject", b.reason, b.expected, key) for b in broken]
        inner = data.get(contract.key.name)
        if inner is not None and inner != key:
            expected = f"the subject {key[:64]!r}"
            found.append(
                violation(contract.key.name, Reason.KEY_MISMATCH, expected, inner)
            )
    if arrival.partition_key != key:
        expected = f"the partition key {arrival.partition_key[:64]!r}"
        found.append(
            violation("subject", Reason.PARTITION_KEY_MISMATCH, expected, key)
        )
    return found


def _observed_at(envelope: Envelope, arrival: Arrival) -> int:
    if envelope.import_id is None:
        return arrival.arrived_at_us
    if envelope.observed_at_us is not None:
        return envelope.observed_at_us
    return arrival.arrived_at_us if envelope.time_us is None else envelope.time_us


def _judge_time(envelope: Envelope, observed_at_us: int) -> list[Violation]:
    if envelope.time_us is None:
        return []
    ahead_us = envelope.time_us - observed_at_us
    if ahead_us <= FUTURE_TOLERANCE_US:
        return []
    expected = "at most 5 minutes after its arrival"
    got = f"{ahead_us / 1e6:.0f} s after"
    return [violation("time", Reason.FROM_THE_FUTURE, expected, got)]


def _identity(envelope: Envelope) -> Identity | None:
    if envelope.source is None or envelope.id is None or envelope.subject is None:
        return None
    return envelope.source, envelope.id, envelope.subject
