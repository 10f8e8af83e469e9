"""Which resource types the twin creates, and exactly which of their properties.

A type is registered with a *shape*: the properties that are applied, those that are
accepted although nothing here enforces them, with the reason, and nothing else. What
a template says beyond its shape is refused with stack, logical id, type and property.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import boto3

from infra.local.errors import UnsupportedByTwinError
from infra.local.names import physical_name
from infra.local.template import ACCOUNT, PARTITION, Created, ResourceId


@dataclass(frozen=True)
class Applied:
    """Handed on whole, whatever it holds."""


@dataclass(frozen=True)
class Inert:
    """Accepted, and without effect in the twin.

    Attributes
    ----------
    reason
        Why that is no difference between the twin and AWS that could mislead.
    """

    reason: str


@dataclass(frozen=True)
class Only:
    """Applied, but with no other value than these."""

    values: tuple[Any, ...]


Shape: TypeAlias = "Applied | Inert | Only | Mapping[str, Shape] | Sequence[Shape]"

APPLIED = Applied()
TAGS = Inert("tags cost, search and authorise; the twin does none of these")


@dataclass(frozen=True)
class Site:
    """Where a resource is created and with what.

    Attributes
    ----------
    resource
        Stack and logical id.
    region
        Region everything is in.
    client
        Returns the boto3 client of a service.
    """

    resource: ResourceId
    region: str
    client: Callable[[str], Any]

    def name(self, *, limit: int, lower: bool = False) -> str:
        """Return the physical name CloudFormation would generate."""
        return physical_name(self.resource, limit=limit, lower=lower)

    def arn(self, service: str, rest: str) -> str:
        """Return the ARN of something of this account and region."""
        return f"arn:{PARTITION}:{service}:{self.region}:{ACCOUNT}:{rest}"

    def refuse(self, kind: str, feature: str) -> UnsupportedByTwinError:
        """Return the error that names this resource."""
        return UnsupportedByTwinError(str(self.resource), kind, feature)


Create: TypeAlias = Callable[[Site, dict[str, Any]], Created]


@dataclass(frozen=True)
class ResourceType:
    """How one type is checked and created."""

    shape: Mapping[str, Shape]
    create: Create


REGISTRY: dict[str, ResourceType] = {}


def creates(kind: str, shape: Mapping[str, Shape]) -> Callable[[Create], Create]:
    """Register a function as the creator of one resource type."""

    def register(create: Create) -> Create:
        REGISTRY[kind] = ResourceType(shape, create)
        return create

    return register


def check(resource: ResourceId, kind: str, properties: Mapping[str, Any]) -> None:
    """Refuse what the shape of `kind` does not hold.

    Raises
    ------
    UnsupportedByTwinError
        If the type is unknown, or a property or value beyond its shape is written.
    """
    if kind not in REGISTRY:
        raise UnsupportedByTwinError(str(resource), kind, f"the type {kind}")
    for path in beyond(REGISTRY[kind].shape, properties, ""):
        raise UnsupportedByTwinError(str(resource), kind, f"the property {path}")


def beyond(shape: Shape, value: Any, path: str) -> list[str]:
    """Return the paths of `value` that `shape` does not hold."""
    if isinstance(shape, Applied | Inert):
        return []
    if isinstance(shape, Only):
        return [] if value in shape.values else [f"{path} = {value!r}"]
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return [path]
        return [
            found
            for key, item in value.items()
            for found in (
                beyond(shape[key], item, _join(path, key))
                if key in shape
                else [_join(path, key)]
            )
        ]
    if not isinstance(value, list):
        return [path]
    return [
        found
        for index, item in enumerate(value)
        for found in beyond(shape[0], item, f"{path}[{index}]")
    ]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def clients(endpoint_url: str, region: str) -> Callable[[str], Any]:
    """Return a factory of boto3 clients for the twin, one a service."""
    session = boto3.Session(
        aws_access_key_id="twin",
        aws_secret_access_key="twin",  # noqa: S106 - moto takes any
        region_name=region,
    )
    known: dict[str, Any] = {}
    making = threading.Lock()  # a session may not make two clients at once

    def client(service: str) -> Any:
        with making:
            if service not in known:
                known[service] = session.client(service, endpoint_url=endpoint_url)
            return known[service]

    return client
