"""Which orders a connection has missed that was on its way."""

from lastcall.broker.base import StreamPosition
from lastcall.order_memory import KEPT_BYTES, KEPT_SECONDS, OrderMemory, Remembered


def order(offset: int, *, at: float = 0, epoch: str = "e", body: bytes = b"") -> Remembered:
    return Remembered(at, StreamPosition(offset, epoch), "order", body)


def offsets(memory: OrderMemory, since: int, epoch: str = "e") -> list[int]:
    return [each.position.offset for each in memory.since(StreamPosition(since, epoch))]


def test_those_after_a_position_are_known_in_their_order() -> None:
    memory = OrderMemory()
    for offset in (3, 4, 7):
        memory.add(order(offset))

    assert offsets(memory, 3) == [4, 7]
    assert offsets(memory, 0) == [3, 4, 7]
    assert offsets(memory, 7) == []


def test_of_another_epoch_nothing_is_done_again() -> None:
    memory = OrderMemory()
    memory.add(order(3))

    assert offsets(memory, 0, "another") == []


def test_old_ones_and_too_many_are_forgotten() -> None:
    memory = OrderMemory()
    memory.add(order(1, at=0))
    memory.add(order(2, at=KEPT_SECONDS))
    assert offsets(memory, 0) == [1, 2]
    memory.add(order(3, at=KEPT_SECONDS + 1))
    assert offsets(memory, 0) == [2, 3]

    for offset in range(4, 10):
        memory.add(order(offset, at=KEPT_SECONDS + 1, body=bytes(KEPT_BYTES // 3)))
    assert offsets(memory, 0) == [7, 8, 9]
    memory.add(order(10, at=KEPT_SECONDS + 1, body=bytes(KEPT_BYTES)))
    assert len(memory) == 1
