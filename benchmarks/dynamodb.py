"""DynamoDB's API on this machine, in a process of its own, for what measures clients.

It is moto's application behind a server that keeps connections, as DynamoDB's own does;
moto's server, and the twin's, close each after one answer.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from retrodict_aws.clients import client

ROOT: Final = Path(__file__).parents[1]
TABLE: Final = "online"
LONGEST_S: Final = 30
"""How long a server may take to come up."""


@contextmanager
def server() -> Iterator[Any]:
    """Run the server, point every client at it, and yield boto3's client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "benchmarks.dynamodb", str(port)], cwd=ROOT
    )
    found = client("dynamodb")
    try:
        until_it_listens(process, port)
        yield found
    finally:
        process.terminate()
        process.wait()


def until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait for a server of this machine.

    Raises
    ------
    SystemExit
        It has ended, or nothing listens for half a minute.
    """
    until_s = time.monotonic() + LONGEST_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise SystemExit(
                f"the server of port {port} ended with {process.returncode}: what it "
                "said stands above"
            )
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port} after {LONGEST_S} s")


def create_table(found: Any) -> None:
    """Make the table empty."""
    if TABLE in found.list_tables()["TableNames"]:
        found.delete_table(TableName=TABLE)
    found.create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": "entity", "KeyType": "HASH"},
            {"AttributeName": "part", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "entity", "AttributeType": "S"},
            {"AttributeName": "part", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def serve(port: int) -> None:
    """Answer as DynamoDB, for ever."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - clients do without
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.test import EnvironBuilder, run_wsgi_app  # noqa: PLC0415

    application = DomainDispatcherApplication(create_backend_app)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            builder = EnvironBuilder(
                self.path, method="POST", headers=self.headers.items(), data=sent
            )
            parts, status, headers = run_wsgi_app(application, builder.get_environ())
            content = b"".join(parts)
            self.send_response(int(status.split()[0]))
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_request(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
