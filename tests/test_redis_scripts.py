"""What the scripts are told of the server that they run on."""

import pytest

from lastcall.broker.redis_scripts import PUBLISH, READ, Scripts, Standing


def test_a_script_begins_with_what_the_server_is() -> None:
    alone, one_of_many = Standing(), Standing("b", frozenset({"c", "a"}), "SPUBLISH")

    assert alone.prepared(b"return 1") == (b"local reign, kin, tell = nil, {}, 'PUBLISH'\nreturn 1")
    assert one_of_many.prepared(b"return 1") == (
        b"local reign, kin, tell = 'b', {['a']=1,['c']=1,}, 'SPUBLISH'\nreturn 1"
    )


def test_servers_of_another_standing_have_other_scripts() -> None:
    scripts = [Scripts(Standing()), Scripts(Standing("a")), Scripts(Standing("b"))]
    names = {each.name(script) for each in scripts for script in (PUBLISH, READ)}

    assert len(names) == 6
    assert all(len(name) == 40 for name in names)


def test_nothing_can_be_slipped_into_a_script() -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        Scripts(Standing("a'] redis.call('FLUSHALL') --"))
