"""EventBridge rules: events of the default bus, or of a schedule, to targets."""

import json
from typing import Any

from infra.local.event_pattern import EventPattern
from infra.local.event_rules import wrong_with
from infra.local.resources.registry import APPLIED, TAGS, Only, Site, creates
from infra.local.schedule_expression import parse
from infra.local.template import Created

_NAME_LIMIT = 64


@creates(
    "AWS::Events::Rule",
    {
        "Description": APPLIED,
        "EventBusName": Only(("default",)),
        "EventPattern": APPLIED,
        "Name": APPLIED,
        "ScheduleExpression": APPLIED,
        "State": Only(("ENABLED", "DISABLED")),
        "Tags": TAGS,
        "Targets": [
            {
                "Arn": APPLIED,
                "DeadLetterConfig": {"Arn": APPLIED},
                "Id": APPLIED,
                "Input": APPLIED,
                "RetryPolicy": {
                    "MaximumEventAgeInSeconds": APPLIED,
                    "MaximumRetryAttempts": APPLIED,
                },
                "RoleArn": APPLIED,
            }
        ],
    },
)
def rule(site: Site, properties: dict[str, Any]) -> Created:
    """Create a rule with its targets."""
    events = site.client("events")
    kind = "AWS::Events::Rule"
    name = properties.get("Name") or site.name(limit=_NAME_LIMIT)
    for target in properties.get("Targets", []):
        wrong = wrong_with(target)
        if wrong is not None:
            raise site.refuse(kind, wrong)
    request: dict[str, Any] = {}
    if "EventPattern" in properties:
        EventPattern(properties["EventPattern"], place=str(site.resource))
        request["EventPattern"] = json.dumps(properties["EventPattern"])
    if "ScheduleExpression" in properties:
        try:
            parse(properties["ScheduleExpression"])
        except ValueError as error:
            raise site.refuse(kind, f"the schedule: {error}") from error
        request["ScheduleExpression"] = properties["ScheduleExpression"]
    events.put_rule(
        Name=name,
        State=properties.get("State", "ENABLED"),
        Description=properties.get("Description", ""),
        **request,
    )
    events.put_targets(Rule=name, Targets=properties.get("Targets", []))
    return Created(name, {"Arn": site.arn("events", f"rule/{name}")})
