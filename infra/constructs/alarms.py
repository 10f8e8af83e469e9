"""Where an alarm goes, and what every alarm has in common."""

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

PERIOD = Duration.minutes(1)
SILENT_PERIOD = Duration.minutes(5)
SILENT_PERIODS = 3


class AlarmTopic(Construct):
    """An encrypted topic that every alarm of the environment is published on.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    key
        Customer managed key; CloudWatch is let to use it for this account's alarms.
    """

    def __init__(self, scope: Construct, construct_id: str, *, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        self._topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=True)
        only_ours = {
            "StringEquals": {"aws:SourceAccount": Stack.of(self).account},
        }
        cloudwatch_service = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        self._topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsMayPublish",
                principals=[cloudwatch_service],
                actions=["sns:Publish"],
                resources=[self._topic.topic_arn],
                conditions=only_ours,
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsMayPublish",
                principals=[cloudwatch_service],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=["*"],
                conditions=only_ours,
            )
        )

    def watch(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        description: str,
        namespace: str,
        metric: str,
        dimensions: dict[str, str],
        above: float = 0,
        statistic: str = "Sum",
        periods: int = 1,
        breaching: int = 1,
    ) -> None:
        """Publish when `metric` was over `above` in `breaching` of `periods` minutes.

        No data is no alarm: a function that is not called has no errors.
        """
        alarm = cloudwatch.Alarm(
            scope,
            construct_id,
            alarm_description=description,
            metric=cloudwatch.Metric(
                namespace=namespace,
                metric_name=metric,
                dimensions_map=dimensions,
                statistic=statistic,
                period=PERIOD,
            ),
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=periods,
            datapoints_to_alarm=breaching,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        self.tell(alarm)

    def watch_silence(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        description: str,
        namespace: str,
        metric: str,
        dimensions: dict[str, str],
    ) -> None:
        """Publish when `metric`, a count, has had no value for a while, not even 0.

        No count is below 0, so nothing breaches but its absence. CloudWatch looks back
        some periods more than it needs, so that it rings within half an hour.
        """
        alarm = cloudwatch.Alarm(
            scope,
            construct_id,
            alarm_description=description,
            metric=cloudwatch.Metric(
                namespace=namespace,
                metric_name=metric,
                dimensions_map=dimensions,
                statistic="Sum",
                period=SILENT_PERIOD,
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=SILENT_PERIODS,
            datapoints_to_alarm=SILENT_PERIODS,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )
        self.tell(alarm)

    def tell(self, alarm: cloudwatch.Alarm) -> None:
        """Publish when `alarm` rings."""
        alarm.add_alarm_action(actions.SnsAction(self._topic))
