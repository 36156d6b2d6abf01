"""A connection that moves: nothing lost, doubled or reordered, whatever it was in the middle of."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from lastcall.protocol.base import Message
from lastcall.transport.base import Frozen
from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.uvicorn_host import TIMEOUT, Host, RawClient, Received, detaching, hosting, raw_client
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio

TEXT, CLOSE, PING = FIN | 0x1, FIN | 0x8, FIN | 0x9
LIMITS = {"max_backlog": 50_000_000, "max_message_size": 1_000_000}


async def freeze(host: Host) -> Frozen:
    """Take the only connection away from *host*, as soon as that can be."""
    connection = host.connection
    frozen = connection.freeze()
    async with asyncio.timeout(TIMEOUT):
        while frozen is None:
            await asyncio.sleep(0)
            frozen = connection.freeze()
    return frozen


async def thaw(host: Host, frozen: Frozen, events: Received) -> UvicornWebSocket:
    """Let *host* go on with the connection."""
    websocket = UvicornWebSocket(host.config, host.state, {})
    websocket.thaw(frozen.state, events, **LIMITS)
    events.transport = websocket
    client = socket.socket(fileno=frozen.descriptor)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: websocket, client)
    return websocket


async def move(one: Host, two: Host, events: Received) -> None:
    await thaw(two, await freeze(one), events)


def text(events: Received) -> list[bytes]:
    return [message.data for message in events.messages]


def echoing(events: Received) -> Received:
    def echo(message: Message) -> None:
        events.transport.write(events.transport.framing.frame([message]))

    events.on_message = echo
    return events


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_numbered_messages_over_many_moves(compression: str | None) -> None:
    """A real client, that talks all the while, notices nothing."""
    one, two = echoing(Received()), echoing(Received())
    limits = {"max_message_size": 1_000_000}
    async with hosting(detaching(one, **limits)) as old, hosting(detaching(two, **limits)) as new:
        async with connect(old.url, compression=compression) as client:
            await old.until(lambda: hasattr(one, "transport"))
            numbers = [f"{number} {'x' * (number * 997 % 90_000)}" for number in range(200)]
            sending = asyncio.create_task(client.send("first"))
            assert await client.recv() == "first"
            await sending

            async def talk() -> None:
                for number in numbers:
                    await client.send(number)

            talking = asyncio.create_task(talk())
            hosts = [(old, new, two), (new, old, one)]
            for count, number in enumerate(numbers):
                if count % 4 == 0:
                    source, target, events = hosts[count // 4 % 2]
                    await move(source, target, events)
                assert await client.recv() == number
            await talking
            assert not one.ends
            assert not two.ends
        await new.empty()
        await old.empty()
    assert [*one.ends, *two.ends] == [1000]
    assert len(one.messages) + len(two.messages) == 201
    assert old.state.connections == new.state.connections == set()


@pytest.mark.parametrize("cut", [1, 3, 7, 9, 12, 18])
async def test_client_in_the_middle_of_a_fragmented_message(cut: int) -> None:
    message = frame(0x1, "gr\xfc\xdfe".encode()[:3]) + frame(FIN, "gr\xfc\xdfe".encode()[3:])
    one, two = Received(), Received()
    async with (
        hosting(detaching(one)) as old,
        hosting(detaching(two)) as new,
        raw_client(old) as client,
    ):
        await client.response()
        reader: Any = old.connection._reader  # noqa: SLF001  (nobody else can tell)
        client.writer.write(message[:cut])
        await old.until(lambda: reader.unread or reader._half)  # noqa: SLF001  (the same)
        await move(old, new, two)
        client.writer.write(message[cut:] + frame(CLOSE, b"\x03\xe8"))
        await two.until(lambda e: e.ends)
    assert one.ends == []
    assert two.messages == [Message("gr\xfc\xdfe".encode())]
    assert two.ends == [1000]


async def test_five_megabytes_that_the_client_has_not_read() -> None:
    """The middle of a frame, then whole frames; and what is written after the move comes last."""
    one, two = Received(), Received()
    async with (
        hosting(detaching(one, max_backlog=50_000_000)) as old,
        hosting(detaching(two)) as new,
        raw_client(old, receive_buffer=4096) as client,
    ):
        await client.response()
        await old.until(lambda: hasattr(one, "transport"))
        payloads = [b"%d " % number * 30_000 for number in range(200)]
        for payload in payloads[:190]:
            one.transport.write(one.transport.framing.frame([Message(payload, binary=True)]))
        assert old.connection.backlog > 5_000_000
        for source, target, events in ((old, new, two), (new, old, one), (old, new, two)):
            await move(source, target, events)
        for payload in payloads[190:]:
            two.transport.write(two.transport.framing.frame([Message(payload, binary=True)]))
        for payload in payloads:
            assert await client.frame() == (0x82, payload)
        two.transport.close(1001, "")
        assert await client.frame() == (0x88, b"\x03\xe9")


async def test_what_was_not_delivered_while_paused_is_delivered_there() -> None:
    one, two = Received(), Received()
    async with (
        hosting(detaching(one)) as old,
        hosting(detaching(two)) as new,
        raw_client(old) as client,
    ):
        await client.response()
        await old.until(lambda: hasattr(one, "transport"))
        one.on_message = lambda _: one.transport.pause()
        client.writer.write(b"".join(frame(TEXT, b"%d" % number) for number in range(9)))
        await one.until(lambda e: e.messages)
        one.transport.resume()  # due soon: the move comes before it
        await move(old, new, two)
        await two.until(lambda e: len(e.messages) == 8)
    assert text(one) + text(two) == [b"%d" % number for number in range(9)]


async def test_client_that_sends_pings_and_never_reads_moves_too() -> None:
    """It is not read from after the move either, until it has read."""
    one, two = Received(), Received()
    async with (
        hosting(detaching(one)) as old,
        hosting(detaching(two)) as new,
        raw_client(old, receive_buffer=4096) as client,
    ):
        await client.response()
        await old.until(lambda: hasattr(one, "transport"))
        one.transport.write(one.transport.framing.frame([Message(bytes(4_000_000), binary=True)]))
        client.writer.write(frame(PING, b"are you there?") + frame(TEXT, b"then this"))
        tcp: Any = old.connection._tcp  # noqa: SLF001  (nobody else can tell)
        await old.until(lambda: not tcp.is_reading())
        await move(old, new, two)
        assert two.messages == []
        assert await client.frame() == (0x82, bytes(4_000_000))
        assert await client.frame() == (0x8A, b"are you there?")
        await two.until(lambda e: e.messages)
    assert text(two) == [b"then this"]


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_client_that_leaves_meanwhile_has_an_ordinary_end(leave: str) -> None:
    one, two = Received(), Received()
    async with hosting(detaching(one)) as old, hosting(detaching(two)) as new:
        async with raw_client(old) as client:
            await client.response()
            frozen = await freeze(old)
            if leave == "close":
                client.writer.write(frame(CLOSE, b"\x03\xe9"))
            else:
                client.writer.transport.abort()
            await thaw(new, frozen, two)
            await two.until(lambda e: e.ends)
        await new.empty()
    assert two.ends == [1001 if leave == "close" else 1006]
    assert one.ends == []


async def test_keepalive_goes_on() -> None:
    """A client that lives gets pings from its new server; one that does not answer is let go."""
    one, two = Received(), Received()
    options: dict[str, Any] = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1}
    async with (
        hosting(detaching(one)) as old,
        hosting(detaching(two), **options) as new,
        raw_client(old) as client,
    ):
        await client.response()
        await move(old, new, two)
        assert await client.frame() == (0x89, b"")
        assert (await client.frame())[0] == 0x88
        client.writer.write(frame(CLOSE, b"\x03\xf3"))
        await two.until(lambda e: e.ends)
    assert two.ends == [1011]


async def test_not_while_it_opens_closes_or_is_gone() -> None:
    called, accept = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        called.set()
        await accept.wait()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async with hosting(app) as host, raw_client(host) as client:
        await called.wait()
        connection = host.connection
        assert connection.freeze() is None
        accept.set()
        await client.response()
        assert connection.freeze() is None
        client.writer.write(frame(CLOSE, b"\x03\xe8"))
        await host.empty()
        assert connection.freeze() is None


async def test_a_frozen_connection_does_and_tells_nothing() -> None:
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        frozen = await freeze(host)
        assert host.state.connections == set()
        transport = events.transport
        calls: list[Callable[[], object]] = [
            lambda: transport.write(b"never"),
            transport.pause,
            transport.resume,
            lambda: transport.close(1001, ""),
            transport.abort,
            transport.freeze,
        ]
        for call in calls:
            assert call() is None
        os.write(frozen.descriptor, b"ours")
        os.close(frozen.descriptor)
        assert await client.rest() == b"ours"
    assert events.ends == []


@pytest.mark.parametrize("state", [b"", b"\xff", b"\x81\xa7framing\xa4none"])
async def test_a_state_that_is_none(state: bytes) -> None:
    async with hosting(detaching(Received())) as host:
        websocket = UvicornWebSocket(host.config, host.state, {})
        with pytest.raises(ValueError, match="no frozen WebSocket"):
            websocket.thaw(state, Received(), **LIMITS)


async def test_a_framing_of_another_release() -> None:
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        frozen = await freeze(host)
        websocket = UvicornWebSocket(host.config, host.state, {})
        with pytest.raises(ValueError, match="no framing 'WEBSOCKET'"):
            websocket.thaw(frozen.state.replace(b"websocket", b"WEBSOCKET"), events, **LIMITS)
        os.close(frozen.descriptor)


async def test_a_server_without_descriptors_keeps_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        await host.until(lambda: hasattr(events, "transport"))

        def none_left(_descriptor: int) -> int:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", none_left)
            assert events.transport.freeze() is None
        await still_works(client, events)


async def still_works(client: RawClient, events: Received) -> None:
    client.writer.write(frame(TEXT, b"still here"))
    await events.until(lambda e: e.messages)
