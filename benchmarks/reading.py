"""Measure what it costs to read online features: one key, and a hundred at once.

Every client asks the same server, a process of its own that has its answers ready, over
plain HTTP and over TLS. What counts is the client: its time of the processor for a
call, and the median time until the answer. A key has 12 features and a state of 200
bytes, which the store does not ask for where it reads features alone.
"""

import argparse
import base64
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from retrodict_aws.clients import client, online_store_client
from retrodict_aws.dynamodb_online_store import DynamoDBOnlineStore

from benchmarks.dynamodb import ROOT, TABLE, until_it_listens
from benchmarks.peers import print_table, write_results
from tests.certificates import certificate

FEATURES: Final = {f"feature_{n}": n / 7 for n in range(12)}
HEAD: Final = {
    "version": {"N": "7"},
    "definition": {"S": "ab" * 32},
    "position": {"S": "shardId-000000000000:1234567890123456789012345678901234567890"},
    "time_us": {"N": "1767614400000000"},
    "features": {"S": json.dumps(FEATURES, separators=(",", ":"))},
    "state": {"B": base64.b64encode(bytes(range(192))).decode()},
}


class Ready(BaseHTTPRequestHandler):
    """Answers BatchGetItem with an item for each key, whatever the key."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    answers: Final[dict[bytes, bytes]] = {}

    def do_POST(self) -> None:
        """Answer one request."""
        sent = self.rfile.read(int(self.headers["content-length"]))
        if sent not in self.answers:
            wanted = json.loads(sent)["RequestItems"][TABLE]
            head = dict(HEAD)
            if "ProjectionExpression" in wanted:
                del head["state"]
            found = {TABLE: [{**head, **key} for key in wanted["Keys"]]}
            answer = {"Responses": found, "UnprocessedKeys": {}}
            self.answers[sent] = json.dumps(answer).encode()
        content = self.answers[sent]
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-amzn-RequestId", "0" * 52)
        self.send_header("x-amz-crc32", str(crc32(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: Any) -> None:
        """Keep quiet."""


def serve(port: int, pem: str) -> None:
    """Answer for ever; over TLS if there is a certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Ready)
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


@contextmanager
def listening(scheme: str) -> Iterator[None]:
    """Run the server, and point every client that is made at it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        pem = Path(folder) / "server.pem"
        certificate(pem)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        os.environ |= {
            "AWS_ENDPOINT_URL": f"{scheme}://localhost:{port}",
            "AWS_CA_BUNDLE": str(pem),
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
        }
        free.close()
        mine = str(pem) if scheme == "https" else ""
        arguments = [sys.executable, "-m", "benchmarks.reading", "--serve", str(port)]
        process = subprocess.Popen([*arguments, "--pem", mine], cwd=ROOT)  # noqa: S603
        try:
            until_it_listens(process, port)
            yield
        finally:
            process.terminate()
            process.wait()


def cost_of(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Return processor time a call and median time of `call`, microseconds."""
    for _ in range(calls // 10 + 1):
        call()
    times = []
    cpu = time.process_time()
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    return {"cpu_us": cpu / calls * 1e6, "p50_us": statistics.median(times) * 1e6}


def compare(scheme: str, keys: int, calls: int) -> dict[str, dict[str, float]]:
    """Print and return what each way of reading `keys` keys costs."""
    theirs, ours = client("dynamodb"), online_store_client()
    entities = [f"bench.Sensor#s-{n:03}" for n in range(keys)]
    wanted = [{"entity": {"S": e}, "part": {"S": "current"}} for e in entities]
    request = {TABLE: {"Keys": wanted, "ConsistentRead": True}}
    stores = {
        "store over boto3's client": DynamoDBOnlineStore(theirs, TABLE),
        "store": DynamoDBOnlineStore(ours, TABLE),
    }

    def asking(chosen: Any) -> Callable[[], object]:
        return lambda: chosen.batch_get_item(RequestItems=request)

    def loading(store: DynamoDBOnlineStore) -> Callable[[], object]:
        return lambda: store.load(entities, with_state=False)

    acts = {"boto3's client": asking(theirs), "client": asking(ours)}
    acts |= {name: loading(store) for name, store in stores.items()}
    found = {name: cost_of(act, calls) for name, act in acts.items()}
    for unit in ("cpu_us", "p50_us"):
        rates = {name: 1e6 / cost[unit] for name, cost in found.items()}
        title = f"{keys} keys over {scheme}, by {unit}"
        print_table(title, "reads a second", rates, ("client", "store"))
    return found


def main() -> None:
    """Measure, print and write ``out/bench/reading.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pem", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve, chosen.pem)
    found = {}
    for scheme in ("http", "https"):
        with listening(scheme):
            for keys, calls in ((1, chosen.calls), (100, chosen.calls // 10)):
                found[f"{scheme}_{keys}"] = compare(scheme, keys, calls)
    write_results("reading", found)


if __name__ == "__main__":
    main()
