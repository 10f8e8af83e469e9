"""The light client asks, answers, retries and raises as boto3's does."""

import datetime as dt
import json
import ssl
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from pipelines.sensor_anomaly.features import Sensor
from retrodict.errors import StoreUnavailableError
from retrodict.features import feature_set
from retrodict.online import Work, project
from retrodict_aws.clients import CONFIG, error_code, online_store_client
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.light_dynamodb import LightDynamoDB, Signer

from tests.certificates import certificate
from tests.events import reading
from tests.scripted_server import Last, ScriptedServer, Sent, answer, refusal, scripted
from tests.tables import ONLINE_STORE

ACCESS, SECRET, TOKEN = "AKIDKNOWN", "a-secret/of+ours", "a-token-of-ours"
REGION = "eu-west-1"
WANTED = {"online": {"Keys": [{"entity": {"S": "e"}, "part": {"S": "current"}}]}}
ITEM = {"entity": {"S": "e"}, "part": {"S": "current"}, "state": {"B": b"\x00\xff"}}
THROTTLED = "ThrottlingException"
ATTEMPTS = CONFIG.retries["max_attempts"] + 1


def light(url: str, slept: list[float] | None = None, **settings: Any) -> LightDynamoDB:
    session = boto3.Session(ACCESS, SECRET, TOKEN, region_name=REGION)
    config = settings.pop("config", CONFIG)
    waits = [] if slept is None else slept
    return LightDynamoDB(
        session.client("dynamodb", endpoint_url=url, config=config),
        settings.pop("credentials", session.get_credentials()),
        sleep=waits.append,
        **settings,
    )


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@settings(max_examples=200)
@given(
    body=st.binary(max_size=300),
    token=st.none() | st.text("ab/+=", min_size=1),
    secret=st.text("abc/+=", min_size=1),
    at_s=st.integers(0, 4_000_000_000),
    place=st.tuples(
        st.sampled_from(["eu-west-1", "cn-north-1"]),
        st.sampled_from(["", ":443", ":8000"]),
    ),
)
def test_a_request_is_signed_as_botocore_signs_it(
    body: bytes, token: str | None, secret: str, at_s: int, place: tuple[str, str]
) -> None:
    region, port = place
    url = f"https://dynamodb.{region}.amazonaws.com{port}/"
    host = url.split("/")[2].removesuffix(":443")
    credentials = Credentials(ACCESS, secret, token)
    target = "DynamoDB_20120810.PutItem"
    stamp = dt.datetime.fromtimestamp(at_s, dt.UTC)
    request = AWSRequest(
        "POST",
        url,
        {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target},
        body,
    )
    with patch("botocore.auth.get_current_datetime", lambda **_: stamp):
        SigV4Auth(credentials, "dynamodb", region).add_auth(request)

    signer = Signer(credentials, region, host)
    for _ in range(2):  # the second with a key that is known
        headers = signer.headers(target, body, at_s + 0.5)

        assert headers["authorization"] == request.headers["Authorization"]
        assert headers["x-amz-date"] == request.headers["X-Amz-Date"]
        assert headers.get("x-amz-security-token") == token


def test_another_secret_and_another_day_have_another_key() -> None:
    def signed(signer: Signer, at_s: float) -> str:
        return signer.headers("t", b"", at_s)["authorization"]

    class Renewed:
        secret = "one"

        def get_frozen_credentials(self) -> Any:
            return Credentials(ACCESS, self.secret).get_frozen_credentials()

    renewed = Renewed()
    kept = Signer(renewed, REGION, "h")
    for renewed.secret in ("one", "two", "one"):
        for at_s in (0, 86_400, 0):
            fresh = Signer(Credentials(ACCESS, renewed.secret), REGION, "h")

            assert signed(kept, at_s) == signed(fresh, at_s)


