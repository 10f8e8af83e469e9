"""A Lambda function with a role, a log group and an alarm of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import ArnFormat, Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.constructs.alarms import AlarmTopic
from infra.constructs.grants import accept_finding
from infra.constructs.layers import ARCHITECTURE, RUNTIME, function_code

METRICS_NAMESPACE = "Retrodict"


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """What all functions of an environment share.

    Attributes
    ----------
    environment
        Name of the environment; it keeps the metrics of two apart in one account.
    key
        Customer managed key of the log groups.
    alarms
        Where alarms go.
    log_retention_days
        How long log lines are kept, d.
    layers
        Our own packages.
    """

    environment: str
    key: kms.IKey
    alarms: AlarmTopic
    log_retention_days: int
    layers: Sequence[lambda_.ILayerVersion]


class PipelineFunction(Construct):
    """One folder of `functions/`, deployed.

    The role starts with its log group and its traces; constructs of state add to it
    by their grants. The alarm fires at the first error of the runtime: a handler
    that meets a bad record quarantines it, so an error is never about the data.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    name
        Folder below `functions/`.
    workplace
        What all functions share.
    dependencies
        The one layer of third-party packages.
    memory_mib
        Memory; the share of a CPU follows it (one whole at 1,769 MiB).
    timeout
        When Lambda ends an invocation.
    variables
        The function's own environment variables.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        workplace: Workplace,
        dependencies: lambda_.ILayerVersion,
        memory_mib: int,
        timeout: Duration,
        variables: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        self._service = f"{name}.{workplace.environment}"
        log_group = logs.LogGroup(
            self,
            "Logs",
            encryption_key=workplace.key,
            retention=retention(workplace.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        self._role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Retrodict {workplace.environment}: what {name} may do",
        )
        log_group.grant_write(self._role)
        self._function = lambda_.Function(
            self,
            "Function",
            architecture=ARCHITECTURE,
            code=function_code(name),
            description=f"Retrodict {workplace.environment}: functions/{name}",
            environment={
                "POWERTOOLS_LOG_LEVEL": "INFO",
                "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
                "POWERTOOLS_SERVICE_NAME": self._service,
                **variables,
            },
            handler="handler.lambda_handler",
            layers=[*workplace.layers, dependencies],
            log_group=log_group,
            memory_size=memory_mib,
            role=self._role,
            runtime=RUNTIME,
            timeout=timeout,
            tracing=lambda_.Tracing.ACTIVE,
        )
        accept_finding(
            self._role,
            "AwsSolutions-IAM5[Resource::*]",
            "tracing, listing the streams of tables and reading alarms and metrics "
            "know no resources; the test of wildcards names each function's actions",
        )
        accept_finding(
            self._function,
            "AwsSolutions-L1",
            "python3.12 is what the arm64 layers are locked, built and measured for; "
            "the dependency layers' test fails when the two drift apart",
        )
        workplace.alarms.watch(
            self,
            "Errors",
            description=f"{name} ended with an error: see its log group",
            namespace="AWS/Lambda",
            metric="Errors",
            dimensions={"FunctionName": self._function.function_name},
        )

    @property
    def role(self) -> iam.IRole:
        """The function's own role, for grants."""
        return self._role

    @property
    def function(self) -> lambda_.IFunction:
        """The function, for whatever calls it."""
        return self._function

    @property
    def metric_dimensions(self) -> dict[str, str]:
        """Dimensions that Powertools gives the metrics this function emits."""
        return {"service": self._service}


def let_logs_use(key: kms.IKey) -> None:
    """Let CloudWatch Logs encrypt this account's log groups with `key`."""
    stack = Stack.of(key)
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="LogGroupsAreEncrypted",
            principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
            actions=[
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
            ],
            resources=["*"],
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": stack.format_arn(
                        service="logs",
                        resource="log-group",
                        resource_name="*",
                        arn_format=ArnFormat.COLON_RESOURCE_NAME,
                    )
                }
            },
        )
    )


def retention(days: int) -> logs.RetentionDays:
    """Return how the CDK says to keep log lines for `days`."""
    for retention in logs.RetentionDays:
        if _DAYS.get(retention) == days:
            return retention
    raise ValueError(f"no log retention of {days} d: infra/settings.py allows too much")


_DAYS = {
    logs.RetentionDays.ONE_DAY: 1,
    logs.RetentionDays.THREE_DAYS: 3,
    logs.RetentionDays.FIVE_DAYS: 5,
    logs.RetentionDays.ONE_WEEK: 7,
    logs.RetentionDays.TWO_WEEKS: 14,
    logs.RetentionDays.ONE_MONTH: 30,
    logs.RetentionDays.TWO_MONTHS: 60,
    logs.RetentionDays.THREE_MONTHS: 90,
    logs.RetentionDays.FOUR_MONTHS: 120,
    logs.RetentionDays.FIVE_MONTHS: 150,
    logs.RetentionDays.SIX_MONTHS: 180,
    logs.RetentionDays.ONE_YEAR: 365,
    logs.RetentionDays.THIRTEEN_MONTHS: 400,
    logs.RetentionDays.EIGHTEEN_MONTHS: 545,
    logs.RetentionDays.TWO_YEARS: 731,
}
