"""SageMaker endpoints with blue/green updates: a moto gap.

moto's endpoint is in service at once and runs nothing, and it has no UpdateEndpoint.
Here an endpoint is a *blue* fleet (see `fleets`), and during an update a *green* one
beside it. States and transitions are those SageMaker documents [1]_:

- creation: Creating, then InService, or Failed if the fleet does not become healthy;
  a failed endpoint can only be deleted;
- update: Updating, in which the green fleet starts, gets its first share of the
  traffic, bakes for ``WaitIntervalInSeconds`` after every shift and
  ``TerminationWaitInSeconds`` after the last, then replaces the blue fleet: InService
  on the new configuration. Until then the endpoint shows the old one, and the new one
  as ``PendingDeploymentSummary``;
- rollback: if the green fleet does not become healthy, if an alarm of
  ``AutoRollbackConfiguration`` is in the state ALARM at any time of the update, or if
  ``MaximumExecutionTimeoutInSeconds`` pass, all traffic returns to the blue fleet:
  InService on the *old* configuration, with a FailureReason. Without alarms nothing
  but bad health rolls back.

Starting a fleet takes the machine's time and no driven time; waiting takes driven time
and no machine time. An alarm that rings rolls back at once, one that rang before at
the next step. Steps come after alarms that are evaluated at the same instant.

References
----------
.. [1] Amazon SageMaker developer guide, "Deployment guardrails".
   https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html
"""

import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from infra.local.clock import AFTER_ALARMS, Clock, Timer
from infra.local.containers import Containers, Log
from infra.local.errors import UnknownEndpointError
from infra.local.fleets import PING_SECONDS, Fleet, FleetError
from infra.local.resources.registry import APPLIED, TAGS, Only, Shape
from infra.local.sagemaker_api import Listing, invalid
from infra.local.served_models import EndpointConfig, ServedModels
from infra.local.signals import Signals
from infra.local.template import ACCOUNT, PARTITION
from infra.local.work import Work

_ALL = 100  # percent
_LARGEST_CANARY = 50
_SMALLEST_STEP, _LARGEST_STEP = 10, 50
_LISTING = Listing("Endpoints", "EndpointName", "EndpointStatus")
_SEED = 20_240_229  # of the router: any number, but the same at every start

_CAPACITY: dict[str, Shape] = {"Type": Only(("CAPACITY_PERCENT",)), "Value": APPLIED}
DEPLOYMENT_SHAPE: Final[dict[str, Shape]] = {
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": APPLIED}]},
    "BlueGreenUpdatePolicy": {
        "MaximumExecutionTimeoutInSeconds": APPLIED,
        "TerminationWaitInSeconds": APPLIED,
        "TrafficRoutingConfiguration": {
            "CanarySize": _CAPACITY,
            "LinearStepSize": _CAPACITY,
            "Type": APPLIED,
            "WaitIntervalInSeconds": APPLIED,
        },
    },
}
CREATE_SHAPE: Final[dict[str, Shape]] = {
    "EndpointConfigName": APPLIED,
    "EndpointName": APPLIED,
    "Tags": TAGS,
}
UPDATE_SHAPE: Final[dict[str, Shape]] = {
    "DeploymentConfig": DEPLOYMENT_SHAPE,
    "EndpointConfigName": APPLIED,
    "EndpointName": APPLIED,
    "RetainAllVariantProperties": Only((False,)),
    "RetainDeploymentConfig": APPLIED,
}


@dataclass
class _Update:
    """An update on its way."""

    config: EndpointConfig
    began: datetime
    policy: Mapping[str, Any]
    alarms: Sequence[str]
    green: Fleet | None = None
    percent: int = 0
    state: str = "Creating"
    deployment: Mapping[str, Any] | None = None
    timers: list[Timer] = field(default_factory=list)


