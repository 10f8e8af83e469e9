"""Functions that EventBridge calls, and what becomes of a call that fails."""

from aws_cdk import Duration
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.grants import accept_finding
from infra.constructs.pipeline_function import PipelineFunction

RETRIES = 185  # the most EventBridge accepts
OLDEST = Duration.hours(24)


class EventCalls(Construct):
    """Targets of rules, a queue for what they did not do, and its alarm.

    Two things can fail, and both end in the queue: EventBridge cannot reach a
    function, or a function fails three times. Messages are names, times and errors,
    not data, so the queue is encrypted by SQS: EventBridge then needs no key of ours.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    description
        Of the alarm: what was not done.
    alarms
        Where the alarm goes.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        description: str,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self._failed = sqs.Queue(
            self,
            "Failed",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        accept_finding(
            self._failed,
            "AwsSolutions-SQS3",
            "this queue is itself the dead-letter queue of the rules and functions; "
            "its alarm fires at the first message",
        )
        alarms.watch(
            self,
            "FailedCalls",
            description=f"{description}: see the queue's messages",
            namespace="AWS/SQS",
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": self._failed.queue_name},
            statistic="Maximum",
        )

    def of(
        self, construct_id: str, function: PipelineFunction
    ) -> targets.LambdaFunction:
        """Return a function as the target of rules; once for each function."""
        lambda_.EventInvokeConfig(
            self,
            construct_id,
            function=function.function,
            max_event_age=Duration.hours(6),
            on_failure=destinations.SqsDestination(self._failed),
            retry_attempts=2,
        )
        return targets.LambdaFunction(
            function.function,
            dead_letter_queue=self._failed,
            max_event_age=OLDEST,
            retry_attempts=RETRIES,
        )
