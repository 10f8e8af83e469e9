"""Compare how window features are computed, in bulk and event by event.

Bulk: mean, std, min, max, count and difference of a million events of a thousand keys,
over the last 100 events and the last 300 s, in memory, on one core. Ours are bit for
bit those of the plain fold, which is checked on a sample; the peers' sums depend on the
order of their additions. Ours begins with the columns of the log, takes some keys after
the other, about as many events at a time as four row groups of the log hold, and lets
go of them before it takes the next, as a backfill does: so much memory it takes,
however long the log is.

Online: batches of 500 events are folded, each with the states of its keys read from
bytes and written back, and the features of every key it touched. Ours is measured
twice: from columns, which is the fold, and from stamped events, as `write_features`
folds them, which adds the SHA-256 of every identity and the reading of every attribute.
The peers keep their windows in memory and read time and value of a stamped event; none
encodes, or tells duplicates, conflicts and late events apart. The deque is wrong where
events come out of order. Two libraries for streams stand beside it where they do not:
river can roll back a mean and a variance over time, and no minimum; bytewax folds
windows that begin every 10 s, so each event counts in thirty of them, and a feature may
lack the last 10 s. The plain fold is the oracle:
its states are compared byte by byte before anything is measured.
"""

import argparse
import random
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from math import isnan, sqrt
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pipelines.sensor_anomaly.contract import Reading
from retrodict import arrow_events, batch_fold, bulk
from retrodict.batch_fold import Arrivals
from retrodict.envelope import StampedEvent
from retrodict.features import FeatureSet, feature_set, features
from retrodict.state import KeyState
from retrodict.vocabulary import count, difference, last, maximum, mean, minimum, std
from retrodict_aws.segments import derived

from benchmarks.logs import START_US, event_table, events_of
from benchmarks.peers import enter, medians_s, print_table, write_results

EVENTS: Final = 1_000_000
CHUNK: Final = 1_000_000
ROW_GROUPS: Final = 4 * 131_072
KEYS: Final = 1_000
ROWS: Final = 100
WINDOW_S: Final = 300
SECOND_US: Final = 1_000_000
BATCH: Final = 500
ONLINE_EVENTS: Final = 20_000
SAMPLE: Final = 3
PEERS: Final = ("polars", "duckdb", "pandas")
OURS: Final = "retrodict.bulk, from the log's columns"
ONLINE: Final = "retrodict.batch_fold, from columns"
FROM_EVENTS: Final = "retrodict.batch_fold, from stamped events"
PLAIN: Final = "retrodict.KeyState, the plain fold"
RIVER: Final = "river TimeRolling, mean and variance alone"
BYTEWAX: Final = "bytewax sliding windows, one every 10 s"
DEQUE: Final = "deque a key, states stay in memory"
WRONG_DEQUE: Final = "deque a key, wrong where out of order"


@features(Reading, max_rate="2/s")
class LastRows:
    """What is compared over the last rows."""

    mean = mean(Reading.value, last(ROWS))
    std = std(Reading.value, last(ROWS))
    min = minimum(Reading.value, last(ROWS))
    max = maximum(Reading.value, last(ROWS))
    count = count(Reading.value, last(ROWS))
    difference = difference(Reading.value)


@features(Reading, max_rate="2/s")
class LastSeconds:
    """What is compared over the last seconds."""

    mean = mean(Reading.value, last(f"{WINDOW_S}s"))
    std = std(Reading.value, last(f"{WINDOW_S}s"))
    min = minimum(Reading.value, last(f"{WINDOW_S}s"))
    max = maximum(Reading.value, last(f"{WINDOW_S}s"))
    count = count(Reading.value, last(f"{WINDOW_S}s"))
    difference = difference(Reading.value)


ROWS_SET: Final = feature_set(LastRows)
SECONDS_SET: Final = feature_set(LastSeconds)


