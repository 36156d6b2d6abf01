"""The Centrifuge protocol in JSON: what stands in the lines, to the byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from lastcall.broker.base import Kind, Publication
from lastcall.errors import BadRequest, Disconnect, Refused, ServerShutdown, TooManyRequests
from lastcall.protocol.base import Message
from lastcall.protocol.centrifuge import (
    INSUFFICIENT,
    Call,
    ClientIdentity,
    Connect,
    Empty,
    Invalid,
    Join,
    Leave,
    Pong,
    Push,
    Refreshed,
    Reply,
    SendMessage,
    Subscribed,
    SubscribeResult,
    joins_of,
)
from lastcall.protocol.centrifuge_json import CentrifugeJson, in_one_line

PROTOCOL = CentrifugeJson(lambda channel: channel != "forgetful")
ANN = ClientIdentity("c1", "ann", conn_info=Raw(b'{"n":1}'))
ANN_IN_JSON = '{"client":"c1","user":"ann","conn_info":{"n":1}}'


@pytest.mark.parametrize(
    ("publication", "line"),
    [
        (
            Publication("chat", b'{"a":1}', 7, "e", Kind.JSON, b'"info":{"client":"c"}'),
            b'{"push":{"channel":"chat","pub":{"data":{"a":1},"offset":7,"info":{"client":"c"}}}}',
        ),
        (
            Publication("chat", 'grüß "dich"\n'.encode(), 1, "e"),
            '{"push":{"channel":"chat","pub":{"data":"grüß \\"dich\\"\\n","offset":1}}}'.encode(),
        ),
        (
            Publication("chat", b"\x00\xff", 1, "e", Kind.BINARY),
            b'{"push":{"channel":"chat","pub":{"data":{"b64data":"AP8="},"offset":1}}}',
        ),
        (
            Publication("forgetful", b"1", 9, "e", Kind.JSON),
            b'{"push":{"channel":"forgetful","pub":{"data":1}}}',
        ),
        (
            Publication(joins_of("chat"), b'"join":{"info":{"client":"c"}}', 3, "e", Kind.JSON),
            b'{"push":{"channel":"chat","join":{"info":{"client":"c"}}}}',
        ),
    ],
)
def test_publications_are_pushes(publication: Publication, line: bytes) -> None:
    assert PROTOCOL.publication(publication) == Message(line)


@pytest.mark.parametrize(
    ("push", "line"),
    [
        (Push("a", Join(ANN)), '{"channel":"a","join":{"info":' + ANN_IN_JSON + "}}"),
        (Push("a", Leave(ANN)), '{"channel":"a","leave":{"info":' + ANN_IN_JSON + "}}"),
        (Push("a", Subscribed(recoverable=True, epoch="e")),
         '{"channel":"a","subscribe":{"recoverable":true,"epoch":"e"}}'),
        (Push("a", INSUFFICIENT),
         '{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}'),
        (Push("", Refreshed(expires=True, ttl=5)), '{"refresh":{"expires":true,"ttl":5}}'),
    ],
)  # fmt: skip
def test_pushes_name_their_channel(push: Push, line: str) -> None:
    assert PROTOCOL.push(push) == Message(f'{{"push":{line}}}'.encode())


def test_replies_carry_the_id_and_never_an_empty_reason() -> None:
    reply = PROTOCOL.reply(Reply(7, "publish", Empty()))
    assert reply == Message(b'{"id":7,"publish":{}}')
    subscribed = SubscribeResult(recoverable=True, publications=[Raw(b'{"data":1}')])
    assert json.loads(PROTOCOL.reply(Reply(8, "subscribe", subscribed)).data) == {
        "id": 8,
        "subscribe": {"recoverable": True, "publications": [{"data": 1}]},
    }
    assert PROTOCOL.reply(Reply(9, "rpc", TooManyRequests())).data == (
        b'{"id":9,"error":{"code":111,"message":"too many requests","temporary":true}}'
    )
    for kind in Refused.__subclasses__():
        error = json.loads(PROTOCOL.reply(Reply(1, "rpc", kind())).data)["error"]
        assert error["code"] >= 100
        assert error["message"]


def test_what_the_server_says_is_a_message() -> None:
    assert PROTOCOL.notice("bye") == [Message(b'{"push":{"message":{"data":"bye"}}}')]


def test_binary_message_has_to_be_text_all_the_same() -> None:
    """What is published goes to others as text: it would end their connections."""
    line = b'{"id":1,"publish":{"channel":"a","data":"%b"}}'

    (call,) = PROTOCOL.decode(Message(line % "grün".encode(), binary=True))
    assert isinstance(call, Call)
    (invalid,) = PROTOCOL.decode(Message(line % b"gr\xfcn", binary=True))
    assert isinstance(invalid, Invalid)
    assert invalid.why.code == 3501


def test_message_holds_so_many_commands() -> None:
    protocol = CentrifugeJson(max_commands=3)

    assert len(protocol.decode(Message(b"{}\n{}\n{}\n"))) == 3
    (invalid,) = protocol.decode(Message(b"{}\n{}\n{}\n{}"))
    assert isinstance(invalid, Invalid)
    assert invalid.why.code == 3501


def test_notice_is_also_a_publication_where_a_channel_is_for_it() -> None:
    """SDKs that drop messages of the server hear it there."""
    assert CentrifugeJson(notice_channel='"').notice("bye")[1:] == [
        Message(b'{"push":{"channel":"\\"","pub":{"data":"bye"}}}')
    ]


def test_leaving_server_says_so_in_the_words_of_the_protocol() -> None:
    assert PROTOCOL.farewell(ServerShutdown()) == (3001, "shutdown")
    for kind in Disconnect.__subclasses__():
        code, reason = PROTOCOL.farewell(kind())
        assert 1000 <= code < 5000
        assert reason
        # SDKs read a reason that is JSON as an object with orders for them.
        with pytest.raises(json.JSONDecodeError):
            json.loads(reason)


def test_commands_come_in_lines() -> None:
    message = Message(b'{"id":1,"connect":{"token":"t"}}\n{}\n{"send":{"data":[1]},"id":9}\n')

    assert PROTOCOL.decode(message) == [
        Call(1, Connect("t")),
        Pong(),
        Call(0, SendMessage(Raw(b"[1]"))),
    ]


@given(st.binary(max_size=80))
def test_anything_can_be_decoded(data: bytes) -> None:
    commands = PROTOCOL.decode(Message(data))

    assert commands
    for command in commands[:-1]:
        assert not isinstance(command, Invalid)
    if isinstance(commands[-1], Invalid):
        assert isinstance(commands[-1].why, BadRequest)


@pytest.mark.parametrize("value", [b"1", b'{"a":1}', b'"\\n"', b'{"a":\n  [1,\r\n 2]}\n'])
def test_value_in_one_line_is_the_same_value(value: bytes) -> None:
    line = in_one_line(Raw(value))

    assert b"\n" not in line
    assert json.loads(line) == json.loads(value)


def test_where_there_are_no_close_codes_the_end_is_a_push() -> None:
    assert PROTOCOL.goodbye(3001, "shutdown") == Message(
        b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}'
    )
    assert PROTOCOL.refusal(TooManyRequests()) is None
