"""A large state costs what changed: its head, and a chunk now and then."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from pipelines.sensor_anomaly.contract import Reading
from retrodict.chunks import join, split
from retrodict.errors import StateConflictError, StoreUnavailableError
from retrodict.features import feature_set, features
from retrodict.online import item_of
from retrodict.ports import OnlineItem
from retrodict.state import KeyState
from retrodict.vocabulary import last, mean, std
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore

from tests.events import reading
from tests.tables import ONLINE_STORE

KIB = 1024


@features(Reading, lateness="10m", max_rate="1/s")
class Wide:
    """Half an hour of events at 1 Hz, and a week of panes."""

    mean_10m = mean(Reading.value, last("10m"))
    std_7d = std(Reading.value, last("7d", every="1h"))


WIDE = feature_set(Wide)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        client.create_table(
            TableName="online",
            **ONLINE_STORE,
        )
        yield client


class Counting:
    """A client that counts its calls and the bytes of the states that it moves."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.calls: Counter[str] = Counter()
        self.bytes_put = self.bytes_read = 0
        self.before_chunks: Any = lambda: None

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self.client, name):
            raise AttributeError(name)

        def call(**request: Any) -> Any:
            self.calls[name] += 1
            if name == "put_item":
                self.bytes_put += len(request["Item"]["state"]["B"])
            parts = [
                key["part"]["S"]
                for wanted in request.get("RequestItems", {}).values()
                for key in wanted["Keys"]
            ]
            if any(part != "current" for part in parts):
                self.before_chunks()
            answer = getattr(self.client, name)(**request)
            for found in answer.get("Responses", {}).values():
                self.bytes_read += sum(
                    len(i["state"]["B"]) for i in found if "state" in i
                )
            return answer

        return getattr(self.client, name) if name == "get_paginator" else call


def readings(first: int, count: int) -> list[Any]:
    random = Random(first)
    return [
        reading(random.gauss(20, 3), at_s=float(n), id=str(n), number=n + 1)
        for n in range(first, first + count)
    ]


def written(store: DynamoDBOnlineStore, state: KeyState, version: int) -> OnlineItem:
    item = item_of("p.W#s-1", state, version)
    store.put(item)
    return item


def test_a_write_of_a_large_state_costs_what_changed(table: Any) -> None:
    client = Counting(table)
    store = DynamoDBOnlineStore(client, "online")
    state, _ = KeyState(WIDE).fold(readings(0, 3_000))
    item = written(store, state, 1)
    client.calls.clear()
    client.bytes_put, batches = 0, 100

    for n in range(batches):
        assert store.load([item.entity])[item.entity] == item
        state, _ = state.fold(readings(3_000 + 10 * n, 10))
        item = written(store, state, n + 2)

    assert len(item.state) > 25 * KIB
    assert client.calls["put_item"] <= 1.1 * batches
    assert client.bytes_put / batches < len(item.state) / 5
    assert list(store.scan()) == [item]
    assert list(store.entities(0, 1)) == [(item.entity, item.time_us)]
    assert store.sweep() == 0


def test_a_state_is_read_whole_while_somebody_writes(table: Any) -> None:
    client = Counting(table)
    reader, writer = (
        DynamoDBOnlineStore(c, "online", sleep=lambda _: None) for c in (client, table)
    )
    state, _ = KeyState(WIDE).fold(readings(0, 2_000))
    version = 1
    written(writer, state, version)

    def write() -> None:
        nonlocal state, version
        client.before_chunks = lambda: None
        version += 1
        state, _ = state.fold(readings(2_000, 900))
        written(writer, state, version)

    client.before_chunks = write
    found = reader.load(["p.W#s-1"])["p.W#s-1"]

    assert found == item_of("p.W#s-1", state, 2)
    assert client.calls["batch_get_item"] == 4


