"""The Glue catalog: the log and the quarantine, as tables that Athena can query."""

from collections.abc import Mapping

from aws_cdk import Stack
from aws_cdk import aws_glue as glue
from constructs import Construct

# Names and Glue types of the columns, in the order of the files.
EVENT_COLUMNS = {
    "key": "string",
    "source": "string",
    "id": "string",
    "schema_version": "int",
    "time_us": "bigint",
    "observed_at_us": "bigint",
    "position": "string",
    "late": "boolean",
    "tags": "array<string>",
    "digest": "string",
    "data": "string",
    "causation_id": "string",
    "correlation_id": "string",
}
QUARANTINE_COLUMNS = {
    "position": "string",
    "arrival_us": "bigint",
    "partition_key": "string",
    "codes": "array<string>",
    "sha256": "string",
    "bytes_base64": "string",
    "reasons": ("array<struct<code:string,field:string,expected:string,got:string>>"),
    "source": "string",
    "id": "string",
    "key": "string",
}
_ARRIVED = {
    "projection.enabled": "true",
    "projection.arrived.type": "date",
    "projection.arrived.format": "yyyy-MM-dd",
    "projection.arrived.range": "2020-01-01,NOW+1DAYS",
}


class Catalog(Construct):
    """One Glue database with the tables `events` and `quarantine`.

    Partitions are projected from the layout of the keys, so no crawler runs and a
    new segment is visible to SQL at once. A query over `events` names one or more
    event types, because their set is open: ``WHERE type = 'sensor.reading'``.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    database_name
        The only physical name in the system: people type it in SQL.
    events_uri, quarantine_uri
        Where the files of each table start, with a closing slash.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        database_name: str,
        events_uri: str,
        quarantine_uri: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Stack.of(self).account,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=database_name, description="Retrodict: the log, as SQL sees it"
            ),
        )
        self._table(
            "Events",
            name="events",
            description="Accepted events, in Parquet",
            columns=EVENT_COLUMNS,
            partitions=["type", "arrived"],
            location=events_uri,
            parameters={
                **_ARRIVED,
                "classification": "parquet",
                "projection.type.type": "injected",
                "storage.location.template": (
                    f"{events_uri}type=${{type}}/arrived=${{arrived}}"
                ),
            },
            input_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            output_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            serde="org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        )
        self._table(
            "Quarantine",
            name="quarantine",
            description="Rejected records with their bytes and reasons, as JSON lines",
            columns=QUARANTINE_COLUMNS,
            partitions=["arrived"],
            location=quarantine_uri,
            parameters={
                **_ARRIVED,
                "classification": "json",
                "storage.location.template": f"{quarantine_uri}arrived=${{arrived}}",
            },
            input_format="org.apache.hadoop.mapred.TextInputFormat",
            output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            serde="org.openx.data.jsonserde.JsonSerDe",
        )

    @property
    def database_name(self) -> str:
        """Name of the database, which exists once the reference resolves."""
        return self._database.ref

    def _table(  # noqa: PLR0913 - every argument is named
        self,
        construct_id: str,
        *,
        name: str,
        description: str,
        columns: Mapping[str, str],
        partitions: list[str],
        location: str,
        parameters: Mapping[str, str],
        input_format: str,
        output_format: str,
        serde: str,
    ) -> None:
        column = glue.CfnTable.ColumnProperty
        glue.CfnTable(
            self,
            construct_id,
            catalog_id=Stack.of(self).account,
            database_name=self._database.ref,
            table_input=glue.CfnTable.TableInputProperty(
                name=name,
                description=description,
                table_type="EXTERNAL_TABLE",
                parameters=dict(parameters),
                partition_keys=[
                    column(name=partition, type="string") for partition in partitions
                ],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=[column(name=n, type=t) for n, t in columns.items()],
                    location=location,
                    input_format=input_format,
                    output_format=output_format,
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library=serde
                    ),
                ),
            ),
        )
