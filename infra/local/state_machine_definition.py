"""What a state machine may be made of, so that nothing is accepted and then not done.

moto accepts a ``Next`` that leads nowhere, and integrations that it does not execute.
Refused by name, at any depth of ``Parallel`` and ``Map``: JSONata, variables, readers,
batches, writers and tolerated failures of a Distributed Map, activities, callbacks with
a task token, heartbeats, ``.sync`` of other jobs than training jobs and executions, and
services beyond those listed here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.local.errors import UnsupportedByTwinError

KIND: Final = "AWS::StepFunctions::StateMachine"
_FUNCTION: Final = re.compile(r"arn:[\w-]+:lambda:[^:]+:\d+:function:[\w-]+(:[\w$-]+)?")
_INTEGRATION: Final = re.compile(r"arn:[\w-]+:states:[^:]*:[^:]*:(?P<name>.+)")
_INTEGRATIONS: Final = re.compile(
    r"lambda:invoke"
    r"|sagemaker:createTrainingJob(\.sync)?|sagemaker:create\w+"
    r"|states:startExecution(\.sync(:2)?)?"
    r"|dynamodb:(get|put|update|delete)Item"
    r"|sqs:sendMessage|sns:publish|events:putEvents"
    r"|aws-sdk:\w+:\w+"
)
_TYPES: Final = {
    "Choice",
    "Fail",
    "Map",
    "Parallel",
    "Pass",
    "Succeed",
    "Task",
    "Wait",
}
_REFUSED_KEYS: Final = {
    "Arguments": "JSONata",
    "Output": "JSONata",
    "Assign": "a variable",
    "HeartbeatSeconds": "a heartbeat",
    "HeartbeatSecondsPath": "a heartbeat",
    "Credentials": "credentials of another role",
}


def check_definition(definition: Mapping[str, Any], place: str) -> None:
    """Refuse what moto would accept and then not do.

    Parameters
    ----------
    definition
        The machine, parsed.
    place
        Who wrote it, for the error.

    Raises
    ------
    UnsupportedByTwinError
        The definition needs what the twin has not, or leads nowhere.
    """
    for wrong in _wrong_in(definition, "the machine"):
        raise UnsupportedByTwinError(place, KIND, wrong)


def without_distribution(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a machine whose Distributed Maps run in their own execution.

    Where nothing is read, batched, written or tolerated, as `check_definition` sees
    to, only the name of the error that a failed item ends in is another one. moto
    would go on after a failure, and hold up the twin's clock meanwhile.
    """
    states = {}
    for name, state in definition["States"].items():
        states[name] = {**state}
        if "Branches" in state:
            inner = [without_distribution(branch) for branch in state["Branches"]]
            states[name]["Branches"] = inner
        for key in ("ItemProcessor", "Iterator"):
            if key in state:
                body = without_distribution(state[key])
                if body.pop("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED":
                    for only in ("Label", "ToleratedFailurePercentage"):
                        states[name].pop(only, None)
                states[name][key] = body
    return {**definition, "States": states}


def _wrong_in(program: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong in a machine, a branch or the body of a Map."""
    if program.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield f"JSONata in {where}"
    states: Mapping[str, Any] = program.get("States", {})
    if program.get("StartAt") not in states:
        yield f"StartAt {program.get('StartAt')!r}, which is no state, in {where}"
    for name, state in states.items():
        place = f"the state {name!r}"
        for target in _targets(state):
            if target not in states:
                yield f"a way to {target!r}, which is no state, in {place}"
        for wrong in _wrong_with(state):
            yield f"{wrong} in {place}"
        for inner in state.get("Branches", []):
            yield from _wrong_in(inner, f"a branch of {place}")
        for key in ("ItemProcessor", "Iterator"):
            if key in state:
                yield from _wrong_in(state[key], f"the body of {place}")


def _targets(state: Mapping[str, Any]) -> Iterator[str]:
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for key in ("Choices", "Catch"):
        for rule in state.get(key, []):
            yield rule.get("Next", "")


def _wrong_with(state: Mapping[str, Any]) -> Iterator[str]:
    if state.get("Type") not in _TYPES:
        yield f"the type {state.get('Type')!r}"
    if state.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield "JSONata"
    for part in (state, *state.get("Catch", []), *state.get("Choices", [])):
        yield from (name for key, name in _REFUSED_KEYS.items() if key in part)
    yield from _wrong_map(state)
    if state.get("Type") in {"Map", "Parallel"} and "TimeoutSeconds" in state:
        yield "TimeoutSeconds"  # which AWS does not know there either
    if state.get("Type") == "Task":
        yield from _wrong_resource(str(state.get("Resource")))


def _wrong_map(state: Mapping[str, Any]) -> Iterator[str]:
    processor = state.get("ItemProcessor", {}).get("ProcessorConfig", {})
    if processor.get("Mode", "INLINE") == "INLINE" and "ItemReader" not in state:
        return
    for key in ("ItemReader", "ItemBatcher", "ResultWriter", "ToleratedFailureCount"):
        if key in state:
            yield f"a Distributed Map with {key}"
    if state.get("ToleratedFailurePercentage", 0):
        yield "a Distributed Map that tolerates failures"


def _wrong_resource(resource: str) -> Iterator[str]:
    if _FUNCTION.fullmatch(resource):
        return
    found = _INTEGRATION.fullmatch(resource)
    if found is None or not _INTEGRATIONS.fullmatch(found["name"]):
        yield f"the resource {resource}"
