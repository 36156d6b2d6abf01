"""A process is its pid and its start."""

import os
import signal
import subprocess
import sys

import pytest

from lastcall.process_identity import ProcessIdentity


def test_survives_being_written_down() -> None:
    own = ProcessIdentity.of(os.getpid())

    assert own is not None
    assert own.started > 0
    assert ProcessIdentity.parse(str(own)) == own
    assert own.is_running()


@pytest.mark.parametrize("text", ["", "12", "a-b", "1-2-3"])
def test_refuses_what_is_no_identity(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        ProcessIdentity.parse(text)


def test_a_later_process_with_the_same_pid_is_a_stranger() -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    stranger = ProcessIdentity(own.pid, own.started - 1)

    assert not stranger.is_running()
    # The signal would end this test run if it were sent.
    assert not stranger.signal(signal.SIGKILL)


def test_knows_the_children_that_run() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & read end; kill $!"], stdin=-1) as parent:
        identity = ProcessIdentity.of(parent.pid)
        assert identity is not None
        while not (children := identity.children()):
            pass
        assert [child.is_running() for child in children] == [True]
        assert children[0].started >= identity.started
        parent.communicate()
    assert identity.children() == []


def test_signals_the_process_it_names_and_knows_its_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid)
    assert identity is not None

    assert identity.signal(signal.SIGTERM)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    # Not yet waited for, it is a zombie: it holds nothing and comes back never.
    assert not identity.is_running()
    assert not identity.signal(signal.SIGTERM)
    assert child.wait(timeout=5) == -signal.SIGTERM
    with child:
        pass
    assert ProcessIdentity.of(child.pid) is None