@dataclass
class Endpoint:
    """An endpoint; everything that changes it holds its lock."""

    name: str
    arn: str
    created: datetime
    modified: datetime
    config: EndpointConfig
    blue: Fleet | None = None
    status: str = "Creating"
    failure: str | None = None
    update: _Update | None = None
    deployment: Mapping[str, Any] | None = None
    restarts: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    router: random.Random = field(
        default_factory=lambda: random.Random(_SEED)  # noqa: S311 - no secret
    )

    def choose(self) -> Fleet | None:
        """Return the fleet of the next request, None while there is none."""
        with self.lock:
            update = self.update
            is_shared = update is not None and update.green is not None
            if is_shared and self.router.random() * _ALL < update.percent:  # type: ignore[union-attr]
                return update.green  # type: ignore[union-attr]
            return self.blue

    @property
    def fleets(self) -> list[Fleet]:
        """The fleets that run, blue first."""
        green = self.update.green if self.update else None
        return [fleet for fleet in (self.blue, green) if fleet is not None]


class Endpoints:
    """All endpoints of a twin.

    Attributes
    ----------
    ping_seconds
        How long a program may take to be healthy, the machine's s, if its variant does
        not say.
    """

    def __init__(  # noqa: PLR0913 - what the twin lends, by name
        self,
        *,
        folder: Path,
        region: str,
        clock: Clock,
        work: Work,
        containers: Containers,
        signals: Signals,
        models: ServedModels,
        client: Callable[[str], Any],
    ) -> None:
        self._folder = folder
        self._region = region
        self._clock = clock
        self._work = work
        self._containers = containers
        self._signals = signals
        self._models = models
        self._client = client
        self.ping_seconds = PING_SECONDS
        self._lock = threading.RLock()
        self._endpoints: dict[str, Endpoint] = {}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer CreateEndpoint and bring the first fleet into service."""
        name = request["EndpointName"]
        config = self._models.config(request["EndpointConfigName"])
        now = self._clock.now()
        endpoint = Endpoint(name, self._arn(name), now, now, config)
        with self._lock:
            if name in self._endpoints:
                raise invalid(
                    f'Cannot create already existing endpoint "{self._arn(name)}".'
                )
            self._endpoints[name] = endpoint
        self._changed(endpoint)
        self._work.start(f"endpoint-{name}", lambda: self._launch(endpoint))
        return {"EndpointArn": endpoint.arn}

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer UpdateEndpoint and begin the deployment."""
        endpoint = self.find(request["EndpointName"])
        config = self._models.config(request["EndpointConfigName"])
        with endpoint.lock:
            if endpoint.status == "Failed":
                raise invalid(
                    f'Cannot update endpoint "{endpoint.arn}" in status Failed: '
                    "delete it"
                )
            if endpoint.status != "InService":
                raise invalid(f'Cannot update in-progress endpoint "{endpoint.arn}".')
            deployment = request.get("DeploymentConfig")
            if deployment is None and request.get("RetainDeploymentConfig"):
                deployment = endpoint.deployment
            update = self._checked(endpoint, config, deployment)
            endpoint.update = update
            endpoint.status, endpoint.failure = "Updating", None
            self._changed(endpoint)
        self._work.start(
            f"endpoint-{endpoint.name}", lambda: self._begin(endpoint, update)
        )
        return {"EndpointArn": endpoint.arn}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DeleteEndpoint and end its fleets."""
        endpoint = self.find(request["EndpointName"])
        with endpoint.lock:
            if endpoint.status in {"Creating", "Updating", "Deleting"}:
                raise invalid(f'Cannot update in-progress endpoint "{endpoint.arn}".')
            endpoint.status = "Deleting"
            self._changed(endpoint)
        self._work.start(f"endpoint-{endpoint.name}", lambda: self._take_down(endpoint))
        return {}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeEndpoint."""
        endpoint = self.find(request["EndpointName"])
        with endpoint.lock:
            return self._description(endpoint)

    def list_endpoints(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer ListEndpoints."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        return _LISTING.pick(
            request,
            [
                {
                    "EndpointName": endpoint.name,
                    "EndpointArn": endpoint.arn,
                    "CreationTime": endpoint.created,
                    "LastModifiedTime": endpoint.modified,
                    "EndpointStatus": endpoint.status,
                }
                for endpoint in endpoints
            ],
        )

    def find(self, name: str) -> Endpoint:
        """Return an endpoint.

        Raises
        ------
        ApiError
            If there is none of that name.
        """
        with self._lock:
            if name not in self._endpoints:
                raise invalid(f'Could not find endpoint "{self._arn(name)}".')
            return self._endpoints[name]

    def kill(self, name: str) -> bool:
        """Kill the processes of an endpoint, as a fault would; they are replaced.

        Parameters
        ----------
        name
            The name, or a part of it that no other endpoint has.

        Returns
        -------
        bool
            False if it has no process at the moment.

        Raises
        ------
        UnknownEndpointError
            If no endpoint, or more than one, has that name.
        """
        with self._lock:
            names = list(self._endpoints)
        found = [known for known in names if known == name] or [
            known for known in names if name in known
        ]
        if len(found) != 1:
            raise UnknownEndpointError(
                f"expected one endpoint like {name!r}, found {found or names}"
            )
        # A list: every fleet is killed, not only the first that has a process.
        return any([fleet.kill() for fleet in self.find(found[0]).fleets])  # noqa: C419

    def status(self) -> dict[str, dict[str, Any]]:
        """Return state, processes and log of every endpoint."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        return {
            endpoint.name: {
                "status": endpoint.status,
                "config": endpoint.config.name,
                "pids": [fleet.pid for fleet in endpoint.fleets],
                "green_percent": endpoint.update.percent if endpoint.update else 0,
                "restarts": endpoint.restarts
                + sum(fleet.restarts for fleet in endpoint.fleets),
                "logs": [str(fleet.log.path) for fleet in endpoint.fleets],
            }
            for endpoint in endpoints
        }

    def alarm_rang(self, name: str) -> None:
        """Roll back every update that this alarm guards."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:
            with endpoint.lock:
                update = endpoint.update
            if update is not None and name in update.alarms:
                self._roll_back(endpoint, update, _rang([name]))

    def drain_logs(self) -> None:
        """Hand on what the programs printed since their last answer."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:
            for fleet in endpoint.fleets:
                fleet.log.drain()

    def end(self) -> None:
        """End every process, because the twin stops."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:
            with endpoint.lock:
                fleets = endpoint.fleets
            for fleet in fleets:
                fleet.stop()

    # Creation and deletion

    def _launch(self, endpoint: Endpoint) -> None:
        fleet = self._fleet(endpoint, endpoint.config)
        endpoint.blue = fleet
        try:
            fleet.start()
        except FleetError as error:
            with endpoint.lock:
                endpoint.blue = None
                endpoint.status, endpoint.failure = "Failed", str(error)
                self._changed(endpoint)
            return
        with endpoint.lock:
            endpoint.status = "InService"
            self._changed(endpoint)

    def _take_down(self, endpoint: Endpoint) -> None:
        for fleet in endpoint.fleets:
            fleet.stop()
        with self._lock:
            self._endpoints.pop(endpoint.name, None)

    def _fleet(self, endpoint: Endpoint, config: EndpointConfig) -> Fleet:
        part = f"{endpoint.name}-{uuid.uuid4().hex[:8]}"
        group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
        stream = f"{config.variant['VariantName']}/{part}"
        return Fleet(
            config,
            base=self._folder / "endpoints" / part,
            log=Log(
                self._folder / "logs" / f"endpoint-{part}.log",
                self._signals.printer(group, stream),
            ),
            containers=self._containers,
            work=self._work,
            client=self._client,
            ping_seconds=self.ping_seconds,
        )

    # Updates

    def _checked(
        self,
        endpoint: Endpoint,
        config: EndpointConfig,
        deployment: Mapping[str, Any] | None,
    ) -> _Update:
        """Return the update that a request describes, if it is allowed."""
        policy = (deployment or {}).get("BlueGreenUpdatePolicy", {})
        alarms = [
            alarm["AlarmName"]
            for alarm in (deployment or {})
            .get("AutoRollbackConfiguration", {})
            .get("Alarms", [])
        ]
        old, new = endpoint.config.variant, config.variant
        if old["VariantName"] != new["VariantName"]:
            raise invalid(
                f"The production variant {new['VariantName']!r} of the new endpoint "
                f"configuration must have the name of the old, {old['VariantName']!r}"
            )
        if (endpoint.config.asynchronous is None) != (config.asynchronous is None):
            raise invalid(
                "An endpoint cannot change between real-time and asynchronous inference"
            )
        if unknown := self._signals.unknown_alarms(alarms):
            raise invalid(f"Could not find the CloudWatch alarms {unknown}")
        if policy:
            _check_policy(policy)
        return _Update(config, self._clock.now(), policy, alarms, deployment=deployment)

    def _begin(self, endpoint: Endpoint, update: _Update) -> None:
        green = self._fleet(endpoint, update.config)
        with endpoint.lock:
            if endpoint.update is not update:
                return
            update.green = green
        try:
            green.start()
        except FleetError as error:
            self._roll_back(endpoint, update, str(error))
            return
        with endpoint.lock:
            if endpoint.update is not update or self._is_alarmed(endpoint, update):
                return
            limit = update.policy.get("MaximumExecutionTimeoutInSeconds")
            if limit is not None:
                self._at(
                    endpoint,
                    update,
                    update.began + timedelta(seconds=limit),
                    lambda: self._roll_back(
                        endpoint,
                        update,
                        f"The deployment did not end within {limit} seconds.",
                    ),
                )
            self._shift(endpoint, update, _shares(update.policy))

    def _shift(
        self, endpoint: Endpoint, update: _Update, shares: Sequence[int]
    ) -> None:
        """Send the next share of the traffic to the green fleet, and bake."""
        update.percent, update.state = shares[0], "Baking"
        self._touch(endpoint)
        routing = update.policy.get("TrafficRoutingConfiguration", {})
        wait = timedelta(seconds=routing.get("WaitIntervalInSeconds", 0))
        rest = shares[1:]
        if not rest:
            wait += timedelta(seconds=update.policy.get("TerminationWaitInSeconds", 0))

        def go_on() -> None:
            if rest:
                self._shift(endpoint, update, rest)
            else:
                self._complete(endpoint, update)

        if wait:
            self._at(endpoint, update, self._clock.now() + wait, go_on)
        else:
            go_on()

    def _at(
        self,
        endpoint: Endpoint,
        update: _Update,
        due: datetime,
        act: Callable[[], None],
    ) -> None:
        """Act at `due`, unless the update is over or an alarm ends it first."""

        def fire() -> None:
            with endpoint.lock:
                if endpoint.update is update and not self._is_alarmed(endpoint, update):
                    act()

        update.timers.append(self._clock.call_at(due, fire, turn=AFTER_ALARMS))

    def _is_alarmed(self, endpoint: Endpoint, update: _Update) -> bool:
        alarmed = self._signals.alarms_in_alarm(update.alarms)
        if not alarmed:
            return False
        self._roll_back(endpoint, update, _rang(alarmed))
        return True

    def _complete(self, endpoint: Endpoint, update: _Update) -> None:
        old = endpoint.blue
        endpoint.blue, endpoint.config = update.green, update.config
        endpoint.deployment = update.deployment
        self._close(endpoint, update, old)

    def _roll_back(self, endpoint: Endpoint, update: _Update, reason: str) -> None:
        with endpoint.lock:
            if endpoint.update is not update:
                return
            endpoint.failure = reason
            self._close(endpoint, update, update.green)

    def _close(self, endpoint: Endpoint, update: _Update, old: Fleet | None) -> None:
        """End an update: one fleet stays, `old` goes."""
        for timer in update.timers:
            timer.cancel()
        endpoint.update = None
        endpoint.status = "InService"
        self._changed(endpoint)
        if old is not None:
            endpoint.restarts += old.restarts
            self._work.start(f"endpoint-{endpoint.name}", old.stop)

    # What is seen

    def _touch(self, endpoint: Endpoint) -> None:
        endpoint.modified = self._clock.now()

    def _changed(self, endpoint: Endpoint) -> None:
        """Note the instant of a change of state, and tell EventBridge."""
        self._touch(endpoint)
        detail = {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "EndpointConfigName": endpoint.config.name,
            "ProductionVariants": [
                {
                    "DesiredWeight": endpoint.config.variant.get(
                        "InitialVariantWeight", 1.0
                    ),
                    "DesiredInstanceCount": endpoint.config.variant[
                        "InitialInstanceCount"
                    ],
                }
            ],
            "EndpointStatus": _in_capitals(endpoint.status),
            "CreationTime": int(endpoint.created.timestamp() * 1000),
            "LastModifiedTime": int(endpoint.modified.timestamp() * 1000),
            "Tags": {},
        }
        self._work.then(
            lambda: self._signals.event(
                "SageMaker Endpoint State Change", endpoint.arn, detail
            )
        )

    def _description(self, endpoint: Endpoint) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "EndpointConfigName": endpoint.config.name,
            "EndpointStatus": endpoint.status,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
        }
        if endpoint.blue is not None:
            shown["ProductionVariants"] = [_variant(endpoint.config)]
        if endpoint.config.asynchronous is not None:
            shown["AsyncInferenceConfig"] = endpoint.config.asynchronous
        if endpoint.failure is not None:
            shown["FailureReason"] = endpoint.failure
        if endpoint.deployment is not None:
            shown["LastDeploymentConfig"] = endpoint.deployment
        update = endpoint.update
        if update is not None:
            shown["PendingDeploymentSummary"] = {
                "EndpointConfigName": update.config.name,
                "ProductionVariants": [
                    _variant(update.config)
                    | {
                        "VariantStatus": [
                            {
                                "Status": update.state,
                                "StatusMessage": (
                                    f"{update.percent} % of the traffic is here"
                                ),
                                "StartTime": endpoint.modified,
                            }
                        ]
                    }
                ],
                "StartTime": update.began,
            }
        return shown

    def _arn(self, name: str) -> str:
        return f"arn:{PARTITION}:sagemaker:{self._region}:{ACCOUNT}:endpoint/{name}"


