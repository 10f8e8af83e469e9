"""`serve` answers whole or refuses whole, says how to mend it, and never falls over."""

import asyncio
import csv
import doctest
import http.client
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
import pytest
import serve
from answer import INLINE, Answer, Champion
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import CSV, JSON, MAX_BYTES, MAX_ROWS, Reader, RefusedError
from moto.server import ThreadedMotoServer
from pipelines.sensor_anomaly.contract import Reading
from pipelines.sensor_anomaly.features import Sensor
from retrodict.artifact import Artifact
from retrodict.contracts import Event, Key, field
from retrodict.envelope import StampedEvent
from retrodict.errors import (
    IncompatibleArtifactError,
    StoreUnavailableError,
    StreamUnavailableError,
)
from retrodict.explanation import explain
from retrodict.features import feature_set as set_of
from retrodict.features import features as feature_set
from retrodict.online import plan, project
from retrodict.pipeline import Pipeline, load_catalog
from retrodict.ports import KeyedBatch, OnlineItem, OnlineStore
from retrodict.stamps import from_text, position
from retrodict.state import KeyState
from retrodict.validation import Accepted, Arrival, validate
from retrodict.vocabulary import last, mean
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore

from tests.artifacts import ANOMALOUS, LIMIT, NAMES, ORDINARY, PIPELINE, artifact
from tests.deployments import deployed
from tests.events import NOON_US, reading
from tests.fakes import FakeIngestStream, FakeOnlineStore
from tests.tables import ONLINE_STORE

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "functions/serve_champion/serve.py"
LAYERS = [ROOT / f"layers/{name}/python" for name in ("core", "adapters", "pipelines")]
REGION = "eu-west-1"
DAY_S = 86_400.0
MAX_AGE_US = 7_200_000_000
ARTIFACT = artifact()
INSIDE = dict.fromkeys(NAMES, 0.0)
OUTSIDE = INSIDE | {NAMES[0]: LIMIT + 1}


def history(key: str, until_s: float, value: float = 20.0) -> list[StampedEvent]:
    """Return a reading of the same hour of yesterday and three of the last minutes."""
    return [
        reading(20.0, at_s=until_s - DAY_S, id="y", number=1, key=key),
        *(
            reading(value, at_s=until_s + at_s, id=f"t{at_s}", number=n, key=key)
            for n, at_s in enumerate((-120, -60, 0), start=2)
        ),
    ]


def fold(store: OnlineStore, *events: StampedEvent) -> None:
    batches = [("1", KeyedBatch(event.key, [event])) for event in events]
    assert project(plan(batches), store, lambda _: None).unfinished is None


