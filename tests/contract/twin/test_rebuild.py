"""The state machine `rebuild` gives what one process gives, from the same log."""

import json
from pathlib import Path
from typing import Any

from retrodict.pipeline import load_catalog
from retrodict.replaying import compare, digest_of, replay
from retrodict.verifying import judge, judgements_in
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.s3_event_log import S3EventLog

from infra.local.twin import Twin
from tests.contract.twin.assembly import ROLE, att, function, ref, resource
from tests.contract.twin.conftest import Start
from tests.tables import ONLINE_STORE
from tests.unit.test_rebuilding import KEYS, events

ROOT = Path(__file__).parents[3]
DAY = "type=sensor.reading/arrived=2026-01-05"
LAYERS = ("core", "adapters", "pipelines")
POWERTOOLS = {
    "POWERTOOLS_SERVICE_NAME": "rebuild_keys",
    "POWERTOOLS_TRACE_DISABLED": "true",
}


def sources() -> dict[str, str]:
    """Return the function with its layers, by path in one asset."""
    found = {"handler.py": (ROOT / "functions/rebuild_keys/handler.py").read_text()}
    for layer in LAYERS:
        folder = ROOT / "layers" / layer / "python"
        found |= {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*.py")
        }
    return found


def started(start: Start, handler: str = "handler.lambda_handler") -> Twin:
    return start(
        {
            "Role": ROLE,
            "Log": resource("AWS::S3::Bucket"),
            "Online": resource(
                "AWS::DynamoDB::Table",
                **ONLINE_STORE,
            ),
            "RebuildKeys": function(
                "rebuild",
                Handler=handler,
                MemorySize=1_024,
                Timeout=60,
                Environment={
                    "Variables": {
                        "EVENT_LOG_BUCKET_NAME": ref("Log"),
                        "ONLINE_STORE_TABLE_NAME": ref("Online"),
                        **POWERTOOLS,
                    }
                },
            ),
            "Machine": resource(
                "AWS::StepFunctions::StateMachine",
                DefinitionString=(ROOT / "step_functions/rebuild.asl.json").read_text(),
                DefinitionSubstitutions={"RebuildKeysArn": att("RebuildKeys")},
                RoleArn=att("Role"),
            ),
        },
        {"rebuild": sources()},
        outputs={name: {"Value": ref(name)} for name in ("Log", "Online", "Machine")},
    )


def ended(twin: Twin, given: dict[str, Any]) -> dict[str, Any]:
    machines = twin.client("stepfunctions")
    arn = machines.start_execution(
        stateMachineArn=twin.outputs()["Machine"], input=json.dumps(given)
    )["executionArn"]
    twin.wait_idle()
    shown: dict[str, Any] = machines.describe_execution(executionArn=arn)
    return shown


def test_a_rebuild_in_parts_is_the_rebuild_of_one_process(start: Start) -> None:
    twin = started(start)
    outputs = twin.outputs()
    log = S3EventLog(
        twin.client("s3"), outputs["Log"], contracts=load_catalog().contracts
    )
    for place in range(0, 300, 50):
        log.append(f"{DAY}/shard-{place}", events()[place : place + 60])
    store = DynamoDBOnlineStore(twin.client("dynamodb"), outputs["Online"])

    compared = ended(twin, {"write": False})
    repaired = ended(twin, {"write": True})
    again = ended(twin, {"write": True})
    verified = ended(twin, {"write": False})

    replayed, outcomes = replay(log.read())
    found = compare(replayed, store.scan(), lambda keys: log.read(keys=keys))
    told = [json.loads(shown["output"]) for shown in (compared, repaired, again)]
    assert {shown["status"] for shown in (compared, repaired, again)} == {"SUCCEEDED"}
    assert {one["log_digest"] for one in told} == {digest_of(replayed)}
    assert [one["store_digest"] == digest_of(replayed) for one in told] == [
        False, True, True
    ]  # fmt: skip
    assert [one["written"] for one in told] == [0, 2 * len(KEYS), 0]
    assert told[0]["outcomes"] == dict(outcomes)
    assert (found.differing, found.apart) == ((), ())
    assert digest_of(found.stored) == digest_of(replayed)
    judged = judge(found, lambda keys: log.read(keys=keys))
    seen = json.loads(verified["output"])
    assert "verified" in {one.state for one in judged.values()}
    assert judgements_in(seen["projections"]) == judged
    assert seen["unexplained"] == 0


def test_a_part_that_fails_fails_the_rebuild(start: Start) -> None:
    twin = started(start, handler="handler.no_such_function")

    shown = ended(twin, {"write": True})

    assert shown["status"] == "FAILED"
    assert shown["error"] == "RebuildFailed"
