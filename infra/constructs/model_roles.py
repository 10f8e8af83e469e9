"""What SageMaker may do while it trains, and while it serves."""

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.constructs.artifact_bucket import (
    ARTIFACTS,
    ASYNCHRONOUS,
    TRAINING_JOBS,
    TRAINING_SETS,
    ArtifactBucket,
)
from infra.constructs.grants import accept_finding, allow, of_this_account
from infra.constructs.model_image import ModelImage
from infra.constructs.stream import EventStream
from infra.constructs.tables import OnlineStore

_LOGS = [
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
]


class ModelRole(Construct):
    """A role of SageMaker: it may pull the image, and write its log and metrics."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        image: ModelImage,
        data_key: kms.IKey,
        log_group: str,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=of_this_account("sagemaker.amazonaws.com", self),
        )
        everything = ["ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"]
        allow(self.role, everything, ["*"])
        allow(
            self.role,
            [
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            ],
            [image.repository_arn],
        )
        group = stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"/aws/sagemaker/{log_group}*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        allow(self.role, _LOGS, [group])
        # SageMaker encrypts the disks of its instances by a grant on the key.
        allow(
            self.role,
            ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"],
            [data_key.key_arn],
            {
                "StringEquals": {
                    "kms:ViaService": f"sagemaker.{stack.region}.amazonaws.com"
                }
            },
        )
        accept_finding(
            self.role,
            "AwsSolutions-IAM5[Resource::*]",
            "ecr:GetAuthorizationToken and cloudwatch:PutMetricData know no resources "
            "in IAM, and what SageMaker asks cloudwatch:DescribeAlarms for is its own "
            "affair; the test of wildcards fails if any other action joins them",
        )
        accept_finding(
            self.role,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:"
            f"<AWS::AccountId>:log-group:/aws/sagemaker/{log_group}*]",
            "SageMaker names log groups and their streams after jobs and endpoints, "
            "which exist only at run time",
        )


class TrainingRole(ModelRole):
    """Reads training sets and writes what a job leaves; it can touch no endpoint."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        image: ModelImage,
        data_key: kms.IKey,
        artifacts: ArtifactBucket,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            image=image,
            data_key=data_key,
            log_group="TrainingJobs",
        )
        artifacts.grant_read(self.role, TRAINING_SETS)
        artifacts.grant_write(self.role, TRAINING_JOBS)


class ServingRole(ModelRole):
    """Reads artifacts and online features, and tells every prediction."""

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: str,
        image: ModelImage,
        data_key: kms.IKey,
        artifacts: ArtifactBucket,
        online_store: OnlineStore,
        ingest: EventStream,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            image=image,
            data_key=data_key,
            log_group=f"Endpoints/retrodict-{environment}-",
        )
        artifacts.grant_read(self.role, ARTIFACTS, ASYNCHRONOUS)
        artifacts.grant_write(self.role, ASYNCHRONOUS)
        online_store.grant_look_up(self.role)
        ingest.grant_put(self.role)
        # SageMaker looks at the alarms of a rollout with the rights of this role.
        allow(self.role, ["cloudwatch:DescribeAlarms"], ["*"])
