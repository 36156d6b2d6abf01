"""Commands of the Centrifuge protocol, valid, nearly valid and garbage, as Hypothesis makes them.

Everything is made as text, because much of what is worth trying is no JSON.
"""

import json

from hypothesis import strategies as st

from lastcall.errors import Disconnect, InternalError, Refused
from lastcall.protocol.centrifuge import METHODS

CHANNELS = (
    "chat:a",
    "chat:b",
    "talk:a",
    "told:a",
    "short:a",
    "read:a",
    "asked:a",
    "plain",
    "$chat:a",
)
LAST_ID = 2**32 - 1
"""Of a command that comes after all others, and that no other has."""
LAST = f'{{"id":{LAST_ID},"unsubscribe":{{"channel":"the:end"}}}}'

CLOSE_CODES = {kind.code for kind in Disconnect.__subclasses__()}
"""Those that `docs/shutdown.md` lists, which another test makes sure of."""
ERROR_CODES = {kind.code for kind in Refused.__subclasses__()} - {InternalError.code}
"""Nothing of ours may go wrong, whatever comes."""

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(json.dumps)
_integers = (0, 1, -1, 255, 2**32 - 1, 2**32, 2**53 + 1, 2**64, 10**400)
_number = st.sampled_from(_integers).map(str) | st.sampled_from(
    ["-0", "1e3", "1e999", "1.5", "01", "NaN", "-Infinity"]
)
_nested = st.sampled_from(["[" * 50 + "]" * 50, "[" * 2000, '{"a":' * 1200 + "1" + "}" * 1200])
_odd = st.sampled_from(
    ["null", "true", "{}", "[]", '""', '"\\ud800"', '"\\u0000"', '{"a":1,"a":2}', "", "tru", "'a'"]
)
junk = st.one_of(_text, _number, _odd, _nested)
"""A value for where another one belongs."""

_json = st.recursive(
    _text | st.sampled_from(["null", "1", "true", "-2.5"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]"),
    max_leaves=5,
)
_channel = st.sampled_from(CHANNELS).map(json.dumps) | _text
_offset = st.integers(0, 2**53).map(str)
_since = st.builds('{{"offset":{},"epoch":{}}}'.format, _offset, _text)
_switch = st.sampled_from(["true", "false"])

FIELDS = {
    "connect": {
        "token": _text,
        "data": _json,
        "name": _text,
        "headers": st.builds("{{{}:{}}}".format, _text, _text),
        "subs": st.builds('{{{}:{{"recover":true,"offset":{}}}}}'.format, _channel, _offset),
    },
    "subscribe": {
        "channel": _channel,
        "token": _text,
        "recover": _switch,
        "positioned": _switch,
        "offset": _offset,
        "epoch": _text,
        "flag": st.integers(0, 7).map(str),
        "delta": st.sampled_from(['""', '"fossil"', '"other"']),
        "tf": _json,
        "type": st.integers(0, 4).map(str),
    },
    "unsubscribe": {"channel": _channel},
    "publish": {"channel": _channel, "data": _json},
    "presence": {"channel": _channel},
    "presence_stats": {"channel": _channel},
    "history": {
        "channel": _channel,
        "limit": st.integers(-2, 400).map(str),
        "since": _since,
        "reverse": _switch,
    },
    "rpc": {"method": st.sampled_from(['"echo"', '"none"', '""']), "data": _json},
    "send": {"data": _json},
    "refresh": {"token": _text},
    "sub_refresh": {"channel": _channel, "token": _text},
}
assert set(FIELDS) == set(METHODS.values())


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


@st.composite
def request(draw: st.DrawFn, method: str, *, spoilt: bool) -> str:
    """What is asked for; *spoilt*: with something in it that does not belong there."""
    known = FIELDS[method]
    names = draw(st.sets(st.sampled_from(sorted(known)), max_size=len(known)))
    members = {name: draw(known[name]) for name in sorted(names | {"channel"} & set(known))}
    if spoilt:
        members[draw(st.sampled_from([*sorted(known), "more", ""]))] = draw(junk)
    return _object(members)


@st.composite
def command(draw: st.DrawFn) -> str:
    """One line."""
    method, kind = draw(st.sampled_from(sorted(FIELDS))), draw(st.integers(0, 9))
    number = str(draw(st.integers(1, 1000)))
    good = draw(request(method, spoilt=False))
    other = draw(st.sampled_from(sorted(FIELDS)))
    lines = {
        0: draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | junk),
        1: draw(st.sampled_from(["{}", _object({"id": number}), '{"id":1,"ping":{}}'])),
        2: _object({"id": draw(junk), method: good}),
        3: _object({"id": number, method: draw(junk)}),
        4: _object({"id": number, method: good, other: draw(junk), "more": draw(junk)}),
        5: _object({"id": number, method: draw(request(method, spoilt=True))}),
    }
    return lines.get(kind, _object({"id": number, method: good}))


messages = st.lists(
    st.lists(command(), min_size=1, max_size=5).map("\n".join) | st.just(""), min_size=1, max_size=5
)
"""What a client sends, one after the other."""


def check(line: str) -> bool:
    """Whether this is the answer to `LAST`; fails for what no server of this protocol says."""
    said = json.loads(line)
    assert isinstance(said, dict)
    if "error" in said:
        assert said["id"] > 0
        assert said["error"]["code"] in ERROR_CODES, said
        assert said["error"]["message"]
    else:
        assert not said or "push" in said or (said["id"] > 0 and set(said) & set(FIELDS)), said
    return said.get("id") == LAST_ID
