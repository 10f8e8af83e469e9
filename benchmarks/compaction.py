"""Compare how a day of small segments becomes few, sorted and without repeats.

Files that the log wrote, of a batch each, one in twenty delivered twice, lie in a
folder. Every peer reads all of them, keeps each position once, orders by key and
position, and writes Parquet with zstd. Ours goes through ``compaction.compact`` and
`S3EventLog`, over an object store that is that folder: it writes a file for each part
of the keys, reads all of it back and compares everything the events say, bit for bit.
The row without that is for understanding only; nobody can call it.
"""

import argparse
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError
from pipelines.sensor_anomaly.contract import Reading
from retrodict.compaction import DAY_US, SETTLING_US, compact, compact_log
from retrodict.merging import merged
from retrodict.ports import LogPartition, SegmentFile
from retrodict.table_digest import digest_of_table
from retrodict_aws.s3_event_log import BODY_DIGEST, S3EventLog
from retrodict_aws.segments import encode_table

from benchmarks.logs import START_US, event_table
from benchmarks.peers import RUNS, enter, medians_s, print_table, write_results

SIZES: Final = ((400, 500), (200, 5_000))
KEYS: Final = 1_000
REPEATED: Final = 20
"""One file of so many was delivered again, in another cut."""
DAY: Final = "type=sensor.reading/arrived=2026-01-05"
NOW_US: Final = START_US + DAY_US + SETTLING_US
WRITTEN: Final = datetime.fromtimestamp(START_US / 1e6, UTC)
OURS: Final = "retrodict, read back and compared"
WITH_REUSE: Final = "retrodict, and its identities compared"
UNVERIFIED: Final = "retrodict, not read back (nobody can call it)"


class FolderS3:
    """As much of S3 as compaction asks for, over a folder; writes are kept apart.

    Parameters
    ----------
    folder
        Of the objects, by name; every run begins with just these.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {
            f"segments/{DAY}/{path.name}": (str(path), path.stat().st_size)
            for path in sorted(folder.iterdir())
        }
        self._metadata = {
            key: {BODY_DIGEST: hashlib.sha256(Path(path).read_bytes()).hexdigest()}
            for key, (path, _) in self._files.items()
        }
        self._written: dict[str, tuple[bytes, Mapping[str, str]]] = {}

    def forget(self) -> None:
        """Drop what was written."""
        self._written.clear()

    def written(self) -> list[bytes]:
        """Return the bodies that were written."""
        return [body for body, _ in self._written.values()]

    def get_paginator(self, _name: str) -> "FolderS3":
        """Return what lists; as boto3."""
        return self

    def paginate(self, **_about: str) -> Iterator[dict[str, Any]]:
        """Yield the objects that every run begins with; as boto3."""
        yield {
            "Contents": [
                {"Key": key, "Size": size_bytes, "LastModified": WRITTEN}
                for key, (_, size_bytes) in self._files.items()
            ]
        }

    def get_object(self, Key: str, **_about: str) -> dict[str, Any]:  # noqa: N803
        """Return an object, or a range of what was written; as boto3."""
        if Key in self._written:
            body, metadata = self._written[Key]
            if "Range" in _about:
                first, last = _about["Range"].removeprefix("bytes=").split("-")
                body = body[int(first) : int(last) + 1]
            return {"Body": BytesIO(body), "Metadata": metadata}
        path, _ = self._files[Key]
        raw = open(path, "rb")  # noqa: PTH123, SIM115 - read and let go
        return {"Body": raw, "Metadata": self._metadata[Key]}

    def head_object(self, Key: str, **_about: str) -> dict[str, Any]:  # noqa: N803
        """Tell of what was written; as boto3."""
        if Key not in self._written:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        body, metadata = self._written[Key]
        return {"ContentLength": len(body), "Metadata": metadata}

    def put_object(
        self,
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        Metadata: Mapping[str, str],  # noqa: N803
        **_about: str,
    ) -> None:
        """Keep an object; as boto3."""
        self._written[Key] = (Body, Metadata)


class Nowhere:
    """A quarantine that must stay empty."""

    def put(self, name: str, documents: Any) -> None:
        """Refuse to go on."""
        raise SystemExit(f"{name}: {len(documents)} events conflict, expected none")

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield nothing."""
        yield from ()


