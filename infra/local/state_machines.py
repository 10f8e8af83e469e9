"""Step Functions: moto's interpreter, on the twin's time and with its SageMaker.

moto interprets the Amazon States Language, but waits in real seconds, knows no
SageMaker ``.sync``, names every unnamed execution alike, and tells nobody how an
execution ended. What is filled here, each by the smallest private name of moto:

- ``Wait`` and the pauses of ``Retry`` follow the twin's clock; an execution that waits
  holds no activity token,
- ``sagemaker:createTrainingJob.sync`` waits for the job's end and fails with
  ``States.TaskFailed``,
- parameters and answers of ``states:startExecution`` are spelt as in AWS, and times
  in answers are text,
- errors of SageMaker's own calls are named as in AWS,
- a changed status becomes an event on the default bus and a metric of ``AWS/States``.

Refused by name when a machine is made: JSONata, variables, Distributed Map, and
``Next`` or ``StartAt`` that lead nowhere, which moto would accept.
"""

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import botocore.session
import moto.stepfunctions.parser.asl.component.common.retry.retrier_decl as retrier
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
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
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (  # noqa: E501
    WaitFunction,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.utils.boto_client import boto_client_for
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import (
    BaseExecutionWorkerCommunication,
    Execution,
)
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from infra.local.activity import Activity
from infra.local.clock import Clock
from infra.local.errors import UnsupportedByTwinError
from infra.local.mending import mend, original

POLL_SECONDS: Final = 0.1
_JOBS: Final = {
    "createTrainingJob": (
        "describe_training_job",
        "TrainingJobName",
        "TrainingJobStatus",
    ),
}
_RUNNING: Final = {"InProgress", "Stopping", "Starting"}
_METRICS: Final = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "ABORTED": "ExecutionsAborted",
    "TIMED_OUT": "ExecutionsTimedOut",
}
_KIND: Final = "AWS::StepFunctions::StateMachine"


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
        self._clock = clock
        self._activity = activity
        self._tell = tell
        self._count = count
        self._lock = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._is_stopping = False
        self._executions: dict[str, Execution] = {}

    def start(self, port: int) -> None:
        """Mend moto's interpreter, and point its tasks at the twin."""
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        os.environ["MOTO_PORT"] = str(port)
        _mend_parameters()
        _mend_sagemaker()
        _mend_names()
        aws_sdk._SERVICE_ERROR_NAMES["sagemaker"] = "SageMaker"  # noqa: SLF001
        self._mend_time()
        self._mend_status()

    def wait(self, seconds: float) -> None:
        """Wait on the twin's clock without holding a token."""
        if seconds <= 0:
            return
        woken = threading.Event()
        with self._lock:
            if self._is_stopping:
                return
            self._waiting.add(woken)

        def fire() -> None:
            self._activity.begin()
            woken.set()

        self._clock.call_at(self._clock.now() + timedelta(seconds=seconds), fire)
        self._activity.end()
        woken.wait()
        with self._lock:
            self._waiting.discard(woken)

    def stop(self) -> None:
        """Wake what waits; executions end with the twin."""
        with self._lock:
            self._is_stopping = True
            for woken in self._waiting:
                woken.set()

    def status(self) -> dict[str, dict[str, int]]:
        """Return how many executions have which status, by machine."""
        found: dict[str, dict[str, int]] = {}
        for execution in list(self._executions.values()):
            counts = found.setdefault(execution.state_machine.name, {})
            counts[execution.status] = counts.get(execution.status, 0) + 1
        return found

    def _mend_time(self) -> None:
        def interval(_self: Any, env: Any, wait_seconds: float) -> None:
            if env.is_running():
                self.wait(wait_seconds)

        mend(WaitFunction, "_wait_interval", interval)
        mend(retrier, "time", SimpleNamespace(sleep=self.wait))
        mend(callbacks, "_DELAY_SECONDS_SYNC_CONDITION_CHECK", POLL_SECONDS)

    def _mend_status(self) -> None:
        begin = original(Execution, "start")
        end = original(BaseExecutionWorkerCommunication, "terminated")

        def start(execution: Execution) -> None:
            self._activity.begin()
            self._executions[execution.exec_arn] = execution
            self._changed(execution, "RUNNING")
            begin(execution)

        def terminated(communication: BaseExecutionWorkerCommunication) -> None:
            end(communication)
            execution = communication.execution
            if self._is_stopping:
                return
            try:
                self._changed(execution, execution.status)
            finally:
                self._activity.end()

        mend(Execution, "start", start)
        mend(BaseExecutionWorkerCommunication, "terminated", terminated)

    def _changed(self, execution: Execution, status: str) -> None:
        machine = execution.state_machine.arn
        self._count(
            _METRICS.get(status, "ExecutionsStarted"), {"StateMachineArn": machine}
        )
        self._tell(
            "Step Functions Execution Status Change",
            execution.exec_arn,
            {
                "executionArn": execution.exec_arn,
                "stateMachineArn": machine,
                "name": execution.name,
                "status": status,
                "error": execution.error,
                "cause": execution.cause,
            },
        )


