"""Files that are dropped in a bucket, handed to a function one by one."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.grants import accept_finding
from infra.constructs.import_bucket import ImportBucket
from infra.constructs.pipeline_function import PipelineFunction

RETRIES = 185  # the most EventBridge accepts
OLDEST = Duration.hours(24)


class FileImport(Construct):
    """A rule that calls `function` for every new object of `imports`.

    Two things can fail, and both end in one queue with an alarm: EventBridge cannot
    reach the function, or the function fails three times. The message there names
    the object, so a file can be dropped again.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        imports: ImportBucket,
        function: PipelineFunction,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        imports.grant_read(function.role)
        # Messages are names of objects and errors, not data, so the queue is
        # encrypted by SQS: EventBridge then needs no key of ours.
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
            "NewFiles",
            description="A file was dropped in the import bucket",
            event_pattern=imports.new_objects,
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
            "FailedImports",
            description="A dropped file was not imported: see the queue's messages",
            namespace="AWS/SQS",
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": failed.queue_name},
            statistic="Maximum",
        )
