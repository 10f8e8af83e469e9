"""Measure the spine on this machine, and print the figures README quotes.

Starts the twin from the template that ships, sends the simulated fleet through it on
the driven clock, then single records in real time, and imports the hot functions in
fresh processes. Nothing is asserted: these are figures, not tests.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import boto3
import psutil
from pipelines.sensor_anomaly.fleet import Plan, Sent, simulate

ROOT: Final = Path(__file__).parents[1]
HOT: Final = ("validate_records", "write_features")


def retrodict(*arguments: str) -> dict[str, Any]:
    """Run the command and return the JSON that it prints."""
    run = subprocess.run(  # noqa: S603 - our own command
        [Path(sys.executable).with_name("retrodict"), *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "AWS_ENDPOINT_URL"},
    )
    if run.returncode:
        sys.exit(f"retrodict {' '.join(arguments)}: {run.stdout}{run.stderr}")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def post(endpoint_url: str, path: str, **body: object) -> dict[str, Any]:
    """Call the twin's own door."""
    request = Request(  # noqa: S310 - local
        f"{endpoint_url}/_retrodict/{path}",
        method="POST",
        data=json.dumps(body).encode(),
    )
    with urlopen(request, timeout=900) as answer:  # noqa: S310 - local
        found: dict[str, Any] = json.load(answer)
        return found


def client(service: str, state: dict[str, Any]) -> Any:
    """Return a client of the twin."""
    return boto3.client(
        service,
        endpoint_url=state["endpoint_url"],
        region_name=state["region"],
        aws_access_key_id="twin",
        aws_secret_access_key="twin",  # noqa: S106 - the twin takes any
    )


def family_mib(pid: int) -> float:
    """Return what the twin and its functions hold now, MiB."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(p.memory_info().rss for p in family) / 2**20)


def drive(state: dict[str, Any], records: Iterable[Sent]) -> tuple[int, float]:
    """Send `records` as fast as they are taken; return number and peak MiB."""
    kinesis = client("kinesis", state)
    stream = state["outputs"]["IngestStreamName"]
    waiting, sent, peak = iter(records), 0, 0.0
    while chunk := list(islice(waiting, 500)):
        answer = kinesis.put_records(
            StreamName=stream,
            Records=[{"PartitionKey": r.key, "Data": r.data} for r in chunk],
        )
        sent += len(chunk) - answer["FailedRecordCount"]
        peak = max(peak, family_mib(state["pid"]))
    post(state["endpoint_url"], "idle?timeout=600")
    return sent, max(peak, family_mib(state["pid"]))


def throughput(days: float) -> None:
    """Print how long the fleet takes on the driven clock, and that nothing is lost."""
    began = time.perf_counter()
    state = retrodict("up", "--detach", "--port", "0")
    print(f"up --detach, template deployed        {time.perf_counter() - began:8.1f} s")
    try:
        state |= retrodict("status")
        plan = Plan(days=days, as_import=True)
        began = time.perf_counter()
        sent, peak = drive(state, simulate(plan))
        seconds = time.perf_counter() - began
        print(f"{sent} records, ingest to features  {seconds:8.1f} s"
              f"  ({sent / seconds:.0f} records/s)")  # fmt: skip
        print(f"peak memory of twin and functions     {peak:8.0f} MiB")
        began = time.perf_counter()
        rebuilt = retrodict("rebuild", "online", "--verify")
        rejected = retrodict("quarantine", "list")
        print(
            f"rebuild online --verify            {time.perf_counter() - began:11.1f} s"
        )
        print(f"  events {rebuilt['events']}, outcomes {rebuilt['outcomes']}")
        print(f"  items {rebuilt['items']}, equal {rebuilt['equal']}")
        print(f"  digest of the log   {rebuilt['log_digest']}")
        print(f"  digest of the store {rebuilt['store_digest']}")
        print(f"  quarantined {len(rejected)}")
    finally:
        retrodict("down")


def latency(samples: int) -> None:
    """Print how long a record put on Kinesis takes to be a feature, in real time."""
    state = retrodict("up", "--detach", "--real-time", "--port", "0")
    try:
        state |= retrodict("status")
        outputs = state["outputs"]
        kinesis, dynamodb = client("kinesis", state), client("dynamodb", state)
        seconds = [
            _one(kinesis, dynamodb, outputs, number) for number in range(samples)
        ]
        print(f"put on Kinesis to feature, p50 of {samples}   "
              f"{statistics.median(seconds) * 1000:8.0f} ms")  # fmt: skip
        print(f"                           max        {max(seconds) * 1000:8.0f} ms")
    finally:
        retrodict("down")


def _one(kinesis: Any, dynamodb: Any, outputs: dict[str, str], number: int) -> float:
    key = f"latency-{number}"
    event = {
        "specversion": "1.0", "id": "1", "source": "urn:bench", "subject": key,
        "type": "sensor.reading", "dataschema": "sensor.reading/v1",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"sensor_id": key, "value": 20.0},
    }  # fmt: skip
    began = time.perf_counter()
    kinesis.put_record(
        StreamName=outputs["IngestStreamName"],
        PartitionKey=key,
        Data=json.dumps(event).encode(),
    )
    while time.perf_counter() - began < 30:  # noqa: PLR2004 - seconds, then give up
        found = dynamodb.scan(
            TableName=outputs["OnlineStoreTableName"],
            FilterExpression="contains(entity, :key)",
            ExpressionAttributeValues={":key": {"S": f"#{key}"}},
        )
        if found["Items"]:
            return time.perf_counter() - began
        time.sleep(0.02)
    sys.exit(f"{key} was no feature after 30 s")


_IMPORT: Final = """
import resource, sys, time
before = time.perf_counter()
import handler
print(time.perf_counter() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert "pandas" not in sys.modules and "pyarrow" not in sys.modules
"""


def imports() -> None:
    """Print what importing each hot function costs a fresh process."""
    layers = [
        ROOT / "layers" / name / "python" for name in ("core", "adapters", "pipelines")
    ]
    for name in HOT:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                map(str, [ROOT / "functions" / name, *layers])
            ),
            "POWERTOOLS_METRICS_NAMESPACE": "Retrodict",
            "POWERTOOLS_SERVICE_NAME": name,
        }
        runs = []
        for _ in range(7):
            output = subprocess.run(  # noqa: S603 - our own handler
                [sys.executable, "-c", _IMPORT],
                env=environment, capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            runs.append((float(output[0]), int(output[1]) / 1024))
        print(f"import {name:18} median of 7     "
              f"{statistics.median(r[0] for r in runs) * 1000:8.0f} ms "
              f"{statistics.median(r[1] for r in runs):6.0f} MiB")  # fmt: skip


def main() -> None:
    """Run what the command line asks for; by default all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=7.0, help="days of 20 sensors")
    parser.add_argument("--samples", type=int, default=20, help="records in real time")
    parser.add_argument("--only", choices=["throughput", "latency", "imports"])
    chosen = parser.parse_args()
    if chosen.only in (None, "throughput"):
        throughput(chosen.days)
    if chosen.only in (None, "latency"):
        latency(chosen.samples)
    if chosen.only in (None, "imports"):
        imports()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this program           {own:8.0f} MiB")


if __name__ == "__main__":
    main()
