"""The official SDKs in channels: subscribe, publish, history, presence, joins, calls."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import pytest

from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_protobuf_sdk, python_sdk
from tests.sdk.server import LONG, PROTOBUF, SDKS, SETTINGS, SHORT, STOCK, token, url_of
from tests.sdk.story import PATIENCE, Sdk, SdkClient, SdkError
from tests.server_process import ServerProcess, run_server
from tests.token_makers import token as make_token

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

NUMBERS = count(1)
"""For channels that no other test has used: the server is the same for all."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Two workers; which master they have is no matter to what is tried here."""
    with run_server(command=STOCK, workers=2, **SETTINGS) as server:
        yield server
        tracebacks = server.log.count("Traceback")
        assert tracebacks == server.log.count("RuntimeError: broken on purpose")


@asynccontextmanager
async def on_two_workers(sdk: Sdk, server: ServerProcess) -> AsyncIterator[list[SdkClient]]:
    """Connected clients of the users 0, 1, …; the first and the last are on different workers."""
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        clients: list[SdkClient] = []
        workers: list[int] = []
        while len(set(workers)) < 2:
            user = str(len(clients))
            made = python_sdk if clients else sdk
            client = await stack.enter_async_context(made(url_of(server), token=token(user)))
            await client.connect()
            clients.append(client)
            workers.append(await client.rpc("worker"))
        yield clients


