"""Compare how labels are joined with what was known at their time.

100,000 labels, one to three views of a million events each (or ten million, with
``--rows 10000000``), from Parquet to the joined frame: seconds of the processor, and
the peak of resident memory of a process that does nothing else. Peers read a table of
key, time and value, sorted by time, and join it as it is. Ours read the event log
itself, as compaction leaves it: of every event also its identity, the check of its
payload and whether it was late, because an event counts once however often it was
delivered. The rows are the same; so is every null.

The ways take turns, a process each, so that a machine that slows down slows all of
them. One that takes longer than the limit is stopped and told of as such, with the
seconds of the processor that it had used by then, and does not run again. Feast is run
once, beside a million rows alone: its DuckDB store makes a row of each label with each
earlier event of its key.
"""

import argparse
import hashlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import retrodict
from retrodict.buckets import BUCKETS, bucket_of
from retrodict.contracts import Event, Key
from retrodict.features import FeatureSet, feature_set, features
from retrodict_aws.folder_event_log import FolderEventLog
from retrodict_aws.segments import encode_table

from benchmarks.logs import START_US, event_table
from benchmarks.peers import RESULTS, ROOT, enter, install, write_results

ROWS: Final = 1_000_000
LABELS: Final = 100_000
KEYS: Final = 1_000
SECOND_US: Final = 1_000_000
RUNS: Final = 5
LIMIT_S: Final = 120.0
"""What a process may take, seconds of the wall clock."""

OURS: Final = "retrodict.training_set"
FEAST: Final = "Feast, DuckDB store, one run"
FEAST_ENVIRONMENT: Final = ROOT / ".bench-venv-feast"
FEAST_REQUIREMENTS: Final = (ROOT / "benchmarks/requirements-feast.txt",)
LAST_VALUE: Final = "value"


class First(Event, type="bench.first", version=1):
    """The events of one view."""

    sensor_id: Key[str]
    value: float


class Second(Event, type="bench.second", version=1):
    """The events of another view."""

    sensor_id: Key[str]
    value: float


class Third(Event, type="bench.third", version=1):
    """The events of a third view."""

    sensor_id: Key[str]
    value: float


EVENTS: Final[tuple[type[Event], ...]] = (First, Second, Third)


def view_of(event: type[Event]) -> FeatureSet:
    """Return the view of an event: its newest value."""
    column: Any = vars(event).get(LAST_VALUE) or getattr(event, LAST_VALUE)
    view = type(event.__name__, (), {LAST_VALUE: column})
    return feature_set(features(event, max_rate="10/s")(view))


VIEWS: Final = tuple(view_of(event) for event in EVENTS)


