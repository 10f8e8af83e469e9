"""How fast the log becomes the online store again: Parquet to items, on one core.

Compacted segments, one for each part of the keys, lie in memory as S3 would give them;
what comes out is every byte of every item, as `rebuild` compares and writes them. The
plain fold beside it is what folded online, from the same segments, on some keys; its
items must be equal.
"""

import argparse
import time
from functools import partial
from io import BytesIO
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pipelines.sensor_anomaly import pipeline
from pipelines.sensor_anomaly.contract import Reading
from retrodict.arrow_events import known_events, reading_of
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.bulk_states import items_of
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet
from retrodict.online import item_of
from retrodict.ports import OnlineItem
from retrodict.state import KeyState
from retrodict_aws.segments import Segment, encode_table

from benchmarks.features import SECONDS_SET, fleet
from benchmarks.peers import RUNS, enter, medians_s, print_table, write_results

EVENTS: Final = 1_000_000
SAMPLED_KEYS: Final = 5
TYPE: Final = "sensor.reading"
OURS: Final = "retrodict, in bulk"
PLAIN: Final = "retrodict, event by event"


def compacted(table: pa.Table) -> dict[int, bytes]:
    """Return the segment of each part of the keys, of a table by key and position."""
    parts = np.array([bucket_of(key) for key in table["key"].unique().to_pylist()])
    of_row = parts[table["key"].combine_chunks().dictionary_encode().indices]
    found = {}
    for bucket in range(BUCKETS):
        own = table.filter(pa.array(of_row == bucket))
        found[bucket] = encode_table(own, Reading.contract())
    return found


def rebuilt(definition: FeatureSet, segments: dict[int, bytes]) -> list[OnlineItem]:
    """Return the item of every key, a part of the keys at a time."""
    items: list[OnlineItem] = []
    reading = reading_of([definition])
    for raw in segments.values():
        known = known_events(definition, Segment(TYPE, BytesIO(raw)).tables(reading))
        items += items_of(definition, known, partial(pipeline.entity, definition))[0]
    return items


def folded(
    definition: FeatureSet, segments: dict[int, bytes], keys: int
) -> tuple[list[OnlineItem], float]:
    """Return the items of some keys, event by event, and the events a second."""
    events = Segment(TYPE, BytesIO(segments[0])).events()
    by_key: dict[str, list[StampedEvent]] = {}
    for event in events:
        by_key.setdefault(event.key, []).append(event)
    sample = [*by_key.items()][:keys]
    began = time.perf_counter()
    items = []
    for key, known in sample:
        state, _ = KeyState(definition).fold(known)
        items.append(item_of(pipeline.entity(definition, key), state, 1))
    took_s = time.perf_counter() - began
    return items, sum(len(known) for _, known in sample) / took_s


def main() -> None:
    """Measure, print the tables and write ``out/bench/rebuild.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    segments = compacted(fleet(chosen.events))
    tables: dict[str, Any] = {}
    for name, definition in (
        ("300 s of events", SECONDS_SET),
        ("the pipeline's own features, with a week of panes", pipeline.features[0]),
    ):
        sample, plain_rate = folded(definition, segments, SAMPLED_KEYS)
        by_entity = {item.entity: item for item in rebuilt(definition, segments)}
        if any(by_entity[item.entity] != item for item in sample):
            raise SystemExit("an item has other bytes than the plain fold gives it")
        seconds = medians_s({OURS: partial(rebuilt, definition, segments)}, chosen.runs)
        rates = {PLAIN: plain_rate / 1e3, OURS: chosen.events / seconds[OURS] / 1e3}
        size = sum(len(item.state) for item in by_entity.values()) / len(by_entity)
        heading = f"{name}: {len(by_entity):,} items of {size:,.0f} bytes"
        print_table(heading, "thousand events/s", rates, [OURS])
        tables[name] = rates
    write_results("rebuild", tables)


if __name__ == "__main__":
    enter()
    main()
