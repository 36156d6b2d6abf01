"""Who comes, goes and moves as it likes: what readers of deltas put together is what was said."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import centrifuge.protocol.client_pb2 as compiled
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import Kind, Publication, StreamPosition
from lastcall.catch_up import CatchUp
from lastcall.deltas import Deltas
from lastcall.hub import Hub
from lastcall.protocol.base import SessionProtocol
from lastcall.protocol.centrifuge_json import CentrifugeJson, as_json
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.protobuf_wire import messages_in
from lastcall.session import Session, Subscription
from lastcall.wire_format import by_deltas
from tests.fakes import RecordingOwner, connect

ROOM = "doc:a"
schema: Any = compiled


class Room:
    """One channel on one worker."""

    def __init__(self) -> None:
        self.deltas = Deltas()
        self.said: list[Publication] = []
        self._later: list[Callable[[], None]] = []
        self.hub = Hub(self._later.append)
        self.hub.retain(ROOM)
        self.hub.subscribed(ROOM, StreamPosition(0, "e"))

    def say(self, kind: Kind, data: bytes) -> None:
        self.said.append(Publication(ROOM, data, len(self.said) + 1, "e", kind))
        self.hub.deliver(self.said[-1])

    def end_turn(self) -> None:
        calls, self._later[:] = list(self._later), []
        for call in calls:
            call()

    @property
    def head(self) -> StreamPosition:
        return StreamPosition(len(self.said), "e")


class Reader:
    """One client, which puts together what it is told."""

    def __init__(self, room: Room, protocol: SessionProtocol, *, applies_deltas: bool) -> None:
        self.room, self.protocol = room, protocol
        self.connection, self.transport = connect(RecordingOwner(), ROOM, protocol=protocol)
        self.connection.session = Session(
            since=0, subscriptions={ROOM: Subscription(delta=applies_deltas)}
        )
        self.applies_deltas = applies_deltas
        self.heard: list[bytes] = []
        self.deltas = 0
        self.since = 0
        self.catch_up: CatchUp | None = None
        self.frozen: CatchUp | None = None
        self._read = 0

    def come(self, since: int | None = None) -> None:
        """Subscribe; with *since*, come back to that position."""
        hub = self.room.hub
        hub.flush()
        self.since = len(self.room.said) if since is None else since
        self.catch_up = hub.hold(self.connection, ROOM, StreamPosition(self.since, "e"))
        self._missed = self.room.said[self.since :]

    def go_live(self) -> None:
        """With a reply that tells what was missed."""
        if self.catch_up is not None:
            replied: list[Publication] = []
            assert self.room.hub.go_live(self.catch_up, self._missed, replied.extend)
            told: Sequence[Publication] = replied
            if self.applies_deltas:
                told = list(by_deltas(self.protocol, replied, None))
            self.read()
            for each in told:
                self._take(self.protocol.publication(each).data)
            self.catch_up = None

    def do(self, event: str) -> None:
        match event:
            case "go live":
                self.go_live()
            case "freeze" if self.frozen is None:
                self.freeze()
            case "thaw":
                self.thaw()
            case "go":
                self.room.hub.remove(self.connection)

    def freeze(self) -> None:
        """Be about to move to another worker, which has not heard what it was told last."""
        self.go_live()
        self.room.end_turn()
        position = self.room.hub.position(self.connection, ROOM)
        assert position is not None
        self.frozen = self.room.hub.hold(self.connection, ROOM, position)

    def thaw(self) -> None:
        """Be told what was published meanwhile; without a reply."""
        if self.frozen is not None:
            assert self.room.hub.go_live(self.frozen)
            self.frozen = None

    def read(self) -> None:
        fresh = self.transport.messages[self._read :]
        self._read += len(fresh)
        for message in fresh:
            self._take(message)

    def _take(self, message: bytes) -> None:
        data, is_delta = self._parsed(message)
        self.deltas += is_delta
        self.heard.append(bytes(apply_delta(self.heard[-1], data)) if is_delta else data)

    def _parsed(self, message: bytes) -> tuple[bytes, bool]:
        if isinstance(self.protocol, CentrifugeProtobuf):
            (encoded,) = messages_in(message)
            found = schema.Reply()
            found.ParseFromString(encoded)
            return found.push.pub.data, found.push.pub.delta
        pub = json.loads(message)["push"]["pub"]
        if self.applies_deltas:
            return pub["data"].encode(), pub.get("delta", False)
        return json.dumps(pub["data"], ensure_ascii=False, separators=(",", ":")).encode(), False

    def check(self) -> None:
        """It has heard all since it came, in order."""
        self.read()
        in_json = isinstance(self.protocol, CentrifugeJson)
        said = [as_json(each) if in_json else each.data for each in self.room.said[self.since :]]
        assert self.heard == said


WORDS = st.sampled_from(["☃ naïve", "x" * 40, "0123456789" * 3, "é" * 20, "\x80" * 9])
TEXT = st.lists(WORDS, max_size=5).map("".join)
SAYINGS = st.one_of(
    TEXT.map(lambda text: (Kind.TEXT, text.encode())),
    TEXT.map(lambda text: (Kind.BINARY, text.encode("utf-16"))),
    st.lists(TEXT, max_size=3).map(
        lambda texts: (
            Kind.JSON,
            json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode(),
        )
    ),
)
EVENTS = st.one_of(
    SAYINGS.map(lambda said: ("say", said)),
    SAYINGS.map(lambda said: ("say", said)),
    st.just(("turn", None)),
    st.tuples(
        st.sampled_from(["come", "come back", "go live", "freeze", "thaw", "go"]), st.integers(0, 7)
    ),
)


@given(st.lists(EVENTS, max_size=40))
def test_all_hear_what_was_said(events: list[tuple[str, Any]]) -> None:
    room = Room()
    protocols = CentrifugeJson(deltas=room.deltas), CentrifugeProtobuf(deltas=room.deltas)
    readers: dict[int, Reader] = {}
    for event, about in events:
        said: Any = about
        reader = readers.get(about) if isinstance(about, int) else None
        match event:
            case "say":
                room.say(*said)
            case "turn":
                room.end_turn()
            case "come" | "come back" if reader is None:
                # Half of them apply deltas in JSON, a quarter in Protobuf, a quarter do not.
                made = Reader(room, protocols[about % 3 == 1], applies_deltas=about % 4 != 3)
                made.come(since=len(room.said) // 2 if event == "come back" else None)
                readers[about] = made
            case _ if reader is not None:
                reader.do(event)
                if event == "go":
                    del readers[about]
    for reader in readers.values():
        reader.thaw()
        reader.go_live()
    room.end_turn()
    for reader in readers.values():
        reader.check()


def test_the_delta_is_made_once_for_all_formats_and_used() -> None:
    room = Room()
    made: list[tuple[bytes, bytes]] = []

    class Counted(Deltas):
        def between(self, before: bytes, after: bytes) -> bytes | None:
            made.append((before, after))
            return super().between(before, after)

    deltas = Counted()
    protocols = CentrifugeJson(deltas=deltas), CentrifugeProtobuf(deltas=deltas)
    readers = [Reader(room, protocols[n % 2], applies_deltas=True) for n in range(20)]
    for reader in readers:
        reader.come()
        reader.go_live()
    for number in range(3):
        room.say(Kind.JSON, b'{"n":%d,"pad":"%b"}' % (number, b"x" * 100))
        room.end_turn()
    for reader in readers:
        reader.check()
        assert reader.deltas == 2
    assert len(made) == 4, "once a publication and format, and those find each other's"
    assert len(set(made)) == 2


def test_who_comes_back_to_an_old_base_is_told_something_whole() -> None:
    """The others have heard what came after what it was told last, and applied deltas to that."""
    room = Room()
    protocol = CentrifugeJson(deltas=room.deltas)
    first, second = (Reader(room, protocol, applies_deltas=True) for _ in range(2))
    for reader in (first, second):
        reader.come()
    first.go_live()
    for number in range(2):
        room.say(Kind.JSON, b'{"n":%d,"pad":"%b"}' % (number, b"x" * 100))
        room.end_turn()
    room.hub.remove(first.connection)
    room.say(Kind.JSON, b'{"n":2,"pad":"%b"}' % (b"x" * 100))
    room.end_turn()
    second.go_live()
    room.say(Kind.JSON, b'{"n":3,"pad":"%b"}' % (b"x" * 100))
    room.end_turn()
    second.check()
    assert second.deltas == 2


def test_who_moves_is_told_what_it_missed_as_a_chain_of_its_own() -> None:
    room = Room()
    deltas = Deltas()
    for protocol in (CentrifugeJson(deltas=deltas), CentrifugeProtobuf(deltas=deltas)):
        moved, stays = (Reader(room, protocol, applies_deltas=True) for _ in range(2))
        for reader in (moved, stays):
            reader.come()
            reader.go_live()
        for number in range(6):
            if number == 2:
                moved.freeze()
            if number == 4:
                moved.thaw()
            room.say(Kind.JSON, b'{"n":%d,"pad":"%b"}' % (number, b"x" * 100))
            room.end_turn()
        for reader, count in ((moved, 4), (stays, 5)):
            reader.check()
            assert reader.deltas == count
