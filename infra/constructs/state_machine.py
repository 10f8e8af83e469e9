"""A state machine from its file, with a role that may do what its tasks do."""

from collections.abc import Mapping

from aws_cdk import ArnFormat, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra.constructs.grants import accept_finding, allow, of_this_account
from infra.constructs.pipeline_function import PipelineFunction, Workplace, retention
from infra.settings import REPOSITORY


class StateMachine(Construct):
    """One file of `step_functions/`, deployed; a failed execution raises an alarm.

    A definition from a file grants nothing, so everything its role may do is said
    here and by whoever composes it.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    name
        File in `step_functions/`, without its ending.
    workplace
        What all functions share.
    functions
        Functions that tasks invoke, by the substitution that names each.
    substitutions
        Everything else that the file leaves open.
    """

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        workplace: Workplace,
        functions: Mapping[str, PipelineFunction],
        substitutions: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=of_this_account("states.amazonaws.com", self),
            description=f"Retrodict {workplace.environment}: what {name} may do",
        )
        log_group = logs.LogGroup(
            self,
            "Logs",
            encryption_key=workplace.key,
            retention=retention(workplace.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        arns = {key: f.function.function_arn for key, f in functions.items()}
        allow(self.role, ["lambda:InvokeFunction"], [*arns.values()])
        self._machine = stepfunctions.StateMachine(
            self,
            "Machine",
            comment=f"Retrodict {workplace.environment}: step_functions/{name}",
            definition_body=stepfunctions.DefinitionBody.from_file(
                str(REPOSITORY / "step_functions" / f"{name}.asl.json")
            ),
            definition_substitutions={**arns, **substitutions},
            logs=stepfunctions.LogOptions(
                destination=log_group,
                include_execution_data=False,
                level=stepfunctions.LogLevel.ALL,
            ),
            role=self.role,
            tracing_enabled=True,
        )
        accept_finding(
            self.role,
            "AwsSolutions-IAM5[Resource::*]",
            "X-Ray and the delivery of logs to a log group know no resources in IAM; "
            "the test of wildcards fails if any other action joins them",
        )
        workplace.alarms.watch(
            self,
            "Failed",
            description=f"An execution of {name} failed: see the lifecycle's events",
            namespace="AWS/States",
            metric="ExecutionsFailed",
            dimensions={"StateMachineArn": self._machine.state_machine_arn},
        )

    def let_map_distributed(self) -> None:
        """Let the machine start executions of itself, as a Distributed Map does.

        The statements name the machine, which cannot exist before its role; so they
        are a policy of their own, which is made last.
        """
        executions = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self._machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        map_runs = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self._machine.state_machine_name}/*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        policy = iam.Policy(self, "DistributedMap", roles=[self.role])
        for actions, resources in (
            (["states:StartExecution"], [self.arn]),
            (
                ["states:DescribeExecution", "states:StopExecution"],
                [executions, map_runs],
            ),
        ):
            policy.add_statements(
                iam.PolicyStatement(actions=actions, resources=resources)
            )
        for arn in (executions, map_runs):
            accept_finding(
                policy,
                f"AwsSolutions-IAM5[Resource::{_shown(self, arn)}]",
                "executions are named when they start; the name of the machine keeps "
                "every other machine's out",
            )

    @property
    def arn(self) -> str:
        """What starts it."""
        return self._machine.state_machine_arn

    @property
    def metric_dimensions(self) -> dict[str, str]:
        """Dimensions of what Step Functions tells of it."""
        return {"StateMachineArn": self.arn}

    def grant_start(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` start executions."""
        allow(grantee, ["states:StartExecution"], [self.arn])


def _shown(scope: Construct, arn: str) -> str:
    """Return an ARN as cdk-nag writes it in its findings."""
    parts = Stack.of(scope).resolve(arn)["Fn::Join"][1]
    return "".join(
        part
        if isinstance(part, str)
        else f"<{part['Ref']}>"
        if "Ref" in part
        else f"<{'.'.join(part['Fn::GetAtt'])}>"
        for part in parts
    )