class World:
    """A champion over ports in memory, at a time of its own."""

    def __init__(self) -> None:
        self.store = FakeOnlineStore()
        self.stream = FakeIngestStream()
        self.now_us = NOON_US + 60_000_000
        self.ticks = iter(range(0, 10**9, 250))
        fold(self.store, *history("s-1", 0), *history("s-2", 0, value=40.0))

    def champion(
        self, found: Artifact = ARTIFACT, pipeline: Pipeline = PIPELINE
    ) -> Champion:
        return Champion(
            found, pipeline, self.store, self.stream,
            lambda: self.now_us, lambda: next(self.ticks),
        )  # fmt: skip

    def ask(self, body: Any, kind: str = JSON, **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.champion().answer(raw, {"content-type": kind, **told})

    def rows(self, body: Any, kind: str = JSON, **headers: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask(body, kind, **headers).body)[
            "predictions"
        ]
        return found

    def events(self) -> list[StampedEvent]:
        return stamped(self.stream.records, self.now_us)


def stamped(records: Iterable[tuple[str, bytes]], at_us: int) -> list[StampedEvent]:
    """Return what the validator makes of predictions: it must accept every one."""
    found = []
    for number, (key, data) in enumerate(records, start=900):
        place = position("shardId-000000000000", str(number))
        judged = validate(data, Arrival(place, key, at_us), load_catalog())
        assert isinstance(judged, Accepted), judged
        found.append(judged.event)
    return found


def lines(*rows: Sequence[object]) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


ROW = [INSIDE[name] for name in NAMES]


def test_an_entity_is_answered_from_its_online_features() -> None:
    world = World()

    (found,) = world.rows({"instances": [{"entity": "s-2"}]})

    (item,) = [i for i in world.store.scan() if i.entity.endswith("#s-2")]
    assert found["score"] == ANOMALOUS
    assert found["is_alert"] is True
    assert found["threshold"] == ARTIFACT.threshold
    assert found["artifact_digest"] == ARTIFACT.digest
    assert found["entity"] == "s-2"
    assert found["position"] == item.position
    assert from_text(found["as_of"]) == item.time_us == NOON_US
    assert found["features"] == json.loads(item.features)


def test_features_may_come_with_the_request() -> None:
    world = World()

    inside, outside = world.rows(
        {"instances": [{"features": INSIDE}, {"features": OUTSIDE, "entity": "s-9"}]}
    )

    assert (inside["score"], inside["is_alert"]) == (ORDINARY, False)
    assert (outside["score"], outside["is_alert"]) == (ANOMALOUS, True)
    assert (inside["entity"], outside["entity"]) == (None, "s-9")
    assert inside["position"] is None
    assert from_text(inside["as_of"]) == world.now_us
    assert [e.key for e in world.events()] == [INLINE, "s-9"]


def test_every_answered_row_is_an_event_with_the_answer_in_it() -> None:
    world = World()

    rows = world.rows({"instances": [{"entity": "s-1"}, {"features": OUTSIDE}]})

    events = world.events()
    assert [e.id for e in events] == [r["prediction_id"] for r in rows]
    for row, event in zip(rows, events, strict=True):
        told = event.data
        assert re.fullmatch("[0-9a-f]{32}", row["prediction_id"])
        assert told["score"].hex() == row["score"].hex()
        assert json.loads(told["features"]) == row["features"]
        assert told["position"] == row["position"]
        assert told["mode"] == "realtime"
        assert told["is_onset"] is None
        assert event.time_us == world.now_us
        assert told["latency_us"] > 0


def test_a_served_score_is_that_of_the_artifact_bit_for_bit() -> None:
    random = [0.1, 1e-300, -3.0000001, 2.9999999, 3.0, 1e30, 12345.678]
    world = World()
    instances = [{"features": INSIDE | {NAMES[0]: value}} for value in random]

    rows = world.rows({"instances": instances})

    again = Artifact.decode(ARTIFACT.encode(), ARTIFACT.digest).scorer
    for row, event in zip(rows, world.events(), strict=True):
        expected = again.score([float(row["features"][name]) for name in NAMES])
        assert row["score"].hex() == event.data["score"].hex() == expected.hex()


def test_a_real_time_prediction_explains_itself() -> None:
    world = World()
    world.rows({"instances": [{"entity": "s-2"}]})

    (prediction,) = world.events()

    assert explain(
        prediction, history("s-2", 0, value=40.0), PIPELINE, ARTIFACT
    ).is_equal


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"entity": "s-1"}, JSON),
        ({"entity": "s-1"}, "Application/JSON; charset=utf-8"),
        ({"instances": [{"entity": "s-1", "features": None}]}, JSON),
        (b"s-1", CSV),
        (b"s-1\n", CSV),
        (b"entity\ns-1\n", CSV),
        (b"\xef\xbb\xbfentity\r\ns-1\r\n\r\n", "text/csv; header=present"),
        (b'"s-1"', CSV),
    ],
)
def test_one_entity_can_be_asked_for_in_many_ways(body: Any, kind: str) -> None:
    (found,) = World().rows(body, kind)

    assert found["entity"] == "s-1"
    assert found["score"] == ORDINARY


@pytest.mark.parametrize(
    "body",
    [
        lines(ROW, [LIMIT + 1, *ROW[1:]]),
        lines(NAMES, ROW, [LIMIT + 1, *ROW[1:]]),
        lines(NAMES[::-1], ROW, [*ROW[1:], "+4.0e0"]),
        lines([f'"{v}"' for v in ROW], [f" {LIMIT + 1} ", *ROW[1:]]),
    ],
    ids=["bare", "header", "another order", "quoted"],
)
def test_rows_of_features_can_be_csv(body: bytes) -> None:
    found = World().rows(body, CSV)

    assert [r["score"] for r in found] == [ORDINARY, ANOMALOUS]


def test_csv_comes_back_where_it_is_asked_for() -> None:
    world = World()

    answer = world.ask(b"s-1\ns-2\n", CSV, accept="text/csv")

    assert answer.content_type == CSV
    rows = [*csv.DictReader(io.StringIO(answer.body.decode()))]
    assert [r["entity"] for r in rows] == ["s-1", "s-2"]
    assert [float(r["score"]) for r in rows] == [ORDINARY, ANOMALOUS]
    assert [r["prediction_id"] for r in rows] == [e.id for e in world.events()]


def test_a_cell_that_a_spreadsheet_would_run_is_escaped() -> None:
    answer = World().ask(
        {"features": INSIDE, "entity": "-1-1"}, JSON, accept="text/csv"
    )

    (row,) = csv.DictReader(io.StringIO(answer.body.decode()))
    assert row["entity"] == "'-1-1"


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "", "text/csv, application/json", "text/html"]
)
def test_json_comes_back_otherwise(accept: str) -> None:
    assert World().ask({"entity": "s-1"}, accept=accept).content_type == JSON


