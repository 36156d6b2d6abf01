"""The Centrifuge protocol in Protobuf, against the classes that Google's compiler makes of it."""

import json
from base64 import b64encode
from typing import Any

import centrifuge.protocol.client_pb2 as compiled
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from lastcall.broker.base import Kind, Publication
from lastcall.errors import ServerShutdown, SlowConsumer, TooManyRequests
from lastcall.protocol.base import Command, Message
from lastcall.protocol.centrifuge import (
    INSUFFICIENT,
    Call,
    ClientIdentity,
    Connect,
    ConnectResult,
    Empty,
    History,
    HistoryResult,
    Invalid,
    Join,
    Leave,
    Pong,
    Presence,
    PresenceResult,
    PresenceStats,
    PresenceStatsResult,
    Publish,
    PublishBytes,
    Push,
    Recovery,
    Refresh,
    Refreshed,
    RefreshResult,
    Reply,
    Result,
    Rpc,
    RpcResult,
    SendMessage,
    Since,
    SubRefresh,
    Subscribe,
    Subscribed,
    SubscribeResult,
    Unsubscribe,
    joins_of,
)
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.protobuf_wire import (
    WireError,
    delimited,
    fields_in,
    messages_in,
    varint,
)

# What is in it is made when it is imported: no checker of types can know.
schema: Any = compiled
PROTOCOL = CentrifugeProtobuf(lambda channel: channel != "forgetful", "notices", max_commands=3)
JSON = CentrifugeJson(lambda channel: channel != "forgetful", "notices")
ANN = ClientIdentity("c1", "ann", conn_info=Raw(b'{"n":1}'), chan_info=Raw(b"2"))
IN_JSON = '"info":{"client":"c1","user":"ann","conn_info":{"n":1}},"tags":{"k":"v","l":""}'


def reply(message: Message) -> Any:
    """The one reply in *message*, by the other codec."""
    assert message.binary
    (encoded,) = messages_in(message.data)
    found = schema.Reply()
    found.ParseFromString(encoded)
    return found


def told(message: Message) -> Any:
    """The same, with names."""
    return MessageToDict(reply(message), preserving_proto_field_name=True)


def said(*commands: dict[str, Any]) -> Message:
    """Commands as the Python SDK says them."""
    encoded = [ParseDict(each, schema.Command()).SerializeToString() for each in commands]
    return Message(b"".join(map(delimited, encoded)), binary=True)


def b64(data: str | bytes) -> str:
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            {
                "id": 1,
                "connect": {
                    "token": "t",
                    "data": b64('{"a":1}'),
                    "name": "python",
                    "version": "1",
                    "headers": {"x": "y", "z": ""},
                    "subs": {"a": {"recover": True, "offset": 2**53, "epoch": "e"}, "b": {}},
                    "flag": -1,
                },
            },
            Connect(
                "t",
                data=Raw(b'{"a":1}'),
                name="python",
                version="1",
                headers={"x": "y", "z": ""},
                subs={"a": Recovery(recover=True, offset=2**53, epoch="e"), "b": Recovery()},
            ),
        ),
        (
            {
                "id": 2,
                "subscribe": {
                    "channel": "чат",
                    "token": "t",
                    "recover": True,
                    "offset": 7,
                    "epoch": "e",
                    "positioned": True,
                    "recoverable": True,
                    "join_leave": True,
                    "data": b64("[]"),
                    "delta": "fossil",
                    "flag": 3,
                },
            },
            Subscribe(
                "чат",
                "t",
                recover=True,
                offset=7,
                epoch="e",
                positioned=True,
                recoverable=True,
                join_leave=True,
                data=Raw(b"[]"),
                delta="fossil",
                flag=3,
            ),
        ),
        ({"id": 3, "unsubscribe": {"channel": "a"}}, Unsubscribe(channel="a")),
        ({"id": 4, "publish": {"channel": "a", "data": b64("1")}}, Publish("a", Raw(b"1"))),
        ({"id": 4, "publish": {"channel": "a"}}, Publish("a", UNSET)),
        ({"id": 5, "presence": {"channel": "a"}}, Presence(channel="a")),
        ({"id": 6, "presence_stats": {"channel": "a"}}, PresenceStats(channel="a")),
        (
            {
                "id": 7,
                "history": {"channel": "a", "limit": -1, "since": {"offset": 5}, "reverse": True},
            },
            History(channel="a", limit=-1, since=Since(5, ""), reverse=True),
        ),
        ({"id": 8, "rpc": {"method": "m", "data": b64("null")}}, Rpc("m", Raw(b"null"))),
        ({"id": 9, "refresh": {"token": "t"}}, Refresh("t")),
        ({"id": 4294967295, "sub_refresh": {"channel": "a", "token": "t"}}, SubRefresh("a", "t")),
        ({"send": {"data": b64('"x"')}}, SendMessage(Raw(b'"x"'))),
    ],
)
def test_commands_are_read(command: dict[str, Any], expected: Any) -> None:
    assert PROTOCOL.decode(said(command)) == [Call(command.get("id", 0), expected)]


