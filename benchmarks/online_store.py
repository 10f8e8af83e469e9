"""Measure write_features against DynamoDB's API, and what its writes cost.

The real handler works on a moto server in a process of its own, so what is measured is
the client: decoding, folding, encoding, signing and sending, with boto3's client and
with ours. Rates are events for each second of the client's processor time and of the
clock; how long the server takes is in the second alone. Write units are counted as
DynamoDB bills them, a unit a started KiB of every item that is put, for ours and for
two simpler designs over the same states: the whole state in one item, put once a key
and batch, and put once an event.
"""

import argparse
import base64
import importlib.util
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from pipelines.sensor_anomaly.contract import Reading
from retrodict.envelope import StampedEvent
from retrodict.features import feature_set, features
from retrodict.online import item_of
from retrodict.pipeline import load_pipelines
from retrodict.ports import KeyedBatch
from retrodict.stamps import position
from retrodict.state import KeyState
from retrodict.vocabulary import last, mean
from retrodict_aws.clients import online_store_client
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_batch import DeliveredRecord, delivered
from retrodict_aws.kinesis_event_stream import KinesisIngestStream, encode
from retrodict_aws.s3_quarantine import S3Quarantine

from benchmarks.dynamodb import ROOT, TABLE, create_table, server
from benchmarks.peers import write_results

START_US: Final = 1_767_614_400_000_000
KIB: Final = 1024
BATCH: Final = 500
KEYS: Final = 1_000
ZIPF: Final = 1.1
HISTORIES: Final = (10, 300, 1_400)
"""Events that a key has already, for three sizes of state."""


@features(Reading, lateness="10m", max_rate="2/s")
class Window:
    """A mean over ten minutes: a state is what it keeps of its events."""

    mean_10m = mean(Reading.value, last("10m"))


class Meter:
    """A client that counts calls, their time of the processor, and write units."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.puts = self.units = self.gets = self.deletes = 0
        self.cpu_s = 0.0

    def __getattr__(self, name: str) -> Any:
        """Put many, and count, where the client can."""
        if name != "put_items" or not hasattr(self._client, name):
            raise AttributeError(name)
        return self._put_items

    def _put_items(self, requests: Sequence[dict[str, Any]]) -> Any:
        for request in requests:
            self._count(request)
        return self._timed(self._client.put_items, {"requests": requests})

    def _count(self, request: dict[str, Any]) -> None:
        self.puts += 1
        self.units += math.ceil(size_of(request["Item"]) / KIB)

    def put_item(self, **request: Any) -> Any:
        """Put, and count."""
        self._count(request)
        return self._timed(self._client.put_item, request)

    def batch_get_item(self, **request: Any) -> Any:
        """Get, and count."""
        self.gets += 1
        return self._timed(self._client.batch_get_item, request)

    def delete_item(self, **request: Any) -> Any:
        """Delete, and count: a unit, as a put of an empty item."""
        self.deletes += 1
        self.units += 1
        return self._timed(self._client.delete_item, request)

    def _timed(self, call: Callable[..., Any], request: dict[str, Any]) -> Any:
        began = time.process_time()
        answer = call(**request)
        self.cpu_s += time.process_time() - began
        return answer


def size_of(item: dict[str, dict[str, Any]]) -> int:
    """Return what DynamoDB counts of an item, about, in bytes."""
    total = 0
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        if kind == "L":
            total += sum(len(one["S"]) + 1 for one in value) + 3
        else:
            total += len(value)
        total += len(name)
    return total


def event(key: str, number: int, at_us: int, value: float) -> StampedEvent:
    """Return a stamped reading."""
    return StampedEvent(
        key, "bench", f"{number:032x}", "sensor.reading", 1, at_us, at_us,
        position("shardId-000000000000", str(number)), False, (), f"{number:064x}",  # noqa: FBT003 - not late
        {"sensor_id": key, "site": None, "value": value}, None, None,
    )  # fmt: skip


def batches(keys: int, count: int, skew: str, after: int) -> list[list[KeyedBatch]]:
    """Return `count` batches of events by key, each key's a second apart."""
    chance = random.Random(11)  # noqa: S311 - of readings
    names = [f"s-{n:04}" for n in range(keys)]
    weights = [1 / (n + 1) ** ZIPF for n in range(keys)] if skew == "zipf" else None
    sent = dict.fromkeys(names, after)
    found, number = [], 10_000_000
    for _ in range(count):
        by_key: dict[str, list[StampedEvent]] = {}
        for key in chance.choices(names, weights, k=BATCH):
            sent[key] += 1
            number += 1
            at_us = START_US + sent[key] * 1_000_000
            own = event(key, number, at_us, chance.gauss(20, 5))
            by_key.setdefault(key, []).append(own)
        found.append([KeyedBatch(key, own) for key, own in by_key.items()])
    return found


