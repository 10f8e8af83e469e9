"""Rules on a schedule: a moto gap, since moto keeps them and nothing ever fires.

A rule that is put, enabled, disabled or deleted, by a template or the API, gets its
timer or loses it. The timer is periodic: nobody drives the clock to a schedule, but it
fires when the clock passes it, with AWS's "Scheduled Event" whose ``time`` is the due
instant.
"""

import uuid
from datetime import datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend, Rule

from infra.local.clock import Clock, Timer
from infra.local.mending import mend, original
from infra.local.schedule_expression import parse
from infra.local.template import ACCOUNT


class Schedules:
    """Rules that fire as time goes by.

    Parameters
    ----------
    clock
        The twin's time.
    region
        Region of the events.
    """

    def __init__(self, clock: Clock, region: str) -> None:
        self._clock = clock
        self._region = region
        self._fired: dict[str, int] = {}
        self._timers: dict[str, Timer] = {}

    def start(self) -> None:
        """Follow the rules that are changed from now on."""
        put = original(EventsBackend, "put_rule")

        def put_rule(backend: EventsBackend, name: str, **request: Any) -> Rule:
            expression = request.get("scheduled_expression")
            if expression:
                try:
                    parse(expression)
                except ValueError as error:
                    raise JsonRESTError("ValidationException", str(error)) from error
            rule: Rule = put(backend, name, **request)
            self._follow(backend, rule.name)
            return rule

        mend(EventsBackend, "put_rule", put_rule)
        for method in ("enable_rule", "disable_rule", "delete_rule"):
            self._mend(method)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return of each rule how often it has fired, and when it is due next."""
        return {
            name: {
                "fired": count,
                "due": self._timers[name].due.isoformat()
                if name in self._timers
                else None,
            }
            for name, count in self._fired.items()
        }

    def _mend(self, method: str) -> None:
        written = original(EventsBackend, method)

        def changed(backend: EventsBackend, name: str, *more: Any, **named: Any) -> Any:
            answer = written(backend, name, *more, **named)
            self._follow(backend, name)
            return answer

        mend(EventsBackend, method, changed)

    def _follow(self, backend: EventsBackend, name: str) -> None:
        """Give a rule of the default bus the timer that it needs now."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        rule = backend.event_buses["default"].rules.get(name)
        if rule is None:
            self._fired.pop(name, None)
        elif rule.scheduled_expression:
            self._fired.setdefault(name, 0)
            if rule.state == "ENABLED":
                self._plan(rule)

    def _plan(self, rule: Rule) -> None:
        due = parse(str(rule.scheduled_expression)).next_after(self._clock.now())
        if due is None:
            return

        def fire() -> None:
            self._plan(rule)
            self._fired[rule.name] += 1
            rule.send_to_targets(self._event(rule.arn, due))

        self._timers[rule.name] = self._clock.call_at(due, fire, is_periodic=True)

    def _event(self, rule_arn: str, due: datetime) -> Any:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT,
            "time": f"{due:%Y-%m-%dT%H:%M:%SZ}",
            "region": self._region,
            "resources": [rule_arn],
            "detail": {},
        }
