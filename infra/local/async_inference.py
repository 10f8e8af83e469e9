"""SageMaker asynchronous inference: a moto gap.

InvokeEndpointAsync answers 202 with an id and where the answer will be. The request
waits in the endpoint's queue until fewer than ``MaxConcurrentInvocationsPerInstance``
run, its body is read from S3 and sent to the endpoint's process; the answer goes to
``S3OutputPath``, an error to ``S3FailurePath``, and a message in the shape AWS
documents [1]_ to the success or error topic. A request that waited longer than its
``RequestTTLSeconds`` of the twin's time is not sent. ``InvocationTimeoutSeconds``
count the machine's time. A request holds an activity token from 202 to its message.

References
----------
.. [1] Amazon SageMaker developer guide, "Check prediction results".
   https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html
"""

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from infra.local.clock import Clock
from infra.local.endpoints import Endpoint
from infra.local.errors import UnsupportedByTwinError
from infra.local.invocations import Invocations, ModelError
from infra.local.sagemaker_api import Answer, ApiError, unsupported
from infra.local.work import Work

_PREFIX = "x-amzn-sagemaker-"
_REFUSED = ("s3outputpathextension", "filename")
_CONCURRENT = 4
_TTL_SECONDS = 21_600
_TIMEOUT_SECONDS = 900
_LARGEST_TTL, _SMALLEST_TTL = 21_600, 60
_LARGEST_TIMEOUT = 3_600
_LONGEST_ID = 64


@dataclass(frozen=True)
class _Request:
    """A request that was answered with 202."""

    endpoint: Endpoint
    inference_id: str
    input: str
    output: str
    failure: str | None
    headers: Mapping[str, str]
    received: datetime
    ttl: timedelta
    timeout: float


class _Queue:
    """The requests of one endpoint: waiting, and how many run."""

    def __init__(self) -> None:
        self.waiting: deque[_Request] = deque()
        self.running = 0


