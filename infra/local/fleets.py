"""The instances behind an endpoint: processes of an image's serve program.

One process stands for all instances of a variant. It gets the model's archive unpacked
below ``model/`` and its port in ``SAGEMAKER_BIND_TO_PORT``, must answer ``GET /ping``
with 200 before it gets anything, and is replaced when it dies, as SageMaker replaces
a container. Connections to it are kept alive.
"""

import http.client
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.local.containers import SERVE, Containers, Log
from infra.local.errors import TwinError
from infra.local.model_archives import ArchiveError, unpack
from infra.local.served_models import EndpointConfig
from infra.local.work import Work

# The machine's seconds. SageMaker gives a container four minutes, if the variant does
# not say how many; a program here has no image to pull.
PING_SECONDS: Final = 60.0
_PING_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 5.0
_STOP_SECONDS = 10.0
_REPLACEMENT_SECONDS = 30.0


class FleetError(TwinError):
    """A fleet cannot be brought into service; the sentence is the FailureReason."""


class NoAnswerError(Exception):
    """The process gave no answer: it died, or hung up."""


class InvocationTimeoutError(Exception):
    """The process did not answer in time."""


@dataclass(frozen=True)
class Response:
    """What the process answered.

    Attributes
    ----------
    status
        HTTP status.
    headers
        Headers with their names in lower case.
    body
        All of it.
    seconds
        How long the process took, s.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Fleet:
    """The processes of one endpoint configuration.

    Parameters
    ----------
    config
        What is served.
    base
        Stands for /opt/ml.
    log
        Takes what the program prints.
    ping_seconds
        How long a program may take to be healthy, if the variant does not say.
    """

    def __init__(  # noqa: PLR0913 - what the endpoint lends, by name
        self,
        config: EndpointConfig,
        *,
        base: Path,
        log: Log,
        containers: Containers,
        work: Work,
        client: Callable[[str], Any],
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.config = config
        self.log = log
        self.restarts = 0
        self._ping_seconds = ping_seconds
        self._base = base
        self._containers = containers
        self._work = work
        self._client = client
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._idle: list[http.client.HTTPConnection] = []
        self._healthy: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()
        self._is_death_seen = threading.Event()
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """Process id, None while there is no process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Unpack the model, start the program and wait until it is healthy.

        Raises
        ------
        FleetError
            If it cannot be, as AWS words it.
        """
        variant = self.config.variant["VariantName"]
        (self._base / "model").mkdir(parents=True)
        uri = self.config.model.container.get("ModelDataUrl")
        if uri is not None:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            try:
                answer = self._client("s3").get_object(Bucket=bucket, Key=key)
                unpack(answer["Body"].read(), self._base / "model")
            except (ClientError, ArchiveError) as error:
                raise FleetError(
                    f"Failed to download model data for container "
                    f'"{uri}" of variant {variant}: {error}'
                ) from error
        self._spawn()
        if not self._wait_until_healthy():
            self.stop()
            raise FleetError(
                f"The primary container for production variant {variant} did not pass "
                "the ping health check. Please check CloudWatch logs for this endpoint."
            )

    def stop(self) -> None:
        """End the processes; the fleet is not used again."""
        with self._lock:
            self._is_stopped = True
            process = self._process
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.drain(is_over=True)

    def kill(self) -> bool:
        """Kill the process as a fault would; False if there is none.

        Its replacement is under way when this returns.
        """
        process = self._healthy
        if process is None or process.poll() is not None:
            return False
        self._is_death_seen.clear()
        process.kill()
        self._is_death_seen.wait(_STOP_SECONDS)
        return True

    def call(self, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """Send a request to the process; while it is replaced, wait for the next.

        Raises
        ------
        NoAnswerError
            If it gives none.
        InvocationTimeoutError
            If it takes longer than `timeout` s.
        """
        if not self._is_ready.wait(min(timeout, _REPLACEMENT_SECONDS)):
            raise NoAnswerError("there is no healthy process")
        began = time.perf_counter()
        connection = self._connection(timeout)
        try:
            connection.request("POST", "/invocations", body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError as error:
            connection.close()
            raise InvocationTimeoutError from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswerError(str(error)) from error
        response = Response(
            answer.status,
            {key.lower(): value for key, value in answer.getheaders()},
            content,
            time.perf_counter() - began,
        )
        with self._lock:
            if answer.will_close or self._is_stopped or connection.port != self._port:
                connection.close()
            else:
                self._idle.append(connection)
        self.log.drain()
        return response

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
                port = self._port
            if connection is None:
                return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
            # Readable without a question asked: the process closed it.
            is_closed = connection.sock is None or bool(
                select.select([connection.sock], [], [], 0)[0]
            )
            if not is_closed and connection.port == port:
                connection.sock.settimeout(timeout)
                return connection
            connection.close()

    def _spawn(self) -> None:
        folder = self._containers.images.folder(
            self.config.model.container["Image"], self.config.name
        )
        if not (folder / SERVE).is_file():
            raise FleetError(f"The image has no program {SERVE}.")
        with self._lock:
            if self._is_stopped or self._work.is_stopping:
                return
            self._idle = []
            self._port = _free_port()
            self._process = self._containers.start(
                folder,
                SERVE,
                base=self._base,
                variables={
                    **self.config.model.container.get("Environment", {}),
                    "SAGEMAKER_BIND_TO_HOST": "127.0.0.1",
                    "SAGEMAKER_BIND_TO_PORT": str(self._port),
                },
                log=self.log,
                is_isolated=bool(
                    self.config.model.request.get("EnableNetworkIsolation")
                ),
            )
            process = self._process
        threading.Thread(
            target=self._watch, args=(process,), name="twin-fleet", daemon=True
        ).start()

    def _wait_until_healthy(self) -> bool:
        """Ping until 200; False if the process ends first or takes too long."""
        limit = self.config.variant.get(
            "ContainerStartupHealthCheckTimeoutInSeconds", self._ping_seconds
        )
        deadline = time.perf_counter() + limit
        while time.perf_counter() < deadline and self.pid is not None:
            if self._ping(deadline - time.perf_counter()):
                with self._lock:
                    self._healthy = self._process
                    self._is_ready.set()
                return self.pid is not None
            time.sleep(_PING_PAUSE_SECONDS)
        return False

    def _ping(self, timeout: float) -> bool:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=max(0.1, min(timeout, 2.0))
        )
        try:
            connection.request("GET", "/ping")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return answer.status == HTTPStatus.OK

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Replace the process once it died, unless it never was healthy."""
        process.wait()
        with self._lock:
            self._is_ready.clear()
            is_wanted = self._healthy is process and not self._is_stopped
        if is_wanted:
            self._work.start("replace-container", self._replace)
        self._is_death_seen.set()

    def _replace(self, pause: float = 0.0) -> None:
        time.sleep(pause)
        if self._is_stopped:
            return
        self.log.drain()
        self.restarts += 1
        self._spawn()
        if self._wait_until_healthy() or self._is_stopped:
            return
        process = self._process
        if process is not None:
            process.kill()
        longer = min(max(0.1, 2 * pause), _LONGEST_PAUSE_SECONDS)
        # From the second try on nobody waits for it: the endpoint is up, and broken.
        threading.Thread(
            target=self._replace, args=(longer,), name="twin-fleet", daemon=True
        ).start()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
