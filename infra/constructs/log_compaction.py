"""A function that merges the log's segments, every day."""

from aws_cdk import aws_events as events
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.event_calls import EventCalls
from infra.constructs.pipeline_function import METRICS_NAMESPACE, PipelineFunction


class LogCompaction(Construct):
    """A schedule, a queue for what could not be done, and alarms.

    Every run goes on from what is in the bucket, so one that fails costs a day. An
    identity that had another payload, which is too far back for the state of its key
    to notice, rings.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: PipelineFunction,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        calls = EventCalls(
            self, "Calls", description="The log was not compacted", alarms=alarms
        )
        events.Rule(
            self,
            "Daily",
            description="Merge the log's segments of the days that are over",
            schedule=events.Schedule.cron(hour="2", minute="0"),
            targets=[calls.of("Compaction", function)],
        )
        alarms.watch(
            self,
            "ReusedIdentities",
            description="One identity came with two payloads: see the quarantine",
            namespace=METRICS_NAMESPACE,
            metric="ReusedIdentities",
            dimensions=function.metric_dimensions,
        )