@pytest.mark.parametrize(
    ("attributes", "mode"),
    [
        ("", "realtime"),
        ("retrodict-mode=probe", "probe"),
        ("retrodict-mode=async", "async"),
        ("retrodict-mode=batch", "batch"),
        ("retrodict-mode=realtime", "realtime"),
        ("trace=1, retrodict-mode=async", "async"),
        ("retrodict-mode=async;trace=1", "async"),
        ("trace=1", "realtime"),
        ("not-retrodict-mode=async", "realtime"),
    ],
)
def test_a_request_may_say_how_it_was_made(attributes: str, mode: str) -> None:
    world = World()

    world.ask({"entity": "s-1"}, x_amzn_sagemaker_custom_attributes=attributes)

    (event,) = world.events()
    assert event.data["mode"] == mode


def test_as_many_rows_as_are_allowed_are_answered() -> None:
    world = World()
    instances = [{"entity": f"s-{n % 2 + 1}"} for n in range(MAX_ROWS)]

    assert len(world.rows({"instances": instances})) == MAX_ROWS
    assert len({e.id for e in world.events()}) == MAX_ROWS


def features(**changes: Any) -> dict[str, Any]:
    return {"instances": [{"features": {**INSIDE, **changes}}]}


def without(name: str) -> dict[str, Any]:
    return {"features": {k: v for k, v in INSIDE.items() if k != name}}


