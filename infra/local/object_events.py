"""S3 -> EventBridge -> Lambda: a moto gap.

moto raises ``NotImplementedError`` when a rule's target is a Lambda function, delivers
for disabled rules, and swallows every error on the way from S3. The one private method
replaced is ``Rule.send_to_targets``, through which moto sends all events.

Semantics: a rule that is disabled or does not match sends nothing. EventBridge hands
the event to Lambda as an asynchronous invocation; if it cannot, because the function is
gone, the event goes to the target's dead-letter queue. From there Lambda's own rules
hold, for ``InvocationType=Event`` through the API too: an error is retried twice after
one and two minutes, or as ``EventInvokeConfig`` says, then the on-failure destination
gets the invocation record.
"""

import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from moto.events.models import Rule

from infra.local.activity import Activity
from infra.local.clock import Clock
from infra.local.errors import UnknownFunctionError, UnsupportedByTwinError
from infra.local.event_pattern import EventPattern
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


def route_events(
    runtime: LambdaRuntime,
    invocations: AsynchronousInvocations,
    client: Callable[[str], Any],
) -> None:
    """Let the rules of every event bus in moto reach their targets."""

    def send(
        self: Rule,
        original_event: Mapping[str, Any],
        transform_input: bool = True,  # noqa: FBT001, FBT002 - moto's signature
    ) -> None:
        del transform_input  # rules with a transformer are refused when they are made
        if self.state != "ENABLED":
            return
        event = _as_delivered(original_event)
        if not _is_for(self, event):
            return
        body = json.dumps(event)
        for target in self.targets:
            if target["Arn"].split(":")[2] == "lambda":
                _to_function(target, body, self.arn)
            else:
                send_to_queue(client, target["Arn"], body)

    def _to_function(target: Mapping[str, Any], body: str, rule_arn: str) -> None:
        try:
            runtime.definition(target["Arn"])
        except UnknownFunctionError as error:
            dead_letters = target.get("DeadLetterConfig", {}).get("Arn")
            if dead_letters is None:
                raise
            send_to_queue(
                client,
                dead_letters,
                body,
                {
                    "ERROR_CODE": "RESOURCE_NOT_FOUND",
                    "ERROR_MESSAGE": str(error),
                    "RULE_ARN": rule_arn,
                    "TARGET_ARN": target["Arn"],
                },
            )
            return
        invocations.add(target["Arn"], body.encode())

    Rule.send_to_targets = send  # type: ignore[method-assign]


def _is_for(rule: Rule, event: Mapping[str, Any]) -> bool:
    """Return whether a rule takes an event: its own schedule's, or a match."""
    if event["source"] == "aws.events" and rule.arn in event["resources"]:
        return True
    pattern = rule.event_pattern.get_pattern()
    if not pattern:
        return False  # a rule on a schedule only
    return EventPattern(pattern, place=rule.name).matches(event)


def _as_delivered(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with the id and time a target sees."""
    delivered = {key: value for key, value in event.items() if key != "ingestion-time"}
    delivered["id"] = event.get("id") or str(uuid.uuid4())
    if isinstance(event.get("time"), int | float):
        instant = datetime.fromtimestamp(event["time"], UTC)
        delivered["time"] = f"{instant:%Y-%m-%dT%H:%M:%SZ}"
    return delivered
