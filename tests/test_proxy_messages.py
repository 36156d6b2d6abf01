"""What an answer of the backend means, and what cannot be one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET, Raw

from lastcall.channel_options import Override, Switch
from lastcall.errors import ClosedByApplication, Refused
from lastcall.proxy_messages import (
    Unusable,
    called,
    edited,
    identity,
    permit,
    picked,
    prolonged,
)
from lastcall.verdicts import Edited, Identity, Permit

READERS = (identity, permit, edited, called, lambda body: prolonged(body, "ann"))


def says(**answer: Any) -> bytes:
    return json.dumps(answer).encode()


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def test_identity_has_all_that_the_backend_says() -> None:
    body = says(
        result={
            "user": "ann",
            "expire_at": 99,
            "b64info": "eyJhIjoxfQ==",
            "data": None,
            "meta": 7,
            "channels": ["a", "b"],
            "subs": {
                "b": {"data": 1, "override": {"presence": {"value": True}}, "unknown": 1},
                "c": None,
            },
            "caps": [],
        }
    )

    found = identity(body)

    assert found is not None
    assert found.info == Raw(b'{"a":1}')
    assert found.data is None
    assert found.meta == raw(7)
    assert (found.user, found.expire_at) == ("ann", 99)
    assert found.permits() == {
        "a": Permit(),
        "b": Permit(data=raw(1), override=Override(presence=Switch(value=True))),
        "c": Permit(),
    }


def test_channels_may_be_a_list_of_names() -> None:
    assert Identity(user="ann", channels=["a", "b"]).permits() == {"a": Permit(), "b": Permit()}


def test_what_is_left_out_is_a_no() -> None:
    assert identity(b"{}") is None
    assert prolonged(b"{}", "ann") is None
    assert prolonged(says(result={"expired": True, "expire_at": 5}), "ann") is None
    assert permit(b"{}") is False
    assert edited(b"{}") is False
    assert called(b"{}") is None


def test_what_is_said_shortly_is_a_yes() -> None:
    yes = says(result={})

    assert identity(yes) == Identity(user="", channels={})
    assert prolonged(says(result={"expire_at": 5, "info": 1}), "ann") == Identity(
        user="ann", expire_at=5, info=raw(1)
    )
    assert permit(yes) == Permit()
    assert edited(yes) == Edited(data=UNSET)
    assert called(yes) is None


def test_publication_may_be_another() -> None:
    said = {"data": {"a": 1}, "tags": {"k": "v"}, "idempotency_key": "x", "skip_history": True}

    found = edited(says(result=said))

    assert isinstance(found, Edited)
    assert json.loads(bytes(found.data)) == {"a": 1}
    assert (found.tags, found.idempotency_key) == ({"k": "v"}, "x")


@pytest.mark.parametrize("read", READERS)
def test_error_and_disconnect_are_for_the_client(read: Callable[[bytes], Any]) -> None:
    with pytest.raises(Refused) as refused:
        read(says(error={"code": 1999, "message": "no", "temporary": True}, result={}))
    assert (refused.value.code, refused.value.message) == (1999, "no")
    assert refused.value.temporary
    with pytest.raises(Refused, match="refused"):
        read(says(error={"code": 400}))

    with pytest.raises(ClosedByApplication) as closed:
        read(says(disconnect={"code": 4000, "reason": "elsewhere"}))
    assert (closed.value.code, closed.value.reason) == (4000, "elsewhere")
    with pytest.raises(ClosedByApplication) as closed:
        read(says(disconnect={"code": 4999}))
    assert closed.value.reason == "closed by the application"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        says(result=5),
        says(error={"code": 399, "message": "ours"}),
        says(error={"code": 2000}),
        says(error={}),
        says(disconnect={"code": 3999, "reason": "theirs"}),
        says(disconnect={"code": 5000}),
        says(disconnect={"code": 4000, "reason": "30"}),
        says(disconnect={"code": 4000, "reason": "ä" * 62}),
    ],
)
def test_what_cannot_be_an_answer_is_none(read: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(Unusable):
        read(body)


@pytest.mark.parametrize("text", ["###", "bm8gSlNPTg==", "WzEs\nMl0="])
def test_value_in_base64_has_to_be_one(text: str) -> None:
    named = {identity: "b64info", permit: "b64info", edited: "b64data", called: "b64data"}
    for read, name in named.items():
        with pytest.raises(Unusable):
            read(says(result={name: text}))
    with pytest.raises(Unusable):
        prolonged(says(result={"b64info": text}), "ann")


def test_headers_are_picked_by_name() -> None:
    asked = {"Cookie": "a=b", "X-One": "1\t\xe4", "x-two": "2\r\nX-Evil: 1", "x-three": "\u20ac"}
    names = ("x-one", "cookie", "x-two", "x-three", "x-four")

    assert picked(asked, names) == [("x-one", "1\t\xe4"), ("cookie", "a=b")]
    assert picked(asked, names, frozenset({"cookie"})) == [("x-one", "1\t\xe4")]
    assert picked(asked, ()) == []
