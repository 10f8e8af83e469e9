"""The one container image, with the programs `train` and `serve`."""

import re

from aws_cdk import IgnoreMode, Stack
from aws_cdk import aws_ecr_assets as assets
from constructs import Construct

from infra.settings import REPOSITORY

CONTENT = (
    "functions/serve_champion",
    "functions/train_candidate",
    "layers/adapters/python",
    "layers/core/python",
    "layers/pipelines/python",
)


_IN_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/"
    r"(?P<repository>[a-z0-9/_.-]+)[:@].+"
)


class ModelImage(Construct):
    """An image asset that holds our code and nothing else of the repository.

    Docker is needed when it is deployed, not when it is synthesised.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    uri
        An image in ECR that exists already, instead of one that is built. Where it is
        another account's, that account's repository has to let this one pull.

    Raises
    ------
    ValueError
        The image is not in ECR.
    """

    def __init__(self, scope: Construct, construct_id: str, *, uri: str | None) -> None:
        super().__init__(scope, construct_id)
        if uri is not None:
            self._uri, self._repository_arn = uri, self._arn_of(uri)
            return
        image = assets.DockerImageAsset(
            self,
            "Image",
            directory=str(REPOSITORY),
            file="functions/serve_champion/Dockerfile",
            platform=assets.Platform.LINUX_AMD64,
            exclude=["**", *_kept(), "**/__pycache__", "**/*.pyc", "**/.*"],
            ignore_mode=IgnoreMode.DOCKER,
        )
        self._uri = image.image_uri
        self._repository_arn = image.repository.repository_arn

    @property
    def uri(self) -> str:
        """What SageMaker pulls."""
        return self._uri

    @property
    def repository_arn(self) -> str:
        """Whence it is pulled."""
        return self._repository_arn

    def _arn_of(self, uri: str) -> str:
        match = _IN_ECR.fullmatch(uri)
        if match is None:
            raise ValueError(f"image {uri!r} is not in ECR: SageMaker pulls from there")
        return Stack.of(self).format_arn(
            service="ecr",
            region=match["region"],
            account=match["account"],
            resource="repository",
            resource_name=match["repository"],
        )


def _kept() -> list[str]:
    """Return the rules that keep our folders, and the way to them."""
    rules: list[str] = []
    for folder in CONTENT:
        rules += [f"!{folder}", f"!{folder}/**"]
    return rules
