"""Calls the server API of an application in a TestClient."""

import json
from typing import Any

from httpx import Response
from starlette.testclient import TestClient

from lastcall.channel_options import ChannelOptions

KEY = "the key"
OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
NAMESPACES = {
    "news": ChannelOptions(history_size=10, force_recovery=True, **OPEN),
    "room": ChannelOptions(presence=True, **OPEN),
    "plain": ChannelOptions(**OPEN),
}


class Caller:
    """Calls the server API."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def post(self, method: str, body: object, **headers: str) -> Response:
        """The answer to a body that is sent as it is, or else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body)
        headers = {"X-API-Key": KEY} | {name.replace("_", "-"): headers[name] for name in headers}
        response: Response = self.client.post(f"/api/{method}", content=content, headers=headers)
        return response

    def call(self, method: str, /, **fields: Any) -> Any:
        """The result, or the number of the error."""
        response = self.post(method, fields)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert len(answer) == 1
        if "error" in answer:
            assert answer["error"]["message"]
            return answer["error"]["code"]
        return answer["result"]
