"""SageMaker training jobs: a moto gap.

moto completes a job the moment it is created and writes nothing. Here a job is a
process of its image's train program, in the folders SageMaker documents [1]_:

- before: ``input/config/{hyperparameters,inputdataconfig,resourceconfig}.json`` (every
  hyperparameter a string), ``input/data/<channel>/`` with the objects below the
  channel's S3 prefix, empty ``model/`` and ``output/data/``;
- after exit code 0: ``model/`` as <S3OutputPath>/<job>/output/model.tar.gz;
- in any case, if it holds anything, ``output/data/`` as output.tar.gz beside it;
- after another exit code: the text of ``output/failure`` as the reason.

``StopTrainingJob`` and ``MaxRuntimeInSeconds`` end the program with SIGTERM and, two
minutes later, SIGKILL; what is in ``model/`` is kept. Time limits and
``TrainingTimeInSeconds`` count the machine's seconds; all instants are the twin's.
A job holds an activity token until it ends: driven time stands meanwhile.

References
----------
.. [1] Amazon SageMaker developer guide, "How Amazon SageMaker Runs Your Training
   Image". https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.local.clock import Clock
from infra.local.containers import TRAIN, Containers, Log
from infra.local.model_archives import pack
from infra.local.resources.registry import APPLIED, TAGS, Inert, Only, Shape
from infra.local.sagemaker_api import ApiError, Listing, invalid
from infra.local.signals import Signals
from infra.local.template import ACCOUNT, PARTITION
from infra.local.work import Work

_GRACE_SECONDS = 120.0  # between SIGTERM and SIGKILL, as AWS documents
_WATCH_SECONDS = 0.02
_LONGEST_REASON = 1024
_DEFAULT_RUNTIME_SECONDS = 86_400
_NOT_FOUND = "Requested resource not found."
_LISTING = Listing("TrainingJobSummaries", "TrainingJobName", "TrainingJobStatus")
_HARDWARE = Inert("the program runs on this machine")
_VPC = Inert("the twin has no network of its own")

SHAPE: dict[str, Shape] = {
    "AlgorithmSpecification": {
        "MetricDefinitions": APPLIED,
        "TrainingImage": APPLIED,
        "TrainingInputMode": Only(("File",)),
    },
    "EnableInterContainerTrafficEncryption": _HARDWARE,
    "EnableManagedSpotTraining": Only((False,)),
    "EnableNetworkIsolation": APPLIED,
    "Environment": APPLIED,
    "HyperParameters": APPLIED,
    "InputDataConfig": [
        {
            "ChannelName": APPLIED,
            "CompressionType": Only(("None",)),
            "ContentType": APPLIED,
            "DataSource": {
                "S3DataSource": {
                    "S3DataDistributionType": Only(("FullyReplicated",)),
                    "S3DataType": Only(("S3Prefix",)),
                    "S3Uri": APPLIED,
                }
            },
            "InputMode": Only(("File",)),
            "RecordWrapperType": Only(("None",)),
        }
    ],
    "OutputDataConfig": {
        "CompressionType": Only(("GZIP",)),
        "KmsKeyId": APPLIED,
        "S3OutputPath": APPLIED,
    },
    "ResourceConfig": {
        "InstanceCount": Only((1,)),
        "InstanceType": APPLIED,
        "VolumeKmsKeyId": _HARDWARE,
        "VolumeSizeInGB": _HARDWARE,
    },
    "RoleArn": APPLIED,
    "StoppingCondition": {"MaxRuntimeInSeconds": APPLIED},
    "Tags": TAGS,
    "TrainingJobName": APPLIED,
    "VpcConfig": _VPC,
}
LIST_SHAPE: dict[str, Shape] = {
    "MaxResults": APPLIED,
    "NameContains": APPLIED,
    "NextToken": APPLIED,
    "SortBy": Only(("Name", "CreationTime")),
    "SortOrder": APPLIED,
    "StatusEquals": APPLIED,
}


@dataclass
class _Job:
    """A job, what became of it and its process."""

    request: Mapping[str, Any]
    arn: str
    created: datetime
    modified: datetime
    status: str = "InProgress"
    secondary: str = "Starting"
    transitions: list[dict[str, Any]] = field(default_factory=list)
    started: datetime | None = None
    ended: datetime | None = None
    seconds: int = 0
    failure: str | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    has_model: bool = False
    log: Log | None = None
    process: "subprocess.Popen[bytes] | None" = None
    is_stop_wanted: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return str(self.request["TrainingJobName"])

    @property
    def output(self) -> str:
        path = str(self.request["OutputDataConfig"]["S3OutputPath"]).rstrip("/")
        return f"{path}/{self.name}/output"


class TrainingJobs:
    """All training jobs of a twin.

    Parameters
    ----------
    folder
        Where jobs run and log; it belongs to the twin.
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
        client: Callable[[str], Any],
    ) -> None:
        self._folder = folder
        self._region = region
        self._clock = clock
        self._work = work
        self._containers = containers
        self._signals = signals
        self._client = client
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer CreateTrainingJob and start the job."""
        name = request["TrainingJobName"]
        image = self._containers.images.folder(
            request["AlgorithmSpecification"].get("TrainingImage", ""), name
        )
        for channel in request.get("InputDataConfig", []):
            self._check_input(channel)
        now = self._clock.now()
        arn = f"arn:{PARTITION}:sagemaker:{self._region}:{ACCOUNT}:training-job/{name}"
        job = _Job(request, arn, now, now)
        with self._lock:
            if name in self._jobs:
                raise ApiError(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and "
                    "region, and a training job with this name already exists "
                    f"({self._jobs[name].arn})",
                )
            self._jobs[name] = job
        self._change(job, secondary="Starting", message="Preparing the instances")
        self._work.start(f"training-{name}", lambda: self._run(job, image))
        return {"TrainingJobArn": job.arn}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeTrainingJob."""
        with self._lock:
            return self._description(self._find(request["TrainingJobName"]))

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer ListTrainingJobs."""
        with self._lock:
            return _LISTING.pick(
                request,
                [
                    {
                        key: value
                        for key, value in self._description(job).items()
                        if key
                        in {
                            "CreationTime",
                            "LastModifiedTime",
                            "SecondaryStatus",
                            "TrainingEndTime",
                            "TrainingJobArn",
                            "TrainingJobName",
                            "TrainingJobStatus",
                        }
                    }
                    for job in self._jobs.values()
                ],
            )

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer StopTrainingJob."""
        with self._lock:
            job = self._find(request["TrainingJobName"])
            if job.status not in {"InProgress", "Stopping"}:
                raise invalid(
                    "The request was rejected because the training job is in status "
                    f"{job.status}."
                )
            self._change(job, status="Stopping", secondary="Stopping")
            job.is_stop_wanted.set()
        return {}

    def status(self) -> dict[str, dict[str, Any]]:
        """Return state, process and log of every job."""
        with self._lock:
            return {
                name: {
                    "status": job.status,
                    "pid": job.process.pid
                    if job.process and job.process.poll() is None
                    else None,
                    "log": str(job.log.path) if job.log else None,
                }
                for name, job in self._jobs.items()
            }

    def end(self) -> None:
        """Kill every process, because the twin stops."""
        with self._lock:
            for job in self._jobs.values():
                job.is_stop_wanted.set()
                if job.process is not None:
                    job.process.kill()

    def _find(self, name: str) -> _Job:
        if name not in self._jobs:
            raise invalid(_NOT_FOUND)
        return self._jobs[name]

    def _run(self, job: _Job, image: Path) -> None:
        base = self._folder / "training" / job.name
        try:
            self._change(job, secondary="Downloading")
            self._fill(job, base)
            if not (image / TRAIN).is_file():
                self._fail(job, f"AlgorithmError: the image has no program {TRAIN}")
                return
            self._train(job, image, base)
        except (ClientError, OSError) as error:
            if not self._work.is_stopping:
                self._fail(job, f"ClientError: {error}")

    def _train(self, job: _Job, image: Path, base: Path) -> None:
        job.log = Log(
            self._folder / "logs" / f"training-{job.name}.log",
            self._signals.printer("/aws/sagemaker/TrainingJobs", f"{job.name}/algo-1"),
        )
        self._change(job, secondary="Training", message="Training image ran")
        began = time.perf_counter()
        with self._lock:
            job.started = self._clock.now()
            if self._work.is_stopping:
                return
            job.process = self._containers.start(
                image,
                TRAIN,
                base=base,
                variables={
                    **job.request.get("Environment", {}),
                    "TRAINING_JOB_ARN": job.arn,
                    "TRAINING_JOB_NAME": job.name,
                },
                log=job.log,
                is_isolated=bool(job.request.get("EnableNetworkIsolation")),
            )
        is_late = self._watch(job, job.process, began)
        job.seconds = max(1, round(time.perf_counter() - began))
        if self._work.is_stopping:
            return
        job.log.drain(is_over=True)
        job.metrics = self._final_metrics(job, job.log)
        self._finish(job, base, is_late=is_late)

    def _watch(
        self, job: _Job, process: "subprocess.Popen[bytes]", began: float
    ) -> bool:
        """Wait for the program's end; True if its time limit ended it."""
        limit = began + job.request.get("StoppingCondition", {}).get(
            "MaxRuntimeInSeconds", _DEFAULT_RUNTIME_SECONDS
        )
        kill_at: float | None = None
        is_late = False
        while process.poll() is None:
            now = time.perf_counter()
            if kill_at is None and (job.is_stop_wanted.is_set() or now > limit):
                is_late = not job.is_stop_wanted.is_set()
                process.terminate()
                kill_at = now + _GRACE_SECONDS
            if kill_at is not None and now > kill_at:
                process.kill()
            time.sleep(_WATCH_SECONDS)
        return is_late

    def _finish(self, job: _Job, base: Path, *, is_late: bool) -> None:
        assert job.process is not None  # noqa: S101 - it was waited for
        code = job.process.returncode
        is_stopped = is_late or job.is_stop_wanted.is_set()
        self._change(job, secondary="Uploading")
        data = base / "output" / "data"
        if any(data.iterdir()):
            self._put(f"{job.output}/output.tar.gz", pack(data), job)
        if code != 0 and not is_stopped:
            failure = base / "output" / "failure"
            text = failure.read_text(errors="replace") if failure.is_file() else ""
            text = text.strip()[:_LONGEST_REASON]
            self._fail(job, f"AlgorithmError: {text}, exit code: {code}")
            return
        if not is_stopped or any((base / "model").iterdir()):
            self._put(f"{job.output}/model.tar.gz", pack(base / "model"), job)
            job.has_model = True
        job.ended = self._clock.now()
        if is_late:
            self._change(job, status="Stopped", secondary="MaxRuntimeExceeded")
        elif is_stopped:
            self._change(job, status="Stopped", secondary="Stopped")
        else:
            self._change(job, status="Completed", secondary="Completed")

    def _fail(self, job: _Job, reason: str) -> None:
        job.failure = reason
        job.ended = self._clock.now()
        self._change(job, status="Failed", secondary="Failed", message=reason)

    def _change(
        self,
        job: _Job,
        *,
        secondary: str,
        status: str | None = None,
        message: str | None = None,
    ) -> None:
        """Enter a state, and tell EventBridge."""
        with self._lock:
            now = self._clock.now()
            is_ending = status in {"Completed", "Failed", "Stopped"}
            if job.status == "Stopping" and not is_ending and status is None:
                secondary = "Stopping"
            job.modified = now
            job.status = status or job.status
            if not job.transitions or job.secondary != secondary:
                if job.transitions:
                    job.transitions[-1]["EndTime"] = now
                transition = {
                    "Status": secondary,
                    "StartTime": now,
                    "StatusMessage": message or secondary,
                }
                job.transitions.append(
                    transition | ({"EndTime": now} if is_ending else {})
                )
            job.secondary = secondary
            detail = _in_milliseconds(self._description(job))
        self._work.then(
            lambda: self._signals.event(
                "SageMaker Training Job State Change", job.arn, detail
            )
        )

    def _description(self, job: _Job) -> dict[str, Any]:
        request = job.request
        shown: dict[str, Any] = {
            key: value for key, value in request.items() if key != "Tags"
        }
        shown |= {
            "TrainingJobArn": job.arn,
            "TrainingJobStatus": job.status,
            "SecondaryStatus": job.secondary,
            "SecondaryStatusTransitions": [dict(item) for item in job.transitions],
            "CreationTime": job.created,
            "LastModifiedTime": job.modified,
            "EnableNetworkIsolation": bool(request.get("EnableNetworkIsolation")),
            "EnableInterContainerTrafficEncryption": bool(
                request.get("EnableInterContainerTrafficEncryption")
            ),
            "EnableManagedSpotTraining": False,
        }
        optional = {
            "TrainingStartTime": job.started,
            "TrainingEndTime": job.ended,
            "FailureReason": job.failure,
        }
        shown |= {key: value for key, value in optional.items() if value is not None}
        if job.ended is not None:
            shown["TrainingTimeInSeconds"] = job.seconds
            shown["BillableTimeInSeconds"] = job.seconds
        if job.metrics:
            shown["FinalMetricDataList"] = job.metrics
        if job.has_model:
            shown["ModelArtifacts"] = {"S3ModelArtifacts": f"{job.output}/model.tar.gz"}
        return shown

    def _final_metrics(self, job: _Job, log: Log) -> list[dict[str, Any]]:
        """Return the last value that each metric's pattern finds in the log."""
        found = []
        for definition in job.request["AlgorithmSpecification"].get(
            "MetricDefinitions", []
        ):
            matches = re.findall(definition["Regex"], log.text())
            if matches:
                last = matches[-1] if isinstance(matches[-1], str) else matches[-1][0]
                found.append(
                    {
                        "MetricName": definition["Name"],
                        "Value": float(last),
                        "Timestamp": self._clock.now(),
                    }
                )
        return found

    def _fill(self, job: _Job, base: Path) -> None:
        """Make the folders and files that the program finds."""
        request = job.request
        for name in ("input/config", "input/data", "model", "output/data"):
            (base / name).mkdir(parents=True)
        channels = request.get("InputDataConfig", [])
        kind = request["ResourceConfig"].get("InstanceType")
        group = "homogeneousCluster"
        for name, content in {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": {
                channel["ChannelName"]: {
                    "TrainingInputMode": "File",
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": "None",
                    **(
                        {"ContentType": channel["ContentType"]}
                        if "ContentType" in channel
                        else {}
                    ),
                }
                for channel in channels
            },
            "resourceconfig": {
                "current_host": "algo-1",
                "current_instance_type": kind,
                "current_group_name": group,
                "hosts": ["algo-1"],
                "instance_groups": [
                    {
                        "instance_group_name": group,
                        "instance_type": kind,
                        "hosts": ["algo-1"],
                    }
                ],
                "network_interface_name": "lo",
            },
        }.items():
            path = base / "input" / "config" / f"{name}.json"
            path.write_text(json.dumps(content))
        for channel in channels:
            folder = base / "input" / "data" / channel["ChannelName"]
            folder.mkdir()
            bucket, prefix = _place(channel["DataSource"]["S3DataSource"]["S3Uri"])
            for key in self._keys(bucket, prefix):
                path = (folder / _below(prefix, key)).resolve()
                if not path.is_relative_to(folder.resolve()):
                    raise OSError(f"the key {key!r} leads out of its channel")
                path.parent.mkdir(parents=True, exist_ok=True)
                answer = self._client("s3").get_object(Bucket=bucket, Key=key)
                path.write_bytes(answer["Body"].read())

    def _check_input(self, channel: Mapping[str, Any]) -> None:
        source = channel["DataSource"].get("S3DataSource")
        if source is None:
            raise invalid(f"Channel {channel['ChannelName']} has no S3DataSource")
        bucket, prefix = _place(source["S3Uri"])
        try:
            keys = self._keys(bucket, prefix)
        except self._client("s3").exceptions.NoSuchBucket:
            keys = []
        if not keys:
            raise invalid(
                f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input '
                "data source. Please ensure that the bucket exists in the selected "
                f"region ({self._region}), that objects exist under that S3 prefix, "
                "and that the role has s3:ListBucket permissions on the bucket."
            )

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        pages = self._client("s3").get_paginator("list_objects_v2")
        return [
            entry["Key"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        ]

    def _put(self, uri: str, content: bytes, job: _Job) -> None:
        bucket, key = _place(uri)
        kms_key = job.request["OutputDataConfig"].get("KmsKeyId")
        encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
            if kms_key
            else {}
        )
        self._client("s3").put_object(
            Bucket=bucket, Key=key, Body=content, **encryption
        )


def _place(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _below(prefix: str, key: str) -> str:
    """Return where the object lies below its channel, as SageMaker places it.

    Examples
    --------
    >>> _below("sets/1/", "sets/1/a/b"), _below("sets/1", "sets/1/a")
    ('a/b', 'a')
    >>> _below("sets/1", "sets/1"), _below("sets/1", "sets/12/a")
    ('1', '12/a')
    """
    if prefix.endswith("/") or not prefix:
        return key[len(prefix) :]
    if key.startswith(f"{prefix}/"):
        return key[len(prefix) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def _in_milliseconds(value: Any) -> Any:
    """Return `value` with every instant as EventBridge gets it from SageMaker."""
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {key: _in_milliseconds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_milliseconds(item) for item in value]
    return value
