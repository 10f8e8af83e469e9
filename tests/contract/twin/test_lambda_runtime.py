"""A function runs as it would in Lambda: its environment, layers, limits and errors."""

import json
from typing import Any

import pytest

from infra.local.twin import Twin
from tests.contract.twin.assembly import ASSETS, ROLE, function, ref, resource
from tests.contract.twin.conftest import Start

OUTPUT = {"Name": {"Value": ref("Function")}}


def invoke(twin: Twin, payload: Any = None) -> tuple[Any, str | None]:
    """Invoke through the Lambda API, as any AWS client does."""
    answer = twin.client("lambda").invoke(
        FunctionName=twin.outputs()["Name"], Payload=json.dumps(payload)
    )
    return json.load(answer["Payload"]), answer.get("FunctionError")


def started(start: Start, handler: str, **properties: Any) -> Twin:
    """Start a twin with one function."""
    return start(
        {"Role": ROLE, "Function": function("code", **properties)},
        {"code": {"handler.py": handler}},
        outputs=OUTPUT,
    )


def test_a_handler_sees_its_environment_context_and_payload(start: Start) -> None:
    twin = started(
        start,
        """
        import os

        def lambda_handler(event, context):
            return {
                "event": event,
                "name": context.function_name,
                "arn": context.invoked_function_arn,
                "memory": context.memory_limit_in_mb,
                "left": 0 < context.get_remaining_time_in_millis() <= 10_000,
                "own": os.environ["OWN"],
                "endpoint": os.environ["AWS_ENDPOINT_URL"],
                "home": "HOME" in os.environ,
            }
        """,
        Environment={"Variables": {"OWN": "value"}},
    )

    answer, error = invoke(twin, {"a": [1]})

    assert error is None
    assert answer.pop("arn").endswith(f":function:{twin.outputs()['Name']}")
    assert answer == {
        "event": {"a": [1]},
        "name": twin.outputs()["Name"],
        "memory": "256",
        "left": True,
        "own": "value",
        "endpoint": twin.endpoint_url,
        "home": False,
    }


def test_an_errors_class_is_its_error_type(start: Start) -> None:
    twin = started(
        start,
        """
        class ColumnMissingError(Exception):
            pass

        def lambda_handler(event, context):
            raise ColumnMissingError("no time column")
        """,
    )

    answer, error = invoke(twin)

    assert error == "Unhandled"
    assert answer["errorType"] == "ColumnMissingError"
    assert answer["errorMessage"] == "no time column"


def test_layers_are_importable_and_only_those_of_the_function(start: Start) -> None:
    content = {"S3Bucket": {"Fn::Sub": ASSETS}, "S3Key": "layer.zip"}
    twin = start(
        {
            "Role": ROLE,
            "Layer": resource("AWS::Lambda::LayerVersion", Content=content),
            "Function": function("code", Layers=[ref("Layer")]),
        },
        {
            "code": {
                "handler.py": """
                import importlib.util

                import shared

                def lambda_handler(event, context):
                    forgotten = importlib.util.find_spec("retrodict")
                    return [shared.ANSWER, forgotten is None]
                """
            },
            "layer": {"python/shared.py": "ANSWER = 42\n"},
        },
        outputs=OUTPUT,
    )

    assert invoke(twin) == ([42, True], None)


def test_a_module_that_cannot_be_imported_is_an_error_of_the_function(
    start: Start,
) -> None:
    twin = started(start, "import there_is_no_such_module\n")

    answer, error = invoke(twin)

    assert error == "Unhandled"
    assert answer["errorType"] == "Runtime.ImportModuleError"


def test_a_function_over_its_time_is_killed_and_runs_again(start: Start) -> None:
    twin = started(
        start,
        """
        import time

        def lambda_handler(event, context):
            time.sleep(event)
            return "done"
        """,
        Timeout=1,
    )

    answer, error = invoke(twin, 30)
    afterwards = invoke(twin, 0)

    assert error == "Unhandled"
    assert answer["errorType"] == "Sandbox.Timedout"
    assert answer["errorMessage"].endswith("Task timed out after 1.00 seconds")
    assert afterwards == ("done", None)


def test_a_function_over_its_memory_is_killed(start: Start) -> None:
    twin = started(
        start,
        """
        import time

        def lambda_handler(event, context):
            kept = bytearray(300 * 1024 * 1024)
            time.sleep(10)
            return len(kept)
        """,
        MemorySize=128,
    )

    answer, error = invoke(twin)

    assert error == "Unhandled"
    assert answer["errorType"] == "Runtime.OutOfMemory"


def test_a_process_that_ends_itself_is_an_error_and_is_started_again(
    start: Start,
) -> None:
    twin = started(
        start,
        """
        import os

        def lambda_handler(event, context):
            if event:
                os._exit(3)
            return os.getpid()
        """,
    )

    first, _ = invoke(twin, payload=False)
    answer, error = invoke(twin, payload=True)
    second, _ = invoke(twin, payload=False)

    assert error == "Unhandled"
    assert answer["errorType"] == "Runtime.ExitError"
    assert "exit status 3" in answer["errorMessage"]
    assert first != second


def test_a_changed_configuration_reaches_the_function(start: Start) -> None:
    twin = started(
        start,
        """
        import os

        def lambda_handler(event, context):
            return os.environ["OWN"]
        """,
        Environment={"Variables": {"OWN": "old"}},
    )
    before = invoke(twin)

    twin.client("lambda").update_function_configuration(
        FunctionName=twin.outputs()["Name"], Environment={"Variables": {"OWN": "new"}}
    )

    assert [before, invoke(twin)] == [("old", None), ("new", None)]


def test_a_log_line_is_in_the_functions_log_and_in_the_tail(start: Start) -> None:
    twin = started(
        start,
        """
        def lambda_handler(event, context):
            print("a line of its own")
        """,
    )

    answer = twin.client("lambda").invoke(
        FunctionName=twin.outputs()["Name"], LogType="Tail", Payload=b"null"
    )

    (status,) = twin.functions.status().values()
    with open(status["log"]) as log:  # noqa: PTH123 - the status says it as text
        assert "a line of its own" in log.read()
    assert answer["LogResult"]


@pytest.mark.parametrize("real_time", [False, True])
def test_a_warm_invocation_takes_no_delayed_acknowledgement(
    start: Start, *, real_time: bool
) -> None:
    twin = start(
        {"Role": ROLE, "Function": function("code")},
        {"code": {"handler.py": "def lambda_handler(event, context):\n    return 1\n"}},
        outputs=OUTPUT,
        real_time=real_time,
    )

    answers = [invoke(twin) for _ in range(50)]

    assert answers == [(1, None)] * 50
    assert twin.functions.status()[twin.outputs()["Name"]]["restarts"] == 0
