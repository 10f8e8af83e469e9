"""The one container image, with the programs `train` and `serve`."""

from aws_cdk import IgnoreMode
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


class ModelImage(Construct):
    """An image asset that holds our code and nothing else of the repository.

    Docker is needed when it is deployed, not when it is synthesised.

    Parameters
    ----------
    scope, construct_id
        Place in the construct tree.
    uri
        An image that exists already, instead of one that is built.
    """

    def __init__(self, scope: Construct, construct_id: str, *, uri: str | None) -> None:
        super().__init__(scope, construct_id)
        if uri is not None:
            self._uri, self._repository = uri, None
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
        self._repository = image.repository

    @property
    def uri(self) -> str:
        """What SageMaker pulls."""
        return self._uri

    @property
    def repository_arn(self) -> str | None:
        """Whence it is pulled; None for an image of somebody else."""
        return self._repository.repository_arn if self._repository else None


def _kept() -> list[str]:
    """Return the rules that keep our folders, and the way to them."""
    rules: list[str] = []
    for folder in CONTENT:
        rules += [f"!{folder}", f"!{folder}/**"]
    return rules