def write(folder: Path, rows: int) -> None:
    """Write logs, tables and labels, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "labels.parquet").exists():
        return
    per_key = rows // KEYS
    for seed, event in enumerate(EVENTS):
        plain = []
        for bucket in range(BUCKETS):
            own = [k for k in range(KEYS) if bucket_of(f"s-{k:04}") == bucket]
            key = np.repeat(np.array(own), per_key)
            place = np.tile(np.arange(per_key), len(own))
            time_us = START_US + place * SECOND_US + key * 997 + seed
            table = event_table(
                key, time_us, place * KEYS + key, seed=100 * seed + bucket, event=event
            )
            log = folder / f"type={event.contract().type}/arrived=2026-01-05"
            path = log / f"bucket={bucket:02}/v1-bench.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_table(table, event.contract()))
            value = table["data"].combine_chunks().field("value")
            when = table["time_us"].cast(pa.timestamp("us", "UTC"))
            plain.append(
                pa.table({"key": table["key"], "time": when, f"value_{seed}": value})
            )
        pq.write_table(
            pa.concat_tables(plain).sort_by("time"),
            folder / f"view_{seed}.parquet",
            compression="zstd",
            compression_level=1,
        )
    dice = np.random.default_rng(3)
    time_us = START_US + dice.integers(-5, per_key + 5, LABELS) * SECOND_US
    time_us.sort()
    key = pa.array([f"s-{k:04}" for k in dice.integers(0, KEYS + 5, LABELS)])
    when = pa.array(time_us).cast(pa.timestamp("us", "UTC"))
    numbers = pa.array(np.arange(LABELS))
    labels = pa.table({"key": key, "time": when, "label": numbers})
    pq.write_table(labels, folder / "labels.parquet")


def ours(folder: Path, views: int) -> pa.Table:
    """Return the labels with what the log says."""
    labels = pq.read_table(folder / "labels.parquet")
    log = FolderEventLog(folder)
    sets = VIEWS[:views]
    return retrodict.training_set(log, labels, features=sets, corrected=True)


def with_polars(folder: Path, views: int) -> Any:
    """Return the same by ``join_asof``."""
    import polars as pl  # noqa: PLC0415 - a peer

    found = pl.read_parquet(folder / "labels.parquet").set_sorted("time")
    for n in range(views):
        view = pl.read_parquet(folder / f"view_{n}.parquet").set_sorted("time")
        found = found.join_asof(view, on="time", by="key", check_sortedness=False)
    return found


def with_pandas(folder: Path, views: int) -> Any:
    """Return the same by ``merge_asof``."""
    import pandas as pd  # noqa: PLC0415 - a peer

    found = pd.read_parquet(folder / "labels.parquet")
    for n in range(views):
        view = pd.read_parquet(folder / f"view_{n}.parquet")
        found = pd.merge_asof(found, view, on="time", by="key")
    return found


def with_duckdb(folder: Path, views: int) -> Any:
    """Return the same by ``ASOF JOIN``."""
    import duckdb  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    connection: Any = duckdb.connect(config={"threads": 1})
    columns = ", ".join(f"v{n}.value_{n}" for n in range(views))
    joins = " ".join(
        f"asof left join '{folder}/view_{n}.parquet' v{n} "
        f"on l.key = v{n}.key and l.time >= v{n}.time"
        for n in range(views)
    )
    return connection.sql(
        f"select l.*, {columns} from '{folder}/labels.parquet' l {joins} "  # noqa: S608
        "order by l.label"
    ).to_arrow_table()


WAYS: Final[dict[str, Callable[[Path, int], Any]]] = {
    "polars join_asof": with_polars,
    "pandas merge_asof": with_pandas,
    "duckdb ASOF": with_duckdb,
    OURS: ours,
}


SMALL: Final = "small"
"""Folder of a log with an event a key: each way joins it first, unmeasured, so that
nobody's imports at first use are measured."""


def columns_of(found: Any, views: int) -> list[list[float | None]]:
    """Return the joined values by label, of whatever a way gives."""
    if hasattr(found, "to_arrow"):
        found = found.to_arrow()
    if not isinstance(found, pa.Table):
        found = pa.Table.from_pandas(found)
    found = found.sort_by("label")
    names = [name for name in found.column_names if name not in ("key", "time")]
    values = [name for name in names if "value" in name]
    if len(values) != views:
        raise SystemExit(f"expected {views} values, got {found.column_names}")
    return [found[name].to_pylist() for name in values]


def run_one(name: str, folder: Path, views: int) -> None:
    """Run one way once, and print its seconds, peak and a digest of its rows."""
    way = WAYS[name]
    way(folder / SMALL, views)
    began = time.process_time()
    found = way(folder, views)
    took_s = time.process_time() - began
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    rows = columns_of(found, views)
    digest = hash_of(rows)
    nulls = sum(value is None for column in rows for value in column)
    told = {"s": took_s, "peak_mib": peak_kib / 1024, "rows": digest, "nulls": nulls}
    sys.stdout.write(json.dumps(told))


