"""Rules of EventBridge reach their targets: a moto gap.

moto raises ``NotImplementedError`` when a rule's target is a function, a state machine
or a topic, delivers for disabled rules, lets a schedule fire on every event, ignores
``Input``, and swallows every error on the way from S3. The one private method replaced
is ``Rule.send_to_targets``, through which moto sends all events, those of clients too.

A rule that is disabled or does not match sends nothing. A function gets the event as an
asynchronous invocation, a machine as the input of an execution, a queue or topic as a
message; ``Input`` stands for the event. What cannot be handed over, because the target
is gone, goes to the target's dead-letter queue, and is an error where there is none.

Refused by name: ``InputPath``, ``InputTransformer``, other targets.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError
from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend, Rule

from infra.local.asynchronous_invocations import (
    AsynchronousInvocations,
    send_to_queue,
)
from infra.local.errors import UnknownFunctionError, UnsupportedByTwinError
from infra.local.event_pattern import EventPattern
from infra.local.lambda_runtime import LambdaRuntime
from infra.local.mending import mend, original

TARGETS: Final = ("lambda", "sns", "sqs", "states")
_REFUSED: Final = ("InputPath", "InputTransformer", "SqsParameters")


class EventRules:
    """What the rules of every event bus in moto do with events.

    Parameters
    ----------
    runtime
        Knows the functions.
    invocations
        Takes events for functions.
    client
        Returns the boto3 client of a service.
    """

    def __init__(
        self,
        runtime: LambdaRuntime,
        invocations: AsynchronousInvocations,
        client: Callable[[str], Any],
    ) -> None:
        self._runtime = runtime
        self._invocations = invocations
        self._client = client

    def start(self) -> None:
        """Mend moto."""
        put = original(EventsBackend, "put_targets")

        def put_targets(
            backend: EventsBackend,
            name: str,
            event_bus_arn: str | None,
            targets: list[dict[str, Any]],
        ) -> None:
            for target in targets:
                wrong = wrong_with(target)
                if wrong is not None:
                    raise JsonRESTError(
                        "ValidationException",
                        f"the local twin does not understand {wrong}",
                    )
            put(backend, name, event_bus_arn, targets)

        def send(
            rule: Rule,
            original_event: Mapping[str, Any],
            transform_input: bool = True,  # noqa: FBT001, FBT002 - moto's signature
        ) -> None:
            del transform_input  # a target with a transformer is refused
            if rule.state == "ENABLED":
                event = _as_delivered(original_event)
                if _is_for(rule, event):
                    self._send(rule, event)

        mend(EventsBackend, "put_targets", put_targets)
        mend(Rule, "send_to_targets", send)

    def _send(self, rule: Rule, event: Mapping[str, Any]) -> None:
        for target in rule.targets:
            body = target.get("Input") or json.dumps(event)
            try:
                self._hand_over(target["Arn"], body)
            except UnknownFunctionError as error:
                self._failed(rule, target, body, error, "RESOURCE_NOT_FOUND")
            except ClientError as error:
                code = error.response["Error"]["Code"]
                self._failed(rule, target, body, error, code)

    def _hand_over(self, arn: str, body: str) -> None:
        match arn.split(":")[2]:
            case "lambda":
                self._runtime.definition(arn)
                self._invocations.add(arn, body.encode())
            case "sns":
                self._client("sns").publish(TopicArn=arn, Message=body)
            case "sqs":
                send_to_queue(self._client, arn, body)
            case "states":
                self._client("stepfunctions").start_execution(
                    stateMachineArn=arn, input=body
                )
            case service:
                raise UnsupportedByTwinError(arn, "target", f"the service {service}")

    def _failed(
        self,
        rule: Rule,
        target: Mapping[str, Any],
        body: str,
        error: Exception,
        code: str,
    ) -> None:
        dead_letters = target.get("DeadLetterConfig", {}).get("Arn")
        if dead_letters is None:
            raise error
        send_to_queue(
            self._client,
            dead_letters,
            body,
            {
                "ERROR_CODE": code,
                "ERROR_MESSAGE": str(error),
                "RULE_ARN": rule.arn,
                "TARGET_ARN": target["Arn"],
            },
        )


def wrong_with(target: Mapping[str, Any]) -> str | None:
    """Return what of a target the twin cannot do, None if nothing.

    Examples
    --------
    >>> wrong_with({"Id": "T", "Arn": "arn:aws:kinesis:eu-west-1:1:stream/s"})
    'the target arn:aws:kinesis:eu-west-1:1:stream/s'
    """
    for key in _REFUSED:
        if target.get(key):
            return f"the property Targets.{key}"
    if target["Arn"].split(":")[2] not in TARGETS:
        return f"the target {target['Arn']}"
    return None


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
