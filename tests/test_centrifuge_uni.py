"""The Centrifuge protocol for clients that only listen: what they say once, and what they read."""

import pytest
from msgspec import Raw

from lastcall.broker.base import Kind, Publication
from lastcall.errors import (
    BadRequest,
    ConnectionExpired,
    Disconnect,
    InternalError,
    NotPermitted,
    Overloaded,
    PermissionDenied,
    Refused,
    ServerError,
    ServerShutdown,
    TokenExpired,
    TooManyRequests,
)
from lastcall.protocol.base import Message, Positioned
from lastcall.protocol.centrifuge import (
    SERVER_UNSUBSCRIBE,
    Call,
    ClientIdentity,
    Connect,
    ConnectResult,
    Invalid,
    Join,
    Push,
    Recovery,
    Refreshed,
    Reply,
    Subscribed,
    SubscribeResult,
    joins_of,
)
from lastcall.protocol.centrifuge_uni import CentrifugeUni

PROTOCOL = CentrifugeUni(lambda channel: channel != "forgetful")


def test_a_client_says_who_it_is_and_where_it_stood() -> None:
    said = b'{"name":"c","subs":{"news":{"recover":true,"offset":3,"epoch":"e"}}}'

    assert PROTOCOL.decode(Message(said)) == [
        Call(1, Connect(name="c", subs={"news": Recovery(recover=True, offset=3, epoch="e")}))
    ]


def test_a_client_may_say_nothing() -> None:
    assert PROTOCOL.decode(Message(b"")) == PROTOCOL.decode(Message(b"{}")) == [Call(1, Connect())]


@pytest.mark.parametrize("said", [b"no", b"[]", b'{"token":1}', b'{"token":"\xff"}', b"[" * 9999])
def test_anything_else_is_not_the_protocol(said: bytes) -> None:
    (command,) = PROTOCOL.decode(Message(said))

    assert isinstance(command, Invalid)
    assert isinstance(command.why, BadRequest)


@pytest.mark.parametrize(
    ("publication", "message"),
    [
        (
            Publication("news", b'{"a":1}', 7, "e", Kind.JSON),
            Positioned(
                b'{"channel":"news","pub":{"data":{"a":1},"offset":7}}', moves=(("news", 7, "e"),)
            ),
        ),
        (
            Publication("told", b'"x"', 0, "", Kind.JSON),
            Message(b'{"channel":"told","pub":{"data":"x"}}'),
        ),
        (
            Publication(joins_of("news"), b'"join":{"info":{"client":"c"}}', 3, "e", Kind.JSON),
            Message(b'{"channel":"news","join":{"info":{"client":"c"}}}'),
        ),
    ],
)
def test_publications_have_no_envelope(publication: Publication, message: Message) -> None:
    assert PROTOCOL.publication(publication) == message


def test_the_answer_says_where_a_client_stands_that_has_read_all_it_missed() -> None:
    missed = [Raw(b'{"offset":5}'), Raw(b'{"offset":6}')]
    subs = {
        "kept": SubscribeResult(recoverable=True, epoch="e", offset=4, publications=missed),
        "told": SubscribeResult(),
        "same": SubscribeResult(recoverable=True, epoch="e", offset=7),
    }
    message = PROTOCOL.reply(Reply(1, "connect", ConnectResult("c", "1", subs=subs)))

    assert isinstance(message, Positioned)
    assert (message.moves, message.begins) == ((("kept", 6, "e"), ("same", 7, "e")), True)
    assert message.data == (
        b'{"connect":{"client":"c","version":"1","subs":{"kept":{"recoverable":true,"epoch":"e",'
        b'"publications":[{"offset":5},{"offset":6}],"offset":4},"told":{},'
        b'"same":{"recoverable":true,"epoch":"e","offset":7}}}}'
    )


@pytest.mark.parametrize(
    ("push", "data", "moves", "begins"),
    [
        (
            Push("a", Subscribed(recoverable=True, epoch="e", offset=2)),
            b'{"channel":"a","subscribe":{"recoverable":true,"epoch":"e","offset":2}}',
            (("a", 2, "e"),),
            True,
        ),
        (Push("a", Subscribed()), b'{"channel":"a","subscribe":{}}', None, False),
        (
            Push("a", Raw(b'{"data":1,"offset":5}')),
            b'{"channel":"a","pub":{"data":1,"offset":5}}',
            (("a", 5, ""),),
            False,
        ),
        (
            Push("a", SERVER_UNSUBSCRIBE),
            b'{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}',
            (("a", None, ""),),
            False,
        ),
        (
            Push("a", Join(ClientIdentity("c"))),
            b'{"channel":"a","join":{"info":{"client":"c","user":""}}}',
            None,
            False,
        ),
        (
            Push("", Refreshed(expires=True, ttl=9)),
            b'{"refresh":{"expires":true,"ttl":9}}',
            None,
            False,
        ),
    ],
)
def test_pushes_have_no_envelope(
    push: Push, data: bytes, moves: tuple[object] | None, *, begins: bool
) -> None:
    message = PROTOCOL.push(push)

    assert message.data == data
    if moves is None:
        assert type(message) is Message
    else:
        assert isinstance(message, Positioned)
        assert (message.moves, message.begins) == (moves, begins)


def test_notices_and_the_end_are_pushes() -> None:
    assert PROTOCOL.notice("bye") == [Message(b'{"message":{"data":"bye"}}')]
    assert CentrifugeUni(notice_channel="notices").notice("bye") == [
        Message(b'{"message":{"data":"bye"}}'),
        Message(b'{"channel":"notices","pub":{"data":"bye"}}'),
    ]
    assert PROTOCOL.goodbye(*PROTOCOL.farewell(ServerShutdown())) == Message(
        b'{"disconnect":{"code":3001,"reason":"shutdown"}}'
    )


@pytest.mark.parametrize(
    ("why", "end"),
    [
        (TokenExpired(), ConnectionExpired),
        (Refused(110, "expired"), ConnectionExpired),
        (TooManyRequests(), Overloaded),
        (NotPermitted(), PermissionDenied),
        (InternalError(), ServerError),
        (Refused(444, "not on Sundays"), ServerError),
    ],
)
def test_a_refused_connect_is_an_end(why: Refused, end: type[Disconnect]) -> None:
    assert type(PROTOCOL.refusal(why)) is end
    told = b'{"disconnect":{"code":%d,"reason":"%b"}}' % (end.code, end.reason.encode())
    assert PROTOCOL.reply(Reply(1, "connect", why)) == Message(told)
