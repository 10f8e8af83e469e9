"""Read a synthesised cloud assembly as CloudFormation would.

The twin starts from the very files that `cdk deploy` uploads: the manifest of the
environment's stage, its templates and its assets. Every reference is resolved, across
stacks too, and everything is created after what it refers to. A section, attribute or
function of a template that is not understood is refused by name.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from infra.local.errors import AssemblyError, UnsupportedByTwinError

ACCOUNT = "123456789012"
PARTITION = "aws"
URL_SUFFIX = "amazonaws.com"

_SECTIONS = {
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",
}
_ATTRIBUTES = {
    "Condition",
    "DeletionPolicy",  # a twin is never updated in place, only stopped
    "DependsOn",
    "Metadata",
    "Properties",
    "Type",
    "UpdateReplacePolicy",  # as DeletionPolicy
}
# The CDK's own check that the bootstrap stack is recent; a twin has no such stack.
_BOOTSTRAP_RULE = "CheckBootstrapVersion"
_BOOTSTRAP_PARAMETER = "BootstrapVersion"
_SUB = re.compile(r"\$\{(!?)([^}]*)\}")


class _NoValue:
    """``AWS::NoValue``: the property is as if it were not written."""


NO_VALUE = _NoValue()


@dataclass(frozen=True)
class Asset:
    """A file or folder that the deployment uploads.

    Attributes
    ----------
    bucket, key
        Where it goes, with the pseudo parameters still in place.
    path
        Where it lies.
    packaging
        ``zip`` for a folder, ``file`` for a file as it is.
    """

    bucket: str
    key: str
    path: Path
    packaging: str


@dataclass(frozen=True)
class DockerImage:
    """A folder that the deployment builds into an image and pushes.

    Attributes
    ----------
    repository, tag
        Where it goes, with the pseudo parameters still in place.
    folder
        What it is built from.
    """

    repository: str
    tag: str
    folder: Path


@dataclass(frozen=True)
class Stack:
    """One template of an environment and what it uploads."""

    name: str
    template: Mapping[str, Any]
    assets: tuple[Asset, ...] = ()
    images: tuple[DockerImage, ...] = ()

    @property
    def resources(self) -> Mapping[str, Any]:
        """The template's resources by logical id."""
        return self.template.get("Resources", {})  # type: ignore[no-any-return]


@dataclass(frozen=True, order=True)
class ResourceId:
    """Where a resource is written."""

    stack: str
    logical_id: str

    def __str__(self) -> str:
        return f"{self.stack}/{self.logical_id}"


