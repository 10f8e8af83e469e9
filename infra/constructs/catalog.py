"""The Glue catalog: the log and the quarantine, as tables that Athena can query."""

from collections.abc import Iterable, Mapping

from aws_cdk import Stack
from aws_cdk import aws_glue as glue
from constructs import Construct
from retrodict.contracts import Contract

# Names and Glue types of the columns that every segment has.
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
    "identity": "bigint",
    "check": "int",
    "edge": "string",
    "raw_data": "string",
    "causation_id": "string",
    "correlation_id": "string",
}
TYPES = {str: "string", int: "bigint", float: "double", bool: "boolean"}
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


def table_name(event_type: str) -> str:
    """Return the name of the table of an event type.

    Examples
    --------
    >>> table_name("sensor.reading")
    'sensor_reading'
    """
    return event_type.replace(".", "_")


def event_columns(contract: Contract) -> dict[str, str]:
    """Return the columns of the events of one type: `data` is a struct."""
    members = ",".join(
        f"{ref.name.lower()}:{TYPES[ref.type]}" for ref in contract.fields
    )
    columns = {}
    for name, kind in EVENT_COLUMNS.items():
        if name == "raw_data":
            columns["data"] = f"struct<{members}>"
        columns[name] = kind
    return columns


class Catalog(Construct):
    """One Glue database: a table an event type, `events` of all, and `quarantine`.

    In the table of a type, ``data.value`` is a column. Partitions are projected from
    the layout of the keys, so no crawler runs and a new segment is visible to SQL at
    once; Athena reads whatever is below a partition's location, merged segments as
    well. A query over `events` names one or more event types, because their set is
    open: ``WHERE type = 'sensor.reading'``.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    database_name
        The only physical name in the system: people type it in SQL.
    contracts
        The contract of each event type that gets a table.
    events_uri, quarantine_uri
        Where the files of each table start, with a closing slash.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        database_name: str,
        contracts: Iterable[Contract],
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
        self._segments(
            "Events",
            name="events",
            description="Accepted events of every type, in Parquet",
            columns=EVENT_COLUMNS,
            partitions=["type", "arrived"],
            location=events_uri,
            template=f"{events_uri}type=${{type}}/arrived=${{arrived}}",
            more={"projection.type.type": "injected"},
        )
        taken = {"events", "quarantine"}
        for contract in contracts:
            name = table_name(contract.type)
            if name in taken:
                raise ValueError(
                    f"{contract.type!r} and another type would share the table "
                    f"{name!r}: rename one of them"
                )
            taken.add(name)
            below = f"{events_uri}type={contract.type}/"
            self._segments(
                "EventsOf" + "".join(w.title() for w in name.split("_")),
                name=name,
                description=f"Events {contract.schema_name()}, in Parquet",
                columns=event_columns(contract),
                partitions=["arrived"],
                location=below,
                template=f"{below}arrived=${{arrived}}",
                more={},
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

    def _segments(  # noqa: PLR0913 - every argument is named
        self,
        construct_id: str,
        *,
        name: str,
        description: str,
        columns: Mapping[str, str],
        partitions: list[str],
        location: str,
        template: str,
        more: Mapping[str, str],
    ) -> None:
        self._table(
            construct_id,
            name=name,
            description=description,
            columns=columns,
            partitions=partitions,
            location=location,
            parameters={
                **_ARRIVED,
                "classification": "parquet",
                "storage.location.template": template,
                **more,
            },
            input_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            output_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            serde="org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        )

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