def bulk_acts(
    table: pa.Table, definition: FeatureSet, peers: Sequence[str] = PEERS
) -> dict[str, Callable[[], object]]:
    """Return each way to compute a definition over all rows, by name."""
    by_rows = definition is ROWS_SET
    per_key = table.num_rows // KEYS
    per_part = max(1, ROW_GROUPS // per_key) * per_key

    def from_arrow() -> None:
        for start in range(0, table.num_rows, per_part):
            part = table.slice(start, per_part)
            known = arrow_events.known_events(definition, part).columns
            bulk.fold(definition, known, wanted=np.ones(part.num_rows, np.bool_))

    plain = pa.table(
        {
            "key": table["key"],
            "time": table["time_us"].cast(pa.timestamp("us", "UTC")),
            "value": pa.chunked_array([c.field("value") for c in table["data"].chunks]),
        }
    )
    ways = {"polars": _polars, "duckdb": _duckdb, "pandas": _pandas}
    theirs = [ways[peer](plain, by_rows=by_rows) for peer in peers]
    return {
        **{name: act for acts in theirs for name, act in acts.items()},
        OURS: from_arrow,
    }


def peak_mib(act: Callable[[], object]) -> float:
    """Return what `act` allocates at most at a time, by NumPy, Python and Arrow."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        act()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    return float((peak + pool.max_memory()) / 2**20)


def _polars(plain: pa.Table, *, by_rows: bool) -> dict[str, Callable[[], object]]:
    import polars as pl  # noqa: PLC0415 - a peer

    frame = pl.DataFrame(pl.from_arrow(plain)).with_columns(
        pl.col("key").cast(pl.Categorical)
    )
    value = pl.col("value")
    change = (value - value.shift(1)).over("key").alias("difference")

    def over_rows() -> object:
        size: Any = {"window_size": ROWS, "min_samples": 1}
        return frame.select(
            value.rolling_mean(**size).over("key").alias("mean"),
            value.rolling_std(**size).over("key").alias("std"),
            value.rolling_min(**size).over("key").alias("min"),
            value.rolling_max(**size).over("key").alias("max"),
            (pl.int_range(pl.len()) + 1).clip(1, ROWS).over("key").alias("count"),
            change,
        )

    def over_seconds() -> object:
        return frame.rolling("time", period=f"{WINDOW_S}s", group_by="key").agg(
            value.mean().alias("mean"),
            value.std().alias("std"),
            value.min().alias("min"),
            value.max().alias("max"),
            value.count().alias("count"),
        ), frame.select(change)

    def over_seconds_by() -> object:
        size: Any = {"by": "time", "window_size": f"{WINDOW_S}s"}
        one = pl.lit(1.0)
        return frame.select(
            value.rolling_mean_by(**size).over("key").alias("mean"),
            value.rolling_std_by(**size).over("key").alias("std"),
            value.rolling_min_by(**size).over("key").alias("min"),
            value.rolling_max_by(**size).over("key").alias("max"),
            (value * 0 + one).rolling_sum_by(**size).over("key").alias("count"),
            change,
        )

    if by_rows:
        return {"polars rolling_*().over(key)": over_rows}
    return {
        "polars rolling(group_by=key)": over_seconds,
        "polars rolling_*_by().over(key)": over_seconds_by,
    }


def _duckdb(plain: pa.Table, *, by_rows: bool) -> dict[str, Callable[[], object]]:
    import duckdb  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    span = (
        f"rows between {ROWS - 1} preceding and current row"
        if by_rows
        else f"range between interval {WINDOW_S} seconds preceding and current row"
    )
    connection: Any = duckdb.connect(config={"threads": 1})
    connection.register("plain", plain)
    connection.execute("create table held as select * from plain")
    query = (
        "select avg(value) over w, stddev_samp(value) over w, "  # noqa: S608 - ours
        "min(value) over w, max(value) over w, count(value) over w, "
        "value - lag(value) over (partition by key order by time) from held "
        f"window w as (partition by key order by time {span})"
    )
    return {"duckdb window": lambda: connection.sql(query).to_arrow_table()}


def _pandas(plain: pa.Table, *, by_rows: bool) -> dict[str, Callable[[], object]]:
    frame = plain.to_pandas()
    frame["key"] = frame["key"].astype("category")
    if not by_rows:
        frame = frame.set_index("time")
    size: Any = ROWS if by_rows else f"{WINDOW_S}s"

    def act() -> object:
        groups = frame.groupby("key", observed=True, sort=False)["value"]
        rolling = groups.rolling(size, min_periods=1)
        found = [rolling.mean(), rolling.std(), rolling.min(), rolling.max()]
        return [*found, rolling.count(), groups.diff()]

    return {"pandas groupby.rolling": act}


def check_bits(table: pa.Table, definition: FeatureSet) -> int:
    """Compare some keys bit by bit with the plain fold, and return how many events.

    Raises
    ------
    SystemExit
        A bit differs.
    """
    columns = arrow_events.known_events(definition, table).columns
    wanted = np.ones(table.num_rows, np.bool_)
    found = bulk.fold(definition, columns, wanted=wanted)
    checked = 0
    for place in np.linspace(0, len(columns.keys) - 1, SAMPLE).astype(int).tolist():
        first, end = columns.key_start[place : place + 2].tolist()
        _, folded = KeyState(definition).fold(
            events_of(table.slice(first, end - first)), emit=True
        )
        for row, one in enumerate(folded, first):
            for name, value in (one.features or {}).items():
                got = float(found.features[name][row])
                if not (got == value or (value is None and isnan(got))):
                    raise SystemExit(f"{name} of row {row}: {got!r}, not {value!r}")
            checked += 1
    return checked


class Deque:
    """What a stream processor keeps of a key by hand, in memory.

    Sums are added to and taken from, and drift; bounds are falling and rising runs;
    events must come in order.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[int, float]] = deque()
        self._low: deque[tuple[int, float]] = deque()
        self._high: deque[tuple[int, float]] = deque()
        self._sum = self._squares = 0.0
        self._before: float | None = None

    def push(self, time_us: int, value: float) -> tuple[Any, ...]:
        """Return the features with one more event, which must be the newest."""
        held, low, high = self._held, self._low, self._high
        held.append((time_us, value))
        self._sum += value
        self._squares += value * value
        while low and low[-1][1] >= value:
            low.pop()
        low.append((time_us, value))
        while high and high[-1][1] <= value:
            high.pop()
        high.append((time_us, value))
        start_us = time_us - WINDOW_S * SECOND_US
        while held[0][0] <= start_us:
            _, old = held.popleft()
            self._sum -= old
            self._squares -= old * old
        while low[0][0] <= start_us:
            low.popleft()
        while high[0][0] <= start_us:
            high.popleft()
        n = len(held)
        spread = self._squares - self._sum * self._sum / n
        std = sqrt(max(0.0, spread) / (n - 1)) if n > 1 else None
        change = None if self._before is None else value - self._before
        self._before = value
        return self._sum / n, std, low[0][1], high[0][1], n, change


