"""One file a service; importing this package registers every type the twin creates."""

from infra.local.resources import (
    cloudwatch,
    dynamodb,
    events,
    glue,
    iam,
    kinesis,
    kms,
    lambda_,
    logs,
    s3,
    sagemaker,
    sns,
    sqs,
    step_functions,
)

__all__ = [
    "cloudwatch",
    "dynamodb",
    "events",
    "glue",
    "iam",
    "kinesis",
    "kms",
    "lambda_",
    "logs",
    "s3",
    "sagemaker",
    "sns",
    "sqs",
    "step_functions",
]
