"""Binding: what is taken, what is refused, and that nothing is left behind."""

import socket
from pathlib import Path

import pytest

from lastcall.listening_sockets import Address, bound, shown


def test_free_port_is_the_same_on_every_address_of_a_name() -> None:
    with bound(Address("localhost", 0)) as sockets:
        ports = {listener.getsockname()[1] for listener in sockets}
        (port,) = ports

        assert shown(Address("localhost", 0), sockets, tls=True) == f"https://localhost:{port}"


def test_client_is_refused_until_somebody_listens() -> None:
    with (
        bound(Address("127.0.0.1", 0)) as (listener,),
        socket.socket() as client,
        pytest.raises(ConnectionRefusedError),
    ):
        client.connect(listener.getsockname())


def test_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"), bound(Address("127.0.0.1", port)):
            pass


def test_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with bound(Address(uds=str(path))) as sockets:
        assert path.is_socket()
        assert shown(Address(uds=str(path)), sockets, tls=False) == f"unix socket {path}"
    assert not path.exists()


def test_unix_socket_of_a_killed_server_is_taken_over_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    path.chmod(0o660)

    with bound(Address(uds=str(path))):
        assert path.stat().st_mode & 0o777 == 0o660


def test_unix_socket_of_a_living_server_stays(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(OSError, match="in use"), bound(Address(uds=str(path))):
            pass
        assert path.is_socket()


def test_unix_socket_of_a_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with socket.socket(socket.AF_UNIX) as successor:
        with bound(Address(uds=str(path))):
            path.unlink()
            successor.bind(str(path))
        assert path.is_socket()


def test_file_in_place_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"), bound(Address(uds=str(path))):
        pass
    assert path.read_text() == "mine"


def test_descriptor_that_is_no_socket_is_an_error(tmp_path: Path) -> None:
    file = (tmp_path / "file").open("w")
    with file, pytest.raises(OSError, match="non-socket"), bound(Address(fd=file.fileno())):
        pass


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("::1", 8000), "[::1]:8000"),
        (Address(None, 8000), "0.0.0.0:8000"),
        (Address("127.0.0.1", 8000, uds="/run/a"), "unix socket /run/a"),
        (Address("127.0.0.1", 8000, uds="/run/a", fd=3), "descriptor 3"),
    ],
)
def test_address_reads_well(address: Address, text: str) -> None:
    assert str(address) == text