def _rang(alarms: Sequence[str]) -> str:
    return (
        "The deployment was rolled back because these CloudWatch alarms are in the "
        f"state ALARM: {', '.join(alarms)}."
    )


def _variant(config: EndpointConfig) -> dict[str, Any]:
    variant, image = config.variant, config.model.container["Image"]
    weight = variant.get("InitialVariantWeight", 1.0)
    return {
        "VariantName": variant["VariantName"],
        "CurrentInstanceCount": variant["InitialInstanceCount"],
        "DesiredInstanceCount": variant["InitialInstanceCount"],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "DeployedImages": [
            {
                "SpecifiedImage": image,
                "ResolvedImage": image,
                "ResolutionTime": config.created,
            }
        ],
    }


def _shares(policy: Mapping[str, Any]) -> list[int]:
    """Return the shares of the traffic that the green fleet gets one after another, %.

    Examples
    --------
    >>> routing = {"Type": "LINEAR", "LinearStepSize": {"Value": 30}}
    >>> _shares({"TrafficRoutingConfiguration": routing})
    [30, 60, 90, 100]
    >>> _shares({})
    [100]
    """
    routing = policy.get("TrafficRoutingConfiguration", {})
    match routing.get("Type", "ALL_AT_ONCE"):
        case "CANARY":
            return [int(routing["CanarySize"]["Value"]), _ALL]
        case "LINEAR":
            step = int(routing["LinearStepSize"]["Value"])
            return [*range(step, _ALL, step), _ALL]
    return [_ALL]


