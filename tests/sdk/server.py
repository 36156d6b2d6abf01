"""Servers for SDK clients: two workers each, stock uvicorn's and our own."""

import json
import sys
import time
from typing import Any

import pytest

from tests.sdk.node_client import (
    http_stream_protobuf_sdk,
    http_stream_sdk,
    node_protobuf_sdk,
    node_sdk,
    sse_sdk,
)
from tests.sdk.python_client import python_protobuf_sdk, python_sdk
from tests.server_process import ServerProcess
from tests.token_makers import SECRET
from tests.token_makers import token as make_token

APPLICATION = "tests.sdk.application:app"
STOCK = (sys.executable, "-m", "uvicorn", APPLICATION)
OWN = (sys.executable, "-m", "lastcall", "serve", APPLICATION)
MASTERS = pytest.mark.parametrize("command", [STOCK, OWN], ids=["uvicorn", "lastcall serve"])
SDKS = pytest.mark.parametrize(
    "sdk",
    [python_sdk, node_sdk, python_protobuf_sdk, node_protobuf_sdk, sse_sdk, http_stream_sdk],
    ids=[
        "python",
        "node",
        "python in Protobuf",
        "node in Protobuf",
        "node over SSE",
        "node over an HTTP stream",
    ],
)
WEBSOCKETS = pytest.mark.parametrize(
    "sdk",
    [python_sdk, node_sdk, python_protobuf_sdk, node_protobuf_sdk],
    ids=["python", "node", "python in Protobuf", "node in Protobuf"],
)
PROTOBUF = pytest.mark.parametrize(
    "sdk", [python_protobuf_sdk, node_protobuf_sdk], ids=["python", "node"]
)
STREAMS = pytest.mark.parametrize(
    "sdk",
    [sse_sdk, http_stream_sdk, http_stream_protobuf_sdk],
    ids=["SSE", "HTTP stream", "HTTP stream in Protobuf"],
)

LONG = 3600.0
"""Seconds that a token lasts beyond any test."""
SHORT = 2.0
"""Seconds that a token lasts for tests that wait for its end."""

OPEN = {
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "presence": True,
    "allow_presence_for_subscriber": True,
}
KEPT = {
    "history_size": 100,
    "history_ttl": "10min",
    "force_recovery": True,
    "allow_history_for_subscriber": True,
}
SETTINGS: dict[str, Any] = {
    "token_secret": SECRET,
    "max_channels": 4,
    "max_message_size": 16_384,
    "ping_interval": 4,
    "pong_timeout": 3,
    "expired_delay": 1,
    "shutdown_timeout": 1,
    "namespaces": json.dumps(
        {
            "chat": {**OPEN, **KEPT},
            "talk": {**OPEN, "join_leave": True, "force_push_join_leave": True},
            "told": {**OPEN, "join_leave": True},
            "short": {**OPEN, **KEPT, "history_size": 2},
            "doc": {**OPEN, **KEPT, "allowed_delta_types": ["fossil"]},
            "quote": {**OPEN, **KEPT, "history_size": 1, "force_recovery_mode": "cache"},
            "read": {"allow_subscribe_for_client": True},
            "asked": {},
        }
    ),
}


def url_of(server: ServerProcess, path: str = "/connection/websocket") -> str:
    """Where clients of an SDK connect."""
    return f"ws://127.0.0.1:{server.port}{path}"


def token(user: str = "42", lifetime: float = LONG, **claims: Any) -> str:
    """A token of our own, good for *lifetime* seconds from now."""
    return make_token({"sub": user, "exp": time.time() + lifetime, **claims})
