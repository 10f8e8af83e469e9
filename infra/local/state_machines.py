"""Step Functions: moto's interpreter, on the twin's time and with its SageMaker.

moto interprets the Amazon States Language, but waits in real seconds, knows no
SageMaker ``.sync``, names every unnamed execution alike, and tells nobody how an
execution ended. What is filled here, each by the smallest private name of moto:

- waits, pauses and time limits follow the twin's clock (`execution_waits`),
- ``sagemaker:createTrainingJob.sync`` waits for the job's end, fails with
  ``States.TaskFailed``, and stops the job of an execution that is stopped,
- ``states:startExecution.sync`` waits for the other execution without a token,
- parameters and answers of SDK calls are spelt as in AWS, and times in answers are
  text,
- times with fractions compare, also those of the context object,
- errors of SageMaker's calls and ``States.NoChoiceMatched`` are named as in AWS,
- a changed status becomes an event on the default bus and a metric of ``AWS/States``,
- what an execution cannot do is refused when its machine is made, through the API too
  (`state_machine_definition`).
"""

import json
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import boto3
import botocore.session
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import (
    ExecutionFailedEventDetails,
    HistoryEventType,
    InvalidDefinition,
    TaskFailedEventDetails,
)
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (  # noqa: E501
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (  # noqa: E501
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (  # noqa: E501
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state import state
from moto.stepfunctions.parser.asl.component.state.choice.comparison.operator.implementations.is_operator import (  # noqa: E501
    IsTimestamp,
)
from moto.stepfunctions.parser.asl.component.state.choice.state_choice import (
    StateChoice,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import (
    state_task_factory,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk as aws_sdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_callback as callbacks,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_factory as factory,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_unsupported as unsupported,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import (  # noqa: E501
    ResourceCondition,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import (  # noqa: E501
    StateTaskService,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import (  # noqa: E501
    StateTaskServiceSfn,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import (
    BaseExecutionWorkerCommunication,
    Execution,
)
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from infra.local.activity import Activity
from infra.local.clock import Clock
from infra.local.errors import UnsupportedByTwinError
from infra.local.execution_waits import ExecutionWaits
from infra.local.mending import mend, original
from infra.local.state_machine_definition import check_definition

POLL_SECONDS: Final = 0.1
_RUNNING: Final = {"InProgress", "Stopping"}
_METRICS: Final = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "ABORTED": "ExecutionsAborted",
    "TIMED_OUT": "ExecutionsTimedOut",
}


@dataclass(frozen=True)
class _Nested:
    """Another execution that a task started, and how its result is read."""

    execution_arn: str
    result: Callable[[], Any]


class StateMachines:
    """Executions on the twin's time.

    Parameters
    ----------
    clock
        Time of waits and pauses.
    activity
        Knows about every execution that runs and does not wait.
    tell
        Called with detail type, ARN and detail of a changed status.
    count
        Called with name and dimensions of a metric of ``AWS/States``.
    """

    def __init__(
        self,
        clock: Clock,
        activity: Activity,
        tell: Callable[[str, str, Mapping[str, Any]], None],
        count: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        self._activity = activity
        self._tell = tell
        self._count = count
        self._waits = ExecutionWaits(clock, activity)
        self._is_stopping = False
        self._executions: dict[str, Execution] = {}

    def start(self, port: int) -> None:
        """Mend moto's interpreter, and point its tasks at the twin."""
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        os.environ["MOTO_PORT"] = str(port)
        self._waits.start()
        _mend_clients()
        _mend_requests()
        _mend_spelling()
        _mend_context()
        _mend_choice()
        _mend_sagemaker()
        aws_sdk._SERVICE_ERROR_NAMES["sagemaker"] = "SageMaker"  # noqa: SLF001
        self._mend_nested()
        self._mend_status()

    def stop(self) -> None:
        """Wake what waits; executions end with the twin."""
        self._is_stopping = True
        self._waits.stop()

    def status(self) -> dict[str, dict[str, int]]:
        """Return how many executions have which status, by machine."""
        found: dict[str, dict[str, int]] = {}
        for execution in list(self._executions.values()):
            counts = found.setdefault(execution.state_machine.name, {})
            counts[execution.status] = counts.get(execution.status, 0) + 1
        return found

    def _mend_nested(self) -> None:
        """Let ``startExecution.sync`` wait for the end instead of asking for it."""

        def wait(
            _task: Any,
            env: Any,
            sync_resolver: "_Nested",
            timeout_seconds: int,
            **_: Any,
        ) -> Any:
            self._waits.join(env, sync_resolver.execution_arn, timeout_seconds)
            return sync_resolver.result() if env.is_running() else None

        def remembering(build: Callable[..., Any]) -> Callable[..., "_Nested"]:
            def built(task: Any, env: Any, **more: Any) -> _Nested:
                arn = env.stack[-1]["ExecutionArn"]
                return _Nested(arn, build(task, env, **more))

            return built

        for name in ("_build_sync_resolver", "_build_sync2_resolver"):
            built = remembering(original(StateTaskServiceSfn, name))
            mend(StateTaskServiceSfn, name, built)
        mend(StateTaskServiceSfn, "_eval_sync", wait)

    def _mend_status(self) -> None:
        begin = original(Execution, "start")
        end = original(BaseExecutionWorkerCommunication, "terminated")

        def start(execution: Execution) -> None:
            self._waits.began(execution.exec_arn)
            self._executions[execution.exec_arn] = execution
            try:
                self._changed(execution, "RUNNING")
                begin(execution)
            except BaseException:
                self._waits.ended(execution.exec_arn)
                raise

        def terminated(communication: BaseExecutionWorkerCommunication) -> None:
            end(communication)
            execution = communication.execution
            try:
                if not self._is_stopping:
                    self._changed(execution, execution.status)
            except Exception as error:
                self._activity.fail(error)
                raise
            finally:
                self._waits.ended(execution.exec_arn)

        mend(Execution, "start", start)
        mend(BaseExecutionWorkerCommunication, "terminated", terminated)

    def _changed(self, execution: Execution, status: str) -> None:
        machine = execution.state_machine.arn
        self._count(
            _METRICS.get(status, "ExecutionsStarted"), {"StateMachineArn": machine}
        )
        is_included = {"included": True}
        output = to_json_str(execution.output) if status == "SUCCEEDED" else None
        self._tell(
            "Step Functions Execution Status Change",
            execution.exec_arn,
            {
                "executionArn": execution.exec_arn,
                "stateMachineArn": machine,
                "name": execution.name,
                "status": status,
                "startDate": _milliseconds(execution.start_date),
                "stopDate": _milliseconds(execution.stop_date),
                "input": execution.execution_input,
                "inputDetails": is_included,
                "output": output,
                "outputDetails": is_included if output is not None else None,
                "error": execution.error,
                "cause": execution.cause,
            },
        )


def _milliseconds(instant: Any) -> int | None:
    return int(instant.timestamp() * 1000) if isinstance(instant, datetime) else None


def _mend_requests() -> None:
    """Give every execution a name, and check what machines are made of."""
    begin = original(StepFunctionsParserBackend, "start_execution")
    validate = original(StepFunctionsParserBackend, "_validate_definition")

    def start_execution(
        self: Any,
        state_machine_arn: str,
        name: str | None = None,
        *rest: Any,
        **more: Any,
    ) -> Any:
        return begin(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **more)

    def validated(definition: str) -> None:
        validate(definition=definition)
        try:
            check_definition(json.loads(definition), "a definition")
        except UnsupportedByTwinError as error:
            raise InvalidDefinition(
                str(error), exception_type="InvalidDefinition"
            ) from error

    mend(StepFunctionsParserBackend, "start_execution", start_execution)
    mend(StepFunctionsParserBackend, "_validate_definition", staticmethod(validated))


def _mend_clients() -> None:
    """Make one client a service: boto3's default session may not make two at once."""
    making = threading.Lock()
    known: dict[tuple[str, str], Any] = {}
    session = boto3.Session(
        aws_access_key_id="twin",
        aws_secret_access_key="twin",  # noqa: S106 - moto takes any
    )

    def client(*, service_name: str, region_name: str, **options: Any) -> Any:
        for key in ("aws_access_key_id", "aws_secret_access_key"):
            options.pop(key, None)
        with making:
            key_of = (service_name, region_name)
            if key_of not in known:
                known[key_of] = session.client(
                    service_name, region_name=region_name, **options
                )
            return known[key_of]

    mend(boto_client, "boto3", SimpleNamespace(client=client))


@cache
def _model_of(service: str) -> Any:
    """Return botocore's model of a service; reading one takes a third of a second."""
    return botocore.session.get_session().get_service_model(service)


def _mend_spelling() -> None:
    """Fill two hooks that are empty in moto: spelling, and times as text."""

    def operation(task: Any, service: str | None, action: str | None) -> Any:
        model = _model_of(task._get_boto_service_name(service))  # noqa: SLF001
        wanted = task._get_boto_service_action(action).replace("_", "")  # noqa: SLF001
        for name in model.operation_names:
            if name.lower() == wanted.lower():
                return model.operation_model(name)
        return None

    def parameters(
        self: Any,
        parameters: dict[str, Any],
        boto_service_name: str | None = None,
        service_action_name: str | None = None,
    ) -> None:
        found = operation(self, boto_service_name, service_action_name)
        if found is not None and found.input_shape is not None:
            self._to_boto_request(parameters, found.input_shape)

    def response(
        self: Any,
        response: Any,
        boto_service_name: str | None = None,
        service_action_name: str | None = None,
    ) -> None:
        if isinstance(response, dict):
            found = operation(self, boto_service_name, service_action_name)
            shape = found.output_shape if found is not None else None
            clean = _spelt(response, shape)
            response.clear()
            response.update(clean)

    mend(StateTaskService, "_normalise_parameters", parameters)
    mend(StateTaskService, "_normalise_response", response)


def _spelt(value: Any, shape: Shape | None) -> Any:
    """Return an answer as Step Functions shows it: JSON, with names in Pascal case."""
    if isinstance(value, dict):
        if isinstance(shape, StructureShape):
            members = shape.members
            return {
                key[:1].upper() + key[1:]: _spelt(item, members.get(key))
                for key, item in value.items()
            }
        inner = shape.value if isinstance(shape, MapShape) else None
        return {key: _spelt(item, inner) for key, item in value.items()}
    if isinstance(value, list):
        inner = shape.member if isinstance(shape, ListShape) else None
        return [_spelt(item, inner) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "read"):
        return value.read().decode()
    return value


def _mend_context() -> None:
    """Write the times of the context object as AWS does, and compare any of RFC 3339.

    moto reads whole seconds that end in ``Z``, and takes all else for no time.
    """
    data = original(state, "StateData")
    details = original(Execution, "get_start_execution_details")

    def state_data(**fields: Any) -> Any:
        entered = datetime.fromisoformat(fields["EnteredTime"])
        return data(**{**fields, "EnteredTime": _text(entered)})

    def execution_details(execution: Execution) -> Any:
        found = details(execution)
        found.start_time = _text(found.start_time)
        return found

    def parsed(text: Any) -> datetime | None:
        if not isinstance(text, str) or "T" not in text:
            return None
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            return None
        return instant if instant.tzinfo else None

    mend(IsTimestamp, "string_to_timestamp", staticmethod(parsed))
    mend(state, "StateData", state_data)
    mend(Execution, "get_start_execution_details", execution_details)


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mend_choice() -> None:
    choose = original(StateChoice, "_eval_state")

    def evaluate(choice: StateChoice, env: Any) -> None:
        try:
            choose(choice, env)
        except RuntimeError as error:
            kind = StatesErrorNameType.StatesNoChoiceMatched
            cause = f"No choice of the state {choice.name!r} matched"
            details = ExecutionFailedEventDetails(error=kind.to_name(), cause=cause)
            shown: Any = EventDetails
            raise FailureEventException(
                FailureEvent(
                    env=env,
                    error_name=StatesErrorName(typ=kind),
                    event_type=HistoryEventType.ExecutionFailed,
                    event_details=shown(executionFailedEventDetails=details),
                )
            ) from error

    mend(StateChoice, "_eval_state", evaluate)


@dataclass(frozen=True)
class _TrainingJob:
    """A training job that a task waits for; tasks of a Map are one object in moto."""

    client: Any
    name: str
    fail: Callable[[str], Exception]

    def __call__(self) -> dict[str, Any] | None:
        """Return the job if it is completed, None while it runs."""
        job = self.shown()
        if job["TrainingJobStatus"] in _RUNNING:
            return None
        if job["TrainingJobStatus"] == "Completed":
            return job
        raise self.fail(to_json_str(job))

    def shown(self) -> dict[str, Any]:
        """Return what the API says, as JSON."""
        shown = self.client.describe_training_job(TrainingJobName=self.name)
        shown.pop("ResponseMetadata", None)
        job: dict[str, Any] = json.loads(to_json_str(shown))
        return job

    def stop(self) -> None:
        """Stop the job if it runs."""
        if self.shown()["TrainingJobStatus"] in _RUNNING:
            self.client.stop_training_job(TrainingJobName=self.name)


class _SageMakerTask(unsupported.StateTaskServiceUnsupported):
    """``sagemaker:create…``, forwarded; with ``.sync`` until the job has ended."""

    def __init__(self) -> None:
        patterns: Any = {ResourceCondition.Sync, ResourceCondition.WaitForTaskToken}
        callbacks.StateTaskServiceCallback.__init__(
            self, supported_integration_patterns=patterns
        )

    def _log_unsupported_warning(self) -> None:
        """Say nothing: it is supported here."""

    def _build_sync_resolver(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> _TrainingJob:
        env.stack.pop()
        return _TrainingJob(
            boto_client.boto_client_for(
                service="sagemaker",
                region=resource_runtime_part.region,
                state_credentials=state_credentials,
            ),
            normalised_parameters["TrainingJobName"],
            lambda cause: self._failure(env, "States.TaskFailed", cause),
        )

    def _eval_sync(
        self,
        env: Any,
        sync_resolver: Any,
        timeout_seconds: int | None,
        callback_endpoint: Any,
        heartbeat_endpoint: Any,
    ) -> Any:
        """Wait for the job; one that nobody waits for any more is stopped, as in AWS.

        The execution counts as busy meanwhile: a job takes the machine's seconds.
        """
        found = super()._eval_sync(
            env, sync_resolver, timeout_seconds, callback_endpoint, heartbeat_endpoint
        )
        if found is None:
            sync_resolver.stop()
        return found

    def _from_error(self, env: Any, ex: Exception) -> FailureEvent:
        """Name an error of the call itself as AWS does."""
        if not isinstance(ex, ClientError):
            found: FailureEvent = super()._from_error(env=env, ex=ex)
            return found
        code = ex.response["Error"]["Code"]
        modelled = code in {
            "ResourceInUse",
            "ResourceLimitExceeded",
            "ResourceNotFound",
        }
        name = f"{code}Exception" if modelled else "AmazonSageMakerException"
        cause = f"{ex.response['Error']['Message']} (Error Code: {code})"
        return self._failure(env, f"SageMaker.{name}", cause).failure_event

    def _failure(self, env: Any, error: str, cause: str) -> FailureEventException:
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=error,
            cause=cause,
        )
        shown: Any = EventDetails
        return FailureEventException(
            FailureEvent(
                env=env,
                error_name=CustomErrorName(error)
                if not error.startswith("States.")
                else StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed),
                event_type=HistoryEventType.TaskFailed,
                event_details=shown(taskFailedEventDetails=details),
            )
        )


def _mend_sagemaker() -> None:
    written = original(factory, "state_task_service_for")

    def service_for(service_name: str) -> Any:
        return (
            _SageMakerTask() if service_name == "sagemaker" else written(service_name)
        )

    mend(callbacks, "_DELAY_SECONDS_SYNC_CONDITION_CHECK", POLL_SECONDS)
    mend(factory, "state_task_service_for", service_for)
    mend(state_task_factory, "state_task_service_for", service_for)
