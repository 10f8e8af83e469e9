"""A Kinesis stream: ordered by key, kept for a day or more, encrypted."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.constructs.grants import accept_finding, allow, allow_key


class EventStream(Construct):
    """An on-demand stream with its name, its retention and two grants.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    key
        Customer managed key that encrypts the records.
    retention
        How long a record can still be read.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, key: kms.IKey, retention: Duration
    ) -> None:
        super().__init__(scope, construct_id)
        self._key = key
        self._retention = retention
        self._stream = kinesis.Stream(
            self,
            "Stream",
            stream_mode=kinesis.StreamMode.ON_DEMAND,
            retention_period=retention,
            encryption=kinesis.StreamEncryption.KMS,
            encryption_key=key,
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept_finding(
            self._stream,
            "AwsSolutions-KDS3",
            "a customer managed key is chosen over aws/kinesis: its policy and its "
            "rotation are ours, and a reader needs it as well as the stream",
        )

    @property
    def stream_name(self) -> str:
        """Name to hand to a producer."""
        return self._stream.stream_name

    @property
    def stream_arn(self) -> str:
        """Source of an event source mapping."""
        return self._stream.stream_arn

    @property
    def retention(self) -> Duration:
        """How long a record can still be read."""
        return self._retention

    def grant_put(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` put records on the stream, and not read them."""
        allow(grantee, ["kinesis:PutRecords"], [self.stream_arn])
        allow_key(grantee, self._key, "kinesis", ["kms:GenerateDataKey"])

    def grant_consume(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` be the role of an event source mapping of the stream."""
        allow(
            grantee,
            [
                "kinesis:DescribeStream",
                "kinesis:DescribeStreamSummary",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
                "kinesis:ListStreams",
            ],
            [self.stream_arn],
        )
        allow_key(grantee, self._key, "kinesis", ["kms:Decrypt"])
