"""One dashboard an environment: flow, lag, drift, endpoint, decisions."""

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct
from retrodict.drift import DEFAULTS
from retrodict.model import SCORE
from retrodict.pipeline import Pipeline
from retrodict.rollout import VARIANT, endpoint_name

from infra.constructs.pipeline_function import METRICS_NAMESPACE
from infra.constructs.state_machine import StateMachine
from infra.constructs.stream import EventStream

MINUTE = Duration.minutes(1)
# What each function counts, in the order in which a record meets them.
FLOW = {
    "AcceptedRecords": "validate_records",
    "RejectedRecords": "validate_records",
    "ArchivedEvents": "archive_events",
    "OnlinePuts": "write_features",
    "StreamPredictions": "score_events",
}
DECISIONS = {
    "StreamAlerts": "score_events",
    "StreamOnsets": "score_events",
    "RetrainingStarted": "decide_retraining",
    "RetrainingDeclined": "decide_retraining",
}


class Dashboard(Construct):
    """What a person looks at first: what rings, then where it comes from.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    environment
        Name of the environment, a dimension of its metrics.
    every
        How often drift is measured.
    pipelines
        Those with a model.
    streams, machines
        What is watched, by the name to show.
    alarms
        Alarms on models, to show their states.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        every: Duration,
        pipelines: Sequence[Pipeline],
        streams: Mapping[str, EventStream],
        machines: Mapping[str, StateMachine],
        alarms: Sequence[cloudwatch.IAlarm],
    ) -> None:
        super().__init__(scope, construct_id)
        self._environment = environment
        self._every = every
        board = cloudwatch.Dashboard(self, "Dashboard")
        if alarms:
            board.add_widgets(
                cloudwatch.AlarmStatusWidget(
                    title="Models: what rings", alarms=[*alarms], width=24, height=4
                )
            )
        board.add_widgets(
            _graph("Flow: records a minute", self._counted(FLOW)),
            _graph("Lag: oldest record read, ms", _lag(streams)),
        )
        board.add_widgets(
            _graph("Decisions", self._counted(DECISIONS)),
            _graph("Runs", _runs(machines)),
        )
        for pipeline in pipelines:
            board.add_widgets(
                self._drift(pipeline), self._requests(pipeline), self._alerts(pipeline)
            )

    def _counted(self, metrics: Mapping[str, str]) -> list[cloudwatch.IMetric]:
        return [
            cloudwatch.Metric(
                namespace=METRICS_NAMESPACE,
                metric_name=name,
                dimensions_map={"service": f"{function}.{self._environment}"},
                statistic="Sum",
                period=MINUTE,
            )
            for name, function in metrics.items()
        ]

    def _drift(self, pipeline: Pipeline) -> cloudwatch.IWidget:
        about = {"environment": self._environment, "pipeline": pipeline.name}
        names = (*pipeline.model.names, SCORE) if pipeline.model else ()
        metrics: list[cloudwatch.IMetric] = [
            cloudwatch.Metric(
                namespace=METRICS_NAMESPACE,
                metric_name="DriftRatio",
                dimensions_map={**about, "feature": name, "statistic": statistic},
                statistic="Maximum",
                period=self._every,
                label=f"{name} {statistic}",
            )
            for name in names
            for statistic in DEFAULTS
        ]
        limit = cloudwatch.HorizontalAnnotation(value=1, label="threshold")
        return _graph(
            f"{pipeline.name}: drift, multiples of the threshold",
            metrics,
            width=8,
            limit=limit,
        )

    def _requests(self, pipeline: Pipeline) -> cloudwatch.IWidget:
        variant = {
            "EndpointName": endpoint_name(self._environment, pipeline.name),
            "VariantName": VARIANT,
        }
        answered, latency = (
            [
                cloudwatch.Metric(
                    namespace="AWS/SageMaker",
                    metric_name=name,
                    dimensions_map=variant,
                    statistic=statistic,
                    period=MINUTE,
                )
                for name, statistic in metrics.items()
            ]
            for metrics in (
                {
                    "Invocations": "Sum",
                    "Invocation4XXErrors": "Sum",
                    "Invocation5XXErrors": "Sum",
                },
                {"ModelLatency": "p99", "OverheadLatency": "p99"},
            )
        )
        return cloudwatch.GraphWidget(
            title=f"{pipeline.name}: requests, and latency in microseconds",
            width=8,
            left=[*answered],
            right=[*latency],
        )

    def _alerts(self, pipeline: Pipeline) -> cloudwatch.IWidget:
        alerts = cloudwatch.Metric(
            namespace=METRICS_NAMESPACE,
            metric_name="Alerts",
            dimensions_map={
                "environment": self._environment,
                "pipeline": pipeline.name,
            },
            statistic="Average",
            period=MINUTE,
        )
        budget = pipeline.model.alert_budget if pipeline.model else 0
        limit = cloudwatch.HorizontalAnnotation(value=budget, label="alert budget")
        title = f"{pipeline.name}: share of answers that alert"
        return _graph(title, [alerts], width=8, limit=limit)


def _graph(
    title: str,
    metrics: Sequence[cloudwatch.IMetric],
    *,
    width: int = 12,
    limit: cloudwatch.HorizontalAnnotation | None = None,
) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(
        title=title,
        width=width,
        left=[*metrics],
        left_annotations=[limit] if limit else [],
    )


def _lag(streams: Mapping[str, EventStream]) -> list[cloudwatch.IMetric]:
    return [
        cloudwatch.Metric(
            namespace="AWS/Kinesis",
            metric_name="GetRecords.IteratorAgeMilliseconds",
            dimensions_map={"StreamName": stream.stream_name},
            statistic="Maximum",
            period=MINUTE,
            label=name,
        )
        for name, stream in streams.items()
    ]


def _runs(machines: Mapping[str, StateMachine]) -> list[cloudwatch.IMetric]:
    return [
        cloudwatch.Metric(
            namespace="AWS/States",
            metric_name=metric,
            dimensions_map=machine.metric_dimensions,
            statistic="Sum",
            period=MINUTE,
            label=f"{name}: {metric}",
        )
        for name, machine in machines.items()
        for metric in ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed")
    ]
