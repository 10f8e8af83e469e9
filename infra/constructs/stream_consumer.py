"""A function fed by a stream, with no way for a record to be lost quietly."""

import json
from collections.abc import Collection

from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from constructs import Construct
from retrodict_aws.kinesis_event_stream import filter_of

from infra.constructs.alarms import AlarmTopic
from infra.constructs.pipeline_function import PipelineFunction
from infra.constructs.quarantine import Quarantine
from infra.constructs.stream import EventStream

# The most Lambda accepts: an outage of hours must not use the retries up.
RETRIES = 10_000
MARGIN = Duration.hours(1)
OLDEST_ACCEPTED = Duration.days(7)


class StreamConsumer(Construct):
    """An event source mapping that stops at the first failure of a shard.

    Records of one key arrive in order: one batch a shard at a time. A failed batch
    is halved until the record that fails is alone, and retried until `MARGIN` before
    the stream forgets it; then its bytes, not only its place, go to the quarantine
    bucket and an alarm tells. Another tells if it does not read, hours before anything
    is lost.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    function
        What consumes the stream; its role is given what the mapping needs.
    stream
        What is consumed, from its oldest record on.
    batch_size
        Most records of one invocation.
    window
        How long to collect a batch.
    quarantine
        Where records go that cannot be delivered.
    alarms
        Where alarms go.
    types
        Deliver only records that hold an event of one of these types, all if None.
        A record that is no record of ours is left out then, so one consumer of each
        stream has to take them all.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: PipelineFunction,
        stream: EventStream,
        batch_size: int,
        window: Duration,
        quarantine: Quarantine,
        alarms: AlarmTopic,
        types: Collection[str] | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        stream.grant_consume(function.role)
        quarantine.grant_undelivered(function.role)
        mapping = lambda_.CfnEventSourceMapping
        source = mapping(
            self,
            "Mapping",
            batch_size=batch_size,
            bisect_batch_on_function_error=True,
            destination_config=mapping.DestinationConfigProperty(
                on_failure=mapping.OnFailureProperty(destination=quarantine.bucket_arn)
            ),
            event_source_arn=stream.stream_arn,
            filter_criteria=_criteria(types),
            function_name=function.function.function_name,
            function_response_types=["ReportBatchItemFailures"],
            maximum_batching_window_in_seconds=window.to_seconds(),
            maximum_record_age_in_seconds=_oldest(stream.retention),
            maximum_retry_attempts=RETRIES,
            metrics_config=mapping.MetricsConfigProperty(metrics=["EventCount"]),
            parallelization_factor=1,
            starting_position="TRIM_HORIZON",
        )
        # Lambda tries the role when the mapping is made, so its policy comes first.
        source.node.add_dependency(function.role)

        alarms.watch(
            self,
            "IteratorAge",
            description=f"{construct_id} is more than a minute behind its stream",
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
            description=f"{construct_id} does not read its stream: what is not read is "
            "lost once it is older than the retention; see whether it is enabled",
            namespace="AWS/Lambda",
            metric="PolledEventCount",
            dimensions={"EventSourceMappingUUID": source.ref},
        )
        for metric, what in {
            "OnFailureDestinationDeliveredEventCount": "gave up on records; they are "
            "in the quarantine bucket: see `retrodict undelivered`",
            "DroppedEventCount": "dropped records that no destination took",
        }.items():
            alarms.watch(
                self,
                metric,
                description=f"{construct_id} {what}",
                namespace="AWS/Lambda",
                metric=metric,
                dimensions={"EventSourceMappingUUID": source.ref},
            )


def _criteria(
    types: Collection[str] | None,
) -> lambda_.CfnEventSourceMapping.FilterCriteriaProperty | None:
    if types is None:
        return None
    mapping = lambda_.CfnEventSourceMapping
    pattern = json.dumps(filter_of(types), separators=(",", ":"))
    return mapping.FilterCriteriaProperty(
        filters=[mapping.FilterProperty(pattern=pattern)]
    )


def _oldest(retention: Duration) -> int:
    seconds = min(retention.to_seconds(), OLDEST_ACCEPTED.to_seconds())
    return int(seconds - MARGIN.to_seconds())
