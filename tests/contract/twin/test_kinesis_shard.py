"""A shard keeps every acknowledged record, in order, through splits and merges."""

import threading
from typing import Any

from infra.local.twin import Twin
from tests.contract.twin.assembly import ref, resource
from tests.contract.twin.conftest import Start

OUTPUT = {"Stream": {"Value": ref("Stream")}}


def stream(start: Start, shards: int) -> tuple[Twin, Any, str]:
    twin = start(
        {"Stream": resource("AWS::Kinesis::Stream", ShardCount=shards)},
        outputs=OUTPUT,
    )
    return twin, twin.client("kinesis"), twin.outputs()["Stream"]


def read(kinesis: Any, name: str, shard_id: str) -> tuple[list[bytes], bool]:
    """Read a shard until it gives nothing; say whether it is over."""
    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found: list[bytes] = []
    while True:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=1000)
        found += [record["Data"] for record in answer["Records"]]
        iterator = answer.get("NextShardIterator")
        if iterator is None or not answer["Records"]:
            return found, iterator is None


def test_concurrent_writers_lose_no_acknowledged_record(start: Start) -> None:
    _, kinesis, name = stream(start, shards=1)

    def write(writer: int) -> None:
        for call in range(20):
            kinesis.put_records(
                StreamName=name,
                Records=[
                    {"Data": f"{writer}-{call}-{n}".encode(), "PartitionKey": "k"}
                    for n in range(50)
                ],
            )

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    found, _ = read(kinesis, name, "shardId-000000000000")
    assert len(set(found)) == len(found) == 4 * 20 * 50


def test_a_split_leaves_records_in_the_parent_and_writes_to_the_children(
    start: Start,
) -> None:
    _, kinesis, name = stream(start, shards=1)
    kinesis.put_record(StreamName=name, Data=b"before", PartitionKey="k")

    kinesis.split_shard(
        StreamName=name,
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=str(2**127),
    )
    placed = kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="k")
    shards = kinesis.list_shards(StreamName=name)["Shards"]

    assert read(kinesis, name, "shardId-000000000000") == ([b"before"], True)
    assert read(kinesis, name, placed["ShardId"]) == ([b"after"], False)
    assert [shard.get("ParentShardId") for shard in shards] == [
        None,
        "shardId-000000000000",
        "shardId-000000000000",
    ]


def test_a_merge_leaves_records_in_both_parents(start: Start) -> None:
    _, kinesis, name = stream(start, shards=2)
    for key in ("0", str(2**127)):
        kinesis.put_record(
            StreamName=name, Data=key.encode(), PartitionKey="k", ExplicitHashKey=key
        )

    kinesis.merge_shards(
        StreamName=name,
        ShardToMerge="shardId-000000000000",
        AdjacentShardToMerge="shardId-000000000001",
    )
    placed = kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="k")

    assert placed["ShardId"] == "shardId-000000000002"
    assert read(kinesis, name, "shardId-000000000000") == ([b"0"], True)
    assert read(kinesis, name, "shardId-000000000001") == ([b"%d" % 2**127], True)


def test_the_highest_hash_key_has_a_shard(start: Start) -> None:
    _, kinesis, name = stream(start, shards=4)

    placed = kinesis.put_record(
        StreamName=name,
        Data=b"x",
        PartitionKey="k",
        ExplicitHashKey=str(2**128 - 1),
    )

    assert placed["ShardId"] == "shardId-000000000003"
