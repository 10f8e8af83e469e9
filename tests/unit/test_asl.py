"""House rules for every state machine, checked without deploying one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from retrodict import errors
from retrodict.buckets import BUCKETS
from retrodict.lifecycle import LIFECYCLE_EVENTS, PREFIX
from retrodict.rollout import UNSETTLED, VARIANT
from statelint.config import Config
from statelint.linter import Linter

FILES = sorted((Path(__file__).parents[2] / "step_functions").glob("*.asl.json"))
OURS = {name for name in vars(errors) if name.endswith("Error")}
AWS = re.compile(r"(States|Lambda|SageMaker|StepFunctions)\.\w+")
KINDS = {e.contract().type.removeprefix(PREFIX) for e in LIFECYCLE_EVENTS}
STATUSES = UNSETTLED | {"InService", "OutOfService", "Failed", "UpdateRollbackFailed"}

State = dict[str, Any]
States = dict[str, State]


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def machine(name: str) -> States:
    found: States = load(FILES[0].with_name(f"{name}.asl.json"))["States"]
    return found


def states(of_type: str) -> Iterator[Any]:
    """Yield every state of a type of a run: its name, itself, and its siblings."""
    for file in FILES:
        if file.name == "rebuild.asl.json":
            continue  # it records nothing, and what it folds from is the log
        siblings = load(file)["States"]
        for name, state in siblings.items():
            if state["Type"] == of_type:
                where = f"{file.name.partition('.')[0]}:{name}"
                yield pytest.param(name, state, siblings, id=where)


def choices(state: State) -> Iterator[str]:
    for choice in state.get("Choices", []):
        yield choice["Next"]


def following(state: State) -> set[str]:
    """Return every state that may come next."""
    found = {state[name] for name in ("Next", "Default") if name in state}
    found |= {*choices(state)}
    return found | {rule["Next"] for rule in state.get("Catch", [])}


def reached(siblings: States, start: str) -> set[str]:
    """Return every state that may come after `start`, and itself."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following(siblings[name])
    return found


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


machines = pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
tasks = pytest.mark.parametrize(("name", "task", "siblings"), [*states("Task")])


def test_there_are_machines_that_rebuild_train_and_roll_out() -> None:
    assert [file.name for file in FILES] == [
        "rebuild.asl.json", "retrain.asl.json", "roll_out.asl.json"
    ]  # fmt: skip


@machines
def test_a_machine_is_valid_amazon_states_language(file: Path) -> None:
    assert Linter.validate(str(file), Config()) == []


@machines
def test_every_state_is_there_and_can_be_reached(file: Path) -> None:
    found = load(file)

    assert reached(found["States"], found["StartAt"]) == found["States"].keys()


@machines
def test_every_state_can_come_to_an_end(file: Path) -> None:
    found = load(file)["States"]
    ends = {n for n, state in found.items() if state["Type"] in {"Succeed", "Fail"}}

    for name in found:
        assert reached(found, name) & ends, name


@machines
def test_a_state_is_named_like_a_verb_phrase_or_an_outcome(file: Path) -> None:
    for name in load(file)["States"]:
        assert re.fullmatch(r"([A-Z][a-z]+)+", name), name


@machines
def test_a_substitution_stands_inside_quotes_and_nothing_else_is_open(
    file: Path,
) -> None:
    in_texts = sum(text.count("${") for text in texts(load(file)))

    assert in_texts == file.read_text().count("${")
    assert all(
        re.fullmatch(r"[A-Z][A-Za-z]+", name)
        for name in re.findall(r"\$\{([^}]*)\}", file.read_text())
    )


@machines
def test_no_machine_uses_variables_or_jsonata(file: Path) -> None:
    text = file.read_text()

    assert "QueryLanguage" not in text
    assert "Assign" not in text
    assert "{%" not in text


