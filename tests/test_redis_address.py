"""What a setting says of where Redis is."""

import pytest

from lastcall.broker.redis_address import Kind, RedisAddress, address, shown


@pytest.mark.parametrize("url", ["redis://:p@host:7000/3?ssl=1", "rediss://host", "redis://a,b/c"])
def test_one_server_is_left_to_who_knows_it(url: str) -> None:
    assert address(url) == RedisAddress(Kind.SERVER, url)


def test_sentinels_are_asked_for_a_service() -> None:
    found = address("redis+sentinel://s1,s2:7000,[::1]:7001/shop")

    assert found.kind is Kind.SENTINEL
    assert found.hosts == (("s1", 26379), ("s2", 7000), ("::1", 7001))
    assert found.service == "shop"
    assert shown(found.hosts[0]) == "s1:26379"
    assert found.server_url == "redis:///0"
    assert found.sentinel_url == "redis:///0"


def test_servers_and_sentinels_have_users_and_options_of_their_own() -> None:
    found = address(
        "rediss+sentinel://me:p%40ss@s1,s2/my%20shop/3"
        "?sentinel_username=guard&sentinel_password=a/b&ssl_ca_certs=/ca.pem&health_check_interval=5"
    )

    assert found.service == "my shop"
    assert found.server_url == (
        "rediss://me:p%40ss@/3?ssl_ca_certs=%2Fca.pem&health_check_interval=5"
    )
    assert found.sentinel_url == "rediss://guard:a%2Fb@/0?ssl_ca_certs=%2Fca.pem"


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_a_cluster_is_known_by_some_of_its_servers(path: str) -> None:
    found = address(f"redis+cluster://:p@a,b:7001{path}")

    assert found == RedisAddress(Kind.CLUSTER, "redis://:p@/0", (("a", 6379), ("b", 7001)), "", "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://", "it is not like redis"),
        ("redis+guard://a/shop", "it is not like redis"),
        ("redis+sentinel://a@b@c/shop", "it is not like redis"),
        ("redis+sentinel://a,b", "what the sentinels watch"),
        ("redis+sentinel://a,b/shop/one", "what the sentinels watch"),
        ("redis+sentinel://a,b/shop/0/1", "what the sentinels watch"),
        ("redis+sentinel://a,/shop", "no host and port"),
        ("redis+sentinel://a:99999/shop", "no host and port"),
        ("redis+cluster://a:b", "no host and port"),
        ("redis+cluster://a/1", "no database but 0"),
    ],
)
def test_address_that_cannot_be_understood_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        address(url)