def _check_policy(policy: Mapping[str, Any]) -> None:
    """Refuse what UpdateEndpoint refuses beyond its model.

    Raises
    ------
    ApiError
        If a size is missing or too large, or the waits leave no time for the update.
    """
    routing = policy["TrafficRoutingConfiguration"]
    kind = routing["Type"]
    for wanted, member, least, most in (
        ("CANARY", "CanarySize", 1, _LARGEST_CANARY),
        ("LINEAR", "LinearStepSize", _SMALLEST_STEP, _LARGEST_STEP),
    ):
        if (kind == wanted) != (member in routing):
            raise invalid(
                f"{member} must be there for the type {wanted} and for no other, "
                f"got {routing}"
            )
        if member in routing and not least <= routing[member]["Value"] <= most:
            raise invalid(f"{member} must be from {least} to {most} percent")
    waits = len(_shares(policy)) * routing["WaitIntervalInSeconds"] + policy.get(
        "TerminationWaitInSeconds", 0
    )
    limit = policy.get("MaximumExecutionTimeoutInSeconds")
    if limit is not None and limit <= waits:
        raise invalid(
            f"MaximumExecutionTimeoutInSeconds ({limit}) must be larger than all waits "
            f"of the deployment together ({waits})"
        )


def _in_capitals(status: str) -> str:
    """Return a status as SageMaker's events spell it.

    Examples
    --------
    >>> _in_capitals("InService")
    'IN_SERVICE'
    """
    return "".join(
        f"_{letter}" if letter.isupper() and index else letter
        for index, letter in enumerate(status)
    ).upper()
