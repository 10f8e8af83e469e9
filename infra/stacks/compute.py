"""The functions of one environment: anything here can be replaced at any time."""

from aws_cdk import CfnOutput, Duration, Environment, Stack
from constructs import Construct
from retrodict.pipeline import folded_types, load_pipelines

from infra.constructs.alarms import AlarmTopic
from infra.constructs.encryption import EncryptionKey
from infra.constructs.file_import import FileImport
from infra.constructs.layers import CodeLayer, DependencyLayer
from infra.constructs.log_compaction import LogCompaction
from infra.constructs.pipeline_function import (
    METRICS_NAMESPACE,
    PipelineFunction,
    Workplace,
    let_logs_use,
)
from infra.constructs.state_machine import StateMachine
from infra.constructs.stream_consumer import StreamConsumer
from infra.settings import Settings
from infra.stacks.state import StateStack

IDENTITY_LOOKBACK_DAYS = 35


class ComputeStack(Stack):
    """Validate, fold, archive, import and compact, wired to the state."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        state: StateStack,
        stage_dependencies: bool,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Retrodict {settings.name}: functions and their alarms",
            env=Environment(account=settings.account, region=settings.region),
        )
        key = EncryptionKey(self, "OperationsKey", purpose="log groups and alarms")
        let_logs_use(key)
        self._state = state
        self._alarms = AlarmTopic(self, "Alarms", key=key)
        self._workplace = Workplace(
            environment=settings.name,
            key=key,
            alarms=self._alarms,
            log_retention_days=settings.log_retention_days,
            layers=[
                CodeLayer(self, "CoreLayer", name="core"),
                CodeLayer(self, "AdaptersLayer", name="adapters"),
                CodeLayer(self, "PipelinesLayer", name="pipelines"),
            ],
        )
        hot = DependencyLayer(self, "HotLayer", name="hot", staged=stage_dependencies)
        arrow = DependencyLayer(
            self, "ArrowLayer", name="arrow", staged=stage_dependencies
        )
        dataframe = DependencyLayer(
            self, "DataframeLayer", name="dataframe", staged=stage_dependencies
        )

        self._validate_records(hot)
        self._write_features(hot, Duration.seconds(settings.feature_window_seconds))
        self._archive_events(arrow, Duration.seconds(settings.archive_window_seconds))
        self._import_files(dataframe)
        self._compact_log(arrow)
        rebuild = self._rebuild(arrow)
        CfnOutput(self, "RebuildStateMachineArn", value=rebuild.arn)

    def _validate_records(self, dependencies: DependencyLayer) -> None:
        state = self._state
        function = PipelineFunction(
            self,
            "ValidateRecords",
            name="validate_records",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=1_024,
            timeout=Duration.minutes(1),
            variables={
                "EVENTS_STREAM_NAME": state.events.stream_name,
                "QUARANTINE_BUCKET_NAME": state.quarantine.bucket_name,
            },
        )
        state.events.grant_put(function.role)
        state.quarantine.grant_quarantine(function.role)
        state.event_log.forbid_erasure(function.role)
        StreamConsumer(
            self,
            "IngestToValidateRecords",
            function=function,
            stream=state.ingest,
            batch_size=500,
            window=Duration.seconds(0),
            quarantine=state.quarantine,
            alarms=self._alarms,
        )

    def _write_features(self, dependencies: DependencyLayer, window: Duration) -> None:
        state = self._state
        function = PipelineFunction(
            self,
            "WriteFeatures",
            name="write_features",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=1_024,
            timeout=Duration.minutes(2),
            variables={
                "INGEST_STREAM_NAME": state.ingest.stream_name,
                "ONLINE_STORE_TABLE_NAME": state.online_store.table_name,
                "QUARANTINE_BUCKET_NAME": state.quarantine.bucket_name,
            },
        )
        state.ingest.grant_put(function.role)
        state.online_store.grant_fold(function.role)
        state.quarantine.grant_quarantine(function.role)
        state.event_log.forbid_erasure(function.role)
        StreamConsumer(
            self,
            "EventsToWriteFeatures",
            function=function,
            stream=state.events,
            batch_size=100,
            window=window,
            quarantine=state.quarantine,
            alarms=self._alarms,
            types=folded_types(load_pipelines().values()),
        )
        self._alarms.watch(
            self,
            "ConflictingEvents",
            description="One identity came with two payloads: see the quarantine",
            namespace=METRICS_NAMESPACE,
            metric="ConflictingEvents",
            dimensions=function.metric_dimensions,
        )
        self._alarms.watch(
            self,
            "TooFastEvents",
            description="A key sends more than its max_rate: see the quarantine",
            namespace=METRICS_NAMESPACE,
            metric="TooFastEvents",
            dimensions=function.metric_dimensions,
        )

    def _archive_events(self, dependencies: DependencyLayer, window: Duration) -> None:
        state = self._state
        function = PipelineFunction(
            self,
            "ArchiveEvents",
            name="archive_events",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=1_769,
            timeout=Duration.minutes(2),
            variables={
                "EVENT_LOG_BUCKET_NAME": state.event_log.bucket_name,
                "QUARANTINE_BUCKET_NAME": state.quarantine.bucket_name,
            },
        )
        state.event_log.grant_append(function.role)
        state.quarantine.grant_quarantine(function.role)
        state.event_log.forbid_erasure(function.role)
        StreamConsumer(
            self,
            "EventsToArchiveEvents",
            function=function,
            stream=state.events,
            batch_size=1_000,
            window=window,
            quarantine=state.quarantine,
            alarms=self._alarms,
        )

    def _import_files(self, dependencies: DependencyLayer) -> None:
        state = self._state
        function = PipelineFunction(
            self,
            "ImportFiles",
            name="import_files",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
            variables={
                "INGEST_STREAM_NAME": state.ingest.stream_name,
                "QUARANTINE_BUCKET_NAME": state.quarantine.bucket_name,
            },
        )
        state.ingest.grant_put(function.role)
        state.quarantine.grant_quarantine(function.role)
        state.event_log.forbid_erasure(function.role)
        FileImport(
            self,
            "FileImport",
            imports=state.imports,
            function=function,
            alarms=self._alarms,
        )

    def _compact_log(self, dependencies: DependencyLayer) -> None:
        state = self._state
        function = PipelineFunction(
            self,
            "CompactLog",
            name="compact_log",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
            variables={
                "EVENT_LOG_BUCKET_NAME": state.event_log.bucket_name,
                "IDENTITY_LOOKBACK_DAYS": str(IDENTITY_LOOKBACK_DAYS),
                "QUARANTINE_BUCKET_NAME": state.quarantine.bucket_name,
            },
        )
        state.event_log.grant_compact(function.role)
        state.quarantine.grant_quarantine(function.role)
        LogCompaction(self, "LogCompaction", function=function, alarms=self._alarms)

    def _rebuild(self, dependencies: DependencyLayer) -> StateMachine:
        state = self._state
        function = PipelineFunction(
            self,
            "RebuildKeys",
            name="rebuild_keys",
            workplace=self._workplace,
            dependencies=dependencies,
            memory_mib=3_008,
            timeout=Duration.minutes(15),
            variables={
                "EVENT_LOG_BUCKET_NAME": state.event_log.bucket_name,
                "ONLINE_STORE_TABLE_NAME": state.online_store.table_name,
            },
        )
        state.event_log.grant_read(function.role)
        state.event_log.forbid_erasure(function.role)
        state.online_store.grant_fold(function.role)
        state.online_store.grant_list(function.role)
        machine = StateMachine(
            self,
            "Rebuild",
            name="rebuild",
            workplace=self._workplace,
            functions={"RebuildKeysArn": function},
            substitutions={},
        )
        machine.let_map_distributed()
        return machine
