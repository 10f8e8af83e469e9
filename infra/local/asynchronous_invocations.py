"""Asynchronous invocations: Lambda's own queue of events, a moto gap.

moto runs an invocation of type ``Event`` while the caller waits, once. Here the caller
gets its answer at once, and an error is retried twice after one and two minutes, or as
``EventInvokeConfig`` says; then the on-failure destination gets the invocation record.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from infra.local.activity import Activity
from infra.local.clock import Clock
from infra.local.errors import UnsupportedByTwinError
from infra.local.lambda_runtime import LambdaRuntime, Outcome

_RETRIES = 2
_AGE = timedelta(hours=6)
_PAUSES = (timedelta(minutes=1), timedelta(minutes=2))


class AsynchronousInvocations:
    """Lambda's queue of events, with retries, age and on-failure destination.

    One thread runs them in order of arrival.
    """

    def __init__(
        self,
        clock: Clock,
        activity: Activity,
        runtime: LambdaRuntime,
        client: Callable[[str], Any],
    ) -> None:
        self._clock = clock
        self._activity = activity
        self._runtime = runtime
        self._client = client
        self._changed = threading.Condition()
        self._queue: deque[_Event] = deque()
        self._is_stopping = False
        self._thread = threading.Thread(
            target=self._run, name="twin-asynchronous-invocations", daemon=True
        )
        self._thread.start()

    def add(self, function_arn: str, payload: bytes) -> None:
        """Take an event; it is invoked soon, in order."""
        self._put(_Event(function_arn, payload, self._clock.now()))

    def stop(self) -> None:
        """Start no more invocations."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the end of the invocation that runs, if one does."""
        self._thread.join()

    def _put(self, event: "_Event") -> None:
        self._activity.begin()
        with self._changed:
            self._queue.append(event)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._is_stopping:
                    self._changed.wait()
                if self._is_stopping:
                    return
                event = self._queue.popleft()
            try:
                self._invoke(event)
            except Exception as error:
                self._activity.fail(error)
                raise
            finally:
                self._activity.end()

    def _invoke(self, event: "_Event") -> None:
        outcome = self._runtime.invoke(event.function_arn, event.payload)
        if self._is_stopping:
            return
        event.invocations += 1
        if not outcome.is_error:
            return
        retries, age, destination = self._settings(event.function_arn)
        if event.invocations <= retries:
            due = self._clock.now() + _PAUSES[event.invocations - 1]
            if due - event.received <= age:
                self._clock.call_at(due, lambda: self._put(event))
                return
            condition = "EventAgeExceeded"
        else:
            condition = "RetriesExhausted"
        if destination is not None:
            self._deliver(destination, event, outcome, condition)

    def _settings(self, function_arn: str) -> tuple[int, timedelta, str | None]:
        try:
            shown = self._client("lambda").get_function_event_invoke_config(
                FunctionName=function_arn
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return _RETRIES, _AGE, None
        on_failure = shown.get("DestinationConfig", {}).get("OnFailure", {})
        return (
            int(shown.get("MaximumRetryAttempts", _RETRIES)),
            timedelta(seconds=shown.get("MaximumEventAgeInSeconds", _AGE.seconds)),
            on_failure.get("Destination"),
        )

    def _deliver(
        self, destination: str, event: "_Event", outcome: Outcome, condition: str
    ) -> None:
        record = {
            "version": "1.0",
            "timestamp": self._clock.now().isoformat(timespec="milliseconds"),
            "requestContext": {
                "requestId": outcome.request_id,
                "functionArn": f"{event.function_arn}:$LATEST",
                "condition": condition,
                "approximateInvokeCount": event.invocations,
            },
            "requestPayload": json.loads(event.payload),
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": json.loads(outcome.payload),
        }
        send_to_queue(self._client, destination, json.dumps(record))


class _Event:
    """An event on its way to a function."""

    def __init__(self, function_arn: str, payload: bytes, received: datetime) -> None:
        self.function_arn = function_arn
        self.payload = payload
        self.received = received
        self.invocations = 0


def send_to_queue(
    client: Callable[[str], Any],
    queue_arn: str,
    body: str,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Send a message to the SQS queue of an ARN.

    Raises
    ------
    UnsupportedByTwinError
        If the ARN is not that of a queue.
    """
    if queue_arn.split(":")[2] != "sqs":
        raise UnsupportedByTwinError(queue_arn, "destination", "what is no SQS queue")
    sqs = client("sqs")
    url = sqs.get_queue_url(QueueName=queue_arn.split(":")[5])["QueueUrl"]
    sqs.send_message(
        QueueUrl=url,
        MessageBody=body,
        MessageAttributes={
            key: {"DataType": "String", "StringValue": value}
            for key, value in (attributes or {}).items()
        },
    )
