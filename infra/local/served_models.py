"""SageMaker models and endpoint configurations: what an endpoint is made of.

Kept here and not by moto, which drops properties it does not know. Both are checked
when they are created: an image must be a docker asset of the assembly, a model's
archive and a configuration's model must exist.
"""

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.local.clock import Clock
from infra.local.containers import Images
from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Shape
from infra.local.sagemaker_api import Listing, invalid
from infra.local.template import ACCOUNT, PARTITION

_VPC = Inert("the twin has no network of its own")
_HARDWARE = Inert("the program runs on this machine")
_CONTAINER: dict[str, Shape] = {
    "ContainerHostname": APPLIED,
    "Environment": APPLIED,
    "Image": APPLIED,
    "Mode": Only(("SingleModel",)),
    "ModelDataUrl": APPLIED,
}
MODEL_SHAPE: Final[dict[str, Shape]] = {
    "EnableNetworkIsolation": APPLIED,
    "ExecutionRoleArn": APPLIED,
    "ModelName": APPLIED,
    "PrimaryContainer": _CONTAINER,
    "Tags": TAGS,
    "VpcConfig": _VPC,
}
CONFIG_SHAPE: Final[dict[str, Shape]] = {
    "AsyncInferenceConfig": {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": APPLIED},
        "OutputConfig": {
            "KmsKeyId": APPLIED,
            "NotificationConfig": {"ErrorTopic": APPLIED, "SuccessTopic": APPLIED},
            "S3FailurePath": APPLIED,
            "S3OutputPath": APPLIED,
        },
    },
    "EnableNetworkIsolation": Only((False,)),
    "EndpointConfigName": APPLIED,
    "ExecutionRoleArn": APPLIED,
    "KmsKeyId": Inert("the volume of an instance, which is this machine's disk"),
    "ProductionVariants": [
        {
            "ContainerStartupHealthCheckTimeoutInSeconds": APPLIED,
            "InitialInstanceCount": APPLIED,
            "InitialVariantWeight": APPLIED,
            "InstanceType": APPLIED,
            "ModelDataDownloadTimeoutInSeconds": _HARDWARE,
            "ModelName": APPLIED,
            "VariantName": APPLIED,
            "VolumeSizeInGB": _HARDWARE,
        }
    ],
    "Tags": TAGS,
}
NAMED_LIST_SHAPE: Final[dict[str, Shape]] = {
    "MaxResults": APPLIED,
    "NameContains": APPLIED,
    "NextToken": APPLIED,
    "SortBy": Only(("Name", "CreationTime")),
    "SortOrder": APPLIED,
}
_MODELS = Listing("Models", "ModelName")
_CONFIGS = Listing("EndpointConfigs", "EndpointConfigName")


@dataclass(frozen=True)
class Model:
    """A model as it was created."""

    request: Mapping[str, Any]
    arn: str
    created: datetime

    @property
    def container(self) -> Mapping[str, Any]:
        """Image, archive and environment."""
        return self.request["PrimaryContainer"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class EndpointConfig:
    """An endpoint configuration as it was created, with its one variant."""

    request: Mapping[str, Any]
    arn: str
    created: datetime
    model: Model

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.request["EndpointConfigName"])

    @property
    def variant(self) -> Mapping[str, Any]:
        """The one production variant."""
        return self.request["ProductionVariants"][0]  # type: ignore[no-any-return]

    @property
    def asynchronous(self) -> Mapping[str, Any] | None:
        """AsyncInferenceConfig, if the endpoint is asynchronous."""
        return self.request.get("AsyncInferenceConfig")