@pytest.mark.parametrize(
    "data",
    [b"\0\xff", b"{", b"1 2", b'"\xff"', b"[" * 100_000, "grüß".encode()],
    ids=["bytes", "brace", "two", "no UTF-8", "deep", "text"],
)
def test_what_is_no_json_is_published_as_bytes_and_said_in_json_elsewhere(data: bytes) -> None:
    (publish,) = PROTOCOL.decode(said({"id": 1, "publish": {"channel": "a", "data": b64(data)}}))
    assert publish == Call(1, PublishBytes("a", data))
    (call,) = PROTOCOL.decode(said({"id": 1, "rpc": {"method": "m", "data": b64(data)}}))
    assert isinstance(call, Call)
    assert isinstance(call.request, Rpc)
    assert isinstance(call.request.data, Raw)
    assert json.loads(bytes(call.request.data)) == {"b64data": b64(data)}


def test_filter_is_seen_and_a_pong_is_empty() -> None:
    (subscribe,) = PROTOCOL.decode(said({"id": 1, "subscribe": {"channel": "a", "tf": {}}}))
    assert isinstance(subscribe, Call)
    assert isinstance(subscribe.request, Subscribe)
    assert subscribe.request.tf is not UNSET

    assert PROTOCOL.decode(Message(b"\0\0", binary=True)) == [Pong(), Pong()]
    assert told(PROTOCOL.ping) == {}
    empty = Message(delimited(b"\x08\x01\x6a\x02\x0a\x00"), binary=True)
    assert PROTOCOL.decode(empty) == [Call(1, Rpc())]


def bad(*parts: bytes) -> Message:
    return Message(b"".join(parts), binary=True)


@pytest.mark.parametrize(
    "message",
    [
        Message(b"\0"),  # text
        bad(),
        bad(b"\x80"),
        bad(b"\xff" * 11),
        bad(b"\x05\x08\x01"),
        bad(delimited(b"\x08")),  # a field without its value
        bad(delimited(b"\x08\x01")),  # an id alone
        bad(delimited(b"\x08\x01\x5a\x00")),  # ping
        bad(delimited(b"\x22\x00")),  # connect without an id
        bad(delimited(b"\x0a\x01\x31\x22\x00")),  # a text as id
        bad(delimited(b"\x08\x01\x20\x01")),  # a number as connect
        bad(delimited(b"\x08\x80\x80\x80\x80\x10\x22\x00")),  # an id of 33 bits
        bad(delimited(b"\x08\x01\x22\x02\x0a\x05")),  # a token that is too short
        bad(delimited(b"\x08\x01\x22\x02\x08\x05")),  # a number as token
        bad(delimited(b"\x08\x01\x2a\x03\x1a\x01\x31")),  # a text as a switch
        bad(delimited(b"\x08\x01\x22\x03\x0a\x01\xff")),  # no UTF-8
        bad(delimited(b"\x00\x00")),  # field 0
        bad(delimited(b"\x0b\x0c")),  # a group
        bad(delimited(b"\x09\x01")),  # a number of 8 bytes that has one
    ],
)
def test_what_is_no_command_ends_it(message: Message) -> None:
    commands = PROTOCOL.decode(message)
    assert [type(each) for each in commands] == [Invalid]


def test_what_came_before_garbage_counts_and_there_is_an_end_to_it() -> None:
    good = said({"id": 1, "rpc": {"method": "m"}}).data

    commands = PROTOCOL.decode(bad(good, b"\x7f"))
    assert [type(each) for each in commands] == [Call, Invalid]
    assert len(PROTOCOL.decode(bad(good * 3))) == 3
    assert [type(each) for each in PROTOCOL.decode(bad(good * 4))] == [Invalid]


def test_fields_of_tomorrow_are_skipped() -> None:
    ours = said({"id": 1, "rpc": {"method": "m"}}).data[1:]
    theirs = b"\xf9\x01" + b"8 bytes." + b"\xfd\x01" + b"four" + b"\xf8\x01\x07" + b"\xfa\x01\x01x"
    assert PROTOCOL.decode(bad(delimited(theirs + ours))) == [Call(1, Rpc("m"))]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    commands: list[Command] = list(PROTOCOL.decode(Message(data, binary=True)))
    assert all(isinstance(each, Call | Pong | Invalid) for each in commands)


@given(st.integers(0, 2**64 - 1))
def test_numbers_come_back(number: int) -> None:
    assert list(fields_in(b"\x08" + varint(number))) == [(1, number)]
    with pytest.raises(WireError):
        list(fields_in(b"\x08" + varint(number)[:-1]))


