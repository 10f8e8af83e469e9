"""A function that consumes the DynamoDB stream of the lifecycle table."""

from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.pipeline_function import PipelineFunction
from infra.constructs.quarantine import Quarantine
from infra.constructs.stream_consumer import RETRIES
from infra.constructs.tables import LifecycleStore

# DynamoDB keeps a stream for 24 h; an hour is left to put the rest aside.
OLDEST = Duration.hours(23)


class TableConsumer(Construct):
    """An event source mapping of new decisions, in their order.

    What cannot be delivered goes to the quarantine bucket; an alarm tells, and another
    tells if nobody reads.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: PipelineFunction,
        table: LifecycleStore,
        quarantine: Quarantine,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        table.grant_consume(function.role)
        quarantine.grant_undelivered(function.role)
        mapping = lambda_.CfnEventSourceMapping
        source = mapping(
            self,
            "Mapping",
            batch_size=100,
            bisect_batch_on_function_error=True,
            destination_config=mapping.DestinationConfigProperty(
                on_failure=mapping.OnFailureProperty(destination=quarantine.bucket_arn)
            ),
            event_source_arn=table.stream_arn,
            function_name=function.function.function_name,
            function_response_types=["ReportBatchItemFailures"],
            maximum_batching_window_in_seconds=0,
            maximum_record_age_in_seconds=OLDEST.to_seconds(),
            maximum_retry_attempts=RETRIES,
            metrics_config=mapping.MetricsConfigProperty(metrics=["EventCount"]),
            parallelization_factor=1,
            starting_position="TRIM_HORIZON",
        )
        source.node.add_dependency(function.role)
        alarms.watch(
            self,
            "IteratorAge",
            description=f"{construct_id} is more than a minute behind the table",
            namespace="AWS/Lambda",
            metric="IteratorAge",
            dimensions={"FunctionName": function.function.function_name},
            statistic="Maximum",
            above=Duration.minutes(1).to_milliseconds(),
            periods=5,
            breaching=3,
        )
        alarms.watch_silence(
            self,
            "Polls",
            description=f"{construct_id} does not read the table: what is not read is "
            "lost once it is older than the retention; see whether it is enabled",
            namespace="AWS/Lambda",
            metric="PolledEventCount",
            dimensions={"EventSourceMappingUUID": source.ref},
        )
        for metric, what in {
            "OnFailureDestinationDeliveredEventCount": "gave up on decisions; they are "
            "in the quarantine bucket: see `retrodict undelivered`",
            "DroppedEventCount": "dropped decisions that no destination took",
        }.items():
            alarms.watch(
                self,
                metric,
                description=f"{construct_id} {what}",
                namespace="AWS/Lambda",
                metric=metric,
                dimensions={"EventSourceMappingUUID": source.ref},
            )