class ServedModels:
    """All models and endpoint configurations of a twin."""

    def __init__(
        self, region: str, clock: Clock, images: Images, client: Callable[[str], Any]
    ) -> None:
        self._region = region
        self._clock = clock
        self._images = images
        self._client = client
        self._lock = threading.RLock()
        self._models: dict[str, Model] = {}
        self._configs: dict[str, EndpointConfig] = {}

    def create_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer CreateModel."""
        name = request["ModelName"]
        container = request.get("PrimaryContainer")
        if container is None or "Image" not in container:
            raise invalid(
                "Expected a PrimaryContainer with an Image for model " + repr(name)
            )
        self._images.folder(container["Image"], name)
        uri = container.get("ModelDataUrl")
        if uri is not None:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            try:
                self._client("s3").head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                raise invalid(f"Could not find model data at {uri}.") from error
        model = Model(copy.deepcopy(request), self._arn("model", name), self._now())
        with self._lock:
            if name in self._models:
                raise invalid(
                    f'Cannot create already existing model "{self._models[name].arn}".'
                )
            self._models[name] = model
        return {"ModelArn": model.arn}

    def describe_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeModel."""
        model = self.model(request["ModelName"])
        return {
            **_without_tags(model.request),
            "CreationTime": model.created,
            "EnableNetworkIsolation": bool(model.request.get("EnableNetworkIsolation")),
            "ModelArn": model.arn,
        }

    def delete_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DeleteModel; endpoints that run it keep running it, as in AWS."""
        with self._lock:
            self.model(request["ModelName"])
            del self._models[request["ModelName"]]
        return {}

    def list_models(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer ListModels."""
        with self._lock:
            models = list(self._models.values())
        return _MODELS.pick(
            request,
            [
                {
                    "ModelName": model.request["ModelName"],
                    "ModelArn": model.arn,
                    "CreationTime": model.created,
                }
                for model in models
            ],
        )

    def create_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer CreateEndpointConfig."""
        name = request["EndpointConfigName"]
        variants = request["ProductionVariants"]
        if len(variants) != 1:
            raise invalid(
                f"The local twin runs one production variant, got {len(variants)}"
            )
        for member in ("ModelName", "InitialInstanceCount", "InstanceType"):
            if member not in variants[0]:
                raise invalid(f"Expected {member} in the production variant")
        config = EndpointConfig(
            copy.deepcopy(request),
            self._arn("endpoint-config", name),
            self._now(),
            self.model(variants[0]["ModelName"]),
        )
        with self._lock:
            if name in self._configs:
                raise invalid(
                    "Cannot create already existing endpoint configuration "
                    f'"{self._configs[name].arn}".'
                )
            self._configs[name] = config
        return {"EndpointConfigArn": config.arn}

    def describe_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeEndpointConfig."""
        config = self.config(request["EndpointConfigName"])
        shown = _without_tags(config.request)
        shown["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **config.variant}]
        return {
            **shown,
            "CreationTime": config.created,
            "EndpointConfigArn": config.arn,
        }

    def delete_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DeleteEndpointConfig; endpoints that run it keep running it."""
        with self._lock:
            self.config(request["EndpointConfigName"])
            del self._configs[request["EndpointConfigName"]]
        return {}

    def list_configs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer ListEndpointConfigs."""
        with self._lock:
            configs = list(self._configs.values())
        return _CONFIGS.pick(
            request,
            [
                {
                    "EndpointConfigName": config.name,
                    "EndpointConfigArn": config.arn,
                    "CreationTime": config.created,
                }
                for config in configs
            ],
        )

    def model(self, name: str) -> Model:
        """Return a model.

        Raises
        ------
        ApiError
            If there is none of that name.
        """
        with self._lock:
            if name not in self._models:
                raise invalid(f'Could not find model "{self._arn("model", name)}".')
            return self._models[name]

    def config(self, name: str) -> EndpointConfig:
        """Return an endpoint configuration.

        Raises
        ------
        ApiError
            If there is none of that name.
        """
        with self._lock:
            if name not in self._configs:
                arn = self._arn("endpoint-config", name)
                raise invalid(f'Could not find endpoint configuration "{arn}".')
            return self._configs[name]

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:{PARTITION}:sagemaker:{self._region}:{ACCOUNT}:{kind}/{name}"

    def _now(self) -> datetime:
        return self._clock.now()


def _without_tags(request: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key != "Tags"}