attributes = st.recursive(
    st.one_of(
        st.builds(lambda text: {"S": text}, st.text('aé\U0001f600\n"\\', max_size=8)),
        st.builds(lambda n: {"N": str(n)}, st.integers(-(10**9), 10**9)),
        st.builds(lambda raw: {"B": raw}, st.binary(min_size=1, max_size=40)),
        st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
        st.just({"NULL": True}),
        st.just({"SS": ["a", "b"]}),
        st.just({"NS": ["1", "2"]}),
        st.just({"BS": [b"\x00", b"\x01"]}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda several: {"L": several}, st.lists(inner, max_size=3)),
        st.builds(
            lambda named: {"M": named},
            st.dictionaries(st.text("ab", min_size=1, max_size=3), inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Yield boto3's client and ours of one table."""
    for name in ("AWS_ENDPOINT_URL", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        client.create_table(TableName="online", **ONLINE_STORE)
        yield client, light(f"https://dynamodb.{REGION}.amazonaws.com")


def test_items_are_written_and_read_as_boto3_does(mocked: tuple[Any, Any]) -> None:
    theirs, ours = mocked

    @settings(max_examples=60)
    @given(st.dictionaries(st.sampled_from("abc"), attributes, max_size=3))
    def holds(more: dict[str, Any]) -> None:
        item = {**ITEM, **more}
        for writer in (ours, theirs):
            writer.put_item(TableName="online", Item=item)
            found = [one.batch_get_item(RequestItems=WANTED) for one in mocked]

            assert [f["Responses"] for f in found] == [{"online": [item]}] * 2
            assert found[0]["UnprocessedKeys"] == found[1]["UnprocessedKeys"] == {}
            ours.delete_item(
                TableName="online", Key={n: ITEM[n] for n in ("entity", "part")}
            )
            assert theirs.scan(TableName="online")["Items"] == []

    holds()


def test_a_refusal_is_the_error_that_boto3_raises(mocked: tuple[Any, Any]) -> None:
    request = {
        "TableName": "online",
        "Item": ITEM,
        "ConditionExpression": "attribute_not_exists(entity)",
    }
    mocked[0].put_item(**request)
    theirs, ours = (_raised(client, **request) for client in mocked)

    assert type(ours).__name__ == type(theirs).__name__
    assert ours.response["Error"] == theirs.response["Error"]
    assert ours.operation_name == theirs.operation_name
    assert str(ours) == str(theirs)
    missing = (_raised(client, TableName="nowhere", Item=ITEM) for client in mocked)
    assert len({(str(error), type(error).__name__) for error in missing}) == 1


def _raised(client: Any, **request: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.put_item(**request)
    return caught.value


def test_pages_are_boto3s(mocked: tuple[Any, Any]) -> None:
    theirs, ours = mocked
    theirs.put_item(TableName="online", Item=ITEM)

    (page,) = ours.get_paginator("scan").paginate(TableName="online")

    assert page["Items"] == [ITEM]


def test_what_is_left_unprocessed_is_asked_for_again_as_it_came() -> None:
    key = {"entity": {"B": "AP8="}, "part": {"S": "current"}}
    left = {"online": {"Keys": [key], "ConsistentRead": True}}
    said = json.dumps({"Responses": {}, "UnprocessedKeys": left}).encode()

    with scripted(lambda *_: answer(said)) as server:
        client = light(server.url)
        first = client.batch_get_item(RequestItems=WANTED)
        client.batch_get_item(RequestItems=first["UnprocessedKeys"])

    assert json.loads(server.requests[1].body) == {"RequestItems": left}


def test_a_connection_is_kept_and_every_request_is_signed_anew() -> None:
    class Renewed:
        asked = 0

        def get_frozen_credentials(self) -> Any:
            self.asked += 1
            return Credentials(f"AKID{self.asked}", "s", "t").get_frozen_credentials()

    with scripted(lambda *_: answer()) as server:
        client = light(server.url, credentials=Renewed())
        for _ in range(3):
            client.put_item(TableName="online", Item=ITEM)

    assert server.connections == 1
    assert [
        sent.headers["authorization"].split("Credential=")[1].split("/")[0]
        for sent in server.requests
    ] == ["AKID1", "AKID2", "AKID3"]
    assert "Boto3" in server.requests[0].headers["user-agent"]


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (
            refusal("ProvisionedThroughputExceededException"),
            ClientError,
            "ProvisionedThroughputExceededException",
        ),
        (refusal("ThrottlingException"), ClientError, "ThrottlingException"),
        (refusal("InternalServerError", 500), ClientError, "InternalServerError"),
        (answer(b"<html>", 503), ClientError, "503"),
        (answer(b"{}", crc=1), ChecksumError, "ChecksumError"),
        (None, ConnectionClosedError, "ConnectionClosedError"),
        (answer(b"{}")[:-1], ReadTimeoutError, "ReadTimeoutError"),
    ],
    ids=["throughput", "throttle", "500", "503", "checksum", "closed", "silent"],
)
def test_what_passes_is_asked_again_so_often_and_no_more(
    reply: bytes | None, error: type[Exception], code: str
) -> None:
    slept: list[float] = []
    patience = Config(read_timeout=0.1) if error is ReadTimeoutError else Config()
    with scripted(lambda *_: reply) as server:
        client = light(server.url, slept, config=CONFIG.merge(patience))
        with pytest.raises(error) as caught:
            client.put_item(TableName="online", Item=ITEM)
        store = DynamoDBOnlineStore(client, "online")
        with pytest.raises(StoreUnavailableError, match=code):
            store.load(["e"])

    assert len(server.requests) == 2 * ATTEMPTS
    assert len(slept) == 2 * (ATTEMPTS - 1)
    assert all(0 <= wait <= 20 for wait in slept)
    if isinstance(caught.value, ClientError):
        metadata = caught.value.response["ResponseMetadata"]
        assert metadata["RetryAttempts"] == ATTEMPTS - 1
        assert metadata["MaxAttemptsReached"]


@pytest.mark.parametrize("place", range(ATTEMPTS - 1))
def test_a_call_that_failed_before_is_answered_when_it_works(place: int) -> None:
    faults = [refusal("ThrottlingException"), None, answer(b"", 502), answer(crc=7)]

    def reply(_: Sent, number: int) -> bytes | None:
        return answer() if number > place else faults[number % len(faults)]

    with scripted(reply) as server:
        assert light(server.url).put_item(TableName="online", Item=ITEM) == {}

    assert len(server.requests) == place + 2
    assert len({sent.body for sent in server.requests}) == 1


@pytest.mark.parametrize(
    "code",
    [
        "ConditionalCheckFailedException",
        "ValidationException",
        "AccessDeniedException",
        "ResourceNotFoundException",
        "InvalidSignatureException",
    ],
)
def test_what_will_not_pass_is_asked_once(code: str) -> None:
    with scripted(lambda *_: refusal(code)) as server:
        with pytest.raises(ClientError) as caught:
            light(server.url).put_item(TableName="online", Item=ITEM)

        assert len(server.requests) == 1
    assert caught.value.response["Error"] == {"Code": code, "Message": "because"}


def test_retries_end_for_all_calls_when_too_many_were_needed() -> None:
    slept: list[float] = []
    with scripted(lambda *_: answer(b"", 500)) as server:
        client = light(server.url, slept)
        for _ in range(60):
            with pytest.raises(ClientError):
                client.put_item(TableName="online", Item=ITEM)
        asked = len(server.requests)

    assert asked < 60 * ATTEMPTS / 2
    assert asked == 60 + len(slept)


def test_successes_give_retries_back() -> None:
    is_down = True

    def reply(*_: object) -> bytes:
        return answer(b"", 500) if is_down else answer()

    slept: list[float] = []
    with scripted(reply) as server:
        client = light(server.url, slept)
        for _ in range(60):
            with pytest.raises(ClientError):
                client.put_item(TableName="online", Item=ITEM)
        spent = len(slept)
        is_down = False
        for _ in range(100):
            client.put_item(TableName="online", Item=ITEM)
        is_down = True
        with pytest.raises(ClientError):
            client.put_item(TableName="online", Item=ITEM)

    assert len(slept) == spent + ATTEMPTS - 1


def test_a_write_that_was_applied_but_not_answered_is_counted_once() -> None:
    definition = feature_set(Sensor)
    table: dict[str, Any] = {}

    def reply(sent: Sent, _: int) -> bytes | None:
        request = json.loads(sent.body)
        if "BatchGetItem" in sent.headers["x-amz-target"]:
            found = {"online": [*table.values()]}
            return answer(json.dumps({"Responses": found}).encode())
        if table:
            return refusal("ConditionalCheckFailedException")
        table["e"] = request["Item"]
        return None

    event = reading(1.0)
    with scripted(reply) as server:
        store = DynamoDBOnlineStore(light(server.url), "online")
        works = [Work("p.S#s-1", definition, "1", [event])]
        done = project(works, store, lambda _: None)
        again = project(works, store, lambda _: None)

    assert done.unfinished is None
    assert (done.puts, again.puts) == (0, 0)
    assert [f.outcome for f in done.folded] == ["applied"]
    assert table["e"]["version"] == {"N": "1"}
    targets = [s.headers["x-amz-target"].split(".")[1] for s in server.requests]
    assert targets == ["BatchGetItem", "PutItem", "PutItem", *["BatchGetItem"] * 2]


@pytest.mark.parametrize(
    "said", [Last(answer()), answer(more="Connection: close\r\n")], ids=["mute", "said"]
)
def test_a_connection_that_was_closed_while_idle_costs_no_retry(said: bytes) -> None:
    slept: list[float] = []
    with scripted(lambda *_: said) as server:
        client = light(server.url, slept)
        for number in range(3):
            client.put_item(TableName="online", Item=ITEM)
            until_closed(server, number + 1)

    assert (server.connections, slept) == (3, [])


def until_closed(server: ScriptedServer, count: int) -> None:
    for _ in range(500):
        if server.closed == count:
            return
        time.sleep(0.01)
    pytest.fail(f"{server.closed} connections were closed, not {count}")


def test_bytes_beyond_an_answer_are_never_another_answer() -> None:
    fresh = answer(b'{"Responses":{"online":[]}}')
    forged = answer(b'{"Responses":{"online":[{"entity":{"S":"forged"}}]}}')
    with scripted(lambda _, place: fresh + forged * (place == 0)) as server:
        client = light(server.url)
        answers = [client.batch_get_item(RequestItems=WANTED) for _ in range(3)]

    assert answers == [{"Responses": {"online": []}}] * 3
    assert server.connections == 2


def test_an_answer_in_chunks_is_read_whole() -> None:
    chunks = b"d;x=1\r\n" + b'{"Responses":' + b"\r\n3\r\n{}}\r\n0\r\nT: 1\r\n\r\n"
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    with scripted(lambda *_: b"HTTP/1.1 103 Early\r\n\r\n" + said) as server:
        client = light(server.url)
        answers = [client.batch_get_item(RequestItems=WANTED) for _ in range(2)]

    assert answers == [{"Responses": {}}] * 2
    assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 two OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    ],
)
def test_an_answer_that_does_not_say_its_length_in_one_way_is_none(said: bytes) -> None:
    with scripted(lambda *_: said) as server:
        with pytest.raises(HTTPClientError):
            light(server.url).put_item(TableName="online", Item=ITEM)

        assert server.connections == len(server.requests) == ATTEMPTS


def test_what_is_no_json_is_an_error_of_the_store() -> None:
    with scripted(lambda *_: answer(b"[1")) as server:
        store = DynamoDBOnlineStore(light(server.url), "online")
        with pytest.raises(StoreUnavailableError, match="HTTPClientError"):
            store.load(["e"])


def test_threads_get_their_own_answers() -> None:
    def reply(sent: Sent, _: int) -> bytes:
        keys = json.loads(sent.body)["RequestItems"]["online"]["Keys"]
        return answer(json.dumps({"Responses": {"online": keys}}).encode())

    def ask(number: int) -> bool:
        key = {"entity": {"S": f"e-{number}"}, "part": {"S": "x" * number * 10}}
        found = client.batch_get_item(RequestItems={"online": {"Keys": [key]}})
        return bool(found["Responses"]["online"] == [key])

    with scripted(reply) as server:
        client = light(server.url)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(400)))

        assert server.connections <= 8


