"""The codec at random, with the `websockets` library as the oracle."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from lastcall.protocol.base import Message
from lastcall.websocket_codec import Closed, Event, Failed, Ping, Pong
from lastcall.websocket_deflate import MAX_WINDOW_BITS, deflate
from lastcall.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    close_frame,
    deflated_frame,
    message_frame,
    pong_frame,
    unmask,
)
from tests.websocket_bytes import FIN, LIMIT, RSV1, frame, one_by_one, read

NOT_UTF8 = Failed(1007, "text is not valid UTF-8")

at_random = settings(max_examples=300, deadline=None)  # the machine may be busy


def oracle(sent: bytes, *, deflate: bool) -> list[Event]:
    """What the server side of `websockets` makes of *sent*, in our words."""
    protocol = ServerProtocol(state=OPEN, max_size=LIMIT)
    if deflate:
        protocol.extensions = [compression(MAX_WINDOW_BITS)]
    protocol.receive_data(sent)
    events: list[Event] = []
    parts: list[bytes] = []
    binary = False
    for received in protocol.events_received():
        assert isinstance(received, Frame)
        data = bytes(received.data)
        if received.opcode is Opcode.PING:
            events.append(Ping(data))
        elif received.opcode is Opcode.PONG:
            events.append(Pong(data))
        elif received.opcode is not Opcode.CLOSE:
            if received.opcode is not Opcode.CONT:
                binary = received.opcode is Opcode.BINARY
            parts.append(data)
            if received.fin:
                events.append(Message(b"".join(parts), binary))
                parts.clear()
    if protocol.parser_exc is not None and protocol.close_sent is not None:
        events.append(Failed(protocol.close_sent.code, ""))
    elif protocol.close_rcvd is not None:
        events.append(Closed(protocol.close_rcvd.code, protocol.close_rcvd.reason))
    return events


def compression(window_bits: int) -> PerMessageDeflate:
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=window_bits,
        local_max_window_bits=MAX_WINDOW_BITS,
    )


masks = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=300).map(str.encode)
payloads = st.tuples(st.just(TEXT), texts) | st.tuples(st.just(BINARY), st.binary(max_size=400))


@st.composite
def conversations(draw: st.DrawFn, *, deflated: bool = True) -> tuple[list[Event], bytes]:
    """Legal messages in random fragments with control frames between, and what they mean."""
    events: list[Event] = []
    sent = b""
    for opcode, data in draw(st.lists(payloads, max_size=4)):
        wire, first = data, opcode
        if deflated and draw(st.booleans()):
            wire, first = deflate(data, draw(st.integers(9, 15))), opcode | RSV1
        cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=3)))
        pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
        for number, piece in enumerate(pieces):
            fin = FIN if number == len(pieces) - 1 else 0
            sent += frame(fin | (CONTINUATION if number else first), piece, mask=draw(masks))
            if not fin and draw(st.booleans()):
                ping = draw(st.binary(max_size=125))
                sent += frame(FIN | PING, ping)
                events.append(Ping(ping))
        events.append(Message(data, binary=opcode == BINARY))
    if draw(st.booleans()):
        sent += frame(FIN | CLOSE, b"\x0f\xa0" + "où".encode())
        events.append(Closed(4000, "où"))
    return events, sent


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@given(conversations(), st.lists(st.integers(0, 2000), max_size=20))
@at_random
def test_whatever_is_legal_arrives_however_it_is_cut(
    conversation: tuple[list[Event], bytes], cuts: list[int]
) -> None:
    events, sent = conversation

    assert read(split(sent, cuts), deflate=True) == events
    assert oracle(sent, deflate=True) == events


@given(
    conversations(deflated=False),
    st.integers(0, 5000),
    st.binary(min_size=1, max_size=8),
    st.data(),
)
@at_random
def test_damaged_bytes_get_the_same_code_as_from_the_oracle(
    conversation: tuple[list[Event], bytes], place: int, damage: bytes, data: st.DataObject
) -> None:
    """One place is overwritten; both read the same messages up to there and judge alike."""
    _, sent = conversation
    place %= len(sent) + 1
    sent = sent[:place] + damage + sent[place + len(damage) :]
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=5))

    assert_alike(judged(split(sent, cuts)), oracle(sent, deflate=False))


@given(st.binary(max_size=300))
@example(b"\x81\x85\0\0\0\0hello")
@at_random
def test_garbage_gets_the_same_code_as_from_the_oracle(sent: bytes) -> None:
    assert_alike(judged([sent]), oracle(sent, deflate=False))


@given(conversations(), st.integers(0, 5000), st.binary(min_size=1, max_size=8))
@at_random
def test_damage_is_judged_alike_however_the_bytes_are_cut(
    conversation: tuple[list[Event], bytes], place: int, damage: bytes
) -> None:
    """With compression the oracle inflates by frames, not by messages: ours against ours."""
    _, sent = conversation
    place %= len(sent) + 1
    sent = sent[:place] + damage + sent[place + len(damage) :]

    assert read([sent], deflate=True) == read(one_by_one(sent), deflate=True)


def judged(pieces: list[bytes]) -> list[Event]:
    """What we read; of a header that ends before its mask, what we say once the mask is there.

    We judge a header when it is complete, `websockets` when it has seen the length.
    """
    events, later = read(pieces), read([*pieces, bytes(4)])
    is_verdict = len(later) == len(events) + 1 and isinstance(later[-1], Failed)
    return later if is_verdict and later[:-1] == events else events


def assert_alike(ours: list[Event], theirs: list[Event]) -> None:
    """Equal but for what `websockets` leaves to its callers or judges later than we do."""
    failed = ours[-1] if ours and isinstance(ours[-1], Failed) else None
    if failed is None:
        if ours and isinstance(ours[-1], Closed) and theirs[-1:] == [Failed(1002, "")]:
            # Inside a fragmented message a close is an ordinary one (RFC 6455, 5.4), not for it.
            ours, theirs = ours[:-1], theirs[:-1]
        assert ours == theirs
        return
    assert ours[:-1] == theirs[: len(ours) - 1]
    # It does not look at text, and waits for the payload of a frame that is already known to be
    # wrong. A frame that is wrong in two ways may be refused for either.
    if failed != NOT_UTF8 and len(theirs) == len(ours):
        last = theirs[-1]
        assert isinstance(last, Failed)
        assert last.code == failed.code or {last.code, failed.code} <= {1002, 1007, 1009}


@given(payloads, st.integers(9, 15))
@at_random
def test_our_frames_are_what_a_client_reads(payload: tuple[int, bytes], window_bits: int) -> None:
    message = Message(payload[1] * 3, binary=payload[0] == BINARY)
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
    client.extensions = [compression(window_bits)]

    client.receive_data(message_frame(message) + deflated_frame(message, window_bits))
    client.receive_data(pong_frame(b"?") + close_frame(3008, "slow"))

    received = [(f.opcode, bytes(f.data)) for f in client.events_received()]  # type: ignore[union-attr]
    both = (Opcode(payload[0]), message.data)
    assert received[:3] == [both, both, (Opcode.PONG, b"?")]
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (3008, "slow")


@given(st.binary(max_size=40), masks)
@example(bytes(range(256)) * 80, b"\x01\x02\x03\xff")
@at_random
def test_masking_is_its_own_inverse(data: bytes, mask: bytes) -> None:
    assert unmask(data, mask) == bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    assert unmask(unmask(data, mask), mask) == data