@dataclass(frozen=True)
class Created:
    """What a created resource answers to ``Ref`` and ``Fn::GetAtt``."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_assembly(directory: Path, environment: str) -> tuple[Stack, ...]:
    """Return the stacks of one environment of a cloud assembly.

    Parameters
    ----------
    directory
        The assembly, usually ``cdk.out``.
    environment
        Name of the stage or its last part, for example ``dev``.

    Raises
    ------
    AssemblyError
        If the assembly or the environment is not there.
    """
    stages = {
        artifact["properties"].get("displayName", name): artifact["properties"]
        for name, artifact in _manifest(directory)["artifacts"].items()
        if artifact["type"] == "cdk:cloud-assembly"
    }
    found = [
        stage
        for name, stage in stages.items()
        if name == environment or name.endswith(f"-{environment}")
    ]
    if len(found) != 1:
        raise AssemblyError(
            f"expected one environment {environment!r} in {directory}, got "
            f"{sorted(stages)}: choose one of them or synthesise again"
        )
    return _stacks(directory / found[0]["directoryName"])


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / "manifest.json"
    if not path.is_file():
        raise AssemblyError(
            f"expected a cloud assembly in {directory}, found no manifest.json: "
            "synthesise the app first"
        )
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def _stacks(directory: Path) -> tuple[Stack, ...]:
    artifacts = _manifest(directory)["artifacts"]
    stacks = []
    for name, artifact in artifacts.items():
        if artifact["type"] != "aws:cloudformation:stack":
            continue
        properties = artifact["properties"]
        manifests = [
            artifacts[dependency]["properties"]["file"]
            for dependency in artifact.get("dependencies", ())
            if artifacts[dependency]["type"] == "cdk:asset-manifest"
        ]
        stacks.append(
            Stack(
                properties.get("stackName", name),
                json.loads((directory / properties["templateFile"]).read_text()),
                tuple(
                    asset for file in manifests for asset in _assets(directory, file)
                ),
                tuple(
                    image for file in manifests for image in _images(directory, file)
                ),
            )
        )
    return tuple(stacks)


def _assets(directory: Path, file: str) -> Iterator[Asset]:
    manifest = json.loads((directory / file).read_text())
    for entry in manifest.get("files", {}).values():
        source = entry["source"]
        for destination in entry["destinations"].values():
            yield Asset(
                destination["bucketName"],
                destination["objectKey"],
                (directory / source["path"]).resolve(),
                source["packaging"],
            )


def _images(directory: Path, file: str) -> Iterator[DockerImage]:
    manifest = json.loads((directory / file).read_text())
    for entry in manifest.get("dockerImages", {}).values():
        source = entry["source"]
        if "directory" not in source:
            raise UnsupportedByTwinError(file, "docker image", f"the source {source}")
        for destination in entry["destinations"].values():
            yield DockerImage(
                destination["repositoryName"],
                destination["imageTag"],
                (directory / source["directory"]).resolve(),
            )


class Deployment:
    """The stacks of an environment on their way from text to resources.

    Parameters
    ----------
    stacks
        What is created.
    region
        Region that ``AWS::Region`` stands for.
    """

    def __init__(self, stacks: tuple[Stack, ...], region: str) -> None:
        self.region = region
        self._stacks = {stack.name: stack for stack in stacks}
        self._created: dict[ResourceId, Created] = {}
        self._exports: dict[str, tuple[str, Any]] = {}
        for stack in stacks:
            _check_sections(stack)
            for output in stack.template.get("Outputs", {}).values():
                if "Export" in output:
                    export = self.resolve(stack.name, output["Export"]["Name"])
                    self._exports[export] = (stack.name, output["Value"])

    def order(self) -> list[ResourceId]:
        """Return every resource, each after all it refers to.

        Raises
        ------
        AssemblyError
            If resources refer to each other in a circle.
        """
        graph: dict[ResourceId, list[ResourceId]] = {}
        for stack in self._stacks.values():
            for logical_id, resource in stack.resources.items():
                if not self._is_wanted(stack.name, resource):
                    continue
                graph[ResourceId(stack.name, logical_id)] = [
                    *self._references(stack.name, resource.get("Properties", {})),
                    *(
                        ResourceId(stack.name, other)
                        for other in _listed(resource.get("DependsOn", []))
                    ),
                ]
        try:
            ordered = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " -> ".join(map(str, error.args[1]))
            raise AssemblyError(f"resources refer to each other: {circle}") from error
        return [resource for resource in ordered if resource in graph]

    def kind(self, resource: ResourceId) -> str:
        """Return the type of a resource."""
        written = self._stacks[resource.stack].resources[resource.logical_id]
        return str(written["Type"])

    def properties(self, resource: ResourceId) -> dict[str, Any]:
        """Return the properties of a resource with every function resolved."""
        written = self._stacks[resource.stack].resources[resource.logical_id]
        properties = written.get("Properties", {})
        return dict(self.resolve(resource.stack, properties))

    def add(self, resource: ResourceId, created: Created) -> None:
        """Make what was created known to those that refer to it."""
        self._created[resource] = created

    def created(self, resource: ResourceId) -> Created:
        """Return what a resource became."""
        return self._created[resource]

    def outputs(self) -> dict[str, str]:
        """Return the outputs of all stacks that other stacks do not import."""
        return {
            name: self.resolve(stack.name, output["Value"])
            for stack in self._stacks.values()
            for name, output in stack.template.get("Outputs", {}).items()
            if "Export" not in output and self._is_wanted(stack.name, output)
        }

    def resolve(self, stack: str, value: Any) -> Any:
        """Return `value`, written in `stack`, with every intrinsic function applied."""
        if isinstance(value, list):
            items = [self.resolve(stack, item) for item in value]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        function = _function(value)
        if function is not None:
            return self._apply(stack, function, value[function])
        pairs = {key: self.resolve(stack, item) for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not NO_VALUE}

    def _apply(self, stack: str, function: str, argument: Any) -> Any:  # noqa: C901, PLR0911 - one branch a function
        match function:
            case "Ref":
                return self._ref(stack, argument)
            case "Fn::GetAtt":
                return self._attribute(stack, argument)
            case "Fn::Join":
                separator, parts = argument
                return separator.join(map(str, self.resolve(stack, parts)))
            case "Fn::Sub":
                return self._substitute(stack, argument)
            case "Fn::Select":
                index, items = argument
                return self.resolve(stack, items)[int(self.resolve(stack, index))]
            case "Fn::Split":
                separator, text = argument
                return self.resolve(stack, text).split(separator)
            case "Fn::Base64":
                text = self.resolve(stack, argument)
                return base64.b64encode(text.encode()).decode()
            case "Fn::FindInMap":
                name, first, second = self.resolve(stack, argument)
                return self._stacks[stack].template["Mappings"][name][first][second]
            case "Fn::ImportValue":
                exporter, exported = self._export(self.resolve(stack, argument))
                return self.resolve(exporter, exported)
            case "Fn::GetStackOutput":
                other = self.resolve(stack, argument["StackName"])
                return self.resolve(other, self._output(other, argument["OutputName"]))
            case "Fn::If":
                name, then, otherwise = argument
                chosen = then if self._holds(stack, {"Condition": name}) else otherwise
                return self.resolve(stack, chosen)
        raise UnsupportedByTwinError(stack, "template", function)

    def _holds(self, stack: str, condition: Any) -> bool:
        function, argument = next(iter(condition.items()))
        match function:
            case "Condition":
                written = self._stacks[stack].template.get("Conditions", {})
                return self._holds(stack, written[argument])
            case "Fn::Equals":
                first, second = self.resolve(stack, argument)
                return bool(first == second)
            case "Fn::And":
                return all(self._holds(stack, item) for item in argument)
            case "Fn::Or":
                return any(self._holds(stack, item) for item in argument)
            case "Fn::Not":
                return not self._holds(stack, argument[0])
        raise UnsupportedByTwinError(stack, "condition", function)

    def _is_wanted(self, stack: str, written: Mapping[str, Any]) -> bool:
        name = written.get("Condition")
        return name is None or self._holds(stack, {"Condition": name})

    def _ref(self, stack: str, name: str) -> Any:
        pseudo: dict[str, Any] = {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": NO_VALUE,
            "AWS::NotificationARNs": [],
            "AWS::Partition": PARTITION,
            "AWS::Region": self.region,
            "AWS::StackId": (
                f"arn:{PARTITION}:cloudformation:{self.region}:{ACCOUNT}:"
                f"stack/{stack}/00000000-0000-0000-0000-000000000000"
            ),
            "AWS::StackName": stack,
            "AWS::URLSuffix": URL_SUFFIX,
        }
        if name in pseudo:
            return pseudo[name]
        parameter = self._stacks[stack].template.get("Parameters", {}).get(name)
        if parameter is not None:
            if "Default" not in parameter:
                raise UnsupportedByTwinError(
                    f"{stack}/{name}", "parameter", "a parameter without a default"
                )
            return parameter["Default"]
        return self._known(stack, name).ref

    def _attribute(self, stack: str, argument: Any) -> str:
        name, attribute = (
            argument.split(".", 1) if isinstance(argument, str) else argument
        )
        attribute = self.resolve(stack, attribute)
        attributes = self._known(stack, name).attributes
        if attribute not in attributes:
            resource = ResourceId(stack, name)
            raise UnsupportedByTwinError(
                str(resource), self.kind(resource), f"the attribute {attribute!r}"
            )
        return attributes[attribute]

    def _known(self, stack: str, name: str) -> Created:
        resource = ResourceId(stack, name)
        if resource not in self._created:
            raise AssemblyError(
                f"{stack} refers to {name!r}, which is no resource, parameter or "
                "pseudo parameter that exists by then"
            )
        return self._created[resource]

    def _substitute(self, stack: str, argument: Any) -> str:
        text, values = argument if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return "${" + name + "}"
            if name in values:
                return str(self.resolve(stack, values[name]))
            if "." in name:
                return str(self._attribute(stack, name))
            return str(self._ref(stack, name))

        return _SUB.sub(replace, text)

    def _export(self, name: str) -> tuple[str, Any]:
        if name not in self._exports:
            raise AssemblyError(f"no stack of this environment exports {name!r}")
        return self._exports[name]

    def _output(self, stack: str, name: str) -> Any:
        outputs = self._stacks[stack].template.get("Outputs", {})
        if name not in outputs:
            raise AssemblyError(f"{stack} has no output {name!r}")
        return outputs[name]["Value"]

    def _references(self, stack: str, value: Any) -> Iterator[ResourceId]:
        """Yield the resources that `value`, written in `stack`, refers to."""
        if isinstance(value, list):
            for item in value:
                yield from self._references(stack, item)
            return
        if not isinstance(value, dict):
            return
        function = _function(value)
        argument: Any = value.get(function) if function else None
        if function == "Fn::ImportValue":
            exporter, exported = self._export(self.resolve(stack, argument))
            yield from self._references(exporter, exported)
        elif function == "Fn::GetStackOutput":
            other = self.resolve(stack, argument["StackName"])
            exported = self._output(other, argument["OutputName"])
            yield from self._references(other, exported)
        else:
            for name in _names(function, argument):
                if name in self._stacks[stack].resources:
                    yield ResourceId(stack, name)
            for item in value.values():
                yield from self._references(stack, item)


def _check_sections(stack: Stack) -> None:
    for section in stack.template:
        if section not in _SECTIONS:
            raise UnsupportedByTwinError(stack.name, "template", section)
    for rule in stack.template.get("Rules", {}):
        if rule != _BOOTSTRAP_RULE:
            raise UnsupportedByTwinError(stack.name, "template", f"Rules.{rule}")
    for name, parameter in stack.template.get("Parameters", {}).items():
        if "AWS::SSM" in parameter["Type"] and name != _BOOTSTRAP_PARAMETER:
            raise UnsupportedByTwinError(
                f"{stack.name}/{name}", "parameter", parameter["Type"]
            )
    for logical_id, resource in stack.resources.items():
        for attribute in resource:
            if attribute not in _ATTRIBUTES:
                raise UnsupportedByTwinError(
                    f"{stack.name}/{logical_id}", resource["Type"], attribute
                )


def _function(value: Mapping[str, Any]) -> str | None:
    """Return the name of the intrinsic function that `value` is, if it is one."""
    if len(value) == 1:
        (name,) = value
        if name == "Ref" or name.startswith("Fn::"):
            return name
    return None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _names(function: str | None, argument: Any) -> list[str]:
    """Return the names that ``Ref``, ``Fn::GetAtt`` or ``Fn::Sub`` mentions."""
    match function:
        case "Ref":
            return [argument]
        case "Fn::GetAtt":
            return [
                argument.split(".")[0] if isinstance(argument, str) else argument[0]
            ]
        case "Fn::Sub":
            text = argument if isinstance(argument, str) else argument[0]
            return [name.split(".")[0] for _, name in _SUB.findall(text)]
    return []
