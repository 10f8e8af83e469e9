"""SageMaker's data plane: InvokeEndpoint, with its errors and metrics.

A request goes to the process of the fleet that the endpoint's router picks, headers and
body as they are; the answer comes back as it is. An answer beyond 2xx becomes
ModelError (424) with the original status and message, as does no answer within 60 s.
Every request that reached a process is measured at the clock's instant in AWS/SageMaker
by {EndpointName, VariantName}: Invocations, Invocation4XXErrors, Invocation5XXErrors,
InvocationsPerInstance, ModelLatency and OverheadLatency, latencies in µs of the
machine's time.
"""

import json
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from infra.local.endpoints import Endpoint, Endpoints
from infra.local.errors import UnsupportedByTwinError
from infra.local.fleets import (
    Fleet,
    InvocationTimeoutError,
    NoAnswerError,
    Response,
)
from infra.local.sagemaker_api import Answer, ApiError, unsupported
from infra.local.signals import Signals
from infra.local.template import ACCOUNT

TIMEOUT_SECONDS: Final = 60.0
LARGEST_BODY_BYTES: Final = 6_291_456
_NAMESPACE = "AWS/SageMaker"
_MICROSECONDS = 1_000_000
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
_VARIANT = "x-Amzn-Invoked-Production-Variant"
_REFUSED = (
    "X-Amzn-SageMaker-Target-Model",
    "X-Amzn-SageMaker-Target-Container-Hostname",
    "X-Amzn-SageMaker-Enable-Explanations",
    "X-Amzn-SageMaker-Inference-Component",
    "X-Amzn-SageMaker-Session-Id",
    "X-Amzn-SageMaker-Prefix-Aware-Id",
)


class ModelError(Exception):
    """The model answered with an error, or not at all.

    Parameters
    ----------
    status
        What it answered; 0 if it did not.
    text
        Its answer, or why there is none.
    message
        AWS's sentence.
    """

    def __init__(self, status: int, text: str, message: str) -> None:
        super().__init__(status, text, message)
        self.status, self.text, self.message = status, text, message

    def __str__(self) -> str:
        return self.message


