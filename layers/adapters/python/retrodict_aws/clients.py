"""AWS clients as every adapter wants them: short time-outs, SDK retries, reused.

They are those of boto3, made by botocore: importing boto3 itself brings the transfer
manager of S3 and 2 MiB more, which nothing here uses.
"""

import os
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session, get_session
from botocore.utils import get_environ_proxies

from retrodict_aws.light_dynamodb import LightDynamoDB

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


def online_store_client(config: Config = CONFIG) -> Any:
    """Return a client of DynamoDB's items that costs little for each call.

    Where the way to DynamoDB is not a plain one (a proxy, a certificate of the client,
    an endpoint below a path or of the account alone) it is botocore's, which knows it.

    Environment variables
    ---------------------
    AWS_ENDPOINT_URL, AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, HTTPS_PROXY, NO_PROXY : str
        As botocore reads them.
    """
    found = client("dynamodb", config)
    if not _is_plain(found.meta.config, found.meta.endpoint_url):
        return found
    trusted = _session().get_config_variable("ca_bundle")
    return LightDynamoDB(
        found,
        _session().get_credentials(),
        ca_bundle=trusted or os.environ.get("REQUESTS_CA_BUNDLE") or True,
    )


def _is_plain(config: Any, endpoint_url: str) -> bool:
    is_proxied = config.proxies or get_environ_proxies(endpoint_url)
    is_of_account = config.account_id_endpoint_mode == "required"
    is_below_path = urlsplit(endpoint_url).path.strip("/")
    return not (is_proxied or is_of_account or is_below_path or config.client_cert)


def error_code(error: Exception) -> str:
    """Return AWS's code of `error`, or its class name where AWS never answered."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__