@SDKS
async def test_publication_reaches_subscribers_of_every_worker(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with on_two_workers(sdk, server) as clients:
        here, there = clients[0], clients[-1]
        connected = await here.story.next("connected")
        for client in (here, there):
            await client.subscribe("chat:workers")
            subscribed = await client.story.next("subscribed", "chat:workers")
            assert (subscribed["recoverable"], subscribed["positioned"]) == (True, True)
        start = subscribed["stream_position"]["offset"]
        await here.publish("chat:workers", {"n": 1})
        await there.publish("chat:workers", {"n": 2})
        for client in (here, there):
            first = await client.story.next("publication", "chat:workers")
            second = await client.story.next("publication", "chat:workers")
            assert (first["offset"], second["offset"]) == (start + 1, start + 2)
            assert first["data"] == {"n": 1}
            assert first["info"] == {"client": connected["client"], "user": "0"}
            assert second["info"]["user"] == str(len(clients) - 1)


PAYLOADS: list[Any] = [
    None,
    False,
    0,
    2**53 - 1,
    -1.5,
    "",
    "two\nlines and a\ttab",
    "naïve ☃ 𝄞 \u2028 \x7f",
    [],
    {},
    {"a": [1, {"b": None}], "data": {"data": "x"}, "": 0, "snake_case": "camelCase"},
    ["x" * 3000],
]


@SDKS
async def test_payloads_arrive_as_they_were(sdk: Sdk, server: ServerProcess) -> None:
    room = f"chat:payloads {next(NUMBERS)}"
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe(room)
        await client.story.next("subscribed", room)
        for payload in PAYLOADS:
            # A client has to send something, so null is the application's to say.
            if payload is None:
                await client.rpc("announce", [room, payload])
            else:
                await client.publish(room, payload)
            heard = await client.story.next("publication", room)
            assert heard["data"] == payload
        page = await client.history(room, limit=-1)
        assert [each["data"] for each in page["publications"]] == PAYLOADS


@PROTOBUF
async def test_bytes_are_bytes_in_protobuf_and_said_in_json(
    sdk: Sdk, server: ServerProcess
) -> None:
    """Live, in the history and after a while away, and whoever published them."""
    room, data = f"chat:bytes {next(NUMBERS)}", b64encode(b"\0\xff{not JSON").decode()
    in_json, in_bytes = {"b64data": data}, {"bytes": data}
    async with AsyncExitStack() as stack:
        readers = {
            await stack.enter_async_context(made(url_of(server), token=token())): expected
            for made, expected in (
                (sdk, in_bytes),
                (python_protobuf_sdk, in_bytes),
                (node_sdk, in_json),
                (python_sdk, in_json),
            )
        }
        for reader in readers:
            await reader.connect()
            await reader.subscribe(room)
            await reader.story.next("subscribed", room)
        publisher = next(iter(readers))
        assert await publisher.rpc("echo", in_bytes) == {"user": "42", "said": in_json}
        await publisher.publish(room, in_bytes)
        for reader, expected in readers.items():
            assert (await reader.story.next("publication", room))["data"] == expected
            await reader.unsubscribe(room)
            await reader.story.next("unsubscribed", room)
        await publisher.publish(room, in_bytes)
        for reader, expected in readers.items():
            await reader.subscribe(room)
            assert (await reader.story.next("publication", room))["data"] == expected
            page = await reader.history(room, limit=-1)
            assert [each["data"] for each in page["publications"]] == [expected, expected]


@SDKS
async def test_unsubscribed_client_hears_nothing_and_may_come_back(
    sdk: Sdk, server: ServerProcess
) -> None:
    room = f"chat:quiet {next(NUMBERS)}"
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe(room)
        await client.story.next("subscribed", room)
        await client.unsubscribe(room)
        assert await client.story.next("unsubscribed", room) == {
            "code": 0,
            "reason": "unsubscribe called",
        }
        await client.publish(room, "unheard")
        await client.subscribe(room)
        # The SDKs keep their place, so leaving for a while is being away for a while.
        assert (await client.story.next("subscribed", room))["recovered"] is True
        assert (await client.story.next("publication", room))["data"] == "unheard"
        assert len(client.story.all("publication", room)) == 1


@SDKS
@pytest.mark.parametrize(
    ("channel", "code", "reason"),
    [
        ("nowhere:a", 102, "unknown channel"),
        ("shut", 103, "permission denied"),
        ("$chat:private", 103, "permission denied"),
        ("asked:secret", 103, "permission denied"),
        ("chat:" + 300 * "x", 107, "bad request"),
    ],
    ids=["unknown", "shut", "private", "asked", "long"],
)
async def test_refused_subscription_is_given_up(
    sdk: Sdk, server: ServerProcess, channel: str, code: int, reason: str
) -> None:
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe(channel)
        ended = await client.story.next("unsubscribed", channel)
        assert ended == {"code": code, "reason": reason}
        assert (await client.rpc("echo"))["user"] == "42"


@SDKS
async def test_more_channels_than_allowed_are_refused_one_by_one(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with sdk(url_of(server), token=token()) as client:
        # Before it is connected: some SDKs ask for all in one message.
        for number in range(5):
            await client.subscribe(f"chat:{number}")
        await client.connect()
        for number in range(4):
            await client.story.next("subscribed", f"chat:{number}")
        assert (await client.story.next("unsubscribed", "chat:4"))["code"] == 106


@SDKS
async def test_application_decides_where_it_wants_to(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe("asked:me")
        await client.story.next("subscribed", "asked:me")
        await client.publish("asked:me", "hello")
        with pytest.raises(SdkError, match="permission denied"):
            await client.publish("asked:me", "secret")
        assert (await client.story.next("publication", "asked:me"))["data"] == "hello"


@SDKS
async def test_subscription_token_opens_a_private_channel(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token("42")) as client:
        await client.connect()
        await client.subscribe("$chat:private", asks_for_tokens=True)
        await client.story.next("token wanted", "$chat:private")
        client.give(token(channel="$chat:private", lifetime=-1))
        # Error 109: the SDK asks again.
        await client.story.next("token wanted", "$chat:private")
        client.give(token(channel="$chat:private", info={"role": "owner"}, data={"hi": 1}))
        subscribed = await client.story.next("subscribed", "$chat:private")
        assert subscribed["data"] == {"hi": 1}
        (info,) = (await client.presence("$chat:private")).values()
        assert info["chan_info"] == {"role": "owner"}


@SDKS
async def test_subscription_token_that_is_none_is_an_error(sdk: Sdk, server: ServerProcess) -> None:
    forged = make_token({"sub": "42", "channel": "$chat:a"}, "another secret of thirty-two bytes")
    async with sdk(url_of(server), token=token("42")) as client:
        await client.connect()
        await client.subscribe("$chat:a", token=forged)
        ended = await client.story.next("unsubscribed", "$chat:a")
        assert ended == {"code": 103, "reason": "permission denied"}


@SDKS
async def test_subscription_token_of_somebody_else_ends_the_connection(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with sdk(url_of(server), token=token("42")) as client:
        await client.connect()
        await client.subscribe("$chat:a", token=token("43", channel="$chat:a"))
        assert await client.story.next("disconnected") == {"code": 3500, "reason": "invalid token"}


@SDKS
async def test_refreshed_subscription_lives_on(sdk: Sdk, server: ServerProcess) -> None:
    """That each token is asked for again in its time shows that the last one counted."""
    room = "$chat:refreshed"
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe(room, asks_for_tokens=True)
        for lifetime in (SHORT, SHORT, LONG):
            await client.story.next("token wanted", room)
            client.give(token(channel=room, lifetime=lifetime))
        await client.publish(room, "still here")
        assert (await client.story.next("publication", room))["data"] == "still here"
        assert client.story.names(room).count("subscribing") == 1


@SDKS
async def test_subscription_that_nobody_refreshes_ends_and_is_made_anew(
    sdk: Sdk, server: ServerProcess
) -> None:
    room = f"$chat:expired {next(NUMBERS)}"
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe(room, asks_for_tokens=True)
        await client.story.next("token wanted", room)
        client.give(token(channel=room, lifetime=SHORT))
        await client.story.next("subscribed", room)
        await client.story.next("subscribing", room)
        await client.story.next("token wanted", room)
        again = await client.story.next("subscribing", room)
        assert again == {"code": 2501, "reason": "subscription expired"}
        await client.publish(room, "meanwhile")
        await client.story.next("token wanted", room)
        client.give(token(channel=room))
        assert (await client.story.next("subscribed", room))["recovered"] is True
        assert (await client.story.next("publication", room))["data"] == "meanwhile"
        assert client.story.names().count("connecting") == 1


@SDKS
async def test_presence_is_that_of_all_workers(sdk: Sdk, server: ServerProcess) -> None:
    async with on_two_workers(sdk, server) as clients:
        ids = []
        for client in clients:
            ids.append((await client.story.next("connected"))["client"])
            await client.subscribe("talk:presence")
            await client.story.next("subscribed", "talk:presence")
        there = {each: str(user) for user, each in enumerate(ids)}
        for client in (clients[0], clients[-1]):
            found = await client.presence("talk:presence")
            assert {each: info["user"] for each, info in found.items()} == there
            assert await client.presence_stats("talk:presence") == (len(ids), len(ids))
        with pytest.raises(SdkError, match="permission denied"):
            await clients[0].presence("talk:another")
        with pytest.raises(SdkError, match="not available"):
            await clients[0].presence("read:no presence")


@SDKS
async def test_who_comes_and_goes_is_told_on_every_worker(sdk: Sdk, server: ServerProcess) -> None:
    async with on_two_workers(sdk, server) as clients:
        here, there = clients[0], clients[-1]
        last = str(len(clients) - 1)
        await here.subscribe("talk:joins")
        joined = await here.story.next("join", "talk:joins")
        assert joined["info"]["user"] == "0"  # its own
        await there.subscribe("talk:joins")
        assert (await here.story.next("join", "talk:joins"))["info"]["user"] == last
        await there.unsubscribe("talk:joins")
        assert (await here.story.next("leave", "talk:joins"))["info"]["user"] == last
        await there.subscribe("talk:joins")
        assert (await here.story.next("join", "talk:joins"))["info"]["user"] == last
        await there.disconnect()
        assert (await here.story.next("leave", "talk:joins"))["info"]["user"] == last


@SDKS
async def test_history_is_read_in_pages_in_both_directions(sdk: Sdk, server: ServerProcess) -> None:
    room = f"chat:history {next(NUMBERS)}"
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        with pytest.raises(SdkError, match="permission denied"):
            await client.history(room)
        await client.subscribe(room)
        await client.story.next("subscribed", room)
        for number in range(1, 6):
            await client.publish(room, number)

        async def read(**options: Any) -> list[Any]:
            page = await client.history(room, **options)
            return [each["data"] for each in page["publications"]]

        top = await client.history(room)
        assert (top["publications"], top["offset"]) == ([], 5)
        epoch = top["epoch"]
        assert await read(limit=-1) == [1, 2, 3, 4, 5]
        assert await read(limit=2) == [1, 2]
        assert await read(limit=2, reverse=True) == [5, 4]
        assert await read(limit=2, since=(2, epoch)) == [3, 4]
        assert await read(limit=9, since=(3, epoch), reverse=True) == [2, 1]
        with pytest.raises(SdkError, match="unrecoverable position"):
            await read(since=(1, "another"))
        with pytest.raises(SdkError, match="not available"):
            await client.history("talk:none")


@SDKS
async def test_calls_are_answered_by_the_application(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        assert await client.rpc("echo", ["x"]) == {"user": "42", "said": ["x"]}
        for method, code, message in (
            ("refuse", 444, "not on Sundays"),
            ("unheard of", 104, "method not found"),
            ("fail", 100, "internal server error"),
        ):
            with pytest.raises(SdkError) as raised:
                await client.rpc(method)
            assert (raised.value.code, raised.value.message) == (code, message)


@SDKS
async def test_many_calls_at_once_are_answered_each(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        answers = await asyncio.gather(*(client.rpc("echo", number) for number in range(100)))
        assert [each["said"] for each in answers] == list(range(100))


@SDKS
async def test_server_subscribes_by_token_and_fills_the_gap(
    sdk: Sdk, server: ServerProcess
) -> None:
    ours, other = f"chat:ours {next(NUMBERS)}", f"chat:other {next(NUMBERS)}"
    credentials = token(subs={ours: {"data": {"hi": 1}}, other: {}})
    async with (
        sdk(url_of(server), token=credentials) as client,
        python_sdk(url_of(server), token=token("1")) as speaker,
    ):
        await client.connect()
        assert (await client.story.next("subscribed", ours))["data"] == {"hi": 1}
        await client.story.next("subscribed", other)
        await speaker.connect()
        await speaker.publish(ours, "live")
        assert (await client.story.next("publication", ours))["data"] == "live"

        with pytest.raises(SdkError):
            await client.rpc("end", 4000)
        await client.story.next("connecting")
        again = await client.story.next("subscribed", ours)
        assert (again["was_recovering"], again["recovered"]) == (True, True)
        await speaker.publish(ours, "after")
        assert (await client.story.next("publication", ours))["data"] == "after"
        assert len(client.story.all("publication", ours)) == 2


@SDKS
async def test_client_with_a_gap_that_cannot_be_filled_is_told(
    sdk: Sdk, server: ServerProcess
) -> None:
    """The namespace remembers two, and the client has missed three."""
    room = f"short:{next(NUMBERS)}"
    async with (
        sdk(url_of(server), token=token()) as client,
        python_sdk(url_of(server), token=token("1")) as speaker,
    ):
        await client.connect()
        await client.subscribe(room)
        await client.story.next("subscribed", room)
        await client.disconnect()
        await speaker.connect()
        for number in range(3):
            await speaker.publish(room, number)
        await client.connect()
        again = await client.story.next("subscribed", room)
        assert (again["was_recovering"], again["recovered"]) == (True, False)
        assert again["stream_position"]["offset"] == 3
        await speaker.publish(room, 3)
        heard = await client.story.next("publication", room)
        assert (heard["offset"], heard["data"]) == (4, 3)
        assert len(client.story.all("publication", room)) == 1


async def test_javascript_client_asks_for_joins_where_they_are_not_forced(
    server: ServerProcess,
) -> None:
    """The namespace of this test tells those who ask, and only those."""
    async with node_sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.subscribe("told:a", join_leave=True)
        assert (await client.story.next("join", "told:a"))["info"]["user"] == "42"