FIRST = NAMES[0]
NUMBERS = json.dumps(INSIDE)
BAD: list[tuple[str, Any, int, str]] = [
    (JSON, b"", 400, "malformed"),
    (JSON, b" \n", 400, "malformed"),
    (JSON, b"{", 400, "malformed"),
    (JSON, b"{}{}", 400, "malformed"),
    (JSON, b'{"entity":"s-1"}\n{"entity":"s-1"}', 400, "malformed"),
    (JSON, b"\x1f\x8b\x08", 400, "malformed"),
    (JSON, b"\x80\x04\x95", 400, "malformed"),
    (JSON, b"\xff\xfe{\x00}\x00", 400, "malformed"),
    (JSON, b"\xef\xbb\xbf{}", 400, "malformed"),
    (JSON, b"[" * 100_000, 400, "malformed"),
    (JSON, b'{"a":' * 100_000, 400, "malformed"),
    (JSON, b"7", 400, "malformed"),
    (JSON, b"null", 400, "malformed"),
    (JSON, b'"s-1"', 400, "malformed"),
    (JSON, [], 400, "malformed"),
    (JSON, [{"entity": "s-1"}], 400, "malformed"),
    (JSON, {}, 400, "malformed"),
    (JSON, {"instances": []}, 400, "malformed"),
    (JSON, {"instances": None}, 400, "malformed"),
    (JSON, {"instances": {"entity": "s-1"}}, 400, "malformed"),
    (JSON, {"instances": [None]}, 400, "malformed"),
    (JSON, {"instances": ["s-1"]}, 400, "malformed"),
    (JSON, {"instances": [{}]}, 400, "malformed"),
    (JSON, {"instances": [{"entity": None}]}, 400, "malformed"),
    (JSON, {"instances": [{"features": []}]}, 400, "malformed"),
    (JSON, b'{"entity":"s-1","entity":"s-2"}', 400, "malformed"),
    (JSON, {"instances": [{"entity": "s-1"}], "more": 1}, 400, "unknown_field"),
    (JSON, {"instance": [{"entity": "s-1"}]}, 400, "unknown_field"),
    (JSON, {"entity": "s-1", "id": 1}, 400, "unknown_field"),
    (JSON, {"__class__": "os.system", "entity": "s-1"}, 400, "unknown_field"),
    (JSON, {"instances": [{"sensor": "s-1"}]}, 400, "unknown_field"),
    (JSON, features(typo=1.0), 400, "unknown_field"),
    (JSON, {"entity": ""}, 400, "entity"),
    (JSON, {"entity": 7}, 400, "entity"),
    (JSON, {"entity": True}, 400, "entity"),
    (JSON, {"entity": ["s-1"]}, 400, "entity"),
    (JSON, {"entity": "../../etc/passwd"}, 400, "entity"),
    (JSON, {"entity": "s" * 65}, 400, "entity"),
    (JSON, {"entity": "S-1"}, 400, "entity"),
    (JSON, {"entity": "s 1"}, 400, "entity"),
    (JSON, {"entity": "s-1\n"}, 400, "entity"),
    (JSON, {"entity": "s-1\x00"}, 400, "entity"),
    (JSON, {"entity": "\u202es-1"}, 400, "entity"),
    (JSON, b'{"entity":"\\ud800"}', 400, "entity"),
    (JSON, b'{"entity":"s-1\\u2028"}', 400, "entity"),
    (JSON, {"entity": "${jndi:ldap://x}"}, 400, "entity"),
    (JSON, {"entity": "'; DROP TABLE--"}, 400, "entity"),
    (JSON, {"entity": "nobody"}, 404, "unknown_entity"),
    (JSON, {"entity": "s-1" * 20}, 404, "unknown_entity"),
    (JSON, without(FIRST), 422, "missing_feature"),
    (JSON, features(**{FIRST: None}), 422, "missing_feature"),
    (JSON, {"features": {}}, 422, "missing_feature"),
    (JSON, features(**{FIRST: "1.0"}), 400, "malformed"),
    (JSON, features(**{FIRST: True}), 400, "malformed"),
    (JSON, features(**{FIRST: [1.0]}), 400, "malformed"),
    (JSON, features(**{FIRST: {}}), 400, "malformed"),
    (JSON, features(**{FIRST: float("nan")}), 400, "not_finite"),
    (JSON, features(**{FIRST: float("inf")}), 400, "not_finite"),
    (JSON, features(**{FIRST: float("-inf")}), 400, "not_finite"),
    (JSON, features(**{FIRST: 10**400}), 400, "not_finite"),
    (JSON, f'{{"features":{NUMBERS.replace("0.0", "1e400", 1)}}}'.encode(), 400,
     "not_finite"),
    (JSON, f'{{"features":{NUMBERS.replace("0.0", "9" * 5_000, 1)}}}'.encode(), 400,
     "malformed"),
    (JSON, {"instances": [{"entity": "s-1"}] * (MAX_ROWS + 1)}, 413, "too_many_rows"),
    (JSON, b" " * (MAX_BYTES + 1), 413, "too_large"),
    (JSON, b" " * MAX_BYTES, 400, "malformed"),
    ("text/plain", b"s-1", 415, "content_type"),
    ("application/x-npy", b"\x93NUMPY", 415, "content_type"),
    ("application/octet-stream", b"\x80", 415, "content_type"),
    ("application/json-seq", b"{}", 415, "content_type"),
    ("", b"{}", 415, "content_type"),
    ("application/x-www-form-urlencoded", b"entity=s-1", 415, "content_type"),
    (CSV, b"", 400, "malformed"),
    (CSV, b"\n\n", 400, "malformed"),
    (CSV, b"entity\n", 400, "malformed"),
    (CSV, b"\xff", 400, "malformed"),
    (CSV, b'"s-1', 400, "malformed"),
    (CSV, b"s-1,s-2\n", 400, "malformed"),
    (CSV, lines(ROW, ROW[1:]), 400, "malformed"),
    (CSV, lines([*ROW, 1.0]), 400, "malformed"),
    (CSV, lines(ROW, ["x", *ROW[1:]]), 400, "malformed"),
    (CSV, lines(["1_000", *ROW[1:]]), 400, "malformed"),
    (CSV, lines(["0x10", *ROW[1:]]), 400, "malformed"),
    (CSV, lines(["\u0661", *ROW[1:]]), 400, "malformed"),
    (CSV, lines(["=1+1", *ROW[1:]]), 400, "malformed"),
    (CSV, lines(["nan", *ROW[1:]]), 400, "not_finite"),
    (CSV, lines(["-Infinity", *ROW[1:]]), 400, "not_finite"),
    (CSV, lines(["1e400", *ROW[1:]]), 400, "not_finite"),
    (CSV, lines(["", *ROW[1:]]), 422, "missing_feature"),
    (CSV, b"nobody", 404, "unknown_entity"),
    (CSV, b"S-1", 400, "entity"),
    (CSV, b"s-1\n" * (MAX_ROWS + 1), 413, "too_many_rows"),
    (CSV, b"s" * (MAX_BYTES + 1), 413, "too_large"),
    (CSV, b'"' + b"s" * 200_000 + b'"', 400, "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "status", "code"), BAD)
def test_a_bad_request_is_refused_with_a_remedy(
    kind: str, body: Any, status: int, code: str
) -> None:
    world = World()

    with pytest.raises(RefusedError) as caught:
        world.ask(body, kind)

    told = json.loads(caught.value.body())["error"]
    assert (caught.value.status, told["code"]) == (status, code)
    assert told["message"]
    assert told["remedy"]
    assert len(told["message"]) < 1_000
    assert world.stream.records == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_an_encoded_body_is_refused(encoding: str) -> None:
    with pytest.raises(RefusedError) as caught:
        World().ask({"entity": "s-1"}, content_encoding=encoding)

    assert (caught.value.status, caught.value.code) == (415, "content_encoding")


@pytest.mark.parametrize("mode", ["stream", "", "Probe", "x" * 999])
def test_a_mode_that_is_none_is_refused(mode: str) -> None:
    attributes = f"retrodict-mode={mode}"

    with pytest.raises(RefusedError) as caught:
        World().ask({"entity": "s-1"}, x_amzn_sagemaker_custom_attributes=attributes)

    assert (caught.value.status, caught.value.code) == (400, "mode")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"entity": "nobody"}, "unknown_entity"),
        ({"entity": "S-1"}, "entity"),
        ({"features": {}}, "missing_feature"),
        ({"features": {**INSIDE, FIRST: 10**400}}, "not_finite"),
        ({"features": {**INSIDE, "typo": 1}}, "unknown_field"),
        (7, "malformed"),
    ],
)
def test_one_bad_row_refuses_the_whole_request_and_is_named(
    bad: Any, code: str
) -> None:
    world = World()
    good = {"features": INSIDE}

    with pytest.raises(RefusedError) as caught:
        world.ask({"instances": [good, {"entity": "s-1"}, bad, good]})

    told = json.loads(caught.value.body())["error"]
    assert (told["code"], told["instance"]) == (code, 2)
    assert "instances[2]" in told["message"]
    assert world.stream.records == []


