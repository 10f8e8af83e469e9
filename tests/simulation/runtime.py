"""The real handlers, as Lambda runs them: loaded once, invoked with an event."""

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

from retrodict.artifact import Artifact
from retrodict.pipeline import load_catalog
from retrodict_aws.clients import AWS_ERRORS

from tests.simulation.faults import Fault
from tests.simulation.work import BATCHED, excess
from tests.simulation.world import Crash, Invocation, World

FUNCTIONS: Final = Path(__file__).parents[2] / "functions"
ENVIRONMENT: Final = {
    "POWERTOOLS_SERVICE_NAME": "simulation",
    "POWERTOOLS_METRICS_NAMESPACE": "Retrodict",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "AWS_ENDPOINT_URL": "http://simulation.invalid",
    "IDENTITY_LOOKBACK_DAYS": "30",
}

Ports = tuple[Any, ...]

OUTPUT: Final = StringIO()
"""What functions say in this process: log lines, and metrics in their embedded form."""


class Context:
    """What Powertools reads of a Lambda context."""

    function_name = "simulation"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:simulation"
    aws_request_id = "1"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return more than any function waits for."""
        return 900_000


@contextmanager
def environment() -> Iterator[None]:
    """Set what Powertools reads, and keep what it writes, but for doubts about time."""
    OUTPUT.seek(0)
    OUTPUT.truncate()
    # Whoever runs this may listen to every logger: one output is enough.
    logging.getLogger(ENVIRONMENT["POWERTOOLS_SERVICE_NAME"]).propagate = False
    with (
        patch.dict(os.environ, ENVIRONMENT),
        warnings.catch_warnings(),
        redirect_stdout(OUTPUT),
    ):
        warnings.simplefilter("ignore", UserWarning)
        yield


@cache
def module_of(function: str) -> ModuleType:
    """Import the handler of a function under a name of its own."""
    name = f"simulated_{function}"
    path = FUNCTIONS / function / "handler.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no handler at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Runtime:
    """Every function with the ports that it works on.

    Parameters
    ----------
    load
        What `score_events` has its artifacts from.

    Attributes
    ----------
    catalog
        What `validate_records` was deployed with.
    refusal
        What the last function failed with that it may fail with, or None.
    invocation
        The one that ended last, with all that it called; None before the first.
    calls
        Those of AWS that the functions of `work.BATCHED` made.
    """

    def __init__(
        self, world: World, ports: Mapping[str, Ports], load: Callable[[str], Artifact]
    ) -> None:
        self._world = world
        self._ports = ports
        self._load = load
        self.refusal: Exception | None = None
        self.invocation: Invocation | None = None
        self.calls = 0
        self.catalog = load_catalog()

    def invoke(
        self,
        function: str,
        event: Any,
        abandon: Callable[[], None] | None = None,
        *,
        beside: Callable[[], None] | None = None,
        refusals: tuple[type[Exception], ...] = (),
    ) -> dict[str, Any] | None:
        """Run a function once and return its answer, or None where it failed.

        Parameters
        ----------
        abandon
            Called where the caller loses patience; the function then runs on, and
            its answer is worth nothing. None where the caller never does.
        beside
            Called at every write, to run others at the same time.
        refusals
            What the function says that it may fail with.
        """
        module = module_of(function)
        module.__dict__["ports"] = lambda: self._ports[function]
        if function == "validate_records":
            module.__dict__["load_catalog"] = lambda: self.catalog
        if function == "score_events":
            module.__dict__["artifact"] = self._load
        self.refusal = None
        self._world.note(f"invoke {function}")
        if self._world.chance(Fault.INIT_FAILURE):
            self._world.fire(Fault.INIT_FAILURE, function)
            return None
        self._world.disturb()
        invocation = Invocation(function, abandon, beside)
        self._world.running.append(invocation)
        try:
            answer: dict[str, Any] = module.lambda_handler(event, Context())
        except Crash:
            return None
        except (*AWS_ERRORS, *refusals) as error:
            self.refusal = error
            print(f"[ERROR] {type(error).__name__}: {error}")  # noqa: T201 - as Lambda
            self._world.note(f"{function} failed with {type(error).__name__}")
            return None
        except Exception as error:  # noqa: BLE001 - whatever a handler lets out
            self._world.violate(f"{function} raised {error!r}")
            return None
        finally:
            self._world.running.pop()
            self._end(invocation)
        return answer

    def _end(self, invocation: Invocation) -> None:
        self.invocation = invocation
        if invocation.name in BATCHED:
            self.calls += invocation.calls.total()
            for sentence in excess(invocation):
                self._world.violate(sentence)
