"""Serve a champion on SageMaker's inference contract: `/ping` and `/invocations`.

Reads ``model/artifact.json`` below ``SAGEMAKER_BASE_DIR`` (``/opt/ml``), which must
have the digest that the endpoint's configuration names, and listens on
``SAGEMAKER_BIND_TO_PORT`` (8080). An artifact that must not be loaded fails `/ping`,
so that SageMaker never routes to it and what served before goes on serving.

Prints JSON lines only: metrics in CloudWatch's embedded format on standard output, one
or more a request, and the log on standard error.

Environment variables
---------------------
ARTIFACT_DIGEST, PIPELINE, ENVIRONMENT_NAME : str
INGEST_STREAM_NAME, ONLINE_STORE_TABLE_NAME : str
SAGEMAKER_BASE_DIR, SAGEMAKER_BIND_TO_HOST, SAGEMAKER_BIND_TO_PORT : str
    Optional.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias

import uvicorn
from answer import PROBE, Answer, Champion
from instances import JSON, MAX_BYTES, RefusedError
from retrodict.artifact import MAX_BYTES as MAX_ARTIFACT_BYTES
from retrodict.artifact import MEMBER, Artifact
from retrodict.errors import ArtifactRefusedError
from retrodict.pipeline import load_pipelines
from retrodict_aws.clients import (
    PATIENCE_OF_A_REQUEST,
    client,
    online_store_client,
)
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore
from retrodict_aws.kinesis_event_stream import KinesisIngestStream

THREADS: Final = 4
ATTEMPTS: Final = 3
"""How often a request tries to put its predictions on the ingest stream."""

NAMESPACE: Final = "Retrodict"
UNITS: Final = {"PredictionLatency": "Microseconds", "Alerts": "Count"}
VALUES_A_LINE: Final = 100
"""Most values of one metric that CloudWatch reads from a line."""

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger("serve_champion")


class JsonLines(logging.Formatter):
    """One JSON object a record, whatever its message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        told: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def now_us() -> int:
    """Return the time, microseconds since the epoch."""
    return time.time_ns() // 1_000


def elapsed_us() -> int:
    """Return the reading of a clock that never goes back, microseconds."""
    return time.perf_counter_ns() // 1_000


def load(base: Path) -> Champion:
    """Load and check the artifact, and connect it to its stores.

    Raises
    ------
    ArtifactRefusedError
        It must not be served; nothing of it was loaded.
    """
    pipeline = load_pipelines().get(os.environ["PIPELINE"])
    if pipeline is None:
        raise ArtifactRefusedError(
            f"this image has no pipeline {os.environ['PIPELINE']!r}, only "
            f"{', '.join(load_pipelines())}"
        )
    path = base / "model" / MEMBER
    try:
        if path.is_symlink() or path.stat().st_size > MAX_ARTIFACT_BYTES:
            raise ArtifactRefusedError(f"{MEMBER} is a link, or too large to be one")
        raw = path.read_bytes()
    except OSError as error:
        raise ArtifactRefusedError(f"no {MEMBER} in the model: {error}") from error
    return Champion(
        Artifact.decode(raw, os.environ["ARTIFACT_DIGEST"]),
        pipeline,
        DynamoDBOnlineStore(
            online_store_client(PATIENCE_OF_A_REQUEST),
            os.environ["ONLINE_STORE_TABLE_NAME"],
        ),
        KinesisIngestStream(
            client("kinesis", PATIENCE_OF_A_REQUEST),
            os.environ["INGEST_STREAM_NAME"],
            attempts=ATTEMPTS,
        ),
        now_us,
        elapsed_us,
    )