@tasks
def test_a_task_says_why_it_exists_and_when_to_give_up(
    name: str, task: State, siblings: States
) -> None:
    assert re.match(r"Appends \w+", task["Comment"])
    assert re.search(r"retr|safe to repeat", task["Comment"], re.IGNORECASE)
    assert 0 < task["TimeoutSeconds"] <= 7_200
    assert task["Retry"]
    assert task["Catch"]


@tasks
def test_an_event_a_comment_promises_is_an_event_we_have(
    name: str, task: State, siblings: States
) -> None:
    sentence = task["Comment"].partition(".")[0].partition(":")[0]
    promised = set(re.findall(r"[a-z]+(?:_[a-z]+)+", sentence))

    assert promised <= KINDS
    assert promised or sentence.startswith("Appends nothing")


@tasks
def test_an_error_we_name_is_an_error_somebody_raises(
    name: str, task: State, siblings: States
) -> None:
    rules = task["Retry"] + task["Catch"]

    for error in (error for rule in rules for error in rule["ErrorEquals"]):
        assert error in OURS or AWS.fullmatch(error), error


@tasks
def test_everything_is_caught_only_where_the_failure_is_recorded(
    name: str, task: State, siblings: States
) -> None:
    last = task["Catch"][-1]
    assert last["ErrorEquals"] == ["States.ALL"]
    retried = [e for rule in task["Retry"] for e in rule["ErrorEquals"]]
    assert name == "RecordFailure" or "States.ALL" not in retried

    chain = [last["Next"]]
    while siblings[chain[-1]]["Type"] != "Fail":
        chain.append(siblings[chain[-1]]["Next"])

    assert name == "RecordFailure" or "RecordFailure" in chain


@tasks
def test_a_failure_is_recorded_under_the_name_of_the_state_that_failed(
    name: str, task: State, siblings: States
) -> None:
    if name == "RecordFailure":
        return
    told = siblings[task["Catch"][-1]["Next"]]

    assert told["Type"] == "Pass"
    assert told["ResultPath"] == "$.failed_state"
    assert name == told["Result"] or siblings[told["Result"]]["Catch"][0]["Next"] == (
        name  # what a look-up finds missing is the failure of who asked for it
    )


@tasks
def test_a_call_that_sagemaker_answered_is_not_made_again(
    name: str, task: State, siblings: States
) -> None:
    if not re.search(r"sagemaker:(create|update)", task["Resource"]):
        return
    retried = {e for rule in task["Retry"] for e in rule["ErrorEquals"]}

    assert retried <= {
        "SageMaker.ResourceLimitExceededException",
        "SageMaker.SdkClientException",
        "SageMaker.ThrottlingException",
    }


@pytest.mark.parametrize("name", ["HasEndpointSettled"])
def test_every_status_of_an_endpoint_leads_somewhere(name: str) -> None:
    state = machine("roll_out")[name]
    named = {
        rule["StringEquals"]: choice["Next"]
        for choice in state["Choices"]
        for rule in choice.get("Or", [])
    }

    assert named.keys() == STATUSES
    assert {s for s, to in named.items() if to == "WaitForEndpoint"} == UNSETTLED


def test_waiting_for_an_endpoint_comes_to_an_end() -> None:
    found = machine("roll_out")

    for name in ("HasEndpointSettled", "HasAsynchronousEndpointSettled"):
        (limit,) = (c for c in found[name]["Choices"] if "NumericGreaterThan" in c)
        assert limit["Variable"] == "$.rollout.waits.count"
        assert found[limit["Next"]]["Type"] == "Pass"


def test_training_is_isolated_encrypted_bounded_and_tagged() -> None:
    job = machine("retrain")["TrainCandidate"]
    asked = job["Parameters"]

    assert job["Resource"].endswith("createTrainingJob.sync")
    assert asked["EnableNetworkIsolation"] is True
    assert asked["EnableInterContainerTrafficEncryption"] is True
    assert asked["OutputDataConfig"]["KmsKeyId"] == "${DataKeyArn}"
    assert asked["ResourceConfig"]["VolumeKmsKeyId"] == "${DataKeyArn}"
    assert asked["StoppingCondition"]["MaxRuntimeInSeconds"] < job["TimeoutSeconds"]
    assert {tag["Key"] for tag in asked["Tags"]} == {
        "retrodict:pipeline",
        "retrodict:run",
        "retrodict:training-set",
    }


