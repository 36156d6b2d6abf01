"""How many connections a name has, here and on workers that said so."""

from lastcall.tally import Tally


def test_without_a_limit_nothing_is_counted() -> None:
    tally = Tally(0)
    tally.add("ann")
    tally.remove("ann")

    assert not tally.is_full("ann")
    assert (len(tally), tally.news(), tally.all_here()) == (0, {}, {})


def test_what_has_no_name_is_not_limited() -> None:
    tally = Tally(1)
    tally.add("")
    tally.add("")

    assert not tally.is_full("")
    tally.remove("")
    assert len(tally) == 0


def test_those_here_and_elsewhere_count_together() -> None:
    tally = Tally(3)
    tally.add("ann")
    tally.heard("7", {"ann": 1, "bob": 3})
    assert not tally.is_full("ann")
    assert tally.is_full("bob")

    tally.heard("8", {"ann": 1})
    assert tally.is_full("ann")
    tally.heard("7", {"ann": 0})
    assert not tally.is_full("ann")
    tally.heard("7", {"never heard of": 0})


def test_who_is_gone_makes_room_and_leaves_nothing() -> None:
    tally = Tally(2)
    for _ in range(2):
        tally.add("ann")
    assert tally.is_full("ann")
    tally.remove("ann")
    assert not tally.is_full("ann")
    tally.remove("ann")
    assert len(tally) == 0


def test_others_are_told_what_has_changed_until_they_have_heard() -> None:
    tally = Tally(9)
    for name in ("ann", "ann", "bob"):
        tally.add(name)
    tally.remove("bob")
    assert tally.news() == {"ann": 2, "bob": 0}
    assert tally.news() == {}
    tally.say_again(["ann"])
    assert tally.news() == {"ann": 2}
    assert tally.all_here() == {"ann": 2}


def test_what_a_dead_worker_said_counts_no_more() -> None:
    tally = Tally(1)
    for worker in ("7", "8"):
        tally.heard(worker, {"ann": 1, "bob": 1} if worker == "7" else {"ann": 1})
    tally.keep({"8"})

    assert tally.is_full("ann")
    assert not tally.is_full("bob")


def test_all_is_said_again_to_those_who_may_have_forgotten() -> None:
    tally = Tally(3)
    tally.add("ann")
    tally.add("bob")
    tally.news()
    tally.say_everything_again()

    assert tally.news() == {"ann": 1, "bob": 1}
    assert tally.news() == {}
