"""A function that merges the log's segments, every day."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.grants import accept_finding
from infra.constructs.pipeline_function import METRICS_NAMESPACE, PipelineFunction

RETRIES = 185  # the most EventBridge accepts
OLDEST = Duration.hours(24)


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
        # Messages are times and errors, not data: encrypted by SQS.
        failed = sqs.Queue(
            self,
            "Failed",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        accept_finding(
            failed,
            "AwsSolutions-SQS3",
            "this queue is itself the dead-letter queue of the rule and the function; "
            "its alarm fires at the first message",
        )
        lambda_.EventInvokeConfig(
            self,
            "Invocations",
            function=function.function,
            max_event_age=Duration.hours(6),
            on_failure=destinations.SqsDestination(failed),
            retry_attempts=2,
        )
        events.Rule(
            self,
            "Daily",
            description="Merge the log's segments of the days that are over",
            schedule=events.Schedule.cron(hour="2", minute="0"),
            targets=[
                targets.LambdaFunction(
                    function.function,
                    dead_letter_queue=failed,
                    max_event_age=OLDEST,
                    retry_attempts=RETRIES,
                )
            ],
        )
        alarms.watch(
            self,
            "FailedCompaction",
            description="The log was not compacted: see the queue's messages",
            namespace="AWS/SQS",
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": failed.queue_name},
            statistic="Maximum",
        )
        alarms.watch(
            self,
            "ReusedIdentities",
            description="One identity came with two payloads: see the quarantine",
            namespace=METRICS_NAMESPACE,
            metric="ReusedIdentities",
            dimensions=function.metric_dimensions,
        )