def test_a_state_that_lost_a_chunk_is_never_read_in_part(table: Any) -> None:
    store = DynamoDBOnlineStore(table, "online", sleep=lambda _: None)
    state, _ = KeyState(WIDE).fold(readings(0, 2_000))
    item = written(store, state, 1)
    parts = [p["part"]["S"] for p in table.scan(TableName="online")["Items"]]
    table.delete_item(
        TableName="online",
        Key={"entity": {"S": item.entity}, "part": {"S": max(parts)}},
    )

    with pytest.raises(StoreUnavailableError, match="changed while it was read"):
        store.load([item.entity])
    assert store.load([item.entity], with_state=False)[item.entity].state == b""


def test_who_reads_features_alone_is_sent_no_state(table: Any) -> None:
    client = Counting(table)
    store = DynamoDBOnlineStore(client, "online")
    states = {n: KeyState(WIDE).fold(readings(0, n))[0] for n in (5, 2_000)}
    items = [item_of(f"p.W#s-{n}", state, 1) for n, state in states.items()]
    for item in items:
        store.put(item)
    client.calls.clear()

    found = store.load(["p.W#s-5", "p.W#s-2000", "p.W#nobody"], with_state=False)

    assert found == {i.entity: replace(i, state=b"") for i in items}
    assert client.calls == {"batch_get_item": 1}
    assert client.bytes_read == 0
    assert store.load(["p.W#s-2000"]) == {items[1].entity: items[1]}
    assert client.bytes_read > 10 * KIB


def test_a_head_is_never_written_without_its_chunks(table: Any) -> None:
    class Refusing(Counting):
        def put_item(self, **request: Any) -> Any:
            if request["Item"]["part"]["S"].startswith("e") and is_large(request):
                error = {"Error": {"Code": "ThrottlingException", "Message": ""}}
                raise ClientError(error, "PutItem")
            return self.client.put_item(**request)

    def is_large(request: Any) -> bool:
        return bool(request["Item"]["entity"]["S"] == "p.W#s-2000")

    states = {n: KeyState(WIDE).fold(readings(0, n))[0] for n in (1_999, 2_000, 5)}
    items = [item_of(f"p.W#s-{n}", state, 1) for n, state in states.items()]
    store = DynamoDBOnlineStore(Refusing(table), "online")

    outcomes = list(store.put_all(items))

    assert [type(o) for o in outcomes] == [
        type(None),
        StoreUnavailableError,
        type(None),
    ]
    found = store.load([item.entity for item in items])
    assert found == {item.entity: item for item in (items[0], items[2])}
    DynamoDBOnlineStore(table, "online").put(items[1])
    assert store.load([items[1].entity]) == {items[1].entity: items[1]}


def test_a_table_that_refuses_a_scan_is_unavailable(table: Any) -> None:
    store = DynamoDBOnlineStore(table, "online")
    table.delete_table(TableName="online")

    for scan in (lambda: list(store.scan()), store.sweep):
        with pytest.raises(StoreUnavailableError, match="refused to be scanned"):
            scan()


def test_who_loses_the_race_leaves_litter_that_is_swept(table: Any) -> None:
    winner, loser = (DynamoDBOnlineStore(table, "online") for _ in range(2))
    state, _ = KeyState(WIDE).fold(readings(0, 2_000))
    item = written(winner, state, 1)
    other, _ = KeyState(WIDE).fold(readings(1, 2_100))

    with pytest.raises(StateConflictError):
        written(loser, other, 1)

    assert winner.load([item.entity])[item.entity] == item
    assert winner.sweep() > 0
    assert winner.sweep() == 0
    assert winner.load([item.entity])[item.entity] == item


@settings(max_examples=60)
@given(
    times_s=st.lists(st.integers(0, 9_000), max_size=60),
    number=st.integers(0, 400),
    small=st.sampled_from([0, 300, 2_000]),
)
def test_the_parts_of_a_state_are_the_state(
    times_s: list[int], number: int, small: int
) -> None:
    events = readings(0, number) + [
        reading(float(n), at_s=float(at_s), id=f"x{n}", number=1_000 + n)
        for n, at_s in enumerate(times_s)
    ]
    state, _ = KeyState(WIDE).fold(events)
    whole = state.encode()

    parts = split(whole, small)

    shuffled = dict(sorted(parts.chunks.items(), reverse=True))
    assert join(parts._replace(chunks=shuffled)) == whole
    assert parts.chunks or parts.head == whole
