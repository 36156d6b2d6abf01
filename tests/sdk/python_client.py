"""`centrifuge-python`."""

import asyncio
import dataclasses
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from centrifuge import (
    Client,
    ClientEventHandler,
    DeltaType,
    StreamPosition,
    SubscriptionEventHandler,
)
from centrifuge.exceptions import CentrifugeError, ReplyError

from tests.sdk.story import (
    LONGEST_RECONNECT_DELAY,
    PATIENCE,
    RECONNECT_DELAY,
    Event,
    Sdk,
    SdkClient,
    SdkError,
    Story,
)

FAILED = -1
"""Code of failures of the SDK's own, which have none."""


class PythonClient:
    """See `SdkClient`."""

    def __init__(
        self, url: str, token: str, *, asks_for_tokens: bool, use_protobuf: bool = False
    ) -> None:
        self.story = Story()
        self._wishes: list[asyncio.Future[str]] = []
        self._under_way: list[asyncio.Task[None]] = []
        self._use_protobuf = use_protobuf
        # As it has no `py.typed`, what it says of its types is not to be relied on.
        self._client: Any = Client(
            url,
            events=self._reporting(ClientEventHandler()),
            token=token,
            get_token=self._wish if asks_for_tokens else None,
            timeout=PATIENCE,
            min_reconnect_delay=RECONNECT_DELAY,
            max_reconnect_delay=LONGEST_RECONNECT_DELAY,
            proxy=None,
            use_protobuf=use_protobuf,
        )

    def give(self, token: str) -> None:
        wishes, self._wishes = self._wishes, []
        for wish in wishes:
            if not wish.done():
                wish.set_result(token)

    async def connect(self) -> None:
        await self._begin(self._client.connect())

    async def disconnect(self) -> None:
        await self._client.disconnect()

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        asks_for_tokens: bool = False,
        delta: str = "",
        **options: bool,
    ) -> None:
        subscription = self._client.get_subscription(channel)
        if subscription is None:
            subscription = self._client.new_subscription(
                channel,
                events=self._reporting(SubscriptionEventHandler(), channel),
                token=token,
                get_token=self._wish if asks_for_tokens else None,
                min_resubscribe_delay=RECONNECT_DELAY,
                delta=DeltaType(delta) if delta else None,
                **options,
            )
        await self._begin(subscription.subscribe())

    async def unsubscribe(self, channel: str) -> None:
        await self._client.get_subscription(channel).unsubscribe()

    async def publish(self, channel: str, data: Any) -> None:
        await _answer(self._client.publish(channel, self._packed(data)))

    async def history(
        self,
        channel: str,
        *,
        limit: int = 0,
        since: tuple[int, str] | None = None,
        reverse: bool = False,
    ) -> dict[str, Any]:
        position = None if since is None else StreamPosition(*since)
        page: dict[str, Any] = _fields(
            await _answer(
                self._client.history(channel, limit=limit, since=position, reverse=reverse)
            )
        )
        return page

    async def presence(self, channel: str) -> dict[str, dict[str, Any]]:
        clients: dict[str, dict[str, Any]]
        clients = _fields(await _answer(self._client.presence(channel)))["clients"]
        return clients

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        stats = await _answer(self._client.presence_stats(channel))
        return stats.num_clients, stats.num_users

    async def rpc(self, method: str, data: Any = None) -> Any:
        return _unpacked((await _answer(self._client.rpc(method, self._packed(data)))).data)

    def _packed(self, data: Any) -> Any:
        """In Protobuf payloads are bytes; here JSON all the same, or `{"bytes": …}` in base64."""
        if not self._use_protobuf:
            return data
        match data:
            case {"bytes": encoded}:
                return b64decode(encoded)
            case _:
                return json.dumps(data).encode()

    async def end(self) -> None:
        """Leave for good."""
        await self._client.disconnect()
        for wish in self._wishes:
            wish.cancel()
        # It closes its sockets in tasks of its own, which nobody waits for.
        own = self._client._background_tasks  # noqa: SLF001  (there is no other way to them)
        for task in self._under_way:
            task.cancel()
        await asyncio.wait_for(
            asyncio.gather(*self._under_way, *own, return_exceptions=True), PATIENCE
        )

    async def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        # It would wait for its token, which the test may not want to give.
        self._under_way.append(asyncio.create_task(call))
        await asyncio.sleep(0)  # so that it has begun

    def _reporting(self, handler: Any, channel: str | None = None) -> Any:
        for name in dir(handler):
            if name.startswith("on_"):
                report = partial(self._report, name.removeprefix("on_"), channel)
                setattr(handler, name, report)
        return handler

    async def _report(self, name: str, channel: str | None, particulars: Any) -> None:
        fields = _fields(particulars)
        fields |= fields.pop("pub", {})
        told_of = fields.pop("channel", "")
        self.story.add(Event(name, told_of if channel is None else channel, fields))

    async def _wish(self, channel: str = "") -> str:
        wish: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._wishes.append(wish)
        self.story.add(Event("token wanted", channel, {}))
        return await wish


def _unpacked(data: Any) -> Any:
    if not isinstance(data, bytes):
        return data
    try:
        return json.loads(data) if data else None
    except ValueError:
        return {"bytes": b64encode(data).decode()}


def _fields(value: Any) -> Any:
    """Objects of the SDK as dictionaries of what they have; what was published as it is."""
    if isinstance(value, bytes):
        return _unpacked(value)
    if dataclasses.is_dataclass(value):
        found = {
            name: _unpacked(each) if name == "data" else _fields(each)
            for name, each in vars(value).items()
        }
        return {name: each for name, each in found.items() if each is not None or name == "data"}
    if isinstance(value, list):
        return [_fields(each) for each in value]
    if isinstance(value, dict):
        return {key: _fields(each) for key, each in value.items()}
    return value


async def _answer(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except ReplyError as error:
        raise SdkError(error.code, error.message) from error
    except CentrifugeError as error:
        raise SdkError(FAILED, repr(error)) from error


@asynccontextmanager
async def python_sdk(
    url: str, *, token: str = "", asks_for_tokens: bool = False, use_protobuf: bool = False
) -> AsyncIterator[SdkClient]:
    """See `Sdk`."""
    client = PythonClient(url, token, asks_for_tokens=asks_for_tokens, use_protobuf=use_protobuf)
    try:
        yield client
    finally:
        await client.end()


python_protobuf_sdk = partial(python_sdk, use_protobuf=True)


if TYPE_CHECKING:
    _: Sdk = python_sdk
