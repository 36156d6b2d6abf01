"""The official SDKs come, say who they are, stay, and are sent away: what each code means."""

import asyncio
from collections.abc import Iterator

import pytest

import lastcall
from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_sdk
from tests.sdk.server import LONG, OWN, SDKS, SETTINGS, SHORT, STOCK, token, url_of
from tests.sdk.story import PATIENCE, Sdk, SdkClient, SdkError
from tests.server_process import ServerProcess, run_server
from tests.token_makers import token as make_token

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

COME_BACK = (3001, 3005, 3008, 3010, 3011, 3012, 3499, 4000, 4499)
STAY_AWAY = (3500, 3501, 3503, 3507, 3508, 3999, 4500, 4999)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Two workers; which master they have is no matter to what is tried here."""
    with run_server(command=OWN, workers=2, **SETTINGS) as server:
        yield server
        assert "Traceback" not in server.log


@SDKS
async def test_token_says_who_a_client_is(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token("42", info={"name": "Al"})) as client:
        await client.connect()
        connected = await client.story.next("connected")
        assert len(connected["client"]) == 36

        assert await client.rpc("echo", {"a": 1}) == {"user": "42", "said": {"a": 1}}
        await client.subscribe("chat:who")
        await client.story.next("subscribed", "chat:who")
        assert await client.presence("chat:who") == {
            connected["client"]: {
                "client": connected["client"],
                "user": "42",
                "conn_info": {"name": "Al"},
            }
        }


async def test_python_sdk_is_told_our_version(server: ServerProcess) -> None:
    async with python_sdk(url_of(server), token=token()) as client:
        await client.connect()
        assert (await client.story.next("connected"))["version"] == lastcall.__version__


@SDKS
async def test_token_that_is_over_is_exchanged(sdk: Sdk, server: ServerProcess) -> None:
    """Error 109: the SDK asks the application for another, and comes again."""
    old = token(lifetime=-1)
    async with sdk(url_of(server), token=old, asks_for_tokens=True) as client:
        await client.connect()
        await client.story.next("token wanted")
        client.give(token())
        await client.story.next("connected")


@SDKS
async def test_client_without_a_token_asks_for_one_first(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), asks_for_tokens=True) as client:
        await client.connect()
        await client.story.next("token wanted")
        client.give(token())
        await client.story.next("connected")
        assert client.story.names() == ["connecting", "token wanted", "connected"]


@SDKS
async def test_token_that_is_over_and_nobody_to_ask_is_the_end(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with sdk(url_of(server), token=token(lifetime=-1)) as client:
        await client.connect()
        assert await client.story.next("disconnected") == {"code": 1, "reason": "unauthorized"}


@SDKS
@pytest.mark.parametrize(
    ("credentials", "code", "reason"),
    [
        ("garbage", 3500, "invalid token"),
        (
            make_token({"sub": "42"}, "somebody else's, of at least thirty-two bytes"),
            3500,
            "invalid token",
        ),
        (token(channel="chat:of a subscription"), 3500, "invalid token"),
        ("", 3501, "bad request"),
        (token(""), 3507, "permission denied"),
        (token(channels=[f"chat:{number}" for number in range(5)]), 3505, "channel limit"),
    ],
    ids=["no token", "another's key", "for a subscription", "none", "anonymous", "too much"],
)
async def test_who_may_not_come_in_stays_away(
    sdk: Sdk, server: ServerProcess, credentials: str, code: int, reason: str
) -> None:
    async with sdk(url_of(server), token=credentials) as client:
        await client.connect()
        assert await client.story.next("disconnected") == {"code": code, "reason": reason}
        assert client.story.names().count("connecting") == 1


@SDKS
async def test_anonymous_clients_come_in_where_they_may(sdk: Sdk) -> None:
    with run_server(command=STOCK, allow_anonymous=True, **SETTINGS) as server:
        async with sdk(url_of(server)) as client:
            await client.connect()
            await client.story.next("connected")
            with pytest.raises(SdkError, match="permission denied"):
                await client.publish("chat:room", "anybody?")


@SDKS
async def test_client_that_the_application_knows_needs_no_token(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with sdk(url_of(server, "/signed-in")) as client:
        await client.connect()
        await client.story.next("subscribed", "chat:notices")
        assert (await client.rpc("echo"))["user"] == "7"
        await client.rpc("announce", ["chat:notices", {"text": "hello"}])
        assert (await client.story.next("publication", "chat:notices"))["data"] == {"text": "hello"}


@SDKS
async def test_refreshed_connection_lives_on(sdk: Sdk, server: ServerProcess) -> None:
    """That each token is asked for again in its time shows that the last one counted."""
    async with sdk(url_of(server), asks_for_tokens=True) as client:
        await client.connect()
        for lifetime in (SHORT, SHORT, LONG):
            await client.story.next("token wanted")
            client.give(token(lifetime=lifetime))
        await client.story.next("connected")
        assert (await client.rpc("echo"))["user"] == "42"
        assert client.story.names().count("connecting") == 1


@SDKS
async def test_connection_that_nobody_refreshes_ends_and_comes_back(
    sdk: Sdk, server: ServerProcess
) -> None:
    async with sdk(url_of(server), asks_for_tokens=True) as client:
        await connect_for_a_short_time(client)
        await client.story.next("connecting")
        await client.story.next("token wanted")
        expired = {"code": 3005, "reason": "connection expired"}
        assert await client.story.next("connecting") == expired
        await client.story.next("token wanted")
        client.give(token())
        await client.story.next("connected")


@SDKS
async def test_token_of_somebody_else_refreshes_nothing(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), asks_for_tokens=True) as client:
        await connect_for_a_short_time(client)
        await client.story.next("token wanted")
        client.give(token("another"))
        assert await client.story.next("disconnected") == {"code": 3500, "reason": "invalid token"}


@SDKS
async def test_codes_that_mean_come_back(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.story.next("connecting")
        await client.story.next("connected")
        for code in COME_BACK:
            with pytest.raises(SdkError):
                await client.rpc("end", code)
            ending = {"code": code, "reason": f"ended by code {code}"}
            assert await client.story.next("connecting") == ending
            await client.story.next("connected")


@SDKS
async def test_codes_that_mean_stay_away(sdk: Sdk, server: ServerProcess) -> None:
    async with sdk(url_of(server), token=token()) as client:
        for code in STAY_AWAY:
            await client.connect()
            await client.story.next("connected")
            with pytest.raises(SdkError):
                await client.rpc("end", code)
            ending = {"code": code, "reason": f"ended by code {code}"}
            assert await client.story.next("disconnected") == ending


async def test_message_that_is_too_big_ends_the_javascript_sdk(server: ServerProcess) -> None:
    async with node_sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.story.next("connected")
        with pytest.raises(SdkError):
            await client.publish("chat:room", 20_000 * "x")
        assert (await client.story.next("disconnected"))["code"] == 3


async def test_message_that_is_too_big_brings_the_python_sdk_back(server: ServerProcess) -> None:
    async with python_sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.story.next("connecting")
        await client.story.next("connected")
        with pytest.raises(SdkError):
            await client.publish("chat:room", 20_000 * "x")
        assert (await client.story.next("connecting"))["code"] == 3
        await client.story.next("connected")


async def test_message_to_an_application_that_does_not_listen(server: ServerProcess) -> None:
    async with node_sdk(url_of(server), token=token()) as client:
        await client.connect()
        await client.story.next("connected")
        await client.send("anybody?")
        assert await client.story.next("disconnected") == {"code": 3508, "reason": "not available"}


async def test_client_that_is_frozen_is_let_go_and_gets_what_it_missed(
    server: ServerProcess,
) -> None:
    """It answers no ping, like a laptop that is shut; nobody takes it for present any more."""
    url, room = url_of(server), "chat:frozen"
    async with node_sdk(url, token=token("1")) as frozen, python_sdk(url, token=token()) as other:
        for client in (other, frozen):
            await client.connect()
            await client.subscribe(room)
            await client.story.next("subscribed", room)
        await frozen.story.next("connecting")
        frozen.freeze()
        async with asyncio.timeout(PATIENCE):
            while await other.presence_stats(room) != (1, 1):
                pass
        await other.publish(room, "missed")
        frozen.thaw()
        assert await frozen.story.next("connecting") == {"code": 3012, "reason": "no pong"}
        assert (await frozen.story.next("publication", room))["data"] == "missed"
        assert (await frozen.story.next("subscribed", room))["recovered"] is True


async def connect_for_a_short_time(client: SdkClient) -> None:
    """With a token that is still good when it arrives, however busy the machine is."""
    await client.connect()
    await client.story.next("token wanted")
    client.give(token(lifetime=SHORT))
    await client.story.next("connected")
