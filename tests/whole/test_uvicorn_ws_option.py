"""`uvicorn --ws lastcall.uvicorn_websocket:UvicornWebSocket`, for an application of any kind."""

import signal
import sys

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.server_process import ServerProcess, run_server, wait_until

pytestmark = pytest.mark.whole

COMMAND = (sys.executable, "-m", "uvicorn", "tests.whole.echo_app:app")
OPTION = ("--ws", "lastcall.uvicorn_websocket:UvicornWebSocket")


def is_up(server: ServerProcess) -> bool:
    try:
        return server.get("/health/ready")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_echo_then_sigterm(loop: str, http: str) -> None:
    """Clients of ordinary endpoints get 1012 and its reason; nothing is amiss in the log."""
    options = (*OPTION, "--loop", loop, "--http", http)
    with run_server(*options, command=COMMAND, wait=False) as server:
        wait_until(lambda: is_up(server), 30, lambda: server.log)
        with connect(server.websocket_url) as one, connect(server.websocket_url) as two:
            for client in (one, two):
                client.send("hello")
                assert client.recv(timeout=5) == "hello"

            server.send_signal(signal.SIGTERM)

            for client in (one, two):
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(timeout=5)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
                assert closed.value.rcvd.reason == "server is shutting down"
        assert server.wait(timeout=5) in {0, -signal.SIGTERM}
        assert '"WebSocket /ws" [accepted]' in server.log
        assert "Traceback" not in server.log
