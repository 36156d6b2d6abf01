"""Django Channels over channels-redis: what a client sends goes to a group in which all are.

`LAYER` names one of its two layers, `ENGINE_URL` the Redis.
"""

import os

import django  # type: ignore[import-not-found,unused-ignore]
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped,unused-ignore]
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped,unused-ignore]
from django.conf import settings  # type: ignore[import-not-found,unused-ignore]
from django.urls import path  # type: ignore[import-not-found,unused-ignore]

layer = {"BACKEND": os.environ["LAYER"], "CONFIG": {"hosts": [os.environ["ENGINE_URL"]]}}
settings.configure(CHANNEL_LAYERS={"default": layer}, ALLOWED_HOSTS=["*"])
django.setup()


class Everybody(AsyncWebsocketConsumer):  # type: ignore[misc,unused-ignore]
    """A client in the group."""

    async def connect(self) -> None:
        """Enter."""
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:  # noqa: ARG002  (the class has it so)
        """Leave."""
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        """Pass on what the client sends."""
        await self.channel_layer.group_send("all", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, str]) -> None:
        """Hear."""
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter({"websocket": URLRouter([path("ws", Everybody.as_asgi())])})