def write_files(folder: Path, files: int, events: int) -> int:
    """Write the files of a day, and return how many positions they hold."""
    count = files * events
    dice = np.random.default_rng(3)
    time_us = START_US + np.arange(count) * 1_000 + dice.integers(0, 500, count)
    table = event_table(dice.integers(0, KEYS, count), time_us, np.arange(count))
    contract = Reading.contract()
    again = range(events // 2, (files - 1) * events, REPEATED * events)
    for start in [*range(0, count, events), *again]:
        name = f"shardId-000000000000-{start:09}-{start + events - 1:09}.parquet"
        body = encode_table(table.slice(start, events), contract, is_brief=True)
        (folder / name).write_bytes(body)
    return count


def peers(paths: list[Path]) -> dict[str, Callable[[], bytes]]:
    """Return each other way to make one file of many, by name."""
    import duckdb  # noqa: PLC0415 - a peer
    import pandas as pd  # noqa: PLC0415 - a peer
    import polars as pl  # noqa: PLC0415 - a peer

    out = paths[0].parent.with_suffix(".parquet")

    def with_polars() -> bytes:
        buffer = BytesIO()
        frame = pl.read_parquet(paths).unique("position", keep="any")
        frame.sort("key", "position").write_parquet(
            buffer, compression="zstd", compression_level=1
        )
        return buffer.getvalue()

    def with_duckdb() -> bytes:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute(
                "COPY (SELECT DISTINCT ON (position) * FROM read_parquet(?) "  # noqa: S608 - our own path
                f"ORDER BY key, position) TO '{out}' "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)",
                [[str(path) for path in paths]],
            )
        return out.read_bytes()

    def with_pyarrow() -> bytes:
        table = pa.concat_tables(pq.read_table(path) for path in paths)
        table = table.append_column("row", pa.array(np.arange(len(table))))
        firsts = pa.TableGroupBy(table, "position").aggregate([("row", "min")])
        table = table.take(firsts["row_min"]).drop_columns("row")
        order = pc.sort_indices(
            table, [("key", "ascending"), ("position", "ascending")]
        )
        buffer = BytesIO()
        pq.write_table(
            table.take(order), buffer, compression="zstd", compression_level=1
        )
        return buffer.getvalue()

    def with_pandas() -> bytes:
        frame = pd.concat([pd.read_parquet(path) for path in paths])
        frame = frame.drop_duplicates("position").sort_values(["key", "position"])
        buffer = BytesIO()
        frame.to_parquet(buffer, compression="zstd", compression_level=1)
        return buffer.getvalue()

    return {
        "polars": with_polars,
        "duckdb": with_duckdb,
        "pyarrow": with_pyarrow,
        "pandas": with_pandas,
    }


def ours(s3: FolderS3, log: S3EventLog) -> dict[str, Callable[[], object]]:
    """Return our ways, by name."""

    def compacted() -> object:
        s3.forget()
        [day] = log.partitions()
        return compact(day, log, NOW_US)

    def with_reuse() -> object:
        s3.forget()
        return compact_log(log, Nowhere(), NOW_US, lookback_days=35)

    def unverified() -> list[SegmentFile]:
        s3.forget()
        [day] = log.partitions()
        parts = merged(log.table_of(day.files))
        return [
            log.write_merged(day, part, digest_of_table(part.events)) for part in parts
        ]

    return {OURS: compacted, WITH_REUSE: with_reuse, UNVERIFIED: unverified}


def check(s3: FolderS3, log: S3EventLog, positions: int, whole: bytes) -> None:
    """Refuse figures of a merge that lost something, or a peer's that did."""
    [day] = log.partitions()
    s3.forget()
    done = compact(LogPartition(day.event_type, day.arrived, day.files), log, NOW_US)
    rows = sum(pq.read_metadata(BytesIO(raw)).num_rows for raw in s3.written())
    peer = pq.read_metadata(BytesIO(whole)).num_rows
    if done is None or not (done.events == rows == peer == positions):
        raise SystemExit(f"expected {positions} events, ours {rows}, polars {peer}")


def measured(folder: Path, files: int, events: int, runs: int) -> dict[str, float]:
    """Return thousands of events a second, by name."""
    positions = write_files(folder, files, events)
    s3 = FolderS3(folder)
    contracts = {Reading.contract().type: Reading}
    log = S3EventLog(s3, "log", contracts=contracts)
    beside = peers(sorted(folder.iterdir()))
    check(s3, log, positions, beside["polars"]())
    seconds = medians_s({**beside, **ours(s3, log)}, runs)
    return {name: positions / took / 1e3 for name, took in seconds.items()}


def main() -> None:
    """Measure, print the tables and write ``out/bench/compaction.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    tables: dict[str, Any] = {}
    for files, events in SIZES:
        home = Path(tempfile.mkdtemp())
        try:
            folder = home / "files"
            folder.mkdir()
            rates = measured(folder, files, events, chosen.runs)
        finally:
            shutil.rmtree(home)
        title = f"compaction of {files} files of {events:,} events"
        own = [OURS, WITH_REUSE, UNVERIFIED]
        print_table(title, "thousand events/s", rates, own)
        tables[title] = {
            "thousand_events_per_s": rates,
            "ours_to_peer": {name: rates[OURS] / rate for name, rate in rates.items()},
        }
    write_results("compaction", tables)


if __name__ == "__main__":
    enter()
    main()
