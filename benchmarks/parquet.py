"""Compare how the log writes and reads Parquet with what else does.

A million stamped events of the log's own columns, written to memory and read back. Ours
is what ``S3EventLog`` does between its rows and S3; rates count the bytes that the
events take as Arrow, not those of the file. awswrangler writes a frame of pandas, into
moto's S3 in this process.
"""

import argparse
import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from moto import mock_aws
from pipelines.sensor_anomaly.contract import Reading
from retrodict_aws.segments import derived, events_schema_of, options_of

from benchmarks.peers import RUNS, enter, medians_s, print_table, write_results

EVENTS: Final = 1_000_000
KEYS: Final = 1_000
REGION: Final = "eu-west-1"
BUCKET: Final = "bench"
START_US: Final = 1_767_614_400_000_000
OURS: Final = "retrodict, pyarrow zstd level 1"
OUR_OPTIONS: Final = options_of(Reading.contract())
"""What `S3EventLog.append` asks for."""

DICTIONARIES: Final = ["key", "source"]
MEGABYTE: Final = 1e6


def log(events: int) -> pa.Table:
    """Return `events` readings of a fleet, in the columns of the log."""
    numbers = range(events)
    nothing = [None] * events
    columns = {
        "key": [f"s-{number % KEYS:04}" for number in numbers],
        "source": ["urn:fleet"] * events,
        "id": [str(number) for number in numbers],
        "schema_version": [1] * events,
        "time_us": [START_US + number * 997 for number in numbers],
        "observed_at_us": [START_US + number * 997 + 350_000 for number in numbers],
        "position": [f"000000000000-{number:056}" for number in numbers],
        "late": [number % 97 == 0 for number in numbers],
        "tags": [[]] * events,
        "digest": [hashlib.sha256(b"%d" % number).hexdigest() for number in numbers],
        "data": [
            {
                "sensor_id": f"s-{number % KEYS:04}",
                "value": 20 + number * 7919 % 1000 / 100,
            }
            for number in numbers
        ],
        "raw_data": nothing,
        "causation_id": nothing,
        "correlation_id": nothing,
    }
    contract = Reading.contract()
    return derived(pa.table(columns, schema=events_schema_of(contract)), contract)


def writers(table: pa.Table) -> dict[str, Callable[[], bytes]]:
    """Return each way to make a file of `table`, by name."""
    import awswrangler as wr  # noqa: PLC0415 - slow to import
    import polars as pl  # noqa: PLC0415 - a peer

    frame = pl.DataFrame(pl.from_arrow(table))
    pandas = table.to_pandas()

    def with_pyarrow(**options: Any) -> bytes:
        buffer = BytesIO()
        pq.write_table(table, buffer, **options)
        return buffer.getvalue()

    def with_polars() -> bytes:
        buffer = BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        return buffer.getvalue()

    def with_awswrangler() -> bytes:
        session = boto3.Session(region_name=REGION)
        path = f"s3://{BUCKET}/events.parquet"
        types = {"tags": "array<string>"}
        wr.s3.to_parquet(pandas, path, dtype=types, boto3_session=session)
        body = session.client("s3").get_object(Bucket=BUCKET, Key="events.parquet")
        return bytes(body["Body"].read())

    return {
        "pyarrow, default (snappy)": with_pyarrow,
        "polars zstd": with_polars,
        "awswrangler to moto's S3": with_awswrangler,
        OURS: lambda: with_pyarrow(**OUR_OPTIONS),
    }


def readers(raw: bytes) -> dict[str, Callable[[], object]]:
    """Return each way to read the file that the log wrote, by name."""
    import polars as pl  # noqa: PLC0415 - a peer

    return {
        "pyarrow with dictionary columns": lambda: pq.read_table(
            BytesIO(raw), read_dictionary=DICTIONARIES
        ),
        "polars": lambda: pl.read_parquet(BytesIO(raw)),
        "pandas": lambda: pq.read_table(BytesIO(raw)).to_pandas(),
        OURS: lambda: pq.read_table(BytesIO(raw)),
    }


def main() -> None:
    """Measure, print the tables and write ``out/bench/parquet.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    with mock_aws():
        boto3.client("s3", region_name=REGION).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        measure(chosen.events, chosen.runs)


def measure(events: int, runs: int) -> None:
    """Measure, print the tables and write the results.

    Raises
    ------
    SystemExit
        A file lacks something.
    """
    table = log(events)
    size = table.nbytes / MEGABYTE
    written = {name: write() for name, write in writers(table).items()}
    if any(
        pq.read_table(BytesIO(raw)).num_rows != len(table) for raw in written.values()
    ):
        raise SystemExit("a file does not hold what was written")
    tables: dict[str, Any] = {
        "events": len(table),
        "arrow_megabytes": size,
        "file_megabytes": {name: len(raw) / MEGABYTE for name, raw in written.items()},
    }
    for title, acts in (
        ("write", writers(table)),
        ("read", readers(written[OURS])),
    ):
        seconds = medians_s(acts, runs)
        rates = {name: size / took for name, took in seconds.items()}
        heading = f"{title} {len(table):,} events, {size:.0f} MB of Arrow"
        print_table(heading, "MB/s", rates, [OURS])
        tables[title] = {
            "megabytes_per_s": rates,
            "ours_to_peer": {name: rates[OURS] / rate for name, rate in rates.items()},
        }
    print("\nfile, MB")
    for name, raw in written.items():
        print(f"{name:<46}{len(raw) / MEGABYTE:>10.1f}")
    write_results("parquet", tables)


if __name__ == "__main__":
    enter()
    main()
