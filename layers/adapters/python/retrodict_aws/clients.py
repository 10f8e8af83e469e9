"""AWS clients as every adapter wants them: short time-outs, SDK retries, reused.

They are those of boto3, made by botocore: importing boto3 itself brings the transfer
manager of S3 and 2 MiB more, which nothing here uses.
"""

from functools import cache
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session, get_session

CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"max_attempts": 5, "mode": "standard"},
    tcp_keepalive=True,
)

PATIENCE_OF_A_REQUEST: Final = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"total_max_attempts": 2, "mode": "standard"},
    tcp_keepalive=True,
)
"""For what somebody waits for: they can ask again, so it gives up within seconds."""

AWS_ERRORS: Final = (BotoCoreError, ClientError)
"""What a call can raise when AWS refuses it or does not answer."""


def client(service: str, config: Config = CONFIG) -> Any:
    """Return a client of `service`; region, credentials and endpoint as AWS reads them.

    Environment variables
    ---------------------
    AWS_ENDPOINT_URL : str
        Set by the local twin; read by botocore itself.
    """
    return _session().create_client(service, config=config)


@cache
def _session() -> Session:
    return get_session()


def error_code(error: Exception) -> str:
    """Return AWS's code of `error`, or its class name where AWS never answered."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__