SUBSCRIBED = SubscribeResult(
    recoverable=True,
    epoch="e",
    recovered=True,
    offset=5,
    positioned=True,
    was_recovering=True,
    expires=True,
    ttl=9,
    data=Raw(b"1"),
)
RESULTS: list[tuple[str, Result]] = [
    ("connect", ConnectResult("c", "1", ping=25, pong=True, expires=True, ttl=5, data=Raw(b"{}"))),
    ("connect", ConnectResult("c", "1", session="s", node="n", subs={"a": SUBSCRIBED})),
    ("subscribe", SUBSCRIBED),
    ("subscribe", SubscribeResult()),
    ("unsubscribe", Empty()),
    ("publish", Empty()),
    ("presence", PresenceResult({"c1": ANN})),
    ("presence", PresenceResult({})),
    ("presence_stats", PresenceStatsResult(2, 0)),
    ("history", HistoryResult([], 7, "e")),
    ("rpc", RpcResult(Raw(b"[1]"))),
    ("refresh", RefreshResult(expires=True, ttl=5)),
    ("sub_refresh", RefreshResult(expires=True, ttl=5)),
]


def in_json(line: Message) -> Any:
    """What the JSON protocol says, as the other codec would say it."""
    return MessageToDict(
        ParseDict(_with_bytes(json.loads(line.data)), schema.Reply()),
        preserving_proto_field_name=True,
    )


def _with_bytes(value: Any, name: str = "") -> Any:
    if name in {"data", "conn_info", "chan_info"}:
        return b64(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    if isinstance(value, dict):
        return {key: _with_bytes(each, key) for key, each in value.items()}
    return value


@pytest.mark.parametrize(("method", "result"), RESULTS)
def test_replies_say_what_they_say_in_json(method: str, result: Result) -> None:
    answer = Reply(3, method, result)
    assert told(PROTOCOL.reply(answer)) == in_json(JSON.reply(answer))


def test_refusals_and_pushes_say_what_they_say_in_json() -> None:
    refusal = Reply(3, "connect", TooManyRequests())
    assert told(PROTOCOL.reply(refusal)) == in_json(JSON.reply(refusal))
    for content in (
        Join(ANN),
        Leave(ANN),
        INSUFFICIENT,
        Subscribed(recoverable=True, epoch="e", offset=3, positioned=True, data=Raw(b"1")),
    ):
        push = Push("chat", content)
        assert told(PROTOCOL.push(push)) == in_json(JSON.push(push))
    refreshed = Push("", Refreshed(expires=True, ttl=3))
    assert told(PROTOCOL.push(refreshed)) == in_json(JSON.push(refreshed))
    for ours, theirs in zip(PROTOCOL.notice("so long"), JSON.notice("so long"), strict=True):
        assert told(ours) == in_json(theirs)
    assert told(PROTOCOL.goodbye(3001, "shutdown")) == in_json(JSON.goodbye(3001, "shutdown"))
    assert PROTOCOL.farewell(ServerShutdown()) == (3001, "shutdown")
    assert PROTOCOL.farewell(SlowConsumer()) == (3008, "slow")
    assert PROTOCOL.refusal(TooManyRequests()) is None
    assert len(CentrifugeProtobuf().notice("so long")) == 1


@pytest.mark.parametrize(
    "publication",
    [
        Publication("chat", b'{"a":"\xc3\xbc"}', 7, "e", Kind.JSON, IN_JSON.encode()),
        Publication("chat", b"1", 7, "e", Kind.JSON),
        Publication("forgetful", b"1", 7, "e", Kind.JSON),
        Publication(joins_of("chat"), b'"join":{"info":{"client":"c"}}', 3, "e", Kind.JSON),
        Publication(joins_of("chat"), b'"leave":{"info":{"client":"c"}}', 3, "e", Kind.JSON),
    ],
)
def test_publications_say_what_they_say_in_json(publication: Publication) -> None:
    assert told(PROTOCOL.publication(publication)) == in_json(JSON.publication(publication))


def test_text_and_bytes_come_as_they_are() -> None:
    text = reply(PROTOCOL.publication(Publication("chat", "grüß".encode(), 1, "e")))
    assert text.push.pub.data.decode() == "grüß"
    data = reply(PROTOCOL.publication(Publication("chat", b"\0\xff", 1, "e", Kind.BINARY)))
    assert data.push.pub.data == b"\0\xff"


def test_bodies_stand_in_replies_and_pushes() -> None:
    bodies = [Raw(PROTOCOL.body(Publication("chat", b"1", n, "e", Kind.JSON))) for n in (1, 2)]
    history = reply(PROTOCOL.reply(Reply(1, "history", HistoryResult(bodies, 2, "e"))))
    assert [each.offset for each in history.history.publications] == [1, 2]
    pushed = reply(PROTOCOL.push(Push("chat", bodies[0])))
    assert (pushed.push.channel, pushed.push.pub.offset) == ("chat", 1)
