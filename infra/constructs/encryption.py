"""A customer managed key: one for what is kept, one for how it is operated."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from constructs import Construct


class EncryptionKey(kms.Key):
    """A symmetric key that rotates every year and outlives its stack.

    A key that is deleted takes everything it encrypted with it, so it is retained
    even where the data is not.
    """

    def __init__(self, scope: Construct, construct_id: str, *, purpose: str) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Retrodict: {purpose}",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN,
        )
