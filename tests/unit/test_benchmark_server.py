"""A benchmark whose server does not come up says so, and ends."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks import dynamodb
from benchmarks.dynamodb import until_it_listens


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that is taken, and that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as found:
        yield found
        found.kill()


def test_a_server_that_has_ended_is_not_waited_for(port: int) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process,
        pytest.raises(SystemExit, match=f"port {port} ended with 3"),
    ):
        until_it_listens(process, port)


def test_a_server_that_never_listens_is_waited_for_no_longer_than_that(
    port: int, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb, "LONGEST_S", 0.3)

    with pytest.raises(SystemExit, match=rf"nothing listens on port {port}"):
        until_it_listens(sleeper, port)


def test_a_server_that_listens_is_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        until_it_listens(sleeper, server.getsockname()[1])