def records_of(batch: list[KeyedBatch]) -> list[DeliveredRecord]:
    """Return a batch as the event source mapping delivers it."""
    raws = [(b.key, raw) for b in batch for raw in encode(b)]
    return delivered(
        {
            "Records": [
                {
                    "eventID": f"shardId-000000000000:{place + 1}",
                    "kinesis": {
                        "partitionKey": key,
                        "sequenceNumber": str(place + 1),
                        "approximateArrivalTimestamp": START_US / 1e6,
                        "data": base64.b64encode(raw).decode(),
                    },
                }
                for place, (key, raw) in enumerate(raws)
            ]
        }
    )


def handler() -> Any:
    """Return the function as it ships."""
    path = ROOT / "functions/write_features/handler.py"
    spec = importlib.util.spec_from_file_location("write_features", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speed(client: Any, count: int) -> dict[str, dict[str, float]]:
    """Print and return events a second through the handler, by client and skew."""
    module = handler()
    found = {}
    print(f"write_features, {count} batches of {BATCH} events, {KEYS} keys")
    heading = "events/s cpu", "events/s clock", "puts/key", "gets/batch", "us cpu/call"
    print(f"{'client':<8}{'keys':<10}" + "".join(f"{h:>16}" for h in heading))
    for name, chosen in (("boto3", client), ("ours", online_store_client())):
        for skew in ("uniform", "zipf"):
            create_table(client)
            meter = Meter(chosen)
            store = DynamoDBOnlineStore(meter, TABLE)
            work = [records_of(b) for b in batches(KEYS, count, skew, 0)]
            touched = sum(len({r.partition_key for r in records}) for records in work)
            ports = store, S3Quarantine(None, ""), KinesisIngestStream(None, "")
            module.handle(work[0], *ports)
            meter.puts = meter.gets = 0
            meter.cpu_s = 0.0
            touched -= len({r.partition_key for r in work[0]})
            cpu, clock = time.process_time(), time.perf_counter()
            for records in work[1:]:
                module.handle(records, *ports)
            cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
            events = BATCH * (count - 1)
            row = {
                "events_per_cpu_s": events / cpu, "events_per_s": events / clock,
                "puts_per_touched_key": meter.puts / touched,
                "gets_per_batch": meter.gets / (count - 1),
                "call_cpu_us": meter.cpu_s / (meter.puts + meter.gets) * 1e6,
            }  # fmt: skip
            values = "".join(f"{value:>16,.2f}" for value in row.values())
            print(f"{name:<8}{skew:<10}{values}")
            found[f"{name}_{skew}"] = row
    for skew in ("uniform", "zipf"):
        rates = [found[f"{n}_{skew}"]["events_per_cpu_s"] for n in ("ours", "boto3")]
        print(f"{skew}: {rates[0] / rates[1]:.1f} times the events of boto3's client")
    return found


def cost(client: Any, keys: int, count: int) -> list[dict[str, Any]]:
    """Print and return write units a record by size of state and skew of keys."""
    definition = feature_set(Window)
    found = []
    print(f"\nwrite units a record, {count} batches of {BATCH} events, {keys} keys")
    heading = "puts/key", "ours", "put a batch", "put an event"
    print(f"{'state':<14}{'keys':<10}" + "".join(f"{h:>14}" for h in heading))
    for history in HISTORIES:
        for skew in ("uniform", "zipf"):
            create_table(client)
            meter = Meter(client)
            store = DynamoDBOnlineStore(meter, TABLE)
            states = {}
            for place in range(keys):
                key = f"s-{place:04}"
                past = [
                    event(key, n + 1, START_US + n * 1_000_000, n / 7)
                    for n in range(history)
                ]
                states[key], _ = KeyState(definition).fold(past)
            for key, state in states.items():
                store.put(item_of(f"bench.Window#{key}", state, 1))
            meter.puts = meter.units = 0
            touched = batch_units = event_units = size = 0
            for batch in batches(keys, count, skew, history):
                items = store.load([f"bench.Window#{b.key}" for b in batch])
                for own in batch:
                    entity = f"bench.Window#{own.key}"
                    state, _ = KeyState.decode(definition, items[entity].state).fold(
                        own.events
                    )
                    item = item_of(entity, state, items[entity].version + 1)
                    store.put(item)
                    units = math.ceil((len(item.state) + 400) / KIB)
                    touched += 1
                    batch_units += units
                    event_units += units * len(own.events)
                    size = max(size, len(item.state))
            events = BATCH * count
            row = {
                "state_bytes": size, "skew": skew,
                "puts_per_touched_key": meter.puts / touched,
                "ours": meter.units / events, "put_a_batch": batch_units / events,
                "put_an_event": event_units / events,
            }  # fmt: skip
            values = list(row.values())[2:]
            print(
                f"{size / KIB:<8.1f}KiB   {skew:<10}"
                + "".join(f"{value:>14.2f}" for value in values)
            )
            found.append(row)
    return found


def main() -> None:
    """Measure, print and write ``out/bench/online_store.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=11)
    chosen = parser.parse_args()
    load_pipelines()
    with server() as client:
        rates = speed(client, chosen.batches)
        units = cost(client, keys=100, count=24)
    write_results("online_store", {"write_features": rates, "write_units": units})


if __name__ == "__main__":
    main()
