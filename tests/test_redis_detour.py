"""Where the slots of a cluster are, and how questions keep their order while one of them moves."""

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.redis_detour import Detour
from lastcall.broker.redis_slots import SLOTS, SlotMap, slot_of

ASIDE = ("aside", 1)


@dataclass(frozen=True)
class Asked:
    """A question under a key; they are numbered in the order in which they were asked."""

    key: bytes
    number: int


def detour_of(*under_way: Asked) -> Detour[Asked]:
    return Detour(lambda asked: asked.key, len(under_way))


def asked(key: str) -> list[Asked]:
    return [Asked(letter.encode(), number) for number, letter in enumerate(key)]


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        (b"lastcall:{}:head", 0),
        (b"{123456789}", 0x31C3),
        (b"p:{foo}:head", 12182),
        (b"{bar}x", 5061),
        (b"{foo}}", 12182),
    ],
)
def test_a_slot_is_that_of_what_is_between_the_braces(name: bytes, slot: int) -> None:
    assert slot_of(name) == slot


def test_a_map_is_what_a_server_says() -> None:
    told = SlotMap(
        [
            [0, 8191, [b"a", 1, b"id-a", []], [b"r", 9, b"id-r", []]],
            [8192, 16382, [None, 2, b"id-b"]],
            [16383, 16383, [b"a", 1, b"id-a"]],
        ],
        by=("asked", 7),
    )

    assert told.is_whole
    assert told.masters == {("a", 1): "id-a", ("asked", 2): "id-b"}
    assert [told.owner(n) for n in (0, 8191, 8192, SLOTS - 1)] == [
        ("a", 1),
        ("a", 1),
        ("asked", 2),
        ("a", 1),
    ]
    told.moved(0, ("b", 2))
    assert told.owner(0) == ("b", 2)
    assert not SlotMap().is_whole
    assert SlotMap().owner(0) is None


def test_what_was_refused_waits_for_what_is_under_way_and_comes_before_what_is_new() -> None:
    first, second, third, new = asked("abaa")
    detour = detour_of(first, second, third)
    detour.refused(first)
    detour.put(new)
    assert not detour.round()
    detour.answered(second)
    detour.refused(third)

    rounds = [detour.round()]
    for question, _ in rounds[0]:
        detour.refused(question)
    rounds.append(detour.round())
    for question, _ in rounds[1]:
        assert not detour.answered(question)

    assert rounds == [[(first, None)], [(first, None)]]
    assert detour.is_over
    assert list(detour.rest()) == [third, new]


def test_what_was_overtaken_is_not_asked_again() -> None:
    first, second, third, other = asked("aaab")
    detour = detour_of(first, second, third, other)
    detour.refused(first)
    detour.refused(other)
    detour.refused(second)

    assert detour.answered(third) == [first, second]
    assert detour.round() == [(other, None)]


def test_a_question_is_asked_aside_once() -> None:
    (first,) = asked("a")
    detour = detour_of(first)
    detour.refused(first, ASIDE)
    assert detour.round() == [(first, ASIDE)]
    detour.refused(first)
    assert detour.round() == [(first, None)]
    assert not detour.is_over
    detour.answered(first)
    assert detour.is_over


def test_while_somebody_is_asked_aside_it_is_not_over() -> None:
    first, second = asked("aa")
    detour = detour_of(first)
    detour.refused(first, ASIDE)
    detour.put(second)
    detour.round()
    detour.answered(first)

    assert not detour.is_over
    assert detour.round() == [(second, None)]


def test_what_could_not_be_sent_is_still_the_first() -> None:
    first, second, new = asked("aaa")
    detour = detour_of(first, second)
    detour.put(new)
    detour.returned(second)
    detour.returned(first)

    assert detour.round() == [(first, None)]
    detour.answered(first)
    assert list(detour.rest()) == [second, new]


def test_who_waits_too_long_is_let_go() -> None:
    old, young = asked("aa")
    (other,) = asked("b")
    detour = detour_of()
    for question in (old, young, other):
        detour.put(question)

    assert detour.expired(lambda question: question is not young) == [old, other]
    assert detour.round() == [(young, None)]


class Server:
    """Answers in the order of the questions, as it is told."""

    def __init__(self, detour: Detour[Asked], under_way: list[Asked]) -> None:
        self.detour = detour
        self.under_way = deque(under_way)
        self.done: list[Asked] = []
        self.failed: list[Asked] = []

    def does(self, what: str) -> None:
        """Do one thing with the next question, or give all back that have not left."""
        while self.under_way and what == "back":
            self.detour.returned(self.under_way.pop())
        if not self.under_way:
            return
        question = self.under_way.popleft()
        if what == "done":
            self.done.append(question)
            self.failed += self.detour.answered(question)
        else:
            self.detour.refused(question, ASIDE if what == "aside" else None)

    def is_asked(self) -> None:
        """Take what the detour asks now."""
        self.under_way.extend(question for question, _ in self.detour.round())


@given(st.lists(st.sampled_from(["a", "b", "done", "done", "refused", "aside", "back"])))
def test_whatever_happens_all_of_a_key_are_done_in_their_order(events: list[str]) -> None:
    first = asked("aabab")
    server, number = Server(detour_of(*first), first), len(first)
    for event in [*events, *["done"] * 2 * (len(events) + len(first))]:
        if server.detour.is_over:
            break
        if event in ("a", "b"):
            server.detour.put(Asked(event.encode(), number))
            number += 1
        else:
            server.does(event)
        server.is_asked()
    done = server.done + list(server.detour.rest())

    assert sorted(question.number for question in done + server.failed) == list(range(number))
    for key in (b"a", b"b"):
        mine = [question.number for question in done if question.key == key]
        assert mine == sorted(mine)