def test_features_beyond_their_age_are_stale() -> None:
    world = World()
    world.now_us = NOON_US + MAX_AGE_US
    assert world.rows({"entity": "s-1"})

    world.now_us += 1

    with pytest.raises(RefusedError) as caught:
        world.ask({"entity": "s-1"})
    assert (caught.value.status, caught.value.code) == (409, "stale_features")
    assert "2026-01-05T12:00:00" in caught.value.message


def test_an_entity_whose_windows_are_still_empty_is_refused_by_feature() -> None:
    world = World()
    fold(world.store, reading(20.0, key="s-3"))

    with pytest.raises(RefusedError) as caught:
        world.ask({"entity": "s-3"})

    assert (caught.value.status, caught.value.code) == (422, "missing_feature")
    assert "more of its events" in caught.value.remedy


def test_features_of_the_set_that_the_model_does_not_read_do_no_harm() -> None:
    extra = next(n for n in PIPELINE.trained_on.features if n not in NAMES)
    world = World()

    (found,) = world.rows({"features": {**INSIDE, extra: 1.0}})

    assert set(found["features"]) == set(NAMES)


class Visit(Event, type="shop.visited", version=1):
    """An event whose key may be nearly any text."""

    shop: Key[str] = field(max_length=300)
    value: float


@feature_set(Visit, lateness="10m", max_rate="1/s")
class Shop:
    """One feature of a shop."""

    level = mean(Visit.value, last(3))


@pytest.mark.parametrize(
    "entity",
    [
        "../x",
        "a/b",
        "a\\b",
        "x=1",
        "a\tb",
        "\u200b",
        " a",
        "a%2fb",
        "\ud800",
        "s" * 257,
    ],
)
def test_a_key_that_its_contract_allows_may_still_be_unsafe(entity: str) -> None:
    reader = Reader(["level"], set_of(Shop))

    assert reader.read(JSON, "", b'{"entity":"Caf\\u00e9 1"}')
    with pytest.raises(RefusedError) as caught:
        reader.read(JSON, "", json.dumps({"entity": entity}).encode())
    assert (caught.value.status, caught.value.code) == (400, "entity")


