"""The DynamoDB tables: the online projection, and the lifecycle's own events."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.constructs.grants import allow, allow_key


class KeptTable(Construct):
    """An on-demand table that can be restored to any second of the last 35 days."""

    def __init__(  # noqa: PLR0913 - every argument is named
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        partition_key: dynamodb.Attribute,
        sort_key: dynamodb.Attribute,
        stream: dynamodb.StreamViewType | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._key = key
        self._table = dynamodb.Table(
            self,
            "Table",
            partition_key=partition_key,
            sort_key=sort_key,
            stream=stream,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            point_in_time_recovery_specification=(
                dynamodb.PointInTimeRecoverySpecification(
                    point_in_time_recovery_enabled=True
                )
            ),
            deletion_protection=True,
            removal_policy=RemovalPolicy.RETAIN,
        )

    @property
    def table_name(self) -> str:
        """Name to hand to a function."""
        return self._table.table_name


class OnlineStore(KeptTable):
    """Current features and the state behind them, one or more items an entity."""

    def __init__(self, scope: Construct, construct_id: str, *, key: kms.IKey) -> None:
        super().__init__(
            scope,
            construct_id,
            key=key,
            partition_key=dynamodb.Attribute(
                name="entity", type=dynamodb.AttributeType.STRING
            ),
            sort_key=dynamodb.Attribute(
                name="part", type=dynamodb.AttributeType.STRING
            ),
        )

    def grant_fold(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read a key's items, put new ones and delete old chunks."""
        allow(
            grantee,
            [
                "dynamodb:BatchGetItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
            ],
            [self._table.table_arn],
        )
        allow_key(
            grantee,
            self._key,
            "dynamodb",
            ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
        )

    def grant_list(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` list what there is, beside what `grant_fold` lets it do."""
        allow(grantee, ["dynamodb:Scan"], [self._table.table_arn])

    def grant_look_up(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read current features, and nothing else."""
        allow(
            grantee,
            ["dynamodb:BatchGetItem", "dynamodb:GetItem"],
            [self._table.table_arn],
        )
        allow_key(grantee, self._key, "dynamodb", ["kms:Decrypt", "kms:DescribeKey"])


class LifecycleStore(KeptTable):
    """Decisions about models: events of one aggregate per pipeline, append only."""

    def __init__(self, scope: Construct, construct_id: str, *, key: kms.IKey) -> None:
        super().__init__(
            scope,
            construct_id,
            key=key,
            partition_key=dynamodb.Attribute(
                name="stream_id", type=dynamodb.AttributeType.STRING
            ),
            sort_key=dynamodb.Attribute(
                name="version", type=dynamodb.AttributeType.NUMBER
            ),
            stream=dynamodb.StreamViewType.NEW_IMAGE,
        )

    @property
    def stream_arn(self) -> str:
        """Source of an event source mapping: every new decision."""
        arn = self._table.table_stream_arn
        if arn is None:
            raise ValueError("the lifecycle table has no stream")
        return arn

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read the decisions about a pipeline."""
        allow(grantee, ["dynamodb:Query"], [self._table.table_arn])
        allow_key(grantee, self._key, "dynamodb", ["kms:Decrypt", "kms:DescribeKey"])

    def grant_append(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read decisions and put new ones; none is changed or deleted."""
        allow(grantee, ["dynamodb:PutItem", "dynamodb:Query"], [self._table.table_arn])
        allow_key(
            grantee,
            self._key,
            "dynamodb",
            ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
        )

    def grant_consume(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` be the role of an event source mapping of new decisions."""
        allow(
            grantee,
            [
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
            ],
            [self.stream_arn],
        )
        allow(grantee, ["dynamodb:ListStreams"], ["*"])
        allow_key(grantee, self._key, "dynamodb", ["kms:Decrypt"])
