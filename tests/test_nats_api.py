"""What JetStream is asked, and what it answers."""

import base64
import json

import pytest

from lastcall.broker import nats_api
from lastcall.broker.nats_api import Wish
from lastcall.broker.nats_messages import Kept, Stored, encode
from lastcall.broker.nats_names import Names

NAMES = Names("lastcall")
WISH = Wish(size=100, seconds=600, replicas=1)
STORED = Stored("e", 1, 0, (), ())


def found(**members: object) -> bytes:
    data = base64.b64encode(encode(STORED)).decode()
    return json.dumps({"message": {"subject": "a", "seq": 7, "data": data, **members}}).encode()


def refusal(code: int, text: str = "no") -> bytes:
    return json.dumps({"error": {"code": 400, "err_code": code, "description": text}}).encode()


def test_a_message_is_found() -> None:
    assert nats_api.got(found(), "a") == Kept(7, decoded())
    assert nats_api.got(found(), "b") is None  # the number has been given again
    assert nats_api.got(b"{}", "a") is None
    assert nats_api.got(refusal(10037), "a") is None


def decoded() -> Stored:
    return Stored("e", 1, 0, [], [])


@pytest.mark.parametrize(
    "answer", [b"", b"[]", refusal(10008, "not now"), found(data="_"), found(data="aGVsbG8=")]
)
def test_what_cannot_be_read_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (whatever it says)
        nats_api.got(answer, "a")


def test_answers_to_messages() -> None:
    assert nats_api.ack(b'{"stream":"x","seq":3}').seq == 3
    assert nats_api.ack(b'{"stream":"x","seq":3,"duplicate":true}').duplicate
    for code, is_overtaken in ((10071, True), (10164, True), (10077, False)):
        error = nats_api.ack(refusal(code)).error
        assert error is not None
        assert error.is_overtaken == is_overtaken


def test_questions() -> None:
    assert json.loads(nats_api.get_last("a")) == {"last_by_subj": "a"}
    assert json.loads(nats_api.get(7)) == {"seq": 7}
    assert json.loads(nats_api.purge("a", 7)) == {"filter": "a", "seq": 7}


def test_a_stream_that_was_made_is_good_as_it_is() -> None:
    config = nats_api.stream(NAMES, WISH)

    assert nats_api.changed(config, NAMES, WISH) is None
    assert nats_api.stream_answer(json.dumps({"config": config}).encode()).replicas == 1


def test_limits_are_raised_and_never_lowered() -> None:
    config = nats_api.stream(NAMES, WISH)
    more, less = WISH._replace(size=200, seconds=9000), WISH._replace(size=50, seconds=5)

    raised = nats_api.changed(config, NAMES, more)
    assert raised is not None
    assert (raised["max_msgs_per_subject"], raised["max_age"]) == (208, 9000 * 10**9)
    assert nats_api.changed(raised, NAMES, less) is None
    without = {**config, "max_msgs_per_subject": -1, "max_age": 0}
    assert nats_api.changed(without, NAMES, more) is None


def test_what_an_operator_has_changed_otherwise_stays() -> None:
    config = {**nats_api.stream(NAMES, WISH), "max_bytes": 10, "num_replicas": 3}
    changed = nats_api.changed({**config, "republish": None}, NAMES, WISH)

    assert nats_api.changed(config, NAMES, WISH) is None
    assert changed == config


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.9.10", (2, 9, 10)), ("2.12.0-beta.1", (2, 12, 0)), ("", ()), ("x.1", (1,))],
)
def test_versions_are_compared_by_number(text: str, numbers: tuple[int, ...]) -> None:
    assert nats_api.version(text) == numbers