def test_items_are_put_at_once_and_each_has_its_own_outcome() -> None:
    together = threading.Barrier(8, timeout=10)
    told: Counter[int] = Counter()

    def reply(sent: Sent, _: int) -> bytes | None:
        number = int(json.loads(sent.body)["Item"]["version"]["N"])
        told[number] += 1
        if told[number] == 1:
            together.wait()  # every item is sent before the first is answered
        faults = [
            answer(),
            refusal("ConditionalCheckFailedException"),
            refusal("ThrottlingException"),
            answer(crc=1),
            None,
        ]
        return faults[number % 5] if told[number] == 1 or number == 7 else answer()

    items = [{**ITEM, "version": {"N": str(number)}} for number in range(8)]
    with scripted(reply) as server:
        client = light(server.url)
        found = client.put_items([{"TableName": "online", "Item": i} for i in items])

        assert server.connections >= 8
    codes = [error and error_code(error) for error in found]
    conflict = "ConditionalCheckFailedException"
    assert codes == [None, conflict, None, None, None, None, conflict, THROTTLED]
    assert told == {0: 1, 1: 1, 2: 2, 3: 2, 4: 2, 5: 1, 6: 1, 7: ATTEMPTS}


def test_answers_that_never_come_are_waited_for_together() -> None:
    config = CONFIG.merge(Config(read_timeout=0.5, retries={"total_max_attempts": 1}))
    with scripted(lambda *_: b"HTTP/1.1 ") as server:
        client = light(server.url, config=config)
        began = time.perf_counter()
        found = client.put_items([{"TableName": "online", "Item": ITEM}] * 10)
        took_s = time.perf_counter() - began

    assert [type(error) for error in found] == [ReadTimeoutError] * 10
    assert took_s < 10 * 0.5 / 2


