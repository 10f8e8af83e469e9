"""Run Lambda functions as processes, over AWS's own runtime client.

A function runs in one process of ``python -m awslambdaric``, with the environment,
layers, memory and timeout that its configuration names, started at its first
invocation and again after it died. Invocations of one function follow each other, as
with a reserved concurrency of one.

What stands for what:

- A layer of code (a folder ``python/``) is on the import path, in the template's order,
  after the function's own folder and before everything else.
- A layer of third-party packages is built for Lambda's processor, so it cannot be
  loaded here. Its zip holds only its lock file, and this interpreter's site-packages
  stand for it, without what is installed in development mode: a function that forgets
  a layer of ours fails here too.
- ``Runtime`` is this interpreter, whatever minor version the template names.
- Memory is the resident set of the process, looked at every 50 ms; above
  ``MemorySize`` the process is killed. Time limits count the machine's seconds.

moto keeps functions but runs none; the one private method replaced is
``LambdaFunction.invoke``, through which all of moto's triggers go.
"""

import base64
import http.server
import io
import json
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import psutil
from moto.awslambda.models import LambdaFunction
from moto.awslambda.utils import get_backend

from infra.local.activity import Activity
from infra.local.clock import machine_seconds
from infra.local.errors import UnknownFunctionError
from infra.local.template import ACCOUNT

_WATCH_SECONDS = 0.05
_INITIALISATION_SECONDS = 10.0  # as in AWS, on top of the function's own timeout
_BYTES_PER_MIB = 1024 * 1024
_LOG_TAIL_BYTES = 4096  # what LogType=Tail returns
LOG_STREAM = "twin"
_API = "/2018-06-01/runtime"
_KILLED = "Runtime exited with error: signal: killed"


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended.

    Attributes
    ----------
    payload
        What the function returned, or the error as JSON.
    is_error
        Whether it is an error.
    request_id
        The invocation's id, for the log and the on-failure destination.
    log_tail
        The last 4 KiB the process wrote.
    """

    payload: bytes
    is_error: bool
    request_id: str
    log_tail: bytes = b""


@dataclass(frozen=True)
class Invoked:
    """An invocation that ended, for whoever measures.

    Attributes
    ----------
    seconds
        How long it took, s.
    written
        What the process wrote meanwhile.
    log_group
        Name of the function's log group.
    """

    function: str
    seconds: float
    is_error: bool
    written: bytes
    log_group: str


@dataclass
class FunctionCounts:
    """What a function has done since the twin started."""

    invocations: int = 0
    errors: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class _Configuration:
    """All that decides whether a running process is still the right one."""

    code_digest: str
    handler: str
    timeout_seconds: int
    memory_mib: int
    environment: tuple[tuple[str, str], ...]
    layers: tuple[str, ...]


@dataclass
class _Invocation:
    request_id: str
    payload: bytes
    deadline_ms: Callable[[], int]
    taken: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    outcome: Outcome | None = None

    def finish(self, payload: bytes, *, is_error: bool) -> Outcome:
        """End with this outcome, unless there is one already."""
        if self.outcome is None:
            self.outcome = Outcome(payload, is_error, self.request_id)
        self.done.set()
        return self.outcome


class _RuntimeServer(http.server.ThreadingHTTPServer):
    """The Lambda Runtime API of one process."""

    daemon_threads = True
    request_queue_size = 8

    def __init__(self, function_arn: str) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeHandler)
        self.function_arn = function_arn
        self.waiting: queue.SimpleQueue[_Invocation | None] = queue.SimpleQueue()
        self.running: _Invocation | None = None
        self.initialisation_error: bytes | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a killed process leaves its connection open."""
        del request, client_address
        if not isinstance(sys.exception(), OSError):
            raise  # noqa: PLE0704 - called while the exception is handled