def stream(
    events: int, *, zipf: bool, in_order: bool, seed: int = 7
) -> list[StampedEvent]:
    """Return what a fleet sends, in order of arrival; some may come out of order."""
    dice = random.Random(seed)  # noqa: S311 - a fleet, not a secret
    weights = [1 / (n + 1) ** 1.1 if zipf else 1.0 for n in range(KEYS)]
    keys = dice.choices(range(KEYS), weights, k=events)
    lags = [0 if in_order else int(dice.expovariate(1 / 5) * SECOND_US) for _ in keys]
    number = np.arange(events)
    table = event_table(
        np.array(keys), START_US + number * 40_000 - np.array(lags), number, seed=seed
    )
    return events_of(table)


def batches(events: Sequence[StampedEvent]) -> Iterator[dict[str, list[StampedEvent]]]:
    """Yield the events of each batch by key."""
    for start in range(0, len(events), BATCH):
        by_key: dict[str, list[StampedEvent]] = {}
        for event in events[start : start + BATCH]:
            by_key.setdefault(event.key, []).append(event)
        yield by_key


def fold_plainly(events: Sequence[StampedEvent]) -> dict[str, bytes]:
    """Fold batches into states that lie in a store as bytes, and return those."""
    store: dict[str, bytes] = {}
    for by_key in batches(events):
        for key, own in by_key.items():
            state, _ = KeyState.decode(SECONDS_SET, store.get(key)).fold(own)
            dict(state.features)
            store[key] = state.encode()
    return store