def test_who_cannot_be_reached_refuses_every_item() -> None:
    with scripted(lambda *_: answer()) as server:
        pass
    found = light(server.url).put_items([{"TableName": "online", "Item": ITEM}] * 3)

    assert [type(error) for error in found] == [EndpointConnectionError] * 3


def test_nobody_listens_and_nobody_is_known() -> None:
    with scripted(lambda *_: answer()) as server:
        pass
    with pytest.raises(EndpointConnectionError):
        light(server.url).put_item(TableName="online", Item=ITEM)
    with pytest.raises(NoCredentialsError):
        light(server.url, credentials=None).put_item(TableName="online", Item=ITEM)


def certified(folder: Path, host: str) -> tuple[ssl.SSLContext, str]:
    """Return a server's context, and the path of the certificate to trust for it."""
    path = folder / f"{host}.pem"
    certificate(path, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, str(path)


def test_a_trusted_server_is_spoken_to_over_one_kept_connection(
    tmp_path: Path,
) -> None:
    context, trusted = certified(tmp_path, "localhost")
    with scripted(lambda *_: answer(), context) as server:
        client = light(server.url, ca_bundle=trusted)
        for _ in range(5):
            client.put_item(TableName="online", Item=ITEM)

    assert (server.connections, len(server.requests)) == (1, 5)


@pytest.mark.parametrize(
    ("host", "is_trusted"), [("localhost", False), ("another", True)]
)
def test_a_server_that_cannot_prove_its_name_hears_nothing(
    tmp_path: Path, host: str, *, is_trusted: bool
) -> None:
    context, trusted = certified(tmp_path, host)
    with scripted(lambda *_: answer(), context) as server:
        client = light(server.url, ca_bundle=trusted if is_trusted else True)
        with pytest.raises(SSLError, match="certificate"):
            client.put_item(TableName="online", Item=ITEM)
        with pytest.raises(StoreUnavailableError, match="SSLError"):
            DynamoDBOnlineStore(client, "online").load(["e"])

        assert server.requests == []


def test_no_error_tells_a_secret(tmp_path: Path) -> None:
    context, _ = certified(tmp_path, "localhost")
    said = [refusal("AccessDeniedException"), None, answer(crc=1), answer(b"[")]
    errors: list[BaseException] = []
    for reply in said:
        with scripted(lambda *_, r=reply: r) as server:
            errors.append(_failure(light(server.url)))
    with scripted(lambda *_: answer(), context) as server:
        errors.append(_failure(light(server.url)))
    errors.append(_failure(light(server.url)))  # nobody listens any more

    assert len(errors) == 6
    for error in errors:
        for known in (SECRET, TOKEN, "Signature="):
            assert known not in told(error)


def _failure(client: LightDynamoDB) -> BaseException:
    with pytest.raises((BotoCoreError, ClientError)) as caught:
        client.put_item(TableName="online", Item=ITEM)
    failure: BaseException = caught.value
    return failure


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Say nothing in the environment but who asks, and in which region."""
    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:3128"),
        ("AWS_ENDPOINT_URL", "https://localhost/below"),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required"),
    ],
)
def test_what_only_boto3_knows_is_left_to_boto3(
    plain: pytest.MonkeyPatch, name: str, value: str
) -> None:
    plain.setenv(name, value)

    assert not isinstance(online_store_client(), LightDynamoDB)


@pytest.mark.parametrize(
    ("config", "host"),
    [
        (CONFIG, "dynamodb.eu-west-1.amazonaws.com"),
        (Config(use_fips_endpoint=True), "dynamodb-fips.eu-west-1.amazonaws.com"),
        (Config(use_dualstack_endpoint=True), "dynamodb.eu-west-1.api.aws"),
    ],
)
def test_the_endpoint_is_the_one_that_boto3_found(
    plain: pytest.MonkeyPatch, config: Config, host: str
) -> None:
    seen: list[Any] = []

    def instead(request: Any, **_: Any) -> Any:
        seen.append(request)
        raise HTTPClientError(error="seen")

    real = Session.create_client

    def listened(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        found.meta.events.register("before-send.dynamodb", instead)
        return found

    plain.setattr(Session, "create_client", listened)
    client = online_store_client(
        Config(retries={"total_max_attempts": 1}).merge(config)
    )

    assert isinstance(client, LightDynamoDB)
    with pytest.raises(HTTPClientError, match="seen"):
        client.put_item(TableName="online", Item=ITEM)
    assert seen[0].url == f"https://{host}/"
    assert seen[0].headers["host"] == host


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_environment_says_whom_to_trust(
    plain: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    context, trusted = certified(tmp_path, "localhost")
    with scripted(lambda *_: answer(), context) as server:
        plain.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(SSLError):
            online_store_client(Config(retries={"total_max_attempts": 1})).put_item(
                TableName="online", Item=ITEM
            )
        plain.setenv(name, trusted)

        assert online_store_client().put_item(TableName="online", Item=ITEM) == {}
