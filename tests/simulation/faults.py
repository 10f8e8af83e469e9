"""What can go wrong, how often a seed lets it, and how often it did."""

from enum import StrEnum
from random import Random
from typing import Final


class Fault(StrEnum):
    """A class of faults; each is counted when it fires."""

    PRODUCER_RETRY = "producer retry with a new sequence number"
    POISON = "poison record"
    IDENTITY_CONFLICT = "identity used for another payload"
    LATE_EVENT = "event later than allowed"
    UNKNOWN_VERSION = "unknown schema version"
    KPL_AGGREGATED = "KPL-aggregated record"
    CLOCK_OFF = "producer clock far off"
    EPOCH_RESET = "producer numbers its events from 1 again"
    QUIET_SPELL = "quiet spell longer than the horizon"
    PRODUCER_GAVE_UP = "producer gave up without an acknowledgement"
    LARGEST_RECORD = "record as large as a stream takes"
    RECORD_TOO_LARGE = "record too large for a stream"
    REQUEST_TOO_LARGE = "request too large for a stream, refused as a whole"
    PARTIAL_PUT = "partial PutRecords failure"
    SAME_KEY_REORDER = "same-key reorder"
    ARRIVAL_SKEW = "arrival time that goes back"
    FOREIGN_RECORD = "foreign record on the validated stream"
    SPLIT = "shard split"
    MERGE = "shard merge"
    THROTTLE = "call throttled"
    OUTAGE = "call during an outage"
    APPLIED_TIMED_OUT = "write applied but timed out"
    LATE_LANDING = "write that lands late"
    WRITE_CONFLICT = "conflicting conditional request"
    UNPROCESSED_KEYS = "keys left unprocessed"
    STALE_REPLICA = "read while a replica is behind"
    LOST_RACE = "conditional write refused"
    CRASH_BEFORE = "crash before a side effect"
    CRASH_AFTER = "crash after a side effect"
    INIT_FAILURE = "function fails to start"
    INVOKE_THROTTLED = "invocation throttled"
    STALL = "consumer stalled, so that a backlog grows"
    SWITCHED_OFF = "consumer off for longer than the stream remembers"
    TRIMMED = "record trimmed before it was read"
    SIDE_BY_SIDE = "batches of one shard handled side by side"
    LANES_CHANGED = "parallelization factor changed"
    RESPONSE_LOST = "response lost"
    SEVERAL_FAILURES = "several failures in one response"
    MALFORMED_RESPONSE = "malformed response, so that the batch failed"
    EMPTY_RESPONSE = "empty response, so that the batch is done"
    PAYLOAD_CUT = "batch cut where its payload ends"
    ZOMBIE = "invocation overlaps its retry"
    REDELIVERY = "record delivered again"
    PARTIAL_BATCH = "batch finished in part"
    BISECT = "batch cut in two"
    RETRIES_EXHAUSTED = "retries exhausted, to the destination"
    AGE_EXCEEDED = "record too old, to the destination"
    REDRIVE = "redrive from the destination"
    QUARANTINE_REDRIVEN = "reject put in again after its contract was mended"
    REDRIVEN_IN_TIME = "redriven event that is in time"
    REDRIVEN_LATE = "redriven event that is late by now"
    REBUILD = "online store rebuilt from the log"
    DEFINITION_CHANGED = "definition of features changed"
    FILLED = "item of a changed definition filled while it runs"
    SWITCHED = "changed definition verified, so it is read"
    NIGHT = "a day passes"
    COMPACTION = "log compacted while it grows"
    COMPACTION_DIED = "compaction died between two changes"
    TWO_COMPACTIONS = "two compactions at once"
    SEGMENTS_DELETED = "segments replaced and deleted"
    READ_WHILE_COMPACTED = "log read while it is compacted"
    ARCHIVED_AGAIN = "old records archived again, cut otherwise"
    TRUNCATED = "segment truncated"
    HALF_WRITTEN = "segment half written"
    BIT_FLIPPED = "segment with a flipped bit"
    SET_DURING_FAULTS = "training set built while things fail"
    PREDICTED_AGAIN = "event scored again, under its own id"
    RATE_EXCEEDED = "key sends beyond its rate"


RATES: Final = {
    Fault.PRODUCER_RETRY: 0.05,
    Fault.POISON: 0.05,
    Fault.IDENTITY_CONFLICT: 0.04,
    Fault.LATE_EVENT: 0.04,
    Fault.KPL_AGGREGATED: 0.01,
    Fault.CLOCK_OFF: 0.01,
    Fault.EPOCH_RESET: 0.01,
    Fault.QUIET_SPELL: 0.08,
    Fault.PRODUCER_GAVE_UP: 0.3,
    Fault.LARGEST_RECORD: 0.002,
    Fault.RECORD_TOO_LARGE: 0.004,
    Fault.REQUEST_TOO_LARGE: 0.006,
    Fault.PARTIAL_PUT: 0.08,
    Fault.ARRIVAL_SKEW: 0.05,
    Fault.FOREIGN_RECORD: 0.01,
    Fault.SPLIT: 0.02,
    Fault.MERGE: 0.02,
    Fault.THROTTLE: 0.05,
    Fault.OUTAGE: 0.01,
    Fault.APPLIED_TIMED_OUT: 0.05,
    Fault.LATE_LANDING: 0.04,
    Fault.WRITE_CONFLICT: 0.05,
    Fault.UNPROCESSED_KEYS: 0.08,
    Fault.CRASH_BEFORE: 0.03,
    Fault.CRASH_AFTER: 0.04,
    Fault.INIT_FAILURE: 0.03,
    Fault.INVOKE_THROTTLED: 0.03,
    Fault.STALL: 0.01,
    Fault.SWITCHED_OFF: 0.001,
    Fault.SIDE_BY_SIDE: 0.4,
    Fault.LANES_CHANGED: 0.01,
    Fault.RESPONSE_LOST: 0.05,
    Fault.SEVERAL_FAILURES: 0.03,
    Fault.MALFORMED_RESPONSE: 0.03,
    Fault.EMPTY_RESPONSE: 0.1,
    Fault.ZOMBIE: 0.03,
    Fault.NIGHT: 0.15,
    Fault.COMPACTION: 0.03,
    Fault.ARCHIVED_AGAIN: 0.4,
    Fault.TRUNCATED: 0.15,
    Fault.HALF_WRITTEN: 0.15,
    Fault.BIT_FLIPPED: 0.15,
    Fault.SET_DURING_FAULTS: 0.01,
}
"""Chance of each fault where it can happen; the other classes follow from these."""

ENABLED_SHARE: Final = 0.7
"""How many of the classes one seed knows: some faults hide behind others."""


def rates_of(random: Random) -> dict[Fault, float]:
    """Draw which faults a run knows, and how often each happens."""
    return {
        fault: rate * random.choice((0.5, 1.0, 2.0))
        for fault, rate in RATES.items()
        if random.random() < ENABLED_SHARE
    }
