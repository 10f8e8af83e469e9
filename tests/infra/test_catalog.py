"""The tables of the catalog have the columns of the files, at every depth."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from aws_cdk import App, Stack
from retrodict.compaction import GRACE_US, compact_log
from retrodict.contracts import Event, Key
from retrodict.pipeline import load_catalog
from retrodict_aws.s3_event_log import S3EventLog
from retrodict_aws.segments import schema_of

from infra.constructs.catalog import EVENT_COLUMNS, Catalog, table_name
from tests.events import NOON_US, reading
from tests.fake_s3 import FakeS3
from tests.fakes import FakeQuarantine
from tests.infra.conftest import ENVIRONMENTS, Assembly

CONTRACTS = {name: e.contract() for name, e in load_catalog().contracts.items()}


def glue_type(kind: pa.DataType) -> str:
    """Return what Glue calls a type of Arrow."""
    if pa.types.is_struct(kind):
        members = ",".join(f"{m.name.lower()}:{glue_type(m.type)}" for m in kind)
        return f"struct<{members}>"
    if pa.types.is_list(kind):
        return f"array<{glue_type(kind.value_type)}>"
    return {
        pa.string(): "string", pa.int32(): "int", pa.int64(): "bigint",
        pa.float64(): "double", pa.bool_(): "boolean",
    }[kind]  # fmt: skip


def tables(assembly: Assembly, environment: str) -> dict[str, dict[str, Any]]:
    found = assembly.resources("AWS::Glue::Table", environment=environment)
    inputs = [table.properties["TableInput"] for table in found]
    return {table["Name"]: table for table in inputs}


def columns(table: dict[str, Any]) -> dict[str, str]:
    found = table["StorageDescriptor"]["Columns"]
    return {column["Name"]: column["Type"] for column in found}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_event_type_has_a_table_with_the_columns_of_its_segments(
    assembly: Assembly, environment: str
) -> None:
    found = tables(assembly, environment)

    assert found.keys() == {"events", "quarantine", *map(table_name, CONTRACTS)}
    for event_type, contract in CONTRACTS.items():
        assert columns(found[table_name(event_type)]) == {
            field.name: glue_type(field.type) for field in schema_of(contract)
        }
    assert columns(found["events"]) == {
        field.name: glue_type(field.type) for field in schema_of(None)
    }
    assert columns(found["events"]) == EVENT_COLUMNS


def test_a_reading_is_a_struct_of_typed_members(assembly: Assembly) -> None:
    data = columns(tables(assembly, "dev")["sensor_reading"])["data"]

    assert data.startswith("struct<sensor_id:string,value:double")


def test_partitions_are_projected_from_the_names_of_the_segments(
    assembly: Assembly,
) -> None:
    found = tables(assembly, "prod")

    for event_type in CONTRACTS:
        table = found[table_name(event_type)]
        told = table["Parameters"]
        assert [key["Name"] for key in table["PartitionKeys"]] == ["arrived"]
        assert told["projection.enabled"] == "true"
        end = told["storage.location.template"]["Fn::Join"][1][-1]
        assert end == f"/segments/type={event_type}/arrived=${{arrived}}"
    assert [key["Name"] for key in found["events"]["PartitionKeys"]] == [
        "type", "arrived"
    ]  # fmt: skip


def test_two_types_never_share_a_table() -> None:
    class Dotted(Event, type="a.b_c", version=1):
        key: Key[str]

    class Underscored(Event, type="a_b.c", version=1):
        key: Key[str]

    with pytest.raises(ValueError, match="share the table 'a_b_c'"):
        Catalog(
            Stack(App(), "S"),
            "Catalog",
            database_name="d",
            contracts=[Dotted.contract(), Underscored.contract()],
            events_uri="s3://b/segments/",
            quarantine_uri="s3://b/rejected/",
        )


def test_a_parquet_reader_finds_segments_of_both_depths_below_a_partition(
    tmp_path: Path,
) -> None:
    s3 = FakeS3()
    s3.now_us = NOON_US
    log = S3EventLog(s3, "log", contracts=load_catalog().contracts)
    first = [reading(float(n), number=n, id=str(n)) for n in range(1, 6)]
    log.append("type=sensor.reading/arrived=2026-01-05/shard-1", first)
    for days in (1, 2):
        s3.now_us = NOON_US + days * GRACE_US
        compact_log(log, FakeQuarantine(), s3.now_us, lookback_days=1)
    log.append(
        "type=sensor.reading/arrived=2026-01-05/shard-2",
        [reading(6.0, number=6, id="6", data={"site": None})],
    )
    for key, (body, _, _) in s3.objects.items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    location = tmp_path / "segments/type=sensor.reading/arrived=2026-01-05"
    dataset = ds.dataset(
        location, format="parquet", schema=schema_of(CONTRACTS["sensor.reading"])
    )
    table = dataset.to_table(columns={"value": ds.field("data", "value")})

    depths = {
        len(path.relative_to(location).parts) for path in location.rglob("*.parquet")
    }
    assert depths == {1, 2}
    assert sorted(table["value"].to_pylist()) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