def test_of_a_body_that_is_too_large_no_more_is_held_than_shows_it() -> None:
    megabyte = {"type": "http.request", "body": bytes(1 << 20), "more_body": True}
    messages = iter([*[megabyte] * 20, {**megabyte, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    held = asyncio.run(serve._body(receive))  # noqa: SLF001 - what it holds is the point

    assert held is not None
    assert len(held) == MAX_BYTES + 1


class UnavailableStore(FakeOnlineStore):
    """Never answers."""

    def load(
        self,
        entities: Sequence[str],  # noqa: ARG002 - the port's signature
        *,
        with_state: bool = True,  # noqa: ARG002
    ) -> dict[str, OnlineItem]:
        raise StoreUnavailableError("table 'x' refused a read: ThrottlingException")


class UnavailableStream(FakeIngestStream):
    """Never takes a record."""

    def put(self, records: Iterable[tuple[str, bytes]]) -> int:  # noqa: ARG002 - the port's signature
        raise StreamUnavailableError("stream 'x' refused 1 records 3 times")


@pytest.mark.parametrize("broken", ["store", "stream"])
def test_what_aws_refuses_is_no_fault_of_the_request(broken: str) -> None:
    world = World()
    if broken == "store":
        world.store = UnavailableStore()
    else:
        world.stream = UnavailableStream()

    with pytest.raises(RefusedError) as caught:
        world.ask({"entity": "s-1"})

    assert (caught.value.status, caught.value.code) == (503, "unavailable")


def test_inline_features_need_no_store() -> None:
    world = World()
    world.store = UnavailableStore()

    assert world.rows({"features": INSIDE})


WORLD = World()


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([JSON, CSV]))
def test_no_bytes_whatever_make_it_fall_over(body: bytes, kind: str) -> None:
    try:
        WORLD.ask(body, kind)
    except RefusedError as refusal:
        assert 400 <= refusal.status < 500  # noqa: PT017 - either answer is right


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "entity", "features", *NAMES])
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(anything)
def test_no_document_whatever_makes_it_fall_over(document: Any) -> None:
    try:
        WORLD.ask(document)
    except RefusedError as refusal:
        assert 400 <= refusal.status < 500  # noqa: PT017 - either answer is right


@feature_set(Reading, lateness="10m", max_rate="1/s")
class Changed:
    """The features of the next deployment, which know no event from before it."""

    mean_3 = mean(Reading.value, last(3))


def test_a_champion_reads_the_projection_that_it_was_trained_on() -> None:
    names: Any = Changed
    assert PIPELINE.model is not None
    during = Pipeline(
        PIPELINE.name, features=[Changed], retiring=[Sensor],
        model=replace(PIPELINE.model, features=[names.mean_3]),
    )  # fmt: skip
    world = World()
    with deployed(during):
        fresh = reading(35.0, at_s=30, id="fresh", number=9, key="s-2")
        fold(world.store, fresh)
        body = json.dumps({"instances": [{"entity": "s-2"}]}).encode()
        answer = world.champion(pipeline=during).answer(body, {"content-type": JSON})

    (found,) = answer.predictions
    known = [*history("s-2", 0, value=40.0), fresh]
    assert found.features == KeyState(PIPELINE.trained_on).fold(known)[0].features
    assert found.position == fresh.position


def test_an_artifact_of_other_features_is_never_a_champion() -> None:
    with pytest.raises(IncompatibleArtifactError):
        World().champion(artifact(definition="0" * 64))


def test_decisions_are_measured_a_hundred_a_line() -> None:
    world = World()
    answer = world.ask({"instances": [{"entity": "s-2"}] * 250})

    found = [json.loads(line) for line in serve.metric_lines(answer, {"p": "x"}, 5, 7)]

    assert [len(line["Alerts"]) for line in found] == [100, 100, 50]
    assert sum(sum(line["Alerts"]) for line in found) == 250
    assert [line.get("PredictionLatency") for line in found] == [7, None, None]
    for line in found:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert {m["Name"] for m in directive["Metrics"]} == set(line) - {"_aws", "p"}
        assert line["_aws"]["Timestamp"] == 5


def test_a_probe_is_no_decision() -> None:
    attributes = "retrodict-mode=probe"
    answer = World().ask(
        {"entity": "s-2"}, x_amzn_sagemaker_custom_attributes=attributes
    )

    (line,) = serve.metric_lines(answer, {}, 5, 7)

    assert "Alerts" not in line
    assert json.loads(line)["PredictionLatency"] == 7


def test_the_examples_in_the_program_hold() -> None:
    assert doctest.testmod(serve).failed == 0


# The process itself, over moto's server.


@dataclass
class Account:
    """An account of moto's, with one table and one stream."""

    url: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def predictions(self) -> list[tuple[str, bytes]]:
        kinesis = self.client("kinesis")
        iterator = kinesis.get_shard_iterator(
            StreamName="ingest",
            ShardId="shardId-000000000000",
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator)["Records"]
        return [(r["PartitionKey"], r["Data"]) for r in records]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = Account(f"http://{host}:{port}")
    found.client("kinesis").create_stream(StreamName="ingest", ShardCount=1)
    found.client("dynamodb").create_table(
        TableName="online",
        **ONLINE_STORE,
    )
    now_s = (time.time_ns() // 1_000 - NOON_US) / 1e6
    store = DynamoDBOnlineStore(found.client("dynamodb"), "online")
    fold(store, *history("s-1", now_s), *history("s-2", now_s - DAY_S))
    yield found
    server.stop()


@dataclass
class Endpoint:
    """A serving process that listens."""

    port: int
    process: "subprocess.Popen[str]"

    def call(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            told = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, body, told)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def ask(self, document: Any, **headers: str) -> tuple[int, Any]:
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        told = {"content_type": JSON, **headers}
        return self.call("POST", "/invocations", raw, **told)


@contextmanager
def serving(
    base: Path, url: str, raw: bytes | None, **changes: str
) -> Iterator[Endpoint]:
    """Start the program on a model, and stop it."""
    (base / "model").mkdir(parents=True)
    if raw is not None:
        (base / "model/artifact.json").write_bytes(raw)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (base / "out").open("w") as out, (base / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdout=out,
            stderr=err,
            text=True,
            cwd=base,
            env=_environment(base, url, port) | changes,
        )
    found = Endpoint(port, process)
    try:
        _await(found, base)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=10)


