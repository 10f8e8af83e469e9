"""The state of one environment: nothing here may ever be replaced or lost."""

from aws_cdk import CfnOutput, Duration, Environment, Stack
from constructs import Construct
from retrodict.pipeline import load_catalog

from infra.constructs.artifact_bucket import ArtifactBucket
from infra.constructs.bucket import AccessLogBucket
from infra.constructs.catalog import Catalog
from infra.constructs.encryption import EncryptionKey
from infra.constructs.event_log import EventLog
from infra.constructs.import_bucket import ImportBucket
from infra.constructs.quarantine import Quarantine
from infra.constructs.stream import EventStream
from infra.constructs.tables import LifecycleStore, OnlineStore
from infra.settings import Settings


class StateStack(Stack):
    """Streams, buckets, tables and the catalog, with the names people need."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: Settings
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Retrodict {settings.name}: the log and what is folded of it",
            env=Environment(account=settings.account, region=settings.region),
            termination_protection=True,
        )
        key = self.key = EncryptionKey(
            self, "DataKey", purpose="events and what is made of them"
        )
        retention = Duration.hours(settings.stream_retention_hours)
        access_logs = AccessLogBucket(self, "AccessLogs")

        self.ingest = EventStream(self, "Ingest", key=key, retention=retention)
        self.events = EventStream(self, "Events", key=key, retention=retention)
        self.predictions = EventStream(
            self, "Predictions", key=key, retention=retention
        )
        self.event_log = EventLog(self, "EventLog", key=key, access_logs=access_logs)
        self.quarantine = Quarantine(
            self, "Quarantine", key=key, access_logs=access_logs
        )
        self.imports = ImportBucket(self, "Imports", key=key, access_logs=access_logs)
        self.artifacts = ArtifactBucket(
            self, "Artifacts", key=key, access_logs=access_logs
        )
        self.online_store = OnlineStore(self, "OnlineStore", key=key)
        self.lifecycle_store = LifecycleStore(self, "LifecycleStore", key=key)
        catalog = Catalog(
            self,
            "Catalog",
            database_name=f"retrodict_{settings.name}",
            contracts=[
                event.contract()
                for _, event in sorted(load_catalog().contracts.items())
            ],
            events_uri=self.event_log.segments_uri,
            quarantine_uri=self.quarantine.rejected_uri,
        )

        for name, value in {
            "IngestStreamName": self.ingest.stream_name,
            "EventsStreamName": self.events.stream_name,
            "PredictionsStreamName": self.predictions.stream_name,
            "EventLogBucketName": self.event_log.bucket_name,
            "QuarantineBucketName": self.quarantine.bucket_name,
            "ImportBucketName": self.imports.bucket_name,
            "ArtifactBucketName": self.artifacts.bucket_name,
            "OnlineStoreTableName": self.online_store.table_name,
            "LifecycleTableName": self.lifecycle_store.table_name,
            "GlueDatabaseName": catalog.database_name,
        }.items():
            CfnOutput(self, name, value=value)
