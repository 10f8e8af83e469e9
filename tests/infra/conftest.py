"""The app, synthesised once for all tests of the templates."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.node import choose_node

choose_node()

from infra.settings import DEPENDENCIES_KEY  # noqa: E402
from infra.stacks.environment import build_app  # noqa: E402 - Node is chosen first

LOCKS_ONLY = {DEPENDENCIES_KEY: "locks"}
ENVIRONMENTS = ("dev", "staging", "prod")


@dataclass(frozen=True)
class Resource:
    """One resource of a template."""

    environment: str
    stack: str
    logical_id: str
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.body["Type"])

    @property
    def properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = self.body.get("Properties", {})
        return properties

    def __str__(self) -> str:
        return f"{self.environment}/{self.stack}/{self.logical_id}"


@dataclass(frozen=True)
class Assembly:
    """What `cdk synth` wrote."""

    folder: Path

    def template(self, environment: str, stack: str) -> dict[str, Any]:
        template: dict[str, Any] = json.loads(
            self.path_of(environment, stack).read_text(encoding="utf-8")
        )
        return template

    def path_of(self, environment: str, stack: str) -> Path:
        stage = self.folder / f"assembly-Retrodict-{environment}"
        artifact = self.artifacts(environment)[f"Retrodict-{environment}-{stack}"]
        return stage / str(artifact["properties"]["templateFile"])

    def artifacts(self, environment: str) -> dict[str, dict[str, Any]]:
        """Return the stacks of `environment` by the name they deploy under."""
        stage = self.folder / f"assembly-Retrodict-{environment}"
        manifest = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
        return {
            artifact["properties"]["stackName"]: artifact
            for artifact in manifest["artifacts"].values()
            if artifact["type"] == "aws:cloudformation:stack"
        }

    def resources(self, *types: str, environment: str | None = None) -> list[Resource]:
        """Return the resources of `types`, or all; never none."""
        found = [
            Resource(name, stack, logical_id, body)
            for name in ENVIRONMENTS
            if environment in (None, name)
            for stack in ("State", "Compute")
            for logical_id, body in self.template(name, stack)["Resources"].items()
            if not types or body["Type"] in types
        ]
        assert found, f"no resource of {types}"
        return found


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("cdk.out")
    build_app(str(folder), context=LOCKS_ONLY, validate=False).synth()
    return Assembly(folder)
