"""Batches shrink where clients wait, and grow where they do not."""

from lastcall.batch_size import FIRST, LARGEST, SMALLEST, WANTED, BatchSize
from lastcall.socket_handover import BATCH


def test_where_they_wait_fewer_move_at_a_time_but_not_one_by_one() -> None:
    size = BatchSize()
    assert size.next == FIRST
    size.took(3 * WANTED)
    assert size.next == FIRST // 2
    for _ in range(10):
        size.took(1)
    assert size.next == SMALLEST


def test_where_they_do_not_more_move_at_a_time_and_never_more_than_fit_in_a_message() -> None:
    size = BatchSize()
    size.took(WANTED / 2)
    assert size.next == 2 * FIRST
    for _ in range(10):
        size.took(0)
    assert size.next == LARGEST <= BATCH


def test_in_between_it_is_just_right() -> None:
    size = BatchSize()
    size.took(1.5 * WANTED)
    assert size.next == FIRST
