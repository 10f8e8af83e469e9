"""Endpoints as SageMaker shows them: what serves, and what a probe is answered."""

import json
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError
from retrodict.errors import StoreUnavailableError
from retrodict.rollout import Serving

from retrodict_aws.clients import AWS_ERRORS, error_code

_INVALID: Final = {"ValidationException", "ValidationError"}
_ABSENT: Final = "could not find"
_NO_ANSWER: Final = {*_INVALID, "ModelError"}
"""Codes that say that the endpoint, not the way to it, has no answer."""


class SageMakerEndpoints:
    """The endpoints of one account."""

    def __init__(self, client: Any, runtime: Any) -> None:
        self._client = client
        self._runtime = runtime

    def status(self, name: str) -> str | None:
        """Return the status of an endpoint, None if there is none.

        Raises
        ------
        StoreUnavailableError
            SageMaker refused.
        """
        found = self._call("describe_endpoint", EndpointName=name)
        return None if found is None else str(found["EndpointStatus"])

    def config_of(self, name: str) -> str | None:
        """Return the configuration that an endpoint names, None if there is none.

        Raises
        ------
        StoreUnavailableError
            SageMaker refused.
        """
        found = self._call("describe_endpoint", EndpointName=name)
        return None if found is None else found.get("EndpointConfigName")

    def delete(self, name: str) -> None:
        """Delete an endpoint; one that is gone already is no error.

        Raises
        ------
        StoreUnavailableError
            SageMaker refused.
        """
        self._call("delete_endpoint", EndpointName=name)

    def remove(self, name: str, asynchronous: str) -> None:
        """Delete the configurations and the model of an earlier rollout.

        The caller knows that no endpoint names them: SageMaker does not ask.

        Raises
        ------
        StoreUnavailableError
            SageMaker refused.
        """
        self._call("delete_endpoint_config", EndpointConfigName=asynchronous)
        self._call("delete_endpoint_config", EndpointConfigName=name)
        self._call("delete_model", ModelName=name)

    def serving(self, name: str, probe: Mapping[str, float]) -> Serving:
        """Return what an endpoint says, and which artifact answers a probe.

        Raises
        ------
        StoreUnavailableError
            SageMaker refused to tell.
        """
        found = self._call("describe_endpoint", EndpointName=name)
        if found is None:
            return Serving(status=None)
        config_name = found.get("EndpointConfigName")
        return Serving(
            status=found["EndpointStatus"],
            config_name=config_name,
            declared=self._declared(config_name) if config_name else None,
            digest=self._probe(name, probe),
            reason=found.get("FailureReason"),
        )

    def _declared(self, config_name: str) -> str | None:
        """Return the digest in the environment of the model of a configuration."""
        config = self._call("describe_endpoint_config", EndpointConfigName=config_name)
        if config is None:
            return None
        (variant, *_) = config["ProductionVariants"]
        model = self._call("describe_model", ModelName=variant["ModelName"])
        container = (model or {}).get("PrimaryContainer") or {}
        digest = container.get("Environment", {}).get("ARTIFACT_DIGEST")
        return None if digest is None else str(digest)

    def _call(self, operation: str, **arguments: str) -> dict[str, Any] | None:
        """Return SageMaker's answer, None where it does not know the name."""
        try:
            found: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except AWS_ERRORS as error:
            if error_code(error) in _INVALID and _ABSENT in str(error).lower():
                return None
            raise StoreUnavailableError(
                f"SageMaker refused {operation} of {sorted(arguments.values())}: "
                f"{error_code(error)}"
            ) from error
        return found

    def _probe(self, name: str, features: Mapping[str, float]) -> str | None:
        """Return the digest that answers; None where no model of ours does."""
        try:
            answer = self._runtime.invoke_endpoint(
                EndpointName=name,
                ContentType="application/json",
                Accept="application/json",
                CustomAttributes="retrodict-mode=probe",
                Body=json.dumps({"instances": [{"features": dict(features)}]}).encode(),
            )
            raw = answer["Body"].read()
        except AWS_ERRORS as error:
            if isinstance(error, ClientError) and error_code(error) in _NO_ANSWER:
                return None
            raise StoreUnavailableError(
                f"endpoint {name!r} cannot be asked: {error_code(error)}"
            ) from error
        try:
            return str(json.loads(raw)["predictions"][0]["artifact_digest"])
        except (ValueError, KeyError, IndexError, TypeError):
            return None
