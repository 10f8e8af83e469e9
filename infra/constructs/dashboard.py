"""One dashboard an environment: flow, drift, endpoint, decisions."""

from collections.abc import Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct
from retrodict.pipeline import Pipeline
from retrodict.rollout import VARIANT, endpoint_name

from infra.constructs.pipeline_function import METRICS_NAMESPACE


class Dashboard(Construct):
    """What a person looks at first."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        pipelines: Sequence[Pipeline],
    ) -> None:
        super().__init__(scope, construct_id)
        board = cloudwatch.Dashboard(self, "Dashboard")
        flow = {
            "AcceptedEvents": "validate_records",
            "RejectedRecords": "validate_records",
            "ArchivedEvents": "archive_events",
            "OnlinePuts": "write_features",
            "StreamPredictions": "score_events",
            "StreamOnsets": "score_events",
        }
        board.add_widgets(
            cloudwatch.GraphWidget(
                title="Flow",
                width=24,
                left=[
                    cloudwatch.Metric(
                        namespace=METRICS_NAMESPACE,
                        metric_name=metric,
                        dimensions_map={"service": f"{function}.{environment}"},
                        statistic="Sum",
                    )
                    for metric, function in flow.items()
                ],
            )
        )
        for pipeline in pipelines:
            board.add_widgets(*self._of(environment, pipeline))

    @staticmethod
    def _of(environment: str, pipeline: Pipeline) -> list[cloudwatch.IWidget]:
        endpoint = endpoint_name(environment, pipeline.name)
        about = {"environment": environment, "pipeline": pipeline.name}
        variant = {"EndpointName": endpoint, "VariantName": VARIANT}
        names = pipeline.model.names if pipeline.model else ()
        drift = [
            cloudwatch.Metric(
                namespace=METRICS_NAMESPACE,
                metric_name="DriftRatio",
                dimensions_map={**about, "feature": name, "statistic": "psi"},
                statistic="Maximum",
            )
            for name in names
        ]
        served = [
            cloudwatch.Metric(
                namespace="AWS/SageMaker",
                metric_name=metric,
                dimensions_map=variant,
                statistic=statistic,
            )
            for metric, statistic in {
                "Invocations": "Sum",
                "Invocation5XXErrors": "Sum",
                "ModelLatency": "p99",
            }.items()
        ]
        return [
            cloudwatch.GraphWidget(
                title=f"{pipeline.name}: drift over threshold", width=12, left=drift
            ),
            cloudwatch.GraphWidget(
                title=f"{pipeline.name}: endpoint", width=12, left=served
            ),
        ]
