"""The default event bus, for parts of the twin that send events themselves."""

from collections.abc import Mapping
from typing import Any

from moto.events.models import Rule, events_backends

from infra.local.template import ACCOUNT


def rules(region: str) -> list[Rule]:
    """Return the rules of the default bus."""
    bus = events_backends[ACCOUNT][region].event_buses["default"]
    return list(bus.rules.values())


def send(region: str, event: Mapping[str, Any]) -> None:
    """Offer an event to every rule of the default bus."""
    offered: Any = dict(event)
    for rule in rules(region):
        rule.send_to_targets(offered)
