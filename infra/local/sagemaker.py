"""The twin's SageMaker: jobs, models, endpoints and inference that really run.

These operations are answered here, before moto sees them: training jobs, models,
endpoint configurations, endpoints, their tags, and all of the runtime. The model
registry stays moto's, mended (see `model_registry`). Whatever else of SageMaker is
asked for goes to moto, except operations that moto would answer without doing what they
say; those are refused by name.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from infra.local import model_registry
from infra.local.activity import Activity
from infra.local.async_inference import AsyncInference
from infra.local.clock import Clock
from infra.local.containers import ClockFile, Containers, Images
from infra.local.endpoints import CREATE_SHAPE, UPDATE_SHAPE, Endpoints
from infra.local.invocations import Invocations
from infra.local.log_lines import LogLines
from infra.local.metrics import Metrics
from infra.local.resources.registry import APPLIED, Shape
from infra.local.sagemaker_api import TARGET, Answer, ControlPlane, Operation
from infra.local.served_models import (
    CONFIG_SHAPE,
    MODEL_SHAPE,
    NAMED_LIST_SHAPE,
    ServedModels,
)
from infra.local.signals import Signals
from infra.local.template import Deployment, DockerImage, Stack
from infra.local.training_jobs import LIST_SHAPE, SHAPE, TrainingJobs
from infra.local.work import Work

_INVOCATION = re.compile(r"^/endpoints/([^/]+)/(async-invocations|invocations)$")
_OURS = re.compile(r":(training-job|model|endpoint-config|endpoint)/[^/]+$")
_REPOSITORIES = (
    "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}"  # as in a template
)
_OF_TAGS: Final = frozenset({"AddTags", "ListTags", "DeleteTags"})
# moto answers these as if they had happened, or breaks.
_REFUSED: Final = frozenset(
    {
        "CreateAutoMLJobV2",
        "CreateCompilationJob",
        "CreateHyperParameterTuningJob",
        "CreateProcessingJob",
        "CreateTransformJob",
        "DeleteModelPackage",
        "StartPipelineExecution",
        "UpdateEndpointWeightsAndCapacities",
    }
)


def images_of(
    stacks: Iterable[Stack], deployment: Deployment
) -> list[tuple[str, DockerImage]]:
    """Return the docker assets of an environment by the URI of their image."""
    return [
        (
            deployment.resolve(
                stack.name,
                {"Fn::Sub": f"{_REPOSITORIES}/{image.repository}:{image.tag}"},
            ),
            image,
        )
        for stack in stacks
        for image in stack.images
    ]


class SageMaker:
    """Everything of SageMaker that the twin runs.

    Parameters
    ----------
    folder
        Where models, jobs and logs are; it belongs to the twin.
    endpoint_url
        What programs call instead of AWS.
    region
        Region it is in.
    clock
        The twin's time.
    activity
        Knows about everything that runs.
    client
        Returns the boto3 client of a service.
    metrics
        Takes what is measured.
    logs
        Shows what programs print.
    alarms
        Returns the state of every alarm by name.
    """

    def __init__(  # noqa: PLR0913 - what the twin lends, by name
        self,
        *,
        folder: Path,
        endpoint_url: str,
        region: str,
        clock: Clock,
        activity: Activity,
        client: Callable[[str], Any],
        metrics: Metrics,
        logs: LogLines,
        alarms: Callable[[], Mapping[str, str]],
    ) -> None:
        self._region = region
        folder.mkdir()
        self._clock_file = (
            ClockFile(folder / "clock", clock.now()) if clock.is_driven else None
        )
        images = Images()
        containers = Containers(images, endpoint_url, region, self._clock_file)
        self._images = images
        self._work = Work(activity)
        signals = Signals(clock, region, metrics, logs, alarms)
        self.models = ServedModels(region, clock, images, client)
        self.jobs = TrainingJobs(
            folder=folder,
            region=region,
            clock=clock,
            work=self._work,
            containers=containers,
            signals=signals,
            client=client,
        )
        self.endpoints = Endpoints(
            folder=folder,
            region=region,
            clock=clock,
            work=self._work,
            containers=containers,
            signals=signals,
            models=self.models,
            client=client,
        )
        self.invocations = Invocations(self.endpoints, signals, region)
        self.asynchronous = AsyncInference(
            clock, region, self._work, self.invocations, client
        )
        self._tags: dict[str, dict[str, str]] = {}
        self._tags_lock = threading.Lock()
        self._control = ControlPlane(_REFUSED)
        self._register()

    def start(self, images: Iterable[tuple[str, DockerImage]]) -> None:
        """Take the images of the deployment, and mend moto's registry."""
        self._images.add(images)
        model_registry.close_gap()

    def moved(self, instant: datetime) -> None:
        """Show the driven time to every process; the logs so far are of the old."""
        self.endpoints.drain_logs()
        if self._clock_file is not None:
            self._clock_file.write(instant)

    def answers(self, method: str, path: str, target: str) -> bool:
        """Return whether `answer` may know what to do with a request."""
        return method == "POST" and (
            target.startswith(TARGET) or _INVOCATION.match(path) is not None
        )

    def answer(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        """Answer a request, or return None if moto should.

        Parameters
        ----------
        headers
            Names in lower case.
        """
        invocation = _INVOCATION.match(path)
        if invocation is not None:
            name, verb = invocation.groups()
            if verb == "invocations":
                return self.invocations.answer(name, headers, body)
            return self.asynchronous.answer(name, headers, body)
        operation = headers.get("x-amz-target", "").removeprefix(TARGET)
        if operation in _OF_TAGS and _OURS.search(_resource(body)) is None:
            return None
        return self._control.answer(operation, body)

    def alarm_rang(self, name: str) -> None:
        """Take note that an alarm entered the state ALARM."""
        self.endpoints.alarm_rang(name)

    def kill(self, name: str) -> bool:
        """Kill the processes of an endpoint; see `Endpoints.kill`."""
        return self.endpoints.kill(name)

    def under_way(self) -> list[str]:
        """Return names of training jobs that run and endpoints that change."""
        known = {**self.jobs.status(), **self.endpoints.status()}
        resting = {"Completed", "Stopped", "Failed", "InService"}
        return [name for name, one in known.items() if one["status"] not in resting]

    def status(self) -> dict[str, Any]:
        """Return endpoints and training jobs."""
        return {"endpoints": self.endpoints.status(), "jobs": self.jobs.status()}

    def stop(self) -> None:
        """End every process; `join` waits for what still runs."""
        self._work.stop()
        self.jobs.end()
        self.endpoints.end()

    def join(self) -> None:
        """Wait for the end of everything that runs."""
        self._work.join()
        if self._clock_file is not None:
            self._clock_file.close()

    def _register(self) -> None:
        jobs, models, endpoints = self.jobs, self.models, self.endpoints
        operations: list[tuple[str, Mapping[str, Shape], Operation]] = [
            ("CreateTrainingJob", SHAPE, self._tagged(jobs.create, "TrainingJobArn")),
            ("DescribeTrainingJob", {"TrainingJobName": APPLIED}, jobs.describe),
            ("ListTrainingJobs", LIST_SHAPE, jobs.list_jobs),
            ("StopTrainingJob", {"TrainingJobName": APPLIED}, jobs.stop),
            ("CreateModel", MODEL_SHAPE, self._tagged(models.create_model, "ModelArn")),
            ("DescribeModel", {"ModelName": APPLIED}, models.describe_model),
            ("DeleteModel", {"ModelName": APPLIED}, models.delete_model),
            ("ListModels", NAMED_LIST_SHAPE, models.list_models),
            (
                "CreateEndpointConfig",
                CONFIG_SHAPE,
                self._tagged(models.create_config, "EndpointConfigArn"),
            ),
            (
                "DescribeEndpointConfig",
                {"EndpointConfigName": APPLIED},
                models.describe_config,
            ),
            (
                "DeleteEndpointConfig",
                {"EndpointConfigName": APPLIED},
                models.delete_config,
            ),
            ("ListEndpointConfigs", NAMED_LIST_SHAPE, models.list_configs),
            (
                "CreateEndpoint",
                CREATE_SHAPE,
                self._tagged(endpoints.create, "EndpointArn"),
            ),
            ("UpdateEndpoint", UPDATE_SHAPE, endpoints.update),
            ("DescribeEndpoint", {"EndpointName": APPLIED}, endpoints.describe),
            ("DeleteEndpoint", {"EndpointName": APPLIED}, endpoints.delete),
            ("ListEndpoints", LIST_SHAPE, endpoints.list_endpoints),
            ("AddTags", {"ResourceArn": APPLIED, "Tags": APPLIED}, self._add_tags),
            ("ListTags", {"ResourceArn": APPLIED}, self._list_tags),
            (
                "DeleteTags",
                {"ResourceArn": APPLIED, "TagKeys": APPLIED},
                self._delete_tags,
            ),
        ]
        for name, shape, run in operations:
            self._control.register(name, shape, run)

    def _tagged(self, create: Operation, arn: str) -> Operation:
        def run(request: dict[str, Any]) -> dict[str, Any]:
            answer = create(request)
            with self._tags_lock:
                self._tags[answer[arn]] = _pairs(request.get("Tags", []))
            return answer

        return run

    def _add_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._tags_lock:
            tags = self._tags.setdefault(request["ResourceArn"], {})
            tags |= _pairs(request["Tags"])
            return _shown(tags)

    def _list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._tags_lock:
            return _shown(self._tags.get(request["ResourceArn"], {}))

    def _delete_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._tags_lock:
            tags = self._tags.get(request["ResourceArn"], {})
            for key in request["TagKeys"]:
                tags.pop(key, None)
        return {}


def _resource(body: bytes) -> str:
    return str(json.loads(body or b"{}").get("ResourceArn", ""))


def _pairs(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _shown(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