def fold_events(events: Sequence[StampedEvent]) -> dict[str, bytes]:
    """Do the same by the compiled fold."""
    store: dict[str, bytes] = {}
    for by_key in batches(events):
        states = [store.get(key) for key in by_key]
        found = batch_fold.fold(SECONDS_SET, states, list(by_key.values()))
        store.update((k, s) for k, s in zip(by_key, found.states, strict=True) if s)
    return store


def columns_of(events: Sequence[StampedEvent]) -> list[tuple[list[str], Arrivals]]:
    """Return the keys and the columns of each batch."""
    return [
        (list(by_key), Arrivals.of(SECONDS_SET, list(by_key.values())))
        for by_key in batches(events)
    ]


def fold_columns(several: Sequence[tuple[list[str], Arrivals]]) -> dict[str, bytes]:
    """Do the same from columns.

    Raises
    ------
    SystemExit
        A key was left to the plain fold.
    """
    store: dict[str, bytes] = {}
    for keys, columns in several:
        states = [store.get(key) for key in keys]
        found, plain = batch_fold.fold_columns(SECONDS_SET, states, columns)
        if plain:
            raise SystemExit(f"{len(plain)} keys were left to the plain fold")
        store.update((k, s) for k, s in zip(keys, found.states, strict=True) if s)
    return store


def check_online(events: Sequence[StampedEvent]) -> int:
    """Compare every state byte by byte, and return how many there are.

    Raises
    ------
    SystemExit
        A byte differs.
    """
    plain = fold_plainly(events)
    if not plain == fold_events(events) == fold_columns(columns_of(events)):
        raise SystemExit("the compiled fold has other states than the plain one")
    return len(plain)


def fold_deques(events: Sequence[StampedEvent]) -> dict[str, Deque]:
    """Push every event through the deque of its key."""
    store: dict[str, Deque] = {}
    for by_key in batches(events):
        for key, own in by_key.items():
            state = store.setdefault(key, Deque())
            for event in own:
                state.push(event.time_us, event.data["value"])
    return store


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / SECOND_US, UTC)


def river_acts(events: Sequence[StampedEvent]) -> dict[str, Callable[[], object]]:
    """Return what river does with events in the order of their times."""
    from river import stats, utils  # noqa: PLC0415 - a peer

    period = timedelta(seconds=WINDOW_S)

    def act() -> object:
        store: dict[str, tuple[Any, Any]] = {}
        for event in events:
            own = store.get(event.key)
            if own is None:
                own = (
                    utils.TimeRolling(stats.Mean, period=period),
                    utils.TimeRolling(stats.Var, period=period),
                )
                store[event.key] = own
            moment = _moment(event.time_us).replace(tzinfo=None)
            for rolling in own:
                rolling.update(event.data["value"], t=moment)
                rolling.get()
        return store

    return {RIVER: act}


