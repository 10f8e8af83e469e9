"""SNS delivers to functions: a moto gap, since moto invokes them with a made-up event.

Replaced is ``Subscription.publish``, and only for the protocol ``lambda``: the function
gets AWS's event as an asynchronous invocation. Queues are moto's own; an address of
``email`` is kept and never written to, since nobody reads it here.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from moto.sns.models import Subscription

from infra.local.mending import mend, original


def deliver_to_functions(
    invoke_later: Callable[[str, bytes], None], now: Callable[[], datetime]
) -> None:
    """Mend moto.

    Parameters
    ----------
    invoke_later
        Takes the function's ARN and the payload.
    now
        Returns the twin's time.
    """
    written = original(Subscription, "publish")

    def publish(
        subscription: Subscription,
        message: str,
        message_id: str,
        subject: str | None = None,
        message_attributes: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        if subscription.protocol != "lambda":
            written(
                subscription,
                message,
                message_id,
                subject=subject,
                message_attributes=message_attributes,
                **more,
            )
            return
        matcher = subscription._filter_policy_matcher  # noqa: SLF001
        attributes = dict(message_attributes or {})
        if matcher is not None and not matcher.matches(attributes, message):
            return
        if more.get("message_structure") == "json":
            message = subscription._parse_message_structure(message, "lambda")  # noqa: SLF001
        notification = {
            "Type": "Notification",
            "MessageId": message_id or str(uuid.uuid4()),
            "TopicArn": subscription.topic_arn,
            "Subject": subject,
            "Message": message,
            "Timestamp": now()
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "MessageAttributes": attributes,
        }
        record = {
            "EventSource": "aws:sns",
            "EventVersion": "1.0",
            "EventSubscriptionArn": subscription.arn,
            "Sns": notification,
        }
        event = json.dumps({"Records": [record]}).encode()
        invoke_later(subscription.endpoint, event)

    mend(Subscription, "publish", publish)
