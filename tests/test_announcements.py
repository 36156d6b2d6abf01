"""Who comes and goes: a line each up to the rate, a summary a second beyond."""

from lastcall.announcements import Announcements, Change, line, summary
from lastcall.connection import RemoteAddress

REMOTE = RemoteAddress("127.0.0.1", 54321)
CONNECTED, DISCONNECTED = Change.CONNECTED, Change.DISCONNECTED


def test_the_words_are_those_of_the_brief() -> None:
    assert line(REMOTE, CONNECTED) == 'Client "[127.0.0.1]:54321" connected.'
    assert line(REMOTE, DISCONNECTED) == 'Client "[127.0.0.1]:54321" disconnected.'
    assert summary(137, CONNECTED) == "137 clients connected."
    assert summary(1, DISCONNECTED) == "1 client disconnected."


def test_up_to_the_rate_each_has_a_line_and_the_others_a_summary_of_their_channel() -> None:
    announcements = Announcements(rate=2)

    told = [announcements.announce("news", REMOTE, CONNECTED) for _ in range(2)]
    untold = [announcements.announce("news", REMOTE, CONNECTED) for _ in range(3)]
    untold += [announcements.announce("sport", REMOTE, DISCONNECTED)]

    assert told == [line(REMOTE, CONNECTED)] * 2
    assert untold == [None] * 4
    assert announcements.next_second() == [
        ("news", "3 clients connected."),
        ("sport", "1 client disconnected."),
    ]


def test_a_new_second_has_a_new_rate_and_nothing_is_told_twice() -> None:
    announcements = Announcements(rate=1)
    announcements.announce("news", REMOTE, CONNECTED)
    announcements.announce("news", REMOTE, CONNECTED)
    announcements.next_second()

    assert announcements.announce("news", REMOTE, CONNECTED) is not None
    assert announcements.next_second() == []


def test_a_rate_of_nothing_leaves_only_summaries() -> None:
    announcements = Announcements(rate=0)

    assert announcements.announce("news", REMOTE, CONNECTED) is None
    assert announcements.next_second() == [("news", "1 client connected.")]


def test_clients_of_a_killed_worker_are_part_of_the_summary() -> None:
    announcements = Announcements(rate=0)
    announcements.announce("news", REMOTE, DISCONNECTED)
    announcements.count("news", 40, DISCONNECTED)
    announcements.count("news", 0, CONNECTED)

    assert announcements.next_second() == [("news", "41 clients disconnected.")]
