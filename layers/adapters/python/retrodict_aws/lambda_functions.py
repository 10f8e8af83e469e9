"""The deployed functions, invoked as an event source mapping does."""

import json
from functools import cache
from typing import Any, Final

from botocore.config import Config
from retrodict.errors import StillUndeliveredError

from retrodict_aws.clients import AWS_ERRORS, error_code

PATIENCE: Final = Config(
    connect_timeout=3, read_timeout=910, retries={"total_max_attempts": 1}
)
"""For a client that waits as long as a function may run, and invokes it once."""

SERVICE: Final = "POWERTOOLS_SERVICE_NAME"


class LambdaFunctions:
    """Functions by their ARNs.

    Parameters
    ----------
    client
        Of Lambda, with `PATIENCE`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.name_of = cache(self._name_of)

    def _name_of(self, arn: str) -> str:
        """Return the folder of a function, as its own environment tells it.

        Raises
        ------
        StillUndeliveredError
            There is no such function any more, or it is none of ours.
        """
        try:
            found = self._client.get_function_configuration(FunctionName=arn)
        except AWS_ERRORS as error:
            raise StillUndeliveredError(
                f"cannot ask for the function {arn}: {error_code(error)}"
            ) from error
        service = found.get("Environment", {}).get("Variables", {}).get(SERVICE)
        if not service:
            raise StillUndeliveredError(f"{arn} has no {SERVICE}: it is none of ours")
        return str(service).partition(".")[0]

    def invoke(self, arn: str, payload: bytes) -> Any:
        """Invoke a function and return its answer.

        Raises
        ------
        StillUndeliveredError
            It could not be invoked, or it failed.
        """
        try:
            answer = self._client.invoke(FunctionName=arn, Payload=payload)
        except AWS_ERRORS as error:
            raise StillUndeliveredError(
                f"cannot invoke {arn}: {error_code(error)}"
            ) from error
        told = answer["Payload"].read()
        if answer.get("FunctionError"):
            raise StillUndeliveredError(f"{arn} failed: {told[:300]!r}")
        return json.loads(told or b"null")
