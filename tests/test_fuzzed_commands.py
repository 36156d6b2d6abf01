"""Whatever a client says, it is answered by the protocol or sent away by it."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lastcall import Connection, Lastcall
from lastcall.channel_options import ChannelOptions
from lastcall.protocol.base import Message
from lastcall.protocol.centrifuge import Call, Invalid, Pong
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.session import AskAgain, Expired, Ping, Session, Stage, Subscription, Timing
from tests.fuzzed import CLOSE_CODES, LAST, check, messages
from tests.session_client import PATH, serving

pytestmark = pytest.mark.slow

ALLOWED = {
    f"allow_{right}_for_{who}": True
    for right in ("subscribe", "publish", "history", "presence")
    for who in ("client", "anonymous")
}
OPEN = ChannelOptions.model_validate(
    {"history_size": 5, "allow_recovery": True, "presence": True, "join_leave": True} | ALLOWED
)


@given(st.lists(messages, max_size=3) | st.lists(st.lists(st.text()), max_size=3), st.booleans())
def test_reading_never_fails_and_ends_at_the_first_line_that_is_none(
    conversation: list[list[str]],
    binary: bool,  # noqa: FBT001  (made by Hypothesis)
) -> None:
    for message in (each for some in conversation for each in some):
        data = message.encode("utf-8", "surrogatepass")
        *lines, last = CentrifugeJson().decode(Message(data, binary=binary))
        assert all(isinstance(each, Call | Pong) for each in lines)
        assert isinstance(last, Call | Pong | Invalid)
        assert not isinstance(last, Invalid) or last.why.code == 3501


times = st.floats(0, 1000)
sessions = st.builds(
    Session,
    since=times,
    stage=st.sampled_from(Stage),
    expire_at=times,
    ping_at=times,
    pong_by=times,
    subscriptions=st.dictionaries(
        st.text(), st.builds(Subscription, server_side=st.booleans(), expire_at=times), max_size=4
    ),
)


@given(sessions, times, times)
def test_session_says_when_something_is_due_and_then_it_is(
    session: Session, now: float, beat: float
) -> None:
    timing = Timing()
    assert Session.load(session.dump()) == session
    wait = session.rest(timing, now=now, beat=beat)
    assert wait >= 0
    for due in session.due(timing, now=now + wait + 1e-6, beat=beat + wait + 1e-6):
        match due:
            case Ping():
                assert session.pong_by > beat
            case AskAgain():
                assert not session.ask_at
            case Expired(channel):
                assert not session.subscriptions[channel].server_side
            case _:
                assert due.code in CLOSE_CODES


@pytest.mark.usefixtures("run_dir")
def test_whatever_is_said_has_a_documented_answer(caplog: pytest.LogCaptureFixture) -> None:
    names = ("chat", "talk", "told", "short", "read")
    lastcall = Lastcall(
        allow_anonymous=True, namespaces=dict.fromkeys(names, OPEN), max_commands=200
    )

    @lastcall.on_rpc("echo")
    def echo(_connection: Connection, data: str) -> object:
        return json.loads(data)

    lastcall.on_message(lambda _connection, _message: None)

    with caplog.at_level(logging.ERROR), serving(lastcall) as client:

        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
        @given(messages, st.booleans())
        def each(said: list[str], connects: bool) -> None:  # noqa: FBT001  (made by Hypothesis)
            converse(client, ['{"id":1000000,"connect":{}}', *said] if connects else said)

        each()
        assert lastcall.now.worker.connections.count_with_expected == 0
        assert not caplog.records


def converse(client: TestClient, said: list[str]) -> None:
    """Say it, and hear all that is answered."""
    with client.websocket_connect(PATH) as websocket:
        for message in [*said, LAST]:
            websocket.send_text(message)
        end = until_answered(websocket)
    assert end is None or (end.code in CLOSE_CODES and end.reason)


def until_answered(websocket: WebSocketTestSession) -> WebSocketDisconnect | None:
    """Hear the answers up to the last one; or the end that came before."""
    try:
        while True:
            answers = [check(line) for line in websocket.receive_text().split("\n")]
            if any(answers):
                return None
    except WebSocketDisconnect as end:
        return end
