"""Deltas as a client meets them: asked for, allowed, and a whole publication where one is due."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from starlette.testclient import TestClient

from lastcall import Lastcall
from lastcall.channel_options import ChannelOptions
from tests.session_client import SessionClient, connected, serving

pytestmark = pytest.mark.usefixtures("run_dir")

OPEN = ChannelOptions(
    allow_subscribe_for_client=True,
    allow_subscribe_for_anonymous=True,
    allow_publish_for_client=True,
    allow_publish_for_anonymous=True,
    allowed_delta_types=("fossil",),
)
KEPT = OPEN.model_copy(
    update={
        "history_size": 10,
        "force_recovery": True,
        "allow_history_for_client": True,
        "allow_history_for_anonymous": True,
    }
)
PAD = "naïve ☃ 𝄞 " * 10


class Reader:
    """Puts the publications of one subscription together again, as the SDKs do."""

    def __init__(self) -> None:
        self.deltas: list[bool] = []
        self._last = b""

    def read(self, publication: Any) -> Any:
        is_delta = publication.get("delta", False)
        told = publication["data"].encode()
        self._last = bytes(apply_delta(self._last, told)) if is_delta else told
        self.deltas.append(is_delta)
        return json.loads(self._last)

    def hear(self, client: SessionClient) -> Any:
        return self.read(client.hear()["push"]["pub"])


@pytest.fixture
def client() -> Iterator[TestClient]:
    namespaces = {
        "loose": OPEN,
        "doc": KEPT,
        "quote": KEPT.model_copy(update={"history_size": 1, "force_recovery_mode": "cache"}),
        "whole": KEPT.model_copy(update={"allowed_delta_types": ()}),
    }
    lastcall = Lastcall(allow_anonymous=True, namespaces=namespaces)
    with serving(lastcall) as client:
        yield client


def say(speaker: SessionClient, channel: str, number: int) -> None:
    assert speaker.ask("publish", channel=channel, data={"n": number, "pad": PAD}) == {}


@pytest.mark.parametrize("channel", ["loose:a", "doc:a"])
def test_who_asks_hears_deltas_after_something_whole(client: TestClient, channel: str) -> None:
    with (
        connected(client) as first,
        connected(client) as second,
        connected(client) as plain,
        connected(client) as speaker,
    ):
        one, two = Reader(), Reader()
        assert first.ask("subscribe", channel=channel, delta="fossil")["delta"] is True
        assert "delta" not in plain.ask("subscribe", channel=channel)
        for number in (1, 2):
            say(speaker, channel, number)
            assert one.hear(first) == {"n": number, "pad": PAD}
        second.ask("subscribe", channel=channel, delta="fossil")
        for number in (3, 4):
            say(speaker, channel, number)
            assert one.hear(first)["n"] == two.hear(second)["n"] == number
        for number in (1, 2, 3, 4):
            told = plain.hear()["push"]["pub"]
            assert (told["data"], "delta" in told) == ({"n": number, "pad": PAD}, False)
    assert (one.deltas, two.deltas) == ([False, True, True, True], [False, True])


def test_who_publishes_hears_it_with_its_own_identity(client: TestClient) -> None:
    with connected(client) as speaker:
        reader = Reader()
        speaker.ask("subscribe", channel="loose:a", delta="fossil")
        for number in (1, 2):
            speaker.say({"id": 100 + number, "publish": {"channel": "loose:a", "data": [PAD]}})
            told = speaker.hear()
            while "push" not in told:
                told = speaker.hear()
            assert told["push"]["pub"]["info"]["client"]
            assert reader.read(told["push"]["pub"]) == [PAD]
        assert reader.deltas == [False, True]


def test_where_deltas_are_not_allowed_everything_is_whole(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as listener:
        assert "delta" not in listener.ask("subscribe", channel="whole:a", delta="fossil")
        for number in (1, 2):
            say(speaker, "whole:a", number)
            assert listener.hear()["push"]["pub"]["data"]["n"] == number


def test_what_is_shorter_whole_is_whole(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as listener:
        reader = Reader()
        listener.ask("subscribe", channel="loose:a", delta="fossil")
        for said in (1, 2, None, "x" * 100, {"y": 100 * "y"}, {"y": 101 * "y"}):
            speaker.ask("publish", channel="loose:a", data=said)
            assert reader.hear(listener) == said
        assert reader.deltas == [False] * 5 + [True]


def test_recovered_publications_are_a_chain_that_goes_on(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as listener:
        position = listener.ask("subscribe", channel="doc:a")
        listener.ask("unsubscribe", channel="doc:a")
        for number in (1, 2, 3):
            say(speaker, "doc:a", number)
        since = {"recover": True, "offset": position.get("offset", 0), "epoch": position["epoch"]}
        result = listener.ask("subscribe", channel="doc:a", delta="fossil", **since)
        assert (result["recovered"], result["delta"]) == (True, True)
        reader = Reader()
        assert [reader.read(each)["n"] for each in result["publications"]] == [1, 2, 3]
        say(speaker, "doc:a", 4)
        assert reader.hear(listener)["n"] == 4
        assert reader.deltas == [False, True, True, True]
        page = listener.ask("history", channel="doc:a", limit=10)
        assert [each["data"]["n"] for each in page["publications"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("recovered", [True, False], ids=["nothing missed", "not recovered"])
def test_who_comes_back_and_is_told_nothing_hears_something_whole(
    client: TestClient,
    recovered: bool,  # noqa: FBT001  (a column of the table)
) -> None:
    with connected(client) as speaker, connected(client) as other, connected(client) as listener:
        other.ask("subscribe", channel="doc:a", delta="fossil")
        for number in (1, 2, 3):
            say(speaker, "doc:a", number)
        epoch = speaker.ask("history", channel="doc:a")["epoch"]
        since = {"recover": True, "offset": 3, "epoch": epoch if recovered else "other"}
        result = listener.ask("subscribe", channel="doc:a", delta="fossil", **since)
        assert result.get("recovered", False) is recovered
        reader = Reader()
        for number in (4, 5):
            say(speaker, "doc:a", number)
            assert reader.hear(listener)["n"] == number
        assert reader.deltas == [False, True]


def test_the_latest_of_a_cache_is_what_the_next_delta_is_of(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as listener:
        for number in (1, 2):
            say(speaker, "quote:a", number)
        since = {"recover": True, "offset": 0, "epoch": ""}
        result = listener.ask("subscribe", channel="quote:a", delta="fossil", **since)
        reader = Reader()
        assert [reader.read(each)["n"] for each in result["publications"]] == [2]
        say(speaker, "quote:a", 3)
        assert reader.hear(listener)["n"] == 3
        assert reader.deltas == [False, True]


def test_a_subscription_that_is_given_up_leaves_nothing_behind(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as listener:
        gone = {"recover": True, "offset": 2**40, "epoch": "other", "flag": 2}
        refused = listener.ask("subscribe", channel="doc:a", delta="fossil", **gone)
        assert refused["error"]["code"] == 112
        say(speaker, "doc:a", 1)
        position = listener.ask("subscribe", channel="doc:a")
        assert "delta" not in position
        say(speaker, "doc:a", 2)
        assert listener.hear()["push"]["pub"]["data"]["n"] == 2
