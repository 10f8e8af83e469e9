"""An HTTP server on this machine that answers as a test tells it to, by the byte."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias
from zlib import crc32

Reply: TypeAlias = bytes | None
"""The bytes of an answer, or None to close the connection without one."""


class Last(bytes):
    """An answer after which the connection is closed, without a word of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it came."""

    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """What the server heard.

    Attributes
    ----------
    url
        Where it listens.
    connections, closed
        How many were opened, and how many of them this server closed.
    """

    url: str
    connections: int = 0
    closed: int = 0
    requests: list[Sent] = field(default_factory=list)


def answer(
    body: bytes = b"{}", status: int = 200, *, crc: int | None = None, more: str = ""
) -> bytes:
    """Return a whole answer, with DynamoDB's checksum."""
    crc = crc32(body) if crc is None else crc
    return (
        f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n"
        f"x-amz-crc32: {crc}\r\nx-amzn-RequestId: R1\r\n{more}\r\n"
    ).encode() + body


def refusal(code: str, status: int = 400) -> bytes:
    """Return DynamoDB's answer to what it refuses."""
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return answer(f'{{"__type":"{kind}","message":"because"}}'.encode(), status)


@contextmanager
def scripted(
    reply: Callable[[Sent, int], Reply], tls: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """Listen, and answer request after request with what `reply` makes of it.

    Parameters
    ----------
    reply
        Is given the request, and how many came before it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        scheme = "http" if tls is None else "https"
        found = ScriptedServer(f"{scheme}://localhost:{listening.getsockname()[1]}")
        lock = threading.Lock()

        def listen() -> None:
            with suppress(OSError):  # closed: the test is over
                while True:
                    connected, _ = listening.accept()
                    found.connections += 1
                    threading.Thread(
                        target=serve, args=(connected,), daemon=True
                    ).start()

        def serve(connected: socket.socket) -> None:
            with suppress(OSError), connected:
                if tls is not None:
                    connected = tls.wrap_socket(connected, server_side=True)
                with connected, connected.makefile("rb") as reading:
                    while (sent := _read(reading)) is not None:
                        with lock:
                            place = len(found.requests)
                            found.requests.append(sent)
                        told = reply(sent, place)
                        if told is not None:
                            connected.sendall(told)
                        if told is None or isinstance(told, Last):
                            break
            found.closed += 1

        threading.Thread(target=listen, daemon=True).start()
        yield found
        with suppress(OSError):  # where a socket that listens cannot be shut down
            listening.shutdown(socket.SHUT_RDWR)


def _read(reading: BinaryIO) -> Sent | None:
    lines = []
    while (line := reading.readline()) not in {b"\r\n", b""}:
        lines.append(line.decode().strip())
    if not lines:
        return None
    pairs = (line.partition(": ") for line in lines[1:])
    headers = {name.lower(): value for name, _, value in pairs}
    body = reading.read(int(headers["content-length"]))
    return Sent({"": lines[0], **headers}, body)
