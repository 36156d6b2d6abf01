"""Clients that read nothing, or vanish in the middle, do not keep a server that has to leave."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.server_process import ServerProcess, run_server, wait_until

pytestmark = pytest.mark.whole

COMMAND = (sys.executable, "-m", "uvicorn", "tests.whole.endless:app")


@contextlib.contextmanager
def deaf_client(server: ServerProcess) -> Iterator[socket.socket]:
    """Ask for an endless response, and read none of it."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: count(server) == 1, 5)
        yield client


def count(server: ServerProcess) -> int:
    return sum(int(str(record["connections"])) for record in server.records().values())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_response_that_nobody_reads_ends_with_the_time(http: str) -> None:
    with run_server("--http", http, command=COMMAND, shutdown_timeout=0.5) as server:
        with deaf_client(server):
            server.send_signal(signal.SIGTERM)
            server.wait(8)
        assert "put away" in server.log
        assert server.leftovers() == []
        assert "Traceback" not in server.log


def test_a_response_that_takes_no_part_in_the_drain_ends_with_the_time() -> None:
    """The server alone would wait for it for ever."""
    with run_server(command=COMMAND, shutdown_timeout=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /unknown HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            server.send_signal(signal.SIGTERM)
            server.wait(5)
        assert "put away" in server.log
        assert server.leftovers() == []


def test_nor_does_it_keep_a_server_that_has_reached_its_limit_of_requests() -> None:
    arguments = ("--limit-max-requests", "1")
    with run_server(*arguments, command=COMMAND, shutdown_timeout=0.5, wait=False) as server:
        wait_until(lambda: "Uvicorn running" in server.log, 15, server.describe)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /unknown HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            server.get("/health/live")  # what has ended is counted
            server.wait(8)
        assert "put away" in server.log
        assert server.leftovers() == []


def test_a_client_that_vanishes_is_not_waited_for() -> None:
    with run_server(command=COMMAND, shutdown_timeout=60) as server:
        with deaf_client(server):
            pass
        wait_until(lambda: count(server) == 0, 5)
        server.send_signal(signal.SIGTERM)
        server.wait(5)
        assert "put away" in server.log