class Invocations:
    """Sends requests to the processes of endpoints.

    Parameters
    ----------
    endpoints
        The endpoints that can be named.
    signals
        Takes the metrics.
    region
        Region they are in.
    """

    def __init__(self, endpoints: Endpoints, signals: Signals, region: str) -> None:
        self._endpoints = endpoints
        self._signals = signals
        self._region = region

    def answer(self, name: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer InvokeEndpoint.

        Parameters
        ----------
        name
            The endpoint.
        headers
            What the caller sent; names compare without their case.
        """
        began = time.perf_counter()
        if len(body) > LARGEST_BODY_BYTES:
            return _error(
                "413",
                f"HTTP content length exceeded {LARGEST_BODY_BYTES} bytes.",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        try:
            endpoint = self.endpoint(name)
            if endpoint.config.asynchronous is not None:
                raise _invalid(
                    f"Endpoint {name} has an AsyncInferenceConfig and does not support "
                    "this inference type: use InvokeEndpointAsync"
                )
            _refuse_headers(name, endpoint, headers)
            fleet, response = self.send(
                endpoint, headers, body, TIMEOUT_SECONDS, began=began
            )
        except ApiError as error:
            return _error(error.code, error.message, error.status)
        except ModelError as error:
            return _error(
                "ModelError",
                error.message,
                HTTPStatus.FAILED_DEPENDENCY,
                {
                    "OriginalStatusCode": error.status,
                    "OriginalMessage": error.text,
                    "LogStreamArn": (
                        f"arn:aws:logs:{self._region}:{ACCOUNT}:log-group:"
                        f"/aws/sagemaker/Endpoints/{name}"
                    ),
                },
            )
        answered = [
            ("Content-Type", response.headers.get("content-type", "")),
            (_VARIANT, str(fleet.config.variant["VariantName"])),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ]
        if _ATTRIBUTES.lower() in response.headers:
            answered.append((_ATTRIBUTES, response.headers[_ATTRIBUTES.lower()]))
        return HTTPStatus.OK, answered, response.body

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint that is in service.

        Raises
        ------
        ApiError
            If there is none of that name, or it serves nothing.
        """
        try:
            endpoint = self._endpoints.find(name)
        except ApiError as error:
            raise _not_found(name) from error
        if endpoint.status not in {"InService", "Updating"}:
            raise _not_found(name)
        return endpoint

    def send(
        self,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,
        *,
        began: float,
    ) -> tuple[Fleet, Response]:
        """Send one request to a process, and measure it.

        Parameters
        ----------
        timeout
            The machine's seconds that the process may take.
        began
            When the request came in, on the machine's performance counter.

        Raises
        ------
        ModelError
            If the process answers beyond 2xx, too late or not at all.
        ApiError
            If the endpoint was deleted meanwhile.
        """
        fleet = endpoint.choose()
        if fleet is None:
            raise _not_found(endpoint.name)
        sent = time.perf_counter()
        response: Response | None = None
        try:
            response = fleet.call(_forwarded(headers), body, timeout)
            if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                raise self._model_error(
                    endpoint.name,
                    response.status,
                    response.body.decode(errors="replace"),
                )
        except InvocationTimeoutError as error:
            text = (
                "Your invocation timed out while waiting for a response from container "
                "primary. Review the latency metrics for each container in Amazon "
                "CloudWatch, resolve the issue, and try again."
            )
            raise self._model_error(endpoint.name, 0, text) from error
        except NoAnswerError as error:
            message = (
                "Received server error (0) from primary and could not load the entire "
                f"response body. {self._see(endpoint.name)}"
            )
            raise ModelError(0, "", message) from error
        finally:
            took = response.seconds if response else time.perf_counter() - sent
            self._measure(
                fleet,
                endpoint.name,
                response.status if response else 0,
                model=took,
                overhead=max(0.0, time.perf_counter() - began - took),
            )
        return fleet, response

    def _model_error(self, name: str, status: int, text: str) -> ModelError:
        is_client = 400 <= status < 500  # noqa: PLR2004 - HTTP's own classes
        return ModelError(
            status,
            text,
            f"Received {'client' if is_client else 'server'} error ({status}) from "
            f'primary with message "{text}". {self._see(name)}',
        )

    def _see(self, name: str) -> str:
        return (
            f"See https://{self._region}.console.aws.amazon.com/cloudwatch/home?region="
            f"{self._region}#logEventViewer:group=/aws/sagemaker/Endpoints/{name} in "
            f"account {ACCOUNT} for more information."
        )

    def _measure(
        self, fleet: Fleet, name: str, status: int, *, model: float, overhead: float
    ) -> None:
        dimensions = {
            "EndpointName": name,
            "VariantName": str(fleet.config.variant["VariantName"]),
        }
        instances = int(fleet.config.variant["InitialInstanceCount"])
        is_client = 400 <= status < 500  # noqa: PLR2004 - HTTP's own classes
        is_fine = 200 <= status < 300  # noqa: PLR2004
        self._signals.measure(
            _NAMESPACE,
            dimensions,
            [
                ("Invocations", 1.0, "None"),
                ("InvocationsPerInstance", 1.0 / instances, "None"),
                ("Invocation4XXErrors", float(is_client), "None"),
                ("Invocation5XXErrors", float(not is_client and not is_fine), "None"),
                ("ModelLatency", model * _MICROSECONDS, "Microseconds"),
                ("OverheadLatency", overhead * _MICROSECONDS, "Microseconds"),
            ],
        )


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a container sees."""
    known = {key.lower(): value for key, value in headers.items()}
    return {
        name: known[name.lower()]
        for name in ("Content-Type", "Accept", _ATTRIBUTES, _INFERENCE_ID)
        if known.get(name.lower())
    }


def _refuse_headers(name: str, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
    known = {key.lower(): value for key, value in headers.items()}
    for header in _REFUSED:
        if header.lower() in known:
            raise unsupported(
                UnsupportedByTwinError(name, "InvokeEndpoint", f"the header {header}")
            )
    target = known.get("x-amzn-sagemaker-target-variant")
    if target not in {None, endpoint.config.variant["VariantName"]}:
        raise _invalid(f"Variant {target} of endpoint {name} not found.")


def _not_found(name: str) -> ApiError:
    return _invalid(f"Endpoint {name} of account {ACCOUNT} not found.")


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationError", message)


def _error(
    code: str,
    message: str,
    status: int,
    fields: Mapping[str, Any] | None = None,
) -> Answer:
    return (
        int(status),
        [
            ("Content-Type", "application/json"),
            ("x-amzn-ErrorType", code),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ],
        json.dumps({"Message": message, **(fields or {})}).encode(),
    )
