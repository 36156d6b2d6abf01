"""Commands at a rate: of one connection, and of one user whatever the connection."""

from collections import Counter

import pytest

from lastcall.command_limits import KINDS, CommandLimits
from lastcall.errors import TooManyRequests
from lastcall.protocol.centrifuge import METHODS, History, Presence, Publish, Rpc, Unsubscribe
from lastcall.settings import Settings


def limits(**settings: float) -> tuple[CommandLimits, Counter[str]]:
    counted: Counter[str] = Counter()
    return CommandLimits(Settings(rate_burst=1, **settings), counted), counted  # type: ignore[arg-type]


def is_free(limits: CommandLimits, request: object, client: str = "1", user: str = "") -> bool:
    try:
        limits.take(request, client=client, user=user, now=0)
    except TooManyRequests:
        return False
    return True


def test_by_default_nothing_is_limited() -> None:
    free, counted = limits()

    assert all(is_free(free, kind(), user="ann") for kind in METHODS for _ in range(100))
    assert not counted


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_a_rate_of_its_own(name: str) -> None:
    limited, counted = limits(**{f"{name}_rate": 2})

    for kind in METHODS:
        tries = [is_free(limited, kind()) for _ in range(10)]
        assert any(not each for each in tries) == (kind in KINDS[name]), kind
    assert set(counted) == {f"limited_total:{name}"}


def test_the_kinds_of_one_rate_share_it() -> None:
    limited, _ = limits(query_rate=2)

    assert [is_free(limited, each) for each in (History(), Presence(), History())] == [
        True,
        True,
        False,
    ]


def test_each_connection_has_its_own() -> None:
    limited, _ = limits(publish_rate=1)

    assert [is_free(limited, Publish(), client) for client in "1122"] == [True, False, True, False]


def test_all_connections_of_a_user_share_the_users() -> None:
    limited, counted = limits(user_rpc_rate=2, rpc_rate=2)

    assert [is_free(limited, Rpc(), client, "ann") for client in "123"] == [True, True, False]
    assert is_free(limited, Rpc(), "4", "bob")
    assert counted == {"limited_total:rpc": 1}


def test_clients_without_a_user_are_not_one_user() -> None:
    limited, _ = limits(user_publish_rate=1)

    assert all(is_free(limited, Publish(), client) for client in "123")


def test_leaving_a_channel_is_always_free() -> None:
    limited, _ = limits(subscribe_rate=1, user_subscribe_rate=1)

    assert all(is_free(limited, Unsubscribe(), user="ann") for _ in range(9))