class _RuntimeHandler(http.server.BaseHTTPRequestHandler):
    """One connection of the runtime client.

    Each answer leaves in one buffered write without Nagle's delay: otherwise every
    invocation costs 44 ms. `/next` names its content type: without it the runtime
    client dies of a segmentation fault.
    """

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _RuntimeServer

    def log_message(self, *arguments: Any) -> None:
        """Keep the twin's output to itself."""

    def do_GET(self) -> None:
        """Answer `/next` once there is an invocation."""
        invocation = self.server.waiting.get()
        if invocation is None:
            self.close_connection = True
            return
        self.server.running = invocation
        invocation.taken.set()
        self.send_response(HTTPStatus.OK)
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms()))
        self.send_header(
            "Lambda-Runtime-Invoked-Function-Arn", self.server.function_arn
        )
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(invocation.payload)))
        self.end_headers()
        self.wfile.write(invocation.payload)
        self.wfile.flush()

    def do_POST(self) -> None:
        """Take a response or an error."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        running = self.server.running
        if self.path == f"{_API}/init/error":
            self.server.initialisation_error = body
        elif running is not None and f"/{running.request_id}/" in self.path:
            running.finish(body, is_error=self.path.endswith("/error"))
        self.send_response(HTTPStatus.ACCEPTED)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class _Sandbox:
    """One process and its Runtime API; it is not used again once the process died."""

    def __init__(
        self,
        command_environment: Mapping[str, str],
        handler: str,
        folder: Path,
        function_arn: str,
        log: io.BufferedWriter,
    ) -> None:
        self.server = _RuntimeServer(function_arn)
        self._thread = threading.Thread(
            target=self.server.serve_forever, name="twin-runtime-api", daemon=True
        )
        self._thread.start()
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, our arguments
            [sys.executable, "-S", "-m", "awslambdaric", handler],
            env={
                **command_environment,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._watched = psutil.Process(self.process.pid)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def resident_mib(self) -> float:
        try:
            return float(self._watched.memory_info().rss) / _BYTES_PER_MIB
        except psutil.NoSuchProcess:
            return 0.0

    def close(self) -> None:
        if self.is_alive():
            self.process.kill()
        self.process.wait()
        self.server.waiting.put(None)
        self.server.shutdown()
        self.server.server_close()


class _Function:
    """A function's configuration, process, log and counts."""

    def __init__(self, runtime: "LambdaRuntime", name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._turn = threading.Lock()
        self._sandbox: _Sandbox | None = None
        self._configuration: _Configuration | None = None
        self.counts = FunctionCounts()
        self.log_path = runtime.log_folder / f"{name}.log"

    @property
    def pid(self) -> int | None:
        sandbox = self._sandbox
        return sandbox.process.pid if sandbox and sandbox.is_alive() else None

    def kill(self) -> bool:
        """Kill the process as an out-of-memory kill would; False if none runs."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def close(self) -> None:
        sandbox = self._sandbox
        if sandbox is not None:
            sandbox.close()

    def invoke(self, definition: LambdaFunction, payload: bytes) -> Outcome:
        with self._turn:
            if self._runtime.is_stopping:
                invocation = _Invocation(str(uuid.uuid4()), payload, lambda: 0)
                return _fail(invocation, "Runtime.ExitError", "the twin stops")
            configuration = _configuration(definition)
            sandbox = self._ready(definition, configuration)
            before = self.log_path.stat().st_size
            began = time.perf_counter()
            outcome = self._run(sandbox, configuration, payload)
            seconds = time.perf_counter() - began
            self.counts.invocations += 1
            self.counts.errors += outcome.is_error
            with self.log_path.open("rb") as log:
                log.seek(before)
                written = log.read()
            tail = written[-_LOG_TAIL_BYTES:]
            group = definition.logs_group_name
            self._runtime.report(
                Invoked(self._name, seconds, outcome.is_error, written, group)
            )
            return Outcome(outcome.payload, outcome.is_error, outcome.request_id, tail)

    def _ready(
        self, definition: LambdaFunction, configuration: _Configuration
    ) -> _Sandbox:
        sandbox = self._sandbox
        if sandbox is not None:
            if sandbox.is_alive() and self._configuration == configuration:
                return sandbox
            self.counts.restarts += 1
            sandbox.close()
        self._sandbox = self._runtime.start(definition, configuration, self.log_path)
        self._configuration = configuration
        return self._sandbox

    def _run(
        self, sandbox: _Sandbox, configuration: _Configuration, payload: bytes
    ) -> Outcome:
        timeout = configuration.timeout_seconds
        invocation = _Invocation(
            str(uuid.uuid4()),
            payload,
            lambda: int((machine_seconds() + timeout) * 1000),
        )
        limit = time.perf_counter() + timeout + _INITIALISATION_SECONDS
        is_taken = False
        sandbox.server.waiting.put(invocation)
        while not invocation.done.wait(_WATCH_SECONDS):
            if not is_taken and invocation.taken.is_set():
                is_taken = True
                limit = time.perf_counter() + timeout
            kind, message = "", ""
            if not sandbox.is_alive():
                if invocation.done.is_set():
                    break
                self._died(sandbox, invocation)
            elif sandbox.resident_mib() > configuration.memory_mib:
                kind, message = "Runtime.OutOfMemory", _KILLED
            elif time.perf_counter() > limit:
                kind = "Sandbox.Timedout"
                message = f"Task timed out after {timeout:.2f} seconds"
            if kind:
                sandbox.process.kill()
                sandbox.process.wait()
                _fail(invocation, kind, message)
        if invocation.outcome is None:  # done is set only after the outcome
            raise AssertionError(invocation.request_id)
        return invocation.outcome

    def _died(self, sandbox: _Sandbox, invocation: _Invocation) -> None:
        code = sandbox.process.returncode
        if sandbox.server.initialisation_error is not None:
            invocation.finish(sandbox.server.initialisation_error, is_error=True)
        elif code == -signal.SIGKILL:
            _fail(invocation, "Runtime.ExitError", _KILLED)
        elif code < 0:
            name = signal.Signals(-code).name
            _fail(
                invocation,
                "Runtime.ExitError",
                f"Runtime exited with error: signal: {name}",
            )
        else:
            _fail(
                invocation,
                "Runtime.ExitError",
                f"Runtime exited with error: exit status {code}",
            )


def _tell_nobody(invoked: Invoked) -> None:
    """Measure nothing."""


def _fail(invocation: _Invocation, kind: str, message: str) -> Outcome:
    text = f"RequestId: {invocation.request_id} Error: {message}"
    body = json.dumps({"errorType": kind, "errorMessage": text})
    return invocation.finish(body.encode(), is_error=True)


class LambdaRuntime:
    """All functions of a twin.

    Parameters
    ----------
    folder
        Where code, layers and logs are unpacked; it belongs to the twin.
    endpoint_url
        What the functions call instead of AWS.
    region
        Region the functions are in.
    activity
        Knows about every invocation that runs.
    """

    def __init__(
        self, folder: Path, endpoint_url: str, region: str, activity: Activity
    ) -> None:
        self._folder = folder
        self._endpoint_url = endpoint_url
        self._region = region
        self._activity = activity
        self._lock = threading.Lock()
        self._functions: dict[str, _Function] = {}
        self.is_stopping = False
        self.report: Callable[[Invoked], None] = _tell_nobody
        self.log_folder = folder / "logs"
        self.log_folder.mkdir(parents=True)

    def invoke(self, name_or_arn: str, payload: bytes) -> Outcome:
        """Run a function on `payload` and wait for the outcome.

        Raises
        ------
        UnknownFunctionError
            If there is no such function.
        """
        definition = self.definition(name_or_arn)
        with self._activity.busy():
            return self._function(definition.function_name).invoke(definition, payload)

    def definition(self, name_or_arn: str) -> LambdaFunction:
        """Return a function as moto keeps it.

        Raises
        ------
        UnknownFunctionError
            If there is no such function.
        """
        backend = get_backend(ACCOUNT, self._region)
        name = name_or_arn.split(":")[6] if ":" in name_or_arn else name_or_arn
        for definition in backend.list_functions():
            if definition.function_name == name:
                return definition
        raise UnknownFunctionError(f"there is no function {name_or_arn!r}")

    def names(self) -> list[str]:
        """Return the names of all functions."""
        backend = get_backend(ACCOUNT, self._region)
        return [definition.function_name for definition in backend.list_functions()]

    def kill(self, name: str) -> bool:
        """Kill the process of a function, as a fault would.

        Parameters
        ----------
        name
            The physical name, or a part of it that no other function has; underscores
            and capitals do not matter, so ``validate_records`` finds its function.

        Returns
        -------
        bool
            False if the function has no process at the moment.

        Raises
        ------
        UnknownFunctionError
            If no function, or more than one, has that name.
        """
        return self._function(self.find(name)).kill()

    def find(self, name: str) -> str:
        """Return the physical name that `name`, whole or in part, stands for.

        Raises
        ------
        UnknownFunctionError
            If no function, or more than one, has that name.
        """
        names = self.names()
        if name in names:
            return name
        found = [known for known in names if _plain(name) in _plain(known)]
        if len(found) != 1:
            raise UnknownFunctionError(
                f"expected one function like {name!r}, found {found or names}"
            )
        return found[0]

    def status(self) -> dict[str, dict[str, Any]]:
        """Return process id, counts and log file of every function."""
        return {
            name: {
                "pid": function.pid,
                "invocations": function.counts.invocations,
                "errors": function.counts.errors,
                "restarts": function.counts.restarts,
                "log": str(function.log_path),
            }
            for name in self.names()
            for function in [self._function(name)]
        }

    def stop(self) -> None:
        """End every process; invocations that run end with an error."""
        self.is_stopping = True
        with self._lock:
            for function in self._functions.values():
                function.close()

    def start(
        self, definition: LambdaFunction, configuration: _Configuration, log_path: Path
    ) -> _Sandbox:
        """Start a process for a function as it is configured now."""
        task_root = self._unpacked(configuration.code_digest, definition.code_bytes)
        layers = [self._layer(arn) for arn in configuration.layers]
        site_packages = sysconfig.get_paths()["purelib"]
        path = [str(task_root), *layers, site_packages]
        environment = {
            "AWS_ACCESS_KEY_ID": "twin",
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{definition.run_time}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mib),
            "AWS_LAMBDA_FUNCTION_NAME": definition.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": definition.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": LOG_STREAM,
            "AWS_REGION": self._region,
            "AWS_SECRET_ACCESS_KEY": "twin",
            "LAMBDA_RUNTIME_DIR": site_packages,
            "LAMBDA_TASK_ROOT": str(task_root),
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            # X-Ray's daemon is AWS's; Powertools must not look for it.
            "POWERTOOLS_TRACE_DISABLED": "true",
            "PYTHONPATH": os.pathsep.join(path),
            "TZ": ":UTC",
            "_HANDLER": configuration.handler,
            **dict(configuration.environment),
        }
        with log_path.open("ab") as log:
            return _Sandbox(
                environment,
                configuration.handler,
                task_root,
                definition.function_arn,
                log,
            )

    def _function(self, name: str) -> _Function:
        with self._lock:
            if name not in self._functions:
                self._functions[name] = _Function(self, name)
                self._functions[name].log_path.touch()
            return self._functions[name]

    def _layer(self, arn: str) -> str:
        backend = get_backend(ACCOUNT, self._region)
        version = backend.layers_versions_by_arn(arn)
        if version is None:
            raise UnknownFunctionError(f"there is no layer {arn}")
        folder = self._unpacked(version.code_digest, version.code_bytes)
        return str(folder / "python")

    def _unpacked(self, digest: str, content: bytes) -> Path:
        folder = self._folder / "code" / digest
        if not folder.exists():
            unfinished = self._folder / "code" / f"{digest}.{uuid.uuid4().hex}"
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(unfinished)
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
        return folder


def _configuration(definition: LambdaFunction) -> _Configuration:
    return _Configuration(
        definition.code_digest,
        str(definition.handler),
        int(definition.timeout),
        int(definition.memory_size),
        tuple(sorted(definition.environment_vars.items())),
        tuple(layer["Arn"] for layer in definition.layers),
    )


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


InvokeLater: TypeAlias = Callable[[str, bytes], None]


def run_functions(runtime: LambdaRuntime, invoke_later: InvokeLater) -> None:
    """Let everything in moto that invokes a function run it in `runtime`.

    Parameters
    ----------
    runtime
        Runs what is waited for.
    invoke_later
        Takes an invocation of type ``Event``: the function's ARN and the payload.
    """

    def invoke(
        self: LambdaFunction,
        body: str | bytes | None,
        request_headers: Mapping[str, str],
        response_headers: dict[str, str],
    ) -> str | bytes:
        payload = (body.encode() if isinstance(body, str) else body) or b"{}"
        kind = request_headers.get("x-amz-invocation-type", "RequestResponse")
        if kind == "DryRun":
            return ""
        if kind == "Event":
            invoke_later(self.function_arn, payload)
            return ""
        outcome = runtime.invoke(self.function_name, payload)
        if outcome.is_error:
            response_headers["x-amz-function-error"] = "Unhandled"
        response_headers["x-amz-executed-version"] = "$LATEST"
        tail = base64.b64encode(outcome.log_tail).decode()
        response_headers["x-amz-log-result"] = tail
        return outcome.payload

    LambdaFunction.invoke = invoke  # type: ignore[method-assign]
