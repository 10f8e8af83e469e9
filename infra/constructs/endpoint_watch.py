"""The alarms of an endpoint that the rollout creates: they roll a canary back."""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct
from retrodict.model import Model
from retrodict.pipeline import Pipeline
from retrodict.rollout import (
    VARIANT,
    asynchronous_name,
    endpoint_name,
    rollback_alarms,
)

from infra.constructs.alarms import AlarmTopic
from infra.constructs.pipeline_function import METRICS_NAMESPACE

PERIOD = Duration.minutes(1)


class EndpointWatch(Construct):
    """Errors, latency and decisions of one pipeline's endpoint.

    No traffic is no alarm. The names are what the rollout hands to SageMaker. A file
    that the asynchronous endpoint could not answer raises an alarm too, which rolls
    nothing back: the file and SageMaker's reason stay in the artifact bucket.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        pipeline: Pipeline,
        model: Model,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self._alarms = alarms
        self.alarms: list[cloudwatch.IAlarm] = []
        endpoint = endpoint_name(environment, pipeline.name)
        errors, latency, decisions = rollback_alarms(endpoint)
        variant = {"EndpointName": endpoint, "VariantName": VARIANT}
        self._watch(
            "Errors",
            errors,
            "The endpoint answers with 5xx",
            self._metric("AWS/SageMaker", "Invocation5XXErrors", variant, "Sum"),
            above=0,
        )
        self._watch(
            "Latency",
            latency,
            "The model takes longer than the canary allows, in microseconds",
            self._metric("AWS/SageMaker", "ModelLatency", variant, "Average"),
            above=model.rollout.max_latency_us,
        )
        about = {"environment": environment, "pipeline": pipeline.name}
        self._watch(
            "Decisions",
            decisions,
            "The share of alerts is far over the alert budget",
            self._metric(METRICS_NAMESPACE, "Alerts", about, "Average"),
            above=model.alert_budget * model.rollout.max_decision_rate,
        )
        alarms.watch(
            self,
            "UnansweredFiles",
            description=f"A file was not answered by {asynchronous_name(endpoint)}: "
            "see async/failures/ in the artifact bucket",
            namespace="AWS/SageMaker",
            metric="InvocationFailures",
            dimensions={
                "EndpointName": asynchronous_name(endpoint),
                "VariantName": VARIANT,
            },
        )

    @staticmethod
    def _metric(
        namespace: str, name: str, dimensions: dict[str, str], statistic: str
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=namespace,
            metric_name=name,
            dimensions_map=dimensions,
            statistic=statistic,
            period=PERIOD,
        )

    def _watch(
        self,
        construct_id: str,
        name: str,
        description: str,
        metric: cloudwatch.Metric,
        *,
        above: float,
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            construct_id,
            alarm_name=name,
            alarm_description=description,
            metric=metric,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=2,
            datapoints_to_alarm=2,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        self._alarms.tell(alarm)
        self.alarms.append(alarm)