def _environment(base: Path, url: str, port: int) -> dict[str, str]:
    return {
        "ARTIFACT_DIGEST": ARTIFACT.digest,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_SECRET_ACCESS_KEY": "test",
        "ENVIRONMENT_NAME": "dev",
        "INGEST_STREAM_NAME": "ingest",
        "ONLINE_STORE_TABLE_NAME": "online",
        "PATH": os.defpath,
        "PIPELINE": PIPELINE.name,
        "PYTHONPATH": os.pathsep.join(map(str, LAYERS)),
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }


def _await(endpoint: Endpoint, base: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert endpoint.process.poll() is None, (base / "err").read_text()
        try:
            endpoint.call("GET", "/ping")
        except OSError:
            time.sleep(0.05)
            continue
        return
    raise TimeoutError("the program does not listen")


@pytest.fixture(scope="module")
def endpoint(
    account: Account, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    base = tmp_path_factory.mktemp("ml") / "base"
    with serving(base, account.url, ARTIFACT.encode()) as found:
        yield found


def test_a_verified_champion_answers_the_ping(endpoint: Endpoint) -> None:
    assert endpoint.call("GET", "/ping") == (200, {"artifact_digest": ARTIFACT.digest})


def test_an_entity_id_alone_is_answered_over_http(
    endpoint: Endpoint, account: Account
) -> None:
    status, answer = endpoint.ask({"instances": [{"entity": "s-1"}]})

    assert status == 200, answer
    (row,) = answer["predictions"]
    assert row["score"] == ORDINARY
    now_us = time.time_ns() // 1_000
    events = {e.id: e for e in stamped(account.predictions(), now_us)}
    event = events[row["prediction_id"]]
    assert event.data["score"].hex() == row["score"].hex()
    assert abs(now_us - event.time_us) < 60_000_000
    assert 0 < event.data["latency_us"] < 60_000_000


HTTP_BAD: list[tuple[Any, Mapping[str, str], int]] = [
    (b"{", {}, 400),
    (b"\x80\x04", {}, 400),
    ({"entity": "nobody"}, {}, 404),
    ({"entity": "s-2"}, {}, 409),
    (b" " * (MAX_BYTES + 1_000_000), {}, 413),
    ({"instances": [{"features": INSIDE}] * (MAX_ROWS + 1)}, {}, 413),
    (b"s-1", {"content_type": "text/plain"}, 415),
    (b"s-1", {"content_type": "application/json", "content_encoding": "gzip"}, 415),
    ({"features": {}}, {}, 422),
]


@pytest.mark.parametrize(("body", "headers", "status"), HTTP_BAD)
def test_a_bad_request_is_refused_over_http_and_the_endpoint_stays_up(
    endpoint: Endpoint, body: Any, headers: Mapping[str, str], status: int
) -> None:
    found, answer = endpoint.ask(body, **headers)

    assert found == status
    assert {"code", "message", "remedy"} <= set(answer["error"])
    assert endpoint.call("GET", "/ping")[0] == 200
    assert endpoint.ask({"features": INSIDE})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/invocations", 405),
        ("DELETE", "/invocations", 405),
        ("POST", "/ping", 405),
        ("POST", "/invocations/../ping", 404),
        ("POST", "/models/x/invoke", 404),
    ],
)
def test_there_is_nothing_else_to_call(
    endpoint: Endpoint, method: str, path: str, status: int
) -> None:
    found, answer = endpoint.call(method, path)

    assert (found, "remedy" in answer["error"]) == (status, True)


def test_a_body_without_a_length_is_read_in_chunks(endpoint: Endpoint) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    raw = json.dumps({"instances": [{"features": INSIDE}]}).encode()
    connection.request(
        "POST", "/invocations", iter([raw[:9], raw[9:]]), {"content-type": JSON}
    )

    assert connection.getresponse().status == 200
    connection.close()


