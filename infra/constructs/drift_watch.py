"""Watch the champions: measure on a schedule, and bring alarms back in as events."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from constructs import Construct
from retrodict.drift import DEFAULTS
from retrodict.model import SCORE
from retrodict.pipeline import Pipeline
from retrodict.rollout import endpoint_name

from infra.constructs.alarms import AlarmTopic
from infra.constructs.event_calls import EventCalls
from infra.constructs.pipeline_function import METRICS_NAMESPACE, PipelineFunction

PERIODS = 3
BREACHING = 2


class DriftWatch(Construct):
    """Schedules, alarms on every drift ratio, and the rule that carries them back.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    environment
        Name of the environment, part of every alarm's name.
    every
        How often is measured; the period of the alarms.
    pipelines
        Those with a model.
    measure, publish
        The functions `measure_drift` and `publish_alarm`.
    alarms
        Where alarms go as well.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        every: Duration,
        pipelines: Sequence[Pipeline],
        measure: PipelineFunction,
        publish: PipelineFunction,
        alarms: AlarmTopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self._environment = environment
        self._alarms = alarms
        self.alarms: list[cloudwatch.IAlarm] = []
        calls = EventCalls(
            self,
            "Calls",
            description="What a schedule or an alarm asked for was not done",
            alarms=alarms,
        )
        measuring = calls.of("Measurements", measure)
        publishing = calls.of("Publications", publish)
        for name, description, target in (
            (
                "Measure",
                "Measure how far the log has moved from each champion",
                measuring,
            ),
            (
                "AskAgain",
                "Ask again for what still rings, and for old champions",
                publishing,
            ),
        ):
            events.Rule(
                self,
                name,
                description=description,
                schedule=events.Schedule.rate(every),
                targets=[target],
            )
        for pipeline in pipelines:
            self._watch(pipeline, every)
        if self.alarms:
            events.Rule(
                self,
                "DriftAlarms",
                description="A drift alarm rings: bring it into the pipeline",
                event_pattern=events.EventPattern(
                    source=["aws.cloudwatch"],
                    detail_type=["CloudWatch Alarm State Change"],
                    detail={
                        "alarmName": [
                            {"prefix": f"{endpoint_name(environment, p.name)}-drift-"}
                            for p in pipelines
                        ],
                        "state": {"value": ["ALARM"]},
                    },
                ),
                targets=[publishing],
            )

    def _watch(self, pipeline: Pipeline, every: Duration) -> None:
        names = (*pipeline.model.names, SCORE) if pipeline.model else ()
        base = f"{endpoint_name(self._environment, pipeline.name)}-drift"
        about = {"environment": self._environment, "pipeline": pipeline.name}
        for feature in names:
            for statistic in DEFAULTS:
                self._alarm(
                    f"{base}-{feature}-{statistic}",
                    f"{statistic} of {feature} is over what past windows of the log "
                    "reached",
                    metric="DriftRatio",
                    dimensions={**about, "feature": feature, "statistic": statistic},
                    above=1,
                    every=every,
                )
        self._alarm(
            f"{base}-share",
            "Half of the features have drifted, or more",
            metric="DriftShare",
            dimensions=about,
            above=0.5,
            or_equal=True,
            every=every,
        )

    def _alarm(  # noqa: PLR0913 - every argument is named
        self,
        name: str,
        description: str,
        *,
        metric: str,
        dimensions: dict[str, str],
        above: float,
        every: Duration,
        or_equal: bool = False,
    ) -> None:
        operator = cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            name.replace("-", "_"),
            alarm_name=name,
            alarm_description=description,
            metric=cloudwatch.Metric(
                namespace=METRICS_NAMESPACE,
                metric_name=metric,
                dimensions_map=dimensions,
                statistic="Maximum",
                period=every,
            ),
            threshold=above,
            comparison_operator=(
                operator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
                if or_equal
                else operator.GREATER_THAN_THRESHOLD
            ),
            evaluation_periods=PERIODS,
            datapoints_to_alarm=BREACHING,
            treat_missing_data=cloudwatch.TreatMissingData.IGNORE,
        )
        self._alarms.tell(alarm)
        self.alarms.append(alarm)
