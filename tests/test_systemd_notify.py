"""Talking with a service manager, as far as no manager is needed."""

import os
import socket
from pathlib import Path

import pytest

from lastcall.listening_sockets import Address, inherited, shown
from lastcall.systemd_notify import notify, passed_descriptors


def test_sockets_meant_for_this_process_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "http:more")

    assert passed_descriptors() == [3, 4]
    assert passed_descriptors() == []
    assert "LISTEN_FDNAMES" not in os.environ


@pytest.mark.parametrize(("pid", "count"), [("1", "2"), ("", "2"), ("own", "many")])
def test_sockets_of_somebody_else_are_left(
    pid: str, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "own" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)

    assert passed_descriptors() == []


def test_inherited_socket_is_shown_by_what_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "web"))
        with inherited([os.dup(listener.fileno())]) as sockets:
            assert shown(Address(), sockets, tls=False) == f"unix socket {tmp_path / 'web'}"
    assert (tmp_path / "web").exists()  # the manager's, not ours


def test_manager_that_does_not_listen_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))

    notify("READY=1")
