"""The twin's one port: moto for every AWS client, and the twin's own paths.

Bound to the loopback address only. Connections are kept alive and answers leave in one
write. ``/_retrodict/`` is no name a bucket can have, so it never hides an S3 request:

- ``GET  /_retrodict/status``: functions, mappings, clock and outputs,
- ``POST /_retrodict/idle?timeout=S``: waits until nothing is left to do, 504 if not;
  with ``&drive=0`` without moving the clock to what is due next,
- ``POST /_retrodict/advance`` with ``{"seconds": S}`` or ``{"to": RFC 3339}``,
- ``POST /_retrodict/kill?function=NAME``: kills a function's process,
- ``POST /_retrodict/kill?endpoint=NAME``: kills an endpoint's processes.
"""

import io
import json
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from infra.local.errors import (
    TwinError,
    TwinTimeoutError,
    UnknownEndpointError,
    UnknownFunctionError,
)

PREFIX = "/_retrodict/"
_MAPPINGS = "/2015-03-31/event-source-mappings"
_DEFAULT_TIMEOUT_SECONDS = 60.0
_REASONS = {status.value: status.phrase for status in HTTPStatus}

_StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]


class Administration(Protocol):
    """What the paths of the twin ask of it."""

    def status(self) -> Mapping[str, Any]:
        """Return everything worth seeing."""

    def wait_idle(self, timeout: float, *, drive: bool) -> None:
        """Wait until nothing is left to do."""

    def advance(self, *, seconds: float | None, to: str | None) -> None:
        """Move the driven clock."""

    def kill(self, name: str) -> bool:
        """Kill a function's process."""

    def kill_endpoint(self, name: str) -> bool:
        """Kill the processes of an endpoint."""

    def mappings_changed(self) -> None:
        """Look at the event source mappings again."""


class Service(Protocol):
    """A part of AWS that the twin answers itself, before moto sees the request."""

    def answers(self, method: str, path: str, target: str) -> bool:
        """Return whether `answer` may know what to do with a request."""

    def answer(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Return status, headers and body, or None if moto should answer."""


class _Handler(MotoRequestHandler):
    """moto's handler, with connections kept alive and nothing logged."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_expect_100(self) -> bool:
        """Say "continue" at once, where boto3 waits a second for it."""
        is_expected = bool(super().handle_expect_100())
        self.wfile.flush()
        return is_expected

    def log_request(self, *arguments: Any) -> None:
        """Keep the twin's output to itself."""


class Gateway:
    """An HTTP server on 127.0.0.1 in threads of this process.

    Parameters
    ----------
    port
        Port to listen on, 0 for any that is free.
    """

    def __init__(self, port: int) -> None:
        self._administration: Administration | None = None
        self._services: list[Service] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", port, self._answer, threaded=True, request_handler=_Handler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="twin-gateway",
            daemon=True,
        )

    @property
    def endpoint_url(self) -> str:
        """What an AWS client is pointed at."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to answer AWS calls."""
        self._thread.start()

    def administer(self, administration: Administration) -> None:
        """Answer the twin's own paths from now on."""
        self._administration = administration

    def serve(self, service: Service) -> None:
        """Ask `service` before moto from now on."""
        self._services.append(service)

    def stop(self) -> None:
        """Forget everything in moto and answer no more."""
        if self._thread.is_alive():
            request = urllib.request.Request(  # noqa: S310 - our own address
                f"{self.endpoint_url}/moto-api/reset", method="POST"
            )
            urllib.request.urlopen(request).close()  # noqa: S310
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _answer(
        self, environ: dict[str, Any], start_response: _StartResponse
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(PREFIX) and self._administration is not None:
            return _administer(self._administration, environ, start_response)
        for service in self._services:
            served = _serve(service, environ, start_response)
            if served is not None:
                return served
        answer: Iterable[bytes] = self._moto(environ, start_response)
        is_change = environ["REQUEST_METHOD"] != "GET" and path.startswith(_MAPPINGS)
        if is_change and self._administration is not None:
            self._administration.mappings_changed()
        return answer


def _serve(
    service: Service, environ: dict[str, Any], start_response: _StartResponse
) -> Iterable[bytes] | None:
    path = environ.get("PATH_INFO", "")
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if not service.answers(environ["REQUEST_METHOD"], path, target):
        return None
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    headers = {
        key.removeprefix("HTTP_").replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_") or key == "CONTENT_TYPE"
    }
    answered = service.answer(path, headers, body)
    if answered is None:
        environ["wsgi.input"] = io.BytesIO(body)
        return None
    status, answer_headers, content = answered
    start_response(
        f"{int(status)} {_REASONS.get(int(status), 'Answered')}",
        [*answer_headers, ("Content-Length", str(len(content)))],
    )
    return [content]


def _administer(
    administration: Administration,
    environ: Mapping[str, Any],
    start_response: _StartResponse,
) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    try:
        status, answer = _act(administration, environ, body)
    except TwinTimeoutError as error:
        status, answer = HTTPStatus.GATEWAY_TIMEOUT, {"error": str(error)}
    except (UnknownFunctionError, UnknownEndpointError) as error:
        status, answer = HTTPStatus.NOT_FOUND, {"error": str(error)}
    except (TwinError, ValueError, TypeError) as error:
        status, answer = HTTPStatus.BAD_REQUEST, {"error": str(error)}
    content = json.dumps(answer).encode()
    start_response(
        f"{status.value} {status.phrase}",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
        ],
    )
    return [content]


def _act(
    administration: Administration, environ: Mapping[str, Any], body: bytes
) -> tuple[HTTPStatus, Mapping[str, Any]]:
    query = {
        key: values[-1]
        for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()
    }
    action = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PREFIX)
    match action:
        case ("GET", "status"):
            return HTTPStatus.OK, administration.status()
        case ("POST", "idle"):
            timeout = float(query.get("timeout", _DEFAULT_TIMEOUT_SECONDS))
            administration.wait_idle(timeout, drive=query.get("drive", "1") != "0")
            return HTTPStatus.OK, {"idle": True}
        case ("POST", "advance"):
            wanted = json.loads(body or b"{}")
            administration.advance(seconds=wanted.get("seconds"), to=wanted.get("to"))
            return HTTPStatus.OK, {"now": administration.status()["clock"]["now"]}
        case ("POST", "kill") if "endpoint" in query:
            killed = administration.kill_endpoint(query["endpoint"])
            return HTTPStatus.OK, {"killed": killed}
        case ("POST", "kill"):
            if "function" not in query:
                raise ValueError("say which function: ?function=NAME")
            return HTTPStatus.OK, {"killed": administration.kill(query["function"])}
    return HTTPStatus.NOT_FOUND, {"error": f"there is no {' '.join(action)}"}
