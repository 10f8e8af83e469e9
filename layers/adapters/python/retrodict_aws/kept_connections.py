"""HTTP/1.1 over connections that are kept: TLS verified, time-outs as boto3's.

One request is under way on a connection at a time, and a connection is used again only
where its answer ended exactly where the answer said it would. What goes wrong is raised
as the exception that botocore raises for it, so that its rules for retries apply.
"""

import socket
import ssl
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import create_urllib3_context, get_cert_path
from urllib3.util.wait import wait_for_read

MAX_HEAD_BYTES: Final = 64 * 1024
_RECEIVE_BYTES: Final = 256 * 1024
_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_FINAL: Final = 200
_SHORTEST_S: Final = 0.001
_ONCE: Final = frozenset({"content-length", "transfer-encoding", "connection"})
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class Answer(NamedTuple):
    """An answer, whole.

    Attributes
    ----------
    headers
        By lower-case name.
    """

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class KeptConnections:
    """Connections to one host, kept between requests; for any number of threads.

    Parameters
    ----------
    url
        Scheme, host and port.
    ca_bundle
        Path of the certificates to trust, or True for those that botocore trusts.
    most
        How many idle connections are kept.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        ca_bundle: str | Literal[True] = True,
        most: int = 10,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ValueError(f"{url!r} is no address of a host: give http(s)://host")
        self._url = url
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._most = most
        self._idle: list[_Connection] = []
        self._tls = _tls(ca_bundle) if parts.scheme == "https" else None
        weakref.finalize(self, _close, self._idle)

    def begin(self, message: bytes) -> Callable[[], Answer]:
        """Send a request, whole, and return what waits for its answer.

        Begin several before the first answer is waited for, and they are all under way
        at once, each on a connection of its own.

        Raises
        ------
        botocore.exceptions.BotoCoreError
            Here or when waiting: no whole answer came; the request may have been
            carried out all the same.
        """
        connection = self._take()
        with self._failing(connection):
            connection.ask(message, self._read_timeout_s)
        late_s = time.monotonic() + self._read_timeout_s

        def finish() -> Answer:
            with self._failing(connection):
                answer = connection.answer(late_s, self._read_timeout_s)
            if connection.is_reusable and len(self._idle) < self._most:
                self._idle.append(connection)
            else:
                connection.close()
            return answer

        return finish

    @contextmanager
    def _failing(self, connection: "_Connection") -> Iterator[None]:
        """Close a connection that fails, and say why in botocore's words."""
        try:
            yield
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            connection.close()
            raise SSLError(endpoint_url=self._url, error=error) from error
        except (OSError, _EndedEarlyError) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error
        except ValueError as error:
            connection.close()
            raise HTTPClientError(error=error) from error
        except BaseException:
            connection.close()
            raise

    def _take(self) -> "_Connection":
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_quiet():
                    return connection
                connection.close()
        return _Connection(self._connect())

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection(
                (self._host, self._port), self._connect_timeout_s
            )
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(
                endpoint_url=self._url, error=error
            ) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected: socket.socket = plain
            if self._tls is not None:
                connected = self._tls.wrap_socket(plain, server_hostname=self._host)
        except TimeoutError as error:
            plain.close()
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            plain.close()
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            plain.close()
            raise EndpointConnectionError(
                endpoint_url=self._url, error=error
            ) from error
        return connected


def _close(idle: "list[_Connection]") -> None:
    while idle:
        idle.pop().close()


def _tls(ca_bundle: str | Literal[True]) -> ssl.SSLContext:
    """Return botocore's own settings, with the host's name checked by the library."""
    context: ssl.SSLContext = create_urllib3_context()
    context.load_verify_locations(cafile=get_cert_path(ca_bundle))
    context.hostname_checks_common_name = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.set_alpn_protocols(["http/1.1"])
    return context


class _EndedEarlyError(Exception):
    """The other end closed the connection before the answer was whole."""


class _Connection:
    """One connection, and what came on it that is not read yet."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._held = b""
        self.is_reusable = True

    def is_quiet(self) -> bool:
        """Return whether nothing came while it was idle, not even its end."""
        return not wait_for_read(self._socket, timeout=0)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()

    def ask(self, message: bytes, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        self._socket.sendall(message)

    def answer(self, late_s: float, timeout_s: float) -> Answer:
        """Read an answer that begins before `late_s`, on the clock `time.monotonic`."""
        self._socket.settimeout(max(late_s - time.monotonic(), _SHORTEST_S))
        while True:
            version, status, headers = _head(self._until(_HEAD_END, MAX_HEAD_BYTES))
            if status >= _FINAL:
                break
        self._socket.settimeout(timeout_s)
        is_kept = (
            version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        )
        if "transfer-encoding" in headers:
            content = self._chunks(headers)
        elif "content-length" in headers:
            content = self._exactly(_number(headers["content-length"]))
        else:
            raise ValueError("the answer does not say how long it is")
        self.is_reusable = is_kept and not self._held
        return Answer(status, headers, content)

    def _receive(self) -> bytes:
        came = self._socket.recv(_RECEIVE_BYTES)
        if not came:
            raise _EndedEarlyError("the connection was closed within the answer")
        return came

    def _until(self, mark: bytes, most: int) -> bytes:
        """Return what comes before `mark`, and drop `mark`."""
        while (end := self._held.find(mark)) < 0:
            if len(self._held) > most:
                raise ValueError(f"the answer has more than {most} bytes of headers")
            self._held += self._receive()
        found, self._held = self._held[:end], self._held[end + len(mark) :]
        return found

    def _exactly(self, count: int) -> bytes:
        if len(self._held) < count:
            parts, missing = [self._held], count - len(self._held)
            while missing > 0:
                parts.append(self._receive())
                missing -= len(parts[-1])
            self._held = b"".join(parts)
        found, self._held = self._held[:count], self._held[count:]
        return found

    def _chunks(self, headers: Mapping[str, str]) -> bytes:
        if headers["transfer-encoding"] != "chunked" or "content-length" in headers:
            raise ValueError("the answer says in no one way how long it is")
        parts = []
        while True:
            size = self._until(_END, MAX_HEAD_BYTES).partition(b";")[0].strip()
            if not size or not _HEX.issuperset(size):
                raise ValueError("a chunk of the answer has no length")
            if not (count := int(size, 16)):
                break
            parts.append(self._exactly(count))
            if self._exactly(len(_END)) != _END:
                raise ValueError("a chunk of the answer is not as long as it says")
        while self._until(_END, MAX_HEAD_BYTES):
            pass  # trailers
        return b"".join(parts)


def _head(raw: bytes) -> tuple[str, int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in {"HTTP/1.0", "HTTP/1.1"}:
        raise ValueError("the answer is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip() or (name in headers and name in _ONCE):
            raise ValueError("a header of the answer is malformed")
        headers[name] = value.strip()
    return version, _number(rest[:3]), headers


def _number(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError("a number of the answer is none")
    return int(digits)