def test_nothing_is_created_where_the_artifact_was_not_verified() -> None:
    file = load(FILES[-1])
    refused = {**file["States"]["StartRollout"], "Next": "RunFailed"}
    without_verification = {**file["States"], "StartRollout": refused}
    left = reached(without_verification, file["StartAt"])
    resources = {file["States"][name].get("Resource", "") for name in left}

    assert file["StartAt"] == "StartRollout"
    assert not [r for r in resources if "sagemaker" in r]


def test_only_what_passed_is_registered_and_only_what_is_registered_rolls_out() -> None:
    found = machine("retrain")
    without_verdict = {**found, "HasPassed": {**found["HasPassed"], "Choices": []}}
    without_entry = {k: v for k, v in found.items() if k != "StartRollOut"}

    assert "RegisterCandidate" not in reached(without_verdict, "BuildTrainingSet")
    assert [n for n, s in without_entry.items() if "StartRollOut" in following(s)] == [
        "RegisterCandidate"
    ]


def test_an_update_has_the_canary_and_the_alarms_of_the_rollout() -> None:
    found = machine("roll_out")
    asked = found["UpdateEndpoint"]["Parameters"]
    (variant,) = found["CreateEndpointConfig"]["Parameters"]["ProductionVariants"]

    assert asked["DeploymentConfig.$"] == "$.rollout.result.deployment_config"
    assert variant["VariantName"] == VARIANT


def test_the_asynchronous_endpoint_follows_a_promotion_only() -> None:
    found = machine("roll_out")
    ends = found["HowDidItEnd"]
    promoted = ends["Choices"][0]

    assert (promoted["StringEquals"], promoted["Next"]) == (
        "promoted",
        "CreateAsynchronousConfig",
    )
    others = [*[*choices(ends)][1:], ends["Default"]]
    assert {found[name]["Type"] for name in others} == {"Fail"}


def test_every_end_that_is_no_success_is_a_failed_execution() -> None:
    succeeded = {
        name
        for file in FILES
        for name, state in load(file)["States"].items()
        if state["Type"] == "Succeed"
    }

    assert succeeded == {
        "CandidateRefused", "CandidateRegistered", "Promoted", "Rebuilt"
    }  # fmt: skip


def test_a_rebuild_maps_over_every_part_of_the_keys_and_tolerates_no_failure() -> None:
    found = machine("rebuild")
    parts = found["RebuildParts"]

    assert found["NameParts"]["Result"] == [*range(BUCKETS)]
    assert parts["ItemProcessor"]["ProcessorConfig"] == {
        "Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"
    }  # fmt: skip
    assert parts["ToleratedFailurePercentage"] == 0
    assert "ToleratedFailureCount" not in parts
    assert parts["MaxConcurrency"] <= BUCKETS


def test_a_step_of_a_rebuild_is_retried_and_ends_in_a_failed_execution() -> None:
    found = machine("rebuild")
    inner = found["RebuildParts"]["ItemProcessor"]["States"]["RebuildKeys"]

    for task in (inner, found["CombineParts"]):
        retried = {e for rule in task["Retry"] for e in rule["ErrorEquals"]}
        assert re.search(r"retry is safe", task["Comment"])
        assert 0 < task["TimeoutSeconds"] <= 900
        assert "Lambda.TooManyRequestsException" in retried
        assert "States.ALL" not in retried
        assert all(error in OURS or AWS.fullmatch(error) for error in retried)
    assert {"StateConflictError", "StoreUnavailableError"} <= {
        e for rule in inner["Retry"] for e in rule["ErrorEquals"]
    }
    for name in ("RebuildParts", "CombineParts"):
        [caught] = found[name]["Catch"]
        assert caught["ErrorEquals"] == ["States.ALL"]
        assert found[caught["Next"]]["Type"] == "Fail"