def _mend_names() -> None:
    begin = original(StepFunctionsParserBackend, "start_execution")

    def start_execution(
        self: Any,
        state_machine_arn: str,
        name: str | None = None,
        *rest: Any,
        **more: Any,
    ) -> Any:
        return begin(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **more)

    mend(StepFunctionsParserBackend, "start_execution", start_execution)


@cache
def _model_of(service: str) -> Any:
    """Return botocore's model of a service; reading one takes a third of a second."""
    return botocore.session.get_session().get_service_model(service)


def _mend_parameters() -> None:
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
        _self: Any,
        response: Any,
        boto_service_name: str | None = None,
        service_action_name: str | None = None,
    ) -> None:
        del boto_service_name, service_action_name
        if isinstance(response, dict):
            clean = _as_json(response)
            response.clear()
            response.update(clean)

    mend(StateTaskService, "_normalise_parameters", parameters)
    mend(StateTaskService, "_normalise_response", response)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "read"):
        return value.read().decode()
    return value


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
    ) -> Callable[[], dict[str, Any] | None]:
        env.stack.pop()
        action = self.resource.api_action
        if action not in _JOBS:
            raise UnsupportedByTwinError(action, "task", f"sagemaker:{action}.sync")
        describe, key, status = _JOBS[action]
        client = boto_client_for(
            service="sagemaker",
            region=resource_runtime_part.region,
            state_credentials=state_credentials,
        )

        def resolve() -> dict[str, Any] | None:
            shown = getattr(client, describe)(**{key: normalised_parameters[key]})
            shown.pop("ResponseMetadata", None)
            job: dict[str, Any] = json.loads(to_json_str(shown))
            if job[status] in _RUNNING:
                return None
            if job[status] == "Completed":
                return job
            raise self._failed(env, job)

        return resolve

    def _failed(self, env: Any, job: dict[str, Any]) -> FailureEventException:
        kind = StatesErrorNameType.StatesTaskFailed
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=kind.to_name(),
            cause=to_json_str(job),
        )
        shown: Any = EventDetails
        return FailureEventException(
            FailureEvent(
                env=env,
                error_name=StatesErrorName(typ=kind),
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

    mend(factory, "state_task_service_for", service_for)
    mend(state_task_factory, "state_task_service_for", service_for)


def check_definition(definition: Mapping[str, Any], place: str) -> None:
    """Refuse what moto would accept and then not do.

    Raises
    ------
    UnsupportedByTwinError
        The definition needs what the twin has not, or leads nowhere.
    """
    for state, where in _states(definition, "the machine"):
        for wrong in _wrong(state, definition):
            raise UnsupportedByTwinError(place, _KIND, f"{wrong} in {where}")


def _states(
    definition: Mapping[str, Any], where: str
) -> Iterator[tuple[Mapping[str, Any], str]]:
    yield {key: value for key, value in definition.items() if key != "States"}, where
    states = definition.get("States", {})
    targets = [definition.get("StartAt")]
    for name, state in states.items():
        yield state, f"the state {name}"
        targets += [state.get("Next"), state.get("Default")]
        targets += [rule.get("Next") for rule in state.get("Choices", [])]
        targets += [rule.get("Next") for rule in state.get("Catch", [])]
    for target in targets:
        if target is not None and target not in states:
            yield {"Next": target}, where


def _wrong(state: Mapping[str, Any], definition: Mapping[str, Any]) -> Iterator[str]:
    if state.get("QueryLanguage") == "JSONata":
        yield "JSONata"
    if "Assign" in state:
        yield "a variable"
    if state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode") == (
        "DISTRIBUTED"
    ):
        yield "a Distributed Map"
    if set(state) == {"Next"} and state["Next"] not in definition.get("States", {}):
        yield f"a way to {state['Next']!r}, which is no state,"