def metric_lines(
    answer: Answer, about: Mapping[str, str], now_ms: int, took_us: int
) -> Iterator[str]:
    """Yield the metrics of a request in the embedded metric format.

    A probe is no decision about anything real, so it counts as none.

    Examples
    --------
    >>> probe = Answer(b"", "application/json", PROBE, ())
    >>> (line,) = metric_lines(probe, {}, 0, 7)
    >>> json.loads(line)["PredictionLatency"]
    7
    """
    alerts = [int(p.scored.is_alert) for p in answer.predictions]
    if answer.mode == PROBE:
        alerts = []
    starts = range(0, max(1, len(alerts)), VALUES_A_LINE)
    for start in starts:
        values: dict[str, Any] = {}
        if start == 0:
            values["PredictionLatency"] = took_us
        if part := alerts[start : start + VALUES_A_LINE]:
            values["Alerts"] = part
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [sorted(about)],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
        }
        stamp = {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}
        yield json.dumps({"_aws": stamp, **about, **values})


class Application:
    """The ASGI application of one champion, or of the reason why there is none."""

    def __init__(self, base: Path) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")
        self._about = {
            "environment": os.environ["ENVIRONMENT_NAME"],
            "pipeline": os.environ["PIPELINE"],
        }
        self._champion: Champion | None = None
        self._refusal = RefusedError(
            HTTPStatus.SERVICE_UNAVAILABLE, "no_champion", "", "roll out another"
        )
        try:
            self._champion = load(base)
        except ArtifactRefusedError as error:
            self._refusal.message = f"{type(error).__name__}: {error}"
            logger.error("%s", self._refusal.message)  # noqa: TRY400 - said in full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens while it is answered."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            return
        try:
            status, answer, kind = await self._route(scope, body)
        except RefusedError as error:
            status, answer, kind = error.status, error.body(), JSON
        except Exception:
            logger.exception("a request failed through our own fault")
            failure = RefusedError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal",
                "the request failed through our own fault",
                "ask the people who run this endpoint; its log says more",
            )
            status, answer, kind = failure.status, failure.body(), JSON
        await _send(send, status, answer, kind)

    async def _route(self, scope: Scope, body: bytes) -> tuple[HTTPStatus, bytes, str]:
        match scope["path"], scope["method"]:
            case "/ping", "GET" | "HEAD":
                return self._ping()
            case "/invocations", "POST":
                return await self._invoke(scope, body)
            case "/ping" | "/invocations", method:
                raise RefusedError(
                    HTTPStatus.METHOD_NOT_ALLOWED,
                    "method",
                    f"{scope['path']} does not take {method}",
                    "GET /ping, or POST /invocations",
                )
            case path, _:
                raise RefusedError(
                    HTTPStatus.NOT_FOUND,
                    "path",
                    f"there is nothing at {path[:64]!r}",
                    "GET /ping, or POST /invocations",
                )

    def _ping(self) -> tuple[HTTPStatus, bytes, str]:
        if self._champion is None:
            raise self._refusal
        told = {"artifact_digest": self._champion.artifact.digest}
        return HTTPStatus.OK, json.dumps(told).encode(), JSON

    async def _invoke(self, scope: Scope, body: bytes) -> tuple[HTTPStatus, bytes, str]:
        champion = self._champion
        if champion is None:
            raise self._refusal
        began_us = elapsed_us()
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        answer = await asyncio.get_running_loop().run_in_executor(
            self._pool, champion.answer, body, headers
        )
        took_us = elapsed_us() - began_us
        lines = metric_lines(answer, self._about, now_us() // 1_000, took_us)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        return HTTPStatus.OK, answer.body, answer.content_type


async def _body(receive: Receive) -> bytes | None:
    """Read the body; of one that is too large only as much as shows that it is.

    None where the caller went away.
    """
    held = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        held += message.get("body", b"")[: MAX_BYTES + 1 - len(held)]
        if not message.get("more_body", False):
            return bytes(held)


async def _send(send: Send, status: HTTPStatus, body: bytes, kind: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    start = {"type": "http.response.start", "status": int(status), "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until the process is ended."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    uvicorn.run(
        Application(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))),
        host=os.environ.get("SAGEMAKER_BIND_TO_HOST", "0.0.0.0"),  # noqa: S104 - a container's own network
        port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")),
        lifespan="off",
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
