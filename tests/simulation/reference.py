"""What the pipeline should hold, worked out in another way than it does.

`Truth` reads nothing but the ingest stream. `Model` folds one event at a time, keeps
every event it ever applied, and takes each statistic from its definition.
"""

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field

from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet
from retrodict.pipeline import load_catalog
from retrodict.stamps import position
from retrodict.state import Outcome
from retrodict.validation import Arrival, Rejected, validate
from retrodict.windows import identity_of

from tests import exact
from tests.simulation.kinesis import Record, Stream
from tests.simulation.redriving import MENDED

TEN_MINUTES_US = 600_000_000

Held = tuple[int, int, str, float]
"""Time, identity, digest and value of an applied event; they sort as windows need."""


def place_of(record: Record) -> str:
    """Return the position of a record."""
    return position(record.shard_id, str(record.sequence_number))


class Truth:
    """What became known, by position: every ingest record judged once, in order.

    Parameters
    ----------
    mended
        By shard, the first sequence number that came after a contract was mended, none
        for all of a shard; None if it never was.

    Attributes
    ----------
    events, rejects
        By position, ascending.
    places
        Positions of a partition key and its bytes.
    """

    def __init__(self, ingest: Stream, mended: Mapping[str, int] | None) -> None:
        self.events: dict[str, StampedEvent] = {}
        self.rejects: dict[str, Rejected] = {}
        self.places: dict[tuple[str, bytes], list[str]] = {}
        for record in ingest.records():
            place = place_of(record)
            arrival = Arrival(place, record.partition_key, record.arrived_at_us)
            is_mended = mended is not None and (
                record.sequence_number >= mended.get(record.shard_id, 0)
            )
            catalog = MENDED if is_mended else load_catalog()
            verdict = validate(record.data, arrival, catalog)
            if isinstance(verdict, Rejected):
                self.rejects[place] = verdict
            else:
                self.events[place] = verdict.event
            name = record.partition_key, record.data
            self.places.setdefault(name, []).append(place)


@dataclass(slots=True)
class Model:
    """One key, folded by the book; only its limit of bytes it does not know."""

    definition: FeatureSet
    position: str = ""
    held: list[Held] = field(default_factory=list)
    applied: list[Held] = field(default_factory=list)

    def apply(self, event: StampedEvent) -> Outcome:
        """Take one event in the order of knowing, and say what became of it."""
        entry = (
            event.time_us,
            identity_of(event.source, event.id),
            event.digest,
            float(event.data["value"]),
        )
        same = [one for one in self.held if one[1] == entry[1]]
        if same:
            return Outcome.DUPLICATE if same == [entry] else Outcome.CONFLICTING
        if event.late:
            return Outcome.LATE
        newest_us = self.held[-1][0] if self.held else event.time_us
        if event.time_us <= newest_us - self.definition.kept_us:
            return Outcome.BEHIND
        insort(self.held, entry)
        insort(self.applied, entry)
        self.position = event.position
        horizon_us = self.held[-1][0] - self.definition.kept_us
        behind = sum(time_us <= horizon_us for time_us, *_ in self.held)
        del self.held[: max(0, behind - self.definition.depth)]
        return Outcome.APPLIED

    def features(self) -> dict[str, float | int | None]:
        """Return those features that are easily said in another way."""
        newest_us = self.applied[-1][0]
        values = [value for *_, value in self.applied]
        recent = [v for t, _, _, v in self.applied if newest_us - TEN_MINUTES_US < t]
        return {
            "latest": values[-1],
            "mean_3": exact.mean(values[-3:]),
            "mean_10m": exact.mean(recent),
            "low_10m": min(recent),
            "high_10m": max(recent),
            "count_10m": len(recent),
        }
