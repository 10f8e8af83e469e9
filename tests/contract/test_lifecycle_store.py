"""A stream of decisions has no gap and no fork, whoever writes it; AWS is moto here."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from retrodict.errors import StoreUnavailableError, StreamConflictError
from retrodict.lifecycle import Decided, Recorded
from retrodict.ports import LifecycleStore
from retrodict_aws.dynamodb_lifecycle_store import (
    DynamoDBLifecycleStore,
    from_item,
    to_item,
)

from tests.fakes import FakeLifecycleStore

REGION = "eu-west-1"
STARTED = Decided("retraining_started", 7, {"run_id": "run-1", "n": 0.1}, "cause-1")
JUDGED = Decided("candidate_judged", 8, {"run_id": "run-1", "roc_auc": 1 / 3})


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every test against an account of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def table() -> Any:
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    dynamodb.create_table(
        TableName="lifecycle",
        KeySchema=[
            {"AttributeName": "stream_id", "KeyType": "HASH"},
            {"AttributeName": "version", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "stream_id", "AttributeType": "S"},
            {"AttributeName": "version", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return dynamodb


@pytest.fixture(params=["fake", "aws"])
def store(request: pytest.FixtureRequest) -> LifecycleStore:
    """Make an empty store."""
    if request.param == "fake":
        return FakeLifecycleStore()
    return DynamoDBLifecycleStore(table(), "lifecycle")


def test_a_new_stream_is_empty(store: LifecycleStore) -> None:
    assert store.read("p") == []


def test_decisions_come_back_in_order_and_numbered_from_one(
    store: LifecycleStore,
) -> None:
    told = store.append("p", [STARTED], expected_version=0)
    told += store.append("p", [JUDGED], expected_version=1)

    assert store.read("p") == told
    assert [(r.version, r.kind, r.data, r.causation_id) for r in told] == [
        (1, "retraining_started", STARTED.data, "cause-1"),
        (2, "candidate_judged", JUDGED.data, None),
    ]


def test_ten_decisions_are_ordered_by_number_not_by_text(
    store: LifecycleStore,
) -> None:
    store.append("p", [STARTED] * 11, expected_version=0)

    assert [recorded.version for recorded in store.read("p")] == [*range(1, 12)]


@pytest.mark.parametrize("believed", [0, 2], ids=["behind", "ahead"])
def test_a_writer_with_the_wrong_version_is_refused(
    store: LifecycleStore, believed: int
) -> None:
    store.append("p", [STARTED], expected_version=0)

    with pytest.raises(StreamConflictError) as caught:
        store.append("p", [JUDGED], expected_version=believed)

    assert (caught.value.stream_id, caught.value.expected) == ("p", believed)
    assert [recorded.kind for recorded in store.read("p")] == ["retraining_started"]


def test_streams_do_not_see_each_other(store: LifecycleStore) -> None:
    store.append("p", [STARTED], expected_version=0)

    assert store.read("q") == []
    assert store.append("q", [JUDGED], expected_version=0)[0].version == 1


def test_two_writers_between_look_and_put_still_make_one_decision() -> None:
    dynamodb = table()
    first = DynamoDBLifecycleStore(dynamodb, "lifecycle")

    class Hasty:
        """Looks before the other writer has put, and puts after."""

        def query(self, **arguments: Any) -> Any:
            answer = dynamodb.query(**arguments)
            first.append("p", [STARTED], expected_version=0)
            return answer

        def put_item(self, **arguments: Any) -> Any:
            return dynamodb.put_item(**arguments)

    second = DynamoDBLifecycleStore(Hasty(), "lifecycle")
    with pytest.raises(StreamConflictError):
        second.append("p", [JUDGED], expected_version=0)

    assert [recorded.kind for recorded in first.read("p")] == ["retraining_started"]


def test_a_table_that_refuses_is_a_store_to_try_again() -> None:
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    store = DynamoDBLifecycleStore(dynamodb, "absent")

    with pytest.raises(StoreUnavailableError, match="'absent'") as caught:
        store.read("p")

    assert isinstance(caught.value.__cause__, ClientError)


def test_an_item_is_read_back_bit_for_bit() -> None:
    recorded = Recorded(3, "candidate_judged", 9, {"roc_auc": 0.1 + 0.2}, "why")

    assert from_item(to_item("p", recorded)) == ("p", recorded)