def test_a_caller_that_goes_away_harms_nobody(endpoint: Endpoint) -> None:
    for sent in (b"", b"POST /invocations HTTP/1.1\r\ncontent-length: 99\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
            caller.sendall(sent)

    assert endpoint.ask({"features": INSIDE})[0] == 200


def test_many_callers_at_once_are_all_answered(endpoint: Endpoint) -> None:
    def ask(number: int) -> tuple[int, Any]:
        return endpoint.ask(
            {"instances": [{"entity": "s-1"}, {"features": OUTSIDE}] * (number % 3 + 1)}
        )

    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(ask, range(48))]

    assert {status for status, _ in answers} == {200}
    found = [row["prediction_id"] for _, a in answers for row in a["predictions"]]
    assert len(set(found)) == len(found) == 192


def test_what_it_prints_is_json_line_by_line(account: Account, tmp_path: Path) -> None:
    base = tmp_path / "ml"
    with serving(base, account.url, ARTIFACT.encode()) as found:
        found.ask({"features": OUTSIDE})
        found.ask({"features": INSIDE, "entity": "s-1\n{}"})

    printed = [json.loads(line) for line in (base / "out").read_text().splitlines()]
    told = [json.loads(line) for line in (base / "err").read_text().splitlines()]
    (line,) = printed
    assert line["Alerts"] == [1]
    assert line["PredictionLatency"] > 0
    assert (line["environment"], line["pipeline"]) == ("dev", PIPELINE.name)
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Retrodict"
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [
        ["environment", "pipeline"]
    ]
    assert told == []


FORGED = artifact(threshold=0.999).encode()
MOVED = artifact(definition="0" * 64)


@pytest.mark.parametrize(
    ("raw", "changes", "sentence"),
    [
        (FORGED, {}, "WrongDigestError"),
        (b"\x80\x04\x95", {}, "WrongDigestError"),
        (None, {}, "no artifact.json"),
        (MOVED.encode(), {"ARTIFACT_DIGEST": MOVED.digest}, "Incompatible"),
        (ARTIFACT.encode(), {"PIPELINE": "nobody"}, "no pipeline 'nobody'"),
    ],
    ids=["forged", "pickle", "absent", "other features", "other pipeline"],
)
def test_an_artifact_that_may_not_serve_fails_the_ping(
    account: Account,
    tmp_path: Path,
    raw: bytes | None,
    changes: Mapping[str, str],
    sentence: str,
) -> None:
    base = tmp_path / "ml"
    with serving(base, account.url, raw, **changes) as found:
        for status, answer in (
            found.call("GET", "/ping"),
            found.ask({"entity": "s-1"}),
        ):
            assert status == 503
            assert sentence in answer["error"]["message"]

    (line,) = (base / "err").read_text().splitlines()
    assert sentence in json.loads(line)["message"]


def test_without_aws_it_says_503_in_time_and_stays_up(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with serving(tmp_path / "ml", url, ARTIFACT.encode()) as found:
            for body in ({"entity": "s-1"}, {"features": INSIDE}):
                began = time.monotonic()
                status, answer = found.ask(body)

                assert (status, answer["error"]["code"]) == (503, "unavailable")
                assert time.monotonic() - began < 20
            assert found.call("GET", "/ping")[0] == 200


QUICK_S = 0.3
IMPORT = """
import sys, time
began = time.process_time()
import {}
print(time.process_time() - began)
print(*{{name.split(".")[0] for name in sys.modules}})
"""


def test_it_starts_soon_and_without_what_only_training_needs(tmp_path: Path) -> None:
    def imported(*names: str) -> tuple[float, set[str]]:
        done = subprocess.run(
            [sys.executable, "-c", IMPORT.format(", ".join(names))],
            check=True,
            capture_output=True,
            text=True,
            env={
                "PATH": os.defpath,
                "PYTHONPATH": os.pathsep.join(map(str, [*LAYERS, PROGRAM.parent])),
                "PYTHONPYCACHEPREFIX": str(tmp_path),
            },
        )
        took, modules = done.stdout.splitlines()
        return float(took), set(modules.split())

    ours = "serve", "pipelines.sensor_anomaly"
    _, modules = imported(*ours)
    assert not modules & {"numpy", "pandas", "pyarrow", "scipy", "sklearn"}

    # The quickest of some: other work on the machine only ever adds.
    took = min(_until_quick(imported(*ours)[0] for _ in range(8)))
    if took > QUICK_S:  # a machine that is always busy takes long for scikit-learn too
        assert took <= min(imported("sklearn.ensemble")[0] for _ in range(2)) / 4


def _until_quick(times: Iterator[float]) -> Iterator[float]:
    for took in times:
        yield took
        if took <= QUICK_S:
            return


def test_the_statuses_are_those_of_http() -> None:
    assert {HTTPStatus(status) for _, _, status, _ in BAD}
