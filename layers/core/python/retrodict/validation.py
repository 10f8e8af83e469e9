"""Judge one record: an event with its stamps, or a reject with every reason.

Total on any bytes: nothing here raises because of what a producer sent.
"""

import hashlib
import json
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, Final, Protocol

import msgspec

from retrodict.contracts import Contract, Event
from retrodict.envelope import (
    Envelope,
    StampedEvent,
    ahead_of_arrival,
    ahead_of_itself,
    digest_of,
    is_finer_than_microseconds,
    open_envelope,
    other_key,
    other_partition,
    unsafe_key,
)
from retrodict.fast_lane import Columns, FastLane, Refused, Unsure
from retrodict.ports import KeyedBatch
from retrodict.reasons import Reason, Tag, Violation, violation
from retrodict.stamps import FUTURE_TOLERANCE_US
from retrodict.strict_json import (
    MAX_VALUES,
    Parsed,
    is_encoded_json,
    parse,
    separators,
)
from retrodict.wire import JsonLines, WireEvents, line_of

MAX_DATA_CHARACTERS: Final = 256 * 1024
"""Canonical payload of one event; what is stamped must fit one record again."""

Identity = tuple[str | None, str | None, str | None]
"""Source, id and entity key of an event, each as far as it can be read."""

_UPCAST_ERRORS: Final = (
    ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
"""What an upcaster may raise on a payload that never kept its own version."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
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

    @cached_property
    def fast_lane(self) -> FastLane:
        """What accepts ordinary records; made for the first ones."""
        return FastLane(self.contracts, self.lateness_us)


class Accepted(msgspec.Struct, frozen=True):
    """A record that keeps every promise."""

    event: StampedEvent


class Rejected(msgspec.Struct, frozen=True):
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
        reasons = [found.as_json() for found in self.violations]
        arrival = self.arrival
        return {
            "position": arrival.position,
            "arrival_us": arrival.arrived_at_us,
            "partition_key": arrival.partition_key,
            "codes": list({reason["code"]: None for reason in reasons}),
            "reasons": reasons,
            "source": source,
            "id": identifier,
            "key": key,
            "sha256": hashlib.sha256(self.raw).hexdigest(),
            "bytes_base64": b2a_base64(self.raw, newline=False).decode(),
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a batch.

    Attributes
    ----------
    batches
        Accepted events by key, the events of a key in order.
    accepted
        How many they are.
    rejected
        Quarantine documents of the others, in order, shape (n,).
    places
        Numbers in the batch of those, shape (n,).
    """

    batches: list[KeyedBatch]
    accepted: int
    rejected: JsonLines
    places: list[int]


class Records(Columns, Protocol):
    """Records in columns, and each of them."""

    def arrival(self, place: int) -> Arrival:
        """Return how a record came."""

    def raw(self, place: int) -> bytes:
        """Return the bytes of a record."""


def validate_batch(records: Records, catalog: Catalog) -> Judged:
    """Judge every record as `validate` does, the ordinary ones all at once."""
    batches: list[KeyedBatch] = []
    rejected: list[tuple[int, bytes]] = []
    accepted = 0
    for read in catalog.fast_lane.read(records):
        if isinstance(read, KeyedBatch):
            batch = read
        elif isinstance(read, Refused):
            rejected += read.lines
            continue
        else:
            batch = _look_closer(read, records, catalog, rejected)
            if not batch.events:
                continue
        accepted += len(batch.events)
        batches.append(batch)
    rejected.sort(key=itemgetter(0))
    lines = JsonLines([line for _, line in rejected])
    return Judged(batches, accepted, lines, [place for place, _ in rejected])


def _look_closer(
    unsure: Unsure,
    records: Records,
    catalog: Catalog,
    rejected: list[tuple[int, bytes]],
) -> KeyedBatch:
    """Return the events of a key of which not every record was ordinary."""
    found: dict[int, tuple[str, bytes]] = {}
    for place in unsure.unknown:
        verdict = validate(records.raw(place), records.arrival(place), catalog)
        if isinstance(verdict, Rejected):
            rejected.append((place, line_of(verdict.as_json())))
        else:
            found[place] = verdict.event.type, verdict.event.to_json()
    if not found:
        return KeyedBatch(unsure.key, unsure.ordinary)
    found |= unsure.wires()
    wires = [found[place][1] for place in sorted(found)]
    types = tuple(sorted({event_type for event_type, _ in found.values()}))
    return KeyedBatch(unsure.key, WireEvents(b",".join(wires), len(wires), types))


def validate(raw: bytes, arrival: Arrival, catalog: Catalog) -> Accepted | Rejected:
    """Judge `raw` by the contract that it names, with every reason.

    Examples
    --------
    >>> arrival = Arrival("000000000000-1", "s-1", 1_767_607_200_000_000)
    >>> validate(b"", arrival, Catalog({})).violations[0].reason.value
    'empty'
    """
    parsed = parse(raw)
    if not isinstance(parsed, Parsed):
        return Rejected(raw, arrival, parsed, _identity(_read_loosely(raw)))
    document, tags = _as_cloudevent(parsed, catalog)
    envelope, found = open_envelope(document)
    contract, data, more, extra_tags = _judge_data(document, envelope, catalog)
    tags |= extra_tags
    found += more
    found += _judge_keys(envelope.subject, contract, data, arrival)
    observed_at_us = _observed_at(envelope, arrival)
    found += _judge_time(envelope, observed_at_us, arrival)
    if found or contract is None or envelope.time_us is None:
        identity = _identity(document)
        return Rejected(raw, arrival, tuple(dict.fromkeys(found)), identity)
    if envelope.extra or (
        envelope.observed_at_us is not None and envelope.import_id is None
    ):
        tags.add(Tag.EXTRA_ATTRIBUTE)
    key = str(envelope.subject)
    if not key.isascii():
        tags.add(Tag.NON_ASCII_KEY)
    if is_finer_than_microseconds(document["time"]):
        tags.add(Tag.TIME_TRUNCATED)
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


def _as_cloudevent(parsed: Parsed, catalog: Catalog) -> tuple[dict[str, Any], set[Tag]]:
    """Wrap a plain payload that a contract knows; leave everything else as it is."""
    document: dict[str, Any] = parsed.value
    tags = set(parsed.tags)
    if "specversion" in document or "type" in document:
        return document, tags
    known = [
        (sum(name in document for name in (plain.id, plain.key, plain.time)), contract)
        for contract in (event.contract() for event in catalog.contracts.values())
        if (plain := contract.plain) is not None and plain.key in document
    ]
    most = max((count for count, _ in known), default=0)
    best = [contract for count, contract in known if count == most]
    if len(best) != 1:
        return document, tags
    return _wrap(document, best[0]), tags | {Tag.PLAIN_PAYLOAD}


def _wrap(document: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    plain = contract.plain
    if plain is None:
        return dict(document)
    dropped = {plain.id, plain.key, plain.time} - contract.names
    data = {name: value for name, value in document.items() if name not in dropped}
    wrapped = {
        "specversion": "1.0",
        "source": plain.source,
        "type": contract.type,
        "dataschema": contract.schema_name(),
        "data": {contract.key.name: document[plain.key], **data},
        "subject": document[plain.key],
    }
    if plain.id in document:
        identifier = document[plain.id]
        wrapped["id"] = str(identifier) if type(identifier) is int else identifier
    if plain.time in document:
        wrapped["time"] = document[plain.time]
    return wrapped


def _judge_data(  # noqa: PLR0911 - one answer a step that fails
    document: Mapping[str, Any], envelope: Envelope, catalog: Catalog
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
        return contract, {}, _not_an_object(document, envelope.data), set()
    tags: set[Tag] = set()
    found: list[Violation] = []
    lifted: Mapping[str, Any] = envelope.data
    try:
        if version != contract.version:
            tags.add(Tag.UPCAST)
            lifted = contract.upcast(lifted, version)
        data, has_extra = contract.check(lifted, found)
        size = len(json.dumps(data, allow_nan=False))
    except _UPCAST_ERRORS as error:
        expected = f"a payload that version {version} describes"
        got = f"{type(error).__name__}: {error}"
        found = [violation("data", Reason.UPCAST_FAILED, expected, got)]
        return contract, {}, found, tags
    if not found and size > MAX_DATA_CHARACTERS:
        expected = f"at most {MAX_DATA_CHARACTERS} characters of canonical JSON"
        found.append(
            violation("data", Reason.TOO_LARGE, expected, f"{size} characters")
        )
    if has_extra and contract.keeps_extra:
        tags.add(Tag.EXTRA_FIELD)
    return contract, data, found, tags


def _not_an_object(document: Mapping[str, Any], data: Any) -> list[Violation]:
    if "data" not in document:
        if "data_base64" not in document:
            return []
        got = document["data_base64"]
        return [violation("data_base64", Reason.DOUBLE_ENCODED, "data as JSON", got)]
    if isinstance(data, str) and is_encoded_json(data):
        expected = "a JSON object, not a text of one"
        return [violation("data", Reason.DOUBLE_ENCODED, expected, data)]
    return [violation("data", Reason.WRONG_TYPE, "a JSON object", data)]


def _judge_keys(
    key: str | None,
    contract: Contract | None,
    data: Mapping[str, Any],
    arrival: Arrival,
) -> list[Violation]:
    if key is None:
        return []
    unsafe = unsafe_key(key)
    found = [] if unsafe is None else [unsafe]
    if contract is not None:
        broken: list[Violation] = []
        contract.key.check(key, broken)
        found += [violation("subject", b.reason, b.expected, key) for b in broken]
        inner = data.get(contract.key.name)
        if inner is not None and inner != key:
            found.append(other_key(contract.key.name, key, inner))
    if arrival.partition_key != key:
        found.append(other_partition(key, arrival.partition_key))
    return found


def _observed_at(envelope: Envelope, arrival: Arrival) -> int:
    if envelope.import_id is None:
        return arrival.arrived_at_us
    if envelope.observed_at_us is not None:
        return envelope.observed_at_us
    return arrival.arrived_at_us if envelope.time_us is None else envelope.time_us


def _judge_time(
    envelope: Envelope, observed_at_us: int, arrival: Arrival
) -> list[Violation]:
    """Refuse what happened after it was seen, and an import seen after it came."""
    found: list[Violation] = []
    if envelope.time_us is None:
        return found
    ahead_us = envelope.time_us - observed_at_us
    if ahead_us > FUTURE_TOLERANCE_US:
        found.append(ahead_of_itself(ahead_us))
    ahead_us = observed_at_us - arrival.arrived_at_us
    if ahead_us > FUTURE_TOLERANCE_US:
        name = "time" if envelope.observed_at_us is None else "observedat"
        found.append(ahead_of_arrival(name, ahead_us))
    return found


def _read_loosely(raw: bytes) -> Mapping[str, Any]:
    """Return what a record that is no strict JSON seems to say; only to name it."""
    if separators(raw) > MAX_VALUES:
        return {}
    try:
        document = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _identity(document: Mapping[str, Any]) -> Identity | None:
    source, identifier, key = (
        value if isinstance(value := document.get(name), str) and value.isprintable()
        else None
        for name in ("source", "id", "subject")
    )  # fmt: skip
    if source is None and identifier is None and key is None:
        return None
    return source, identifier, key