class AsyncInference:
    """Runs asynchronous requests on the endpoints' processes.

    Parameters
    ----------
    clock
        Time that requests wait in.
    region
        Region of messages.
    work
        Runs the requests.
    invocations
        Sends them to processes.
    client
        Returns the boto3 client of a service.
    """

    def __init__(
        self,
        clock: Clock,
        region: str,
        work: Work,
        invocations: Invocations,
        client: Callable[[str], Any],
    ) -> None:
        self._clock = clock
        self._region = region
        self._work = work
        self._invocations = invocations
        self._client = client
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    def answer(self, name: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer InvokeEndpointAsync."""
        try:
            request = self._request(name, headers, body)
        except ApiError as error:
            content = {"Message": error.message}
            return (
                error.status,
                [
                    ("Content-Type", "application/json"),
                    ("x-amzn-ErrorType", error.code),
                ],
                json.dumps(content).encode(),
            )
        with self._lock:
            queue = self._queues.setdefault(name, _Queue())
            queue.waiting.append(request)
        self._work.start(f"async-{name}", lambda: self._serve(queue))
        answered = [
            ("Content-Type", "application/json"),
            ("X-Amzn-SageMaker-OutputLocation", request.output),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ]
        if request.failure is not None:
            answered.append(("X-Amzn-SageMaker-FailureLocation", request.failure))
        return (
            int(HTTPStatus.ACCEPTED),
            answered,
            json.dumps({"InferenceId": request.inference_id}).encode(),
        )

    def _request(self, name: str, headers: Mapping[str, str], body: bytes) -> _Request:
        known = {
            key.lower().removeprefix(_PREFIX): value
            for key, value in headers.items()
            if key.lower().startswith(_PREFIX)
        }
        endpoint = self._invocations.endpoint(name)
        config = endpoint.config.asynchronous
        if config is None:
            raise ApiError(
                "ValidationError",
                f"Endpoint {name} has no AsyncInferenceConfig and does not support "
                "this inference type: use InvokeEndpoint",
            )
        for header in _REFUSED:
            if header in known:
                raise unsupported(
                    UnsupportedByTwinError(name, "InvokeEndpointAsync", header)
                )
        if body:
            raise unsupported(
                UnsupportedByTwinError(name, "InvokeEndpointAsync", "a body in line")
            )
        location = known.get("inputlocation", "")
        if not location.startswith("s3://"):
            raise ApiError(
                "ValidationError",
                f"expected an InputLocation s3://bucket/key, got {location!r}",
            )
        inference_id = known.get("inference-id") or str(uuid.uuid4())
        if len(inference_id) > _LONGEST_ID:
            raise ApiError(
                "ValidationError",
                f"an InferenceId has at most {_LONGEST_ID} characters",
            )
        result = uuid.uuid4()
        output = config["OutputConfig"]
        path = output.get("S3OutputPath")
        if path is None:
            raise unsupported(
                UnsupportedByTwinError(
                    name, "InvokeEndpointAsync", "an OutputConfig without S3OutputPath"
                )
            )
        failures = output.get("S3FailurePath")
        return _Request(
            endpoint=endpoint,
            inference_id=inference_id,
            input=location,
            output=f"{path.rstrip('/')}/{result}.out",
            failure=f"{failures.rstrip('/')}/{result}-error.out" if failures else None,
            headers={
                "Content-Type": known.get("content-type", ""),
                "Accept": known.get("accept", ""),
                "X-Amzn-SageMaker-Custom-Attributes": known.get(
                    "custom-attributes", ""
                ),
                "X-Amzn-SageMaker-Inference-Id": inference_id,
            },
            received=self._clock.now(),
            ttl=timedelta(
                seconds=_number(
                    known,
                    "requestttlseconds",
                    _TTL_SECONDS,
                    _SMALLEST_TTL,
                    _LARGEST_TTL,
                )
            ),
            timeout=_number(
                known,
                "invocationtimeoutseconds",
                _TIMEOUT_SECONDS,
                1,
                _LARGEST_TIMEOUT,
            ),
        )

    def _serve(self, queue: _Queue) -> None:
        """Take one request if one more may run; whoever ends takes the next."""
        while True:
            with self._lock:
                if not queue.waiting:
                    return
                request = queue.waiting[0]
                config = request.endpoint.config
                client = (config.asynchronous or {}).get("ClientConfig", {})
                limit = int(
                    client.get("MaxConcurrentInvocationsPerInstance", _CONCURRENT)
                ) * int(config.variant["InitialInstanceCount"])
                if queue.running >= limit:
                    return
                queue.waiting.popleft()
                queue.running += 1
            try:
                self._run(request)
            finally:
                with self._lock:
                    queue.running -= 1

    def _run(self, request: _Request) -> None:
        try:
            kind, body = self._result(request)
        except _FailedError as error:
            if request.failure is not None:
                self._put(request, request.failure, error.body, "text/plain")
            self._notify(request, "Failed", {"failureReason": str(error)})
            return
        self._put(request, request.output, body, kind)
        self._notify(
            request,
            "Completed",
            {
                "responseParameters": {
                    "contentType": kind,
                    "outputLocation": request.output,
                }
            },
        )

    def _result(self, request: _Request) -> tuple[str, bytes]:
        """Return content type and body of the answer."""
        waited = self._clock.now() - request.received
        if waited > request.ttl:
            raise _FailedError(
                f"ClientError: the request waited {waited.total_seconds():g} s, longer "
                f"than its RequestTTLSeconds"
            )
        bucket, _, key = request.input.removeprefix("s3://").partition("/")
        try:
            body = self._client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise _FailedError(
                f"ClientError: failed to read {request.input}: {error}"
            ) from error
        try:
            _, response = self._invocations.send(
                request.endpoint,
                request.headers,
                body,
                request.timeout,
                began=time.perf_counter(),
            )
        except ModelError as error:
            raise _FailedError(f"ClientError: {error}", error.text) from error
        except ApiError as error:
            raise _FailedError(f"ClientError: {error.message}") from error
        return response.headers.get("content-type", ""), response.body

    def _put(self, request: _Request, uri: str, body: bytes, kind: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        output = (request.endpoint.config.asynchronous or {})["OutputConfig"]
        kms_key = output.get("KmsKeyId")
        encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
            if kms_key
            else {}
        )
        self._client("s3").put_object(
            Bucket=bucket, Key=key, Body=body, ContentType=kind, **encryption
        )

    def _notify(
        self, request: _Request, status: str, fields: Mapping[str, Any]
    ) -> None:
        output = (request.endpoint.config.asynchronous or {})["OutputConfig"]
        topic = output.get("NotificationConfig", {}).get(
            "SuccessTopic" if status == "Completed" else "ErrorTopic"
        )
        if topic is None:
            return
        message = {
            "awsRegion": self._region,
            "eventTime": _milliseconds(self._clock.now()),
            "receivedTime": _milliseconds(request.received),
            "invocationStatus": status,
            "requestParameters": {
                "contentType": request.headers["Content-Type"],
                "endpointName": request.endpoint.name,
                "inputLocation": request.input,
            },
            **fields,
            "inferenceId": request.inference_id,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        }
        self._client("sns").publish(TopicArn=topic, Message=json.dumps(message))


class _FailedError(Exception):
    """A request failed; `body` is what goes to the failure path."""

    def __init__(self, reason: str, text: str | None = None) -> None:
        super().__init__(reason)
        self.body = (reason if text is None else text).encode()


def _number(
    known: Mapping[str, str], name: str, default: int, least: int, most: int
) -> int:
    value = known.get(name, str(default))
    if not value.isdecimal() or not least <= int(value) <= most:
        raise ApiError(
            "ValidationError", f"{name} must be from {least} to {most}, got {value!r}"
        )
    return int(value)


def _milliseconds(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