def hash_of(rows: list[list[float | None]]) -> str:
    """Return a digest of values and nulls."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def run_all(
    folder: Path, views: int, runs: int, limit_s: float
) -> dict[str, dict[str, Any]]:
    """Return what each way takes: median seconds and greatest peak of some processes.

    Of one that was stopped: what it had used by then, and the limit.
    """
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    stopped: dict[str, dict[str, Any]] = {}
    for _ in range(runs):
        for name in [name for name in WAYS if name not in stopped]:
            one = measure(name, folder, views, limit_s)
            if "limit_s" in one:
                stopped[name] = one
            told[name].append(one)
    return {name: stopped.get(name) or of_runs(told[name]) for name in WAYS}


def of_runs(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one figure of several runs, whose rows are the same."""
    digests = {(one["rows"], one["nulls"]) for one in told}
    if len(digests) > 1:
        raise SystemExit(f"the rows of two runs differ: {told}")
    return told[0] | {
        "s": statistics.median(one["s"] for one in told),
        "peak_mib": max(one["peak_mib"] for one in told),
    }


def measure(name: str, folder: Path, views: int, limit_s: float) -> dict[str, Any]:
    """Return what one process tells, or that it was stopped at the limit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable, __file__, "--way", name, "--views", str(views),
        "--folder", str(folder),
    ]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 - this program
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seen_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        return {"limit_s": limit_s, "seen_s": seen_s}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_feast(folder: Path, views: int) -> dict[str, Any]:
    """Return what Feast takes, in its own environment on the same core."""
    install(FEAST_ENVIRONMENT, FEAST_REQUIREMENTS)
    done = subprocess.run(  # noqa: S603 - our own program
        [
            str(FEAST_ENVIRONMENT / "bin/python"),
            str(ROOT / "benchmarks/feast_peer.py"),
            "--folder", str(folder), "--small", str(folder / SMALL),
            "--views", str(views),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    if found.pop("labels") != [*range(LABELS)]:
        raise SystemExit("Feast lost or repeated labels")
    values = found.pop("values")
    nulls = sum(value is None for column in values for value in column)
    return found | {"rows": hash_of(values), "nulls": nulls}


def print_all(title: str, found: Mapping[str, dict[str, Any]]) -> None:
    """Print what each way takes, ours divided by it, and which were stopped."""
    print(f"\n{title}")
    print(f"{'':<28}{'seconds':>9}{'peak MiB':>10}{'ours/it':>9}")
    own_s = found[OURS].get("s", math.nan)
    for name, told in found.items():
        if "limit_s" in told:
            used = f"{told['seen_s']:.0f} s of the processor"
            print(f"{name:<28} stopped after {told['limit_s']:.0f} s, {used}")
        else:
            ratio = own_s / told["s"]
            print(f"{name:<28}{told['s']:>9.3f}{told['peak_mib']:>10.0f}{ratio:>9.2f}")


def main() -> None:
    """Measure, print the tables and write ``out/bench/training_sets.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--views", type=int, choices=range(1, len(VIEWS) + 1))
    parser.add_argument("--limit", type=float, default=LIMIT_S)
    chosen = parser.parse_args()
    if chosen.way:
        run_one(chosen.way, chosen.folder, chosen.views)
        return
    folder = chosen.folder or RESULTS / f"training_sets-{chosen.rows}"
    write(folder, chosen.rows)
    write(folder / SMALL, KEYS)
    tables: dict[str, Any] = {}
    for views in [chosen.views] if chosen.views else (1, 3):
        found = run_all(folder, views, chosen.runs, chosen.limit)
        if chosen.rows == ROWS:
            found = {FEAST: run_feast(folder, views), **found}
        print_all(f"{LABELS:,} labels, {views} views of {chosen.rows:,} events", found)
        ended = [told for told in found.values() if "s" in told]
        if len({(told["rows"], told["nulls"]) for told in ended}) > 1:
            raise SystemExit(f"the rows differ: {found}")
        tables[f"{chosen.rows} rows, {views} views"] = found
    name = "training_sets" if chosen.rows == ROWS else f"training_sets-{chosen.rows}"
    write_results(name, tables)


if __name__ == "__main__":
    enter()
    main()