def bytewax_acts(events: Sequence[StampedEvent]) -> dict[str, Callable[[], object]]:
    """Return what bytewax does with events."""
    from bytewax import operators as op  # noqa: PLC0415 - a peer
    from bytewax.dataflow import Dataflow  # noqa: PLC0415 - a peer
    from bytewax.operators import windowing  # noqa: PLC0415 - a peer
    from bytewax.testing import (  # noqa: PLC0415 - a peer
        TestingSink,
        TestingSource,
        run_main,
    )

    def add(state: list[float], pair: tuple[datetime, float]) -> list[float]:
        value = pair[1]
        return [
            state[0] + 1,
            state[1] + value,
            state[2] + value * value,
            min(state[3], value),
            max(state[4], value),
        ]

    def merge(one: list[float], other: list[float]) -> list[float]:
        added = [a + b for a, b in zip(one[:3], other[:3], strict=True)]
        return [*added, min(one[3], other[3]), max(one[4], other[4])]

    def act() -> object:
        found: list[Any] = []
        pairs = [(e.key, (_moment(e.time_us), e.data["value"])) for e in events]
        flow = Dataflow("windows")
        stream = op.input("input", flow, TestingSource(pairs, batch_size=BATCH))
        folded = windowing.fold_window(
            "fold",
            stream,
            windowing.EventClock(
                ts_getter=lambda pair: pair[0],
                wait_for_system_duration=timedelta(minutes=1),
            ),
            windowing.SlidingWindower(
                length=timedelta(seconds=WINDOW_S),
                offset=timedelta(seconds=10),
                align_to=_moment(START_US),
            ),
            lambda: [0.0, 0.0, 0.0, float("inf"), float("-inf")],
            add,
            merge,
        )
        op.output("output", folded.down, TestingSink(found))
        run_main(flow)
        return found

    return {BYTEWAX: act}


def fleet(events: int) -> pa.Table:
    """Return readings, one a second from each of the keys, in order of key."""
    number = np.arange(events).reshape(-1, KEYS).T.ravel()
    parts = np.array_split(number, -(-events // CHUNK))
    tables = []
    for seed, own in enumerate(parts):
        key: NDArray[np.int64] = own % KEYS
        time_us = START_US + own // KEYS * SECOND_US + key
        tables.append(event_table(key, time_us, own, seed=seed))
    return pa.concat_tables(tables)


def main() -> None:
    """Measure, print the tables and write ``out/bench/features.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--online-events", type=int, default=ONLINE_EVENTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("bulk", "online"))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    chosen = parser.parse_args()
    tables: dict[str, Any] = {}
    if chosen.only != "online":
        table = derived(fleet(chosen.events // KEYS * KEYS), Reading.contract())
        keys = table["key"].dictionary_encode()  # as the log reads them
        table = table.set_column(0, "key", keys)
        for name, definition in (
            (f"last {ROWS} rows", ROWS_SET),
            (f"last {WINDOW_S} s", SECONDS_SET),
        ):
            checked = check_bits(table, definition)
            acts = bulk_acts(table, definition, chosen.peers)
            seconds = medians_s(acts, chosen.runs)
            rates = {peer: table.num_rows / s / 1e3 for peer, s in seconds.items()}
            heading = f"{table.num_rows:,} events, {name} ({checked} rows bit-equal)"
            print_table(heading, "thousand events/s", rates, [OURS])
            peak = peak_mib(acts[OURS])
            print(f"allocated at most at a time, {OURS}: {peak:.1f} MiB")
            tables[name] = rates
            tables[f"{name}, MiB"] = {OURS: peak}
    if chosen.only != "bulk":
        for zipf in (True, False):
            for in_order in (True, False):
                events = stream(chosen.online_events, zipf=zipf, in_order=in_order)
                acts = {
                    DEQUE if in_order else WRONG_DEQUE: partial(fold_deques, events),
                    PLAIN: partial(fold_plainly, events),
                    FROM_EVENTS: partial(fold_events, events),
                    ONLINE: partial(fold_columns, columns_of(events)),
                }
                if in_order:
                    acts |= river_acts(events) | bytewax_acts(events)
                checked = check_online(events)
                seconds = medians_s(acts, chosen.runs)
                rates = {peer: len(events) / s / 1e3 for peer, s in seconds.items()}
                name = f"online, {'Zipf(1.1)' if zipf else 'uniform'} keys, "
                name += "in order" if in_order else "out of order"
                heading = f"{name} ({checked} states byte-equal)"
                print_table(heading, "thousand events/s", rates, [ONLINE, FROM_EVENTS])
                tables[name] = rates
    is_usual = chosen.events == EVENTS
    write_results("features" if is_usual else f"features-{chosen.events}", tables)


if __name__ == "__main__":
    enter()
    main()
