"""A WebSocket client for tests: real bytes on a real socket, nothing to install, no event loop."""

import base64
import os
import select
import socket
import time
from collections.abc import Mapping
from typing import Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NO_CODE, CUT = 1005, 1006


class SimulatedClient:
    """One client of a `Deploy`. It reads while somebody waits: for its messages, or for the deploy.

    Attributes:
        messages: everything that it has heard so far.
        close_code: with which it was closed; 1006 if it was cut; None while it is connected.
        close_reason: the words that came with it.
        has_left: whether it ended the connection itself.
    """

    def __init__(self, connected: socket.socket, already_read: bytes = b"") -> None:
        """Speak over *connected*, whose handshake is done."""
        self.messages: list[str | bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.has_left = False
        self._socket = connected
        self._unread = already_read
        self._fragments = b""
        self._is_text = True
        self._heard = 0

    @classmethod
    def connect(
        cls, port: int, path: str, headers: Mapping[str, str], within: float
    ) -> "SimulatedClient":
        """Connect, or say why not.

        Raises:
            AssertionError: the server refused, in its words, or did not answer.
        """
        connected = socket.create_connection(("127.0.0.1", port), within)
        answer = b""
        try:
            connected.sendall(_request(port, path, headers))
            while b"\r\n\r\n" not in answer:
                data = connected.recv(65536)
                if not data:
                    break
                answer += data
        except TimeoutError:
            connected.close()
            raise AssertionError(f"{path} was not answered within {within:g} s") from None
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode("latin-1")
        if " 101 " not in f"{status} ":
            connected.close()
            raise AssertionError(f"{path} was refused: {status}")
        return cls(connected, rest)

    def __enter__(self) -> Self:
        """Be closed at the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Vanish."""
        self.vanish()

    @property
    def is_connected(self) -> bool:
        """Whether nobody has ended the connection, as far as was read."""
        return self.close_code is None

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, message: str | bytes) -> None:
        """Send *message*: text for `str`, binary for `bytes`."""
        is_text = isinstance(message, str)
        data = message.encode() if isinstance(message, str) else message
        self._send(TEXT if is_text else BINARY, data)

    def receive(self, within: float = 2.0) -> str | bytes:
        """Return the next message that was not received yet.

        Raises:
            AssertionError: there is none in time, or the connection has ended.
        """
        until = time.monotonic() + within
        while self._heard >= len(self.messages):
            left = until - time.monotonic()
            if not self.is_connected:
                raise AssertionError(f"closed with {self.close_code} {self.close_reason!r}")
            if left <= 0:
                raise AssertionError(f"nothing was heard within {within:g} s")
            if select.select([self], [], [], left)[0]:
                self.read()
        self._heard += 1
        return self.messages[self._heard - 1]

    def close(self, code: int = 1000, within: float = 2.0) -> None:
        """Leave in order: say so, and wait for the answer."""
        if self.is_connected:
            self.has_left = True
            self._send(CLOSE, code.to_bytes(2))
        until = time.monotonic() + within
        while self.is_connected and (left := until - time.monotonic()) > 0:
            if select.select([self], [], [], left)[0]:
                self.read()
        self.vanish()

    def vanish(self) -> None:
        """Let go of the socket without a word."""
        self.close_code = self.close_code or CUT
        self._socket.close()

    def read(self) -> None:
        """Take what has arrived; waits if nothing has."""
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.vanish()
            return
        self._unread += data
        while self.is_connected and (frame := self._next_frame()) is not None:
            self._take(*frame)

    def _next_frame(self) -> tuple[int, bool, bytes] | None:
        data, at = self._unread, 2
        if len(data) < at:
            return None
        size = data[1] & 0x7F
        if size > 125:  # noqa: PLR2004  (RFC 6455, 5.2)
            at += 2 if size == 126 else 8  # noqa: PLR2004  (the same)
            size = int.from_bytes(data[2:at])
        if len(data) < at + size:
            return None
        self._unread = data[at + size :]
        return data[0] & 0x0F, bool(data[0] & 0x80), data[at : at + size]

    def _take(self, opcode: int, is_last: bool, payload: bytes) -> None:  # noqa: FBT001  (a frame's)
        if opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self._send(CLOSE, payload[:2])
            self.close_code = int.from_bytes(payload[:2]) if payload else NO_CODE
            self.close_reason = payload[2:].decode()
            self._socket.close()
        elif opcode != PONG:
            if opcode:
                self._is_text = opcode == TEXT
            self._fragments += payload
            if is_last:
                whole, self._fragments = self._fragments, b""
                self.messages.append(whole.decode() if self._is_text else whole)

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size <= 125:  # noqa: PLR2004  (RFC 6455, 5.2)
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:  # noqa: PLR2004  (the same)
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        try:
            self._socket.sendall(head + mask + masked)
        except OSError as error:
            if opcode in (TEXT, BINARY):
                raise AssertionError(f"cannot send: {error}") from error


def _request(port: int, path: str, headers: Mapping[str, str]) -> bytes:
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
