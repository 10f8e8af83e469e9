"""The layers functions stand on: ours as they are, third parties' as they were built.

`python -m infra.build_layers` builds a dependency layer into its folder. A synth
works without it, or leaves the tree out where it is asked to, because tests and the
local twin need no arm64 packages; the asset then has another name, so that it can
never be mistaken for the layer. Before a deployment, `python -m infra.build_layers
--check` refuses to go on without the trees.
"""

from pathlib import Path

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.build_layers import asset_hash, is_built
from infra.settings import REPOSITORY

RUNTIME = lambda_.Runtime.PYTHON_3_12
ARCHITECTURE = lambda_.Architecture.ARM_64
NOT_CODE = ["**/__pycache__", "**/*.pyc", "**/.*"]


class CodeLayer(lambda_.LayerVersion):
    """One of our own packages, `layers/<name>`."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str) -> None:
        super().__init__(
            scope,
            construct_id,
            code=lambda_.Code.from_asset(_folder("layers", name), exclude=NOT_CODE),
            compatible_architectures=[ARCHITECTURE],
            compatible_runtimes=[RUNTIME],
            description=f"Retrodict: layers/{name}",
        )


class DependencyLayer(lambda_.LayerVersion):
    """Third-party packages, `layers/dependencies/<name>`, pinned with hashes.

    The asset is named after the lock file and the script that builds the tree, not
    after the tree, so that every machine gives it the same name.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    name
        Folder below `layers/dependencies/`.
    staged
        Whether the asset holds the packages, if they are built.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, name: str, staged: bool
    ) -> None:
        folder = _folder("layers", "dependencies", name)
        with_tree = staged and is_built(Path(folder))
        super().__init__(
            scope,
            construct_id,
            code=lambda_.Code.from_asset(
                folder,
                asset_hash=asset_hash(Path(folder), with_tree=with_tree),
                exclude=[] if with_tree else ["python"],
            ),
            compatible_architectures=[ARCHITECTURE],
            compatible_runtimes=[RUNTIME],
            description=f"Retrodict: layers/dependencies/{name}",
        )


def function_code(name: str) -> lambda_.Code:
    """Return `functions/<name>` as the code of a function."""
    return lambda_.Code.from_asset(_folder("functions", name), exclude=NOT_CODE)


def _folder(*parts: str) -> str:
    return str(REPOSITORY.joinpath(*parts))
