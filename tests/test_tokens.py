"""Whom a token makes a client, and that nothing but a key of ours can make one."""

import base64
import json
import logging
from contextlib import suppress
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lastcall.channel_options import Override, Switch
from lastcall.errors import (
    InternalError,
    InvalidToken,
    NotPermitted,
    TokenExpired,
)
from lastcall.public_keys import keys_from_pem
from lastcall.token_keys import RemoteKeys, TokenKey, from_base64url, secret_key, to_base64url
from lastcall.tokens import (
    MAX_TOKEN,
    ConnectionClaims,
    ServerSubscription,
    SubscriptionClaims,
    Tokens,
    make_token,
)
from tests.token_makers import BY_ALGORITHM, NOW, P256, RSA, SECRET, pem, signed, token

TOKENS = Tokens([secret_key(SECRET)])
EVERY_KEY = Tokens(
    [secret_key(SECRET), *keys_from_pem("\n".join(pem(key) for key in BY_ALGORITHM.values()))]
)


def connection(claims: dict[str, Any], tokens: Tokens = TOKENS) -> ConnectionClaims:
    return tokens.connection(token(claims), NOW)


def subscription(
    claims: dict[str, Any], *, user: str = "42", client: str = "c1"
) -> SubscriptionClaims:
    return TOKENS.subscription(token(claims), NOW, channel="news", user=user, client=client)


def of_the_subscription(**claims: Any) -> dict[str, Any]:
    return {"sub": "42", "channel": "news", **claims}


# Signatures


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *BY_ALGORITHM])
def test_token_is_good_that_a_key_of_ours_has_signed(algorithm: str) -> None:
    made = token({"sub": "42"}, BY_ALGORITHM.get(algorithm, SECRET), algorithm)

    assert EVERY_KEY.connection(made, NOW).user == "42"
    with pytest.raises(InvalidToken):
        Tokens([]).connection(made, NOW)
    with pytest.raises(InvalidToken):
        Tokens([secret_key("another secret")]).connection(made, NOW)


def test_both_secrets_are_good_while_one_takes_the_place_of_the_other() -> None:
    tokens = Tokens([secret_key("new" * 12), secret_key(SECRET)])

    assert tokens.connection(token({"sub": "1"}), NOW).user == "1"
    assert tokens.connection(token({"sub": "2"}, "new" * 12), NOW).user == "2"


def test_unsigned_token_is_refused() -> None:
    body = to_base64url(b'{"sub":"42"}').decode()
    for algorithm in ("none", "None", "NONE", "", "HS256", "RS256"):
        head = to_base64url(json.dumps({"alg": algorithm}).encode()).decode()
        with pytest.raises(InvalidToken):
            EVERY_KEY.connection(f"{head}.{body}.", NOW)


def test_public_key_is_no_secret() -> None:
    """The oldest trick: HS256 with the public key, which everybody has, as the secret."""
    for key in BY_ALGORITHM.values():
        forged = make_token(pem(key), {"sub": "42"})

        assert Tokens([secret_key(pem(key))]).connection(forged, NOW).user == "42"
        with pytest.raises(InvalidToken):
            EVERY_KEY.connection(forged, NOW)


def test_key_checks_its_own_algorithms_only() -> None:
    """An RSA signature under the name of another algorithm, and so on."""
    for algorithm, key in BY_ALGORITHM.items():
        _, body, signature = token({"sub": "42"}, key, algorithm).split(".")
        for other in ["HS256", *BY_ALGORITHM]:
            if other != algorithm:
                head = to_base64url(json.dumps({"alg": other}).encode()).decode()
                with pytest.raises(InvalidToken):
                    EVERY_KEY.connection(f"{head}.{body}.{signature}", NOW)


@pytest.mark.parametrize("critical", [["exp"], ["b64"], [], None])
def test_critical_extension_is_refused(critical: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidToken):
        TOKENS.connection(token({"sub": "42"}, crit=critical, exp=1), NOW)
    assert "critical" in caplog.text


def test_token_that_is_too_long_is_refused_unread() -> None:
    made = token({"sub": "a" * MAX_TOKEN})

    with pytest.raises(InvalidToken):
        TOKENS.connection(made, NOW)
    assert connection({"sub": "a" * 40_000}).user == "a" * 40_000


@given(st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_garbage_is_an_invalid_token_and_nothing_worse(garbage: str) -> None:
    with pytest.raises(InvalidToken):
        EVERY_KEY.connection(garbage, NOW)
    with pytest.raises(NotPermitted):
        EVERY_KEY.subscription(garbage, NOW, channel="news", user="42", client="c1")
    assert not Tokens([], RemoteKeys()).lacks_key(garbage, NOW)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), st.binary())
def test_signed_garbage_is_an_invalid_token_and_nothing_worse(value: Any, raw: bytes) -> None:
    assume(not raw.lstrip().startswith(b"{"))
    for payload in (json.dumps(value).encode(), raw):
        made = signed(payload)
        with pytest.raises(InvalidToken):
            TOKENS.connection(made, NOW)
        with pytest.raises(NotPermitted):
            TOKENS.subscription(made, NOW, channel="news", user="42", client="c1")


CLAIMS = [
    *("sub", "exp", "nbf", "iat", "jti", "aud", "iss", "expire_at", "info", "b64info", "channel"),
    *("channels", "subs", "meta", "client", "data", "b64data", "override"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(CLAIMS), JSON))
def test_claims_of_any_shape_are_read_or_refused(claims: dict[str, Any]) -> None:
    made = signed(json.dumps(claims).encode())
    with suppress(InvalidToken, TokenExpired):
        read = TOKENS.connection(made, NOW)
        for text in (read.info, read.meta):
            assert b"\n" not in text
            assert text == b"" or msgspec.json.decode(text) is not None
    with suppress(NotPermitted, InvalidToken, TokenExpired):
        TOKENS.subscription(made, NOW, channel="news", user="42", client="c1")


@given(
    algorithm=st.sampled_from(["HS256", "RS256", "ES256", "EdDSA"]),
    place=st.floats(0, 1, exclude_max=True),
    letter=st.sampled_from("ABab01-_.=+/ \n"),
    how=st.sampled_from(["replace", "insert", "cut"]),
)
def test_token_that_was_touched_is_refused(
    algorithm: str, place: float, letter: str, how: str
) -> None:
    made = token({"sub": "42"}, BY_ALGORITHM.get(algorithm, SECRET), algorithm)
    at = int(place * len(made))
    touched = {
        "replace": made[:at] + letter + made[at + 1 :],
        "insert": made[:at] + letter + made[at:],
        "cut": made[:at],
    }[how]

    if touched != made:
        with pytest.raises(InvalidToken):
            EVERY_KEY.connection(touched, NOW)


@pytest.mark.parametrize("text", ["YQ==", "YR", "YQ ", "Y Q", "YQ\n", "+/", "ü", "A"])
def test_bytes_have_one_spelling(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (its words are nobody's business)
        from_base64url(text)


@given(st.binary())
def test_spelling_of_bytes_is_read_back(plain: bytes) -> None:
    assert from_base64url(to_base64url(plain)) == plain


def test_deeply_nested_header_and_claims_are_refused() -> None:
    deep = b"[" * 20_000 + b"]" * 20_000
    for payload in (deep, b'{"sub":"42","info":' + deep + b"}"):
        with pytest.raises(InvalidToken):
            TOKENS.connection(signed(payload), NOW)
    with pytest.raises(InvalidToken):
        TOKENS.connection(f"{to_base64url(deep[:30_000]).decode()}..", NOW)


def test_secrets_stand_in_no_repr_and_tokens_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = token({"sub": 42})
    with pytest.raises(InvalidToken) as refused:
        TOKENS.connection(made, NOW)

    assert SECRET not in repr(secret_key(SECRET)) + repr(TOKENS)
    assert "sub" in caplog.text
    for part in (made, SECRET):
        assert part not in caplog.text + repr(refused.value)
    assert refused.value.__suppress_context__


# Claims of a connection


def test_connection_token_says_who_the_client_is() -> None:
    claims = connection(
        {
            "sub": "42",
            "exp": NOW + 600,
            "iat": NOW - 5,
            "jti": "t1",
            "info": {"name": "Al"},
            "meta": [1, 2],
            "channels": ["news", "chat:a"],
        }
    )

    assert claims == ConnectionClaims(
        user="42",
        expire_at=NOW + 600,
        info=b'{"name":"Al"}',
        meta=b"[1,2]",
        subscriptions={"news": ServerSubscription(), "chat:a": ServerSubscription()},
        token_id="t1",  # noqa: S106  (an id, no secret)
        issued_at=NOW - 5,
    )


def test_token_without_claims_is_for_an_anonymous_client_for_ever() -> None:
    assert connection({}) == ConnectionClaims(user="")


def test_subs_win_over_channels_and_bring_options() -> None:
    claims = connection(
        {
            "sub": "42",
            "channels": ["ignored"],
            "subs": {
                "news": {
                    "info": 1,
                    "data": {"hello": True},
                    "override": {"presence": {"value": True}, "force_recovery": {}},
                },
                "chat": {"b64info": "MQ==", "b64data": "WzJd"},
                "plain": None,
            },
        }
    )

    assert claims.subscriptions == {
        "news": ServerSubscription(
            info=b"1",
            data=b'{"hello":true}',
            override=Override(presence=Switch(value=True), force_recovery=Switch(value=False)),
        ),
        "chat": ServerSubscription(info=b"1", data=b"[2]"),
        "plain": ServerSubscription(),
    }


def test_connection_token_names_no_channel() -> None:
    with pytest.raises(InvalidToken):
        connection({"sub": "42", "channel": "news"})
    assert connection({"sub": "42", "channel": ""}).user == "42"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 42},
        {"sub": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"channels": "news"},
        {"channels": [1]},
        {"subs": ["news"]},
        {"subs": {"news": 1}},
        {"subs": {"news": {"override": {"presence": True}}}},
        {"b64info": "not base64!"},
        {"b64info": "bm90IGpzb24="},
        {"b64info": "Iv8i"},
        {"jti": 5},
        {"channel": 5},
    ],
)
def test_claim_of_the_wrong_kind_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        connection(claims)


def test_what_others_see_is_json_on_one_line() -> None:
    pretty = json.dumps({"name": "Al\n", "tags": [1]}, indent=2)
    for payload in (
        f'{{"info": {pretty}}}',
        f'{{"info": {pretty}}}'.replace("\n", "\r\n"),
        json.dumps({"b64info": base64.b64encode(pretty.encode()).decode()}),
    ):
        made = signed(payload.encode())
        assert TOKENS.connection(made, NOW).info == b'{"name":"Al\\n","tags":[1]}'

    assert connection({"info": None}).info == b""


def test_what_others_see_is_utf8() -> None:
    made = signed(b'{"info": "\xff"}')
    with pytest.raises(InvalidToken):
        TOKENS.connection(made, NOW)


# Time


@pytest.mark.parametrize(
    ("claims", "is_good"),
    [
        ({"exp": NOW + 0.5}, True),
        ({"exp": NOW}, False),
        ({"exp": 0}, False),
        ({"exp": None}, True),
        ({"nbf": NOW}, True),
        ({"nbf": NOW + 1}, False),
        ({"iat": NOW + 1000}, True),
        ({"expire_at": NOW}, False),
        ({"expire_at": NOW + 1}, True),
        ({"exp": NOW - 1, "expire_at": NOW + 1}, False),
        ({"exp": NOW - 1, "expire_at": 0}, False),
    ],
)
def test_time_of_a_token(claims: dict[str, Any], *, is_good: bool) -> None:
    if is_good:
        connection(claims)
        subscription(of_the_subscription(**claims))
    else:
        with pytest.raises(TokenExpired):
            connection(claims)
        with pytest.raises(TokenExpired):
            subscription(of_the_subscription(**claims))


@pytest.mark.parametrize(
    ("claims", "expire_at"),
    [
        ({}, None),
        ({"exp": NOW + 9}, NOW + 9),
        ({"exp": NOW + 9, "expire_at": NOW + 99}, NOW + 99),
        ({"exp": NOW + 9, "expire_at": 0}, None),
        ({"exp": NOW + 9, "expire_at": None}, NOW + 9),
    ],
)
def test_connection_may_outlive_its_token(claims: dict[str, Any], expire_at: float | None) -> None:
    assert connection(claims).expire_at == expire_at
    assert subscription(of_the_subscription(**claims)).expire_at == expire_at


def test_bad_signature_comes_before_bad_time() -> None:
    with pytest.raises(InvalidToken):
        TOKENS.connection(token({"exp": 1}, "another" * 9), NOW)


# Audience and issuer


def test_audience_and_issuer_are_checked_where_they_are_configured() -> None:
    tokens = Tokens([secret_key(SECRET)], audience="lastcall", issuer="login")
    good = {"aud": "lastcall", "iss": "login"}

    assert connection(good, tokens)
    assert connection({**good, "aud": ["shop", "lastcall"]}, tokens)
    for wrong in (
        {},
        {"aud": "lastcall"},
        {"iss": "login"},
        {**good, "aud": "shop"},
        {**good, "aud": []},
        {**good, "aud": "lastcall2"},
        {**good, "iss": "logi"},
    ):
        with pytest.raises(InvalidToken):
            connection(wrong, tokens)
    assert connection({"aud": "shop", "iss": "else"})


# Claims of a subscription


def test_subscription_token_opens_one_channel_for_one_user() -> None:
    claims = subscription(
        of_the_subscription(
            exp=NOW + 60,
            iat=NOW,
            jti="t2",
            client="c1",
            info={"role": "admin"},
            data=[1],
            override={"force_positioning": {"value": True}},
        )
    )

    assert claims == SubscriptionClaims(
        user="42",
        channel="news",
        expire_at=NOW + 60,
        info=b'{"role":"admin"}',
        data=b"[1]",
        override=Override(force_positioning=Switch(value=True)),
        token_id="t2",  # noqa: S106  (an id, no secret)
        issued_at=NOW,
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "42", "channel": "other"},
        {"sub": "43", "channel": "news"},
        {"channel": "news"},
        {"sub": "42", "channel": "news", "client": "c2"},
    ],
)
def test_token_for_something_else_ends_the_connection(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        subscription(claims)


def test_subscription_token_of_an_anonymous_client() -> None:
    assert subscription({"channel": "news"}, user="").user == ""


@pytest.mark.parametrize("claims", [{"sub": "42"}, {"sub": "42", "channel": ""}])
def test_connection_token_is_no_subscription_token(claims: dict[str, Any]) -> None:
    with pytest.raises(NotPermitted):
        subscription(claims)


def test_subscription_token_signed_by_others_is_not_permitted() -> None:
    made = token(of_the_subscription(), "another" * 9)
    with pytest.raises(NotPermitted):
        TOKENS.subscription(made, NOW, channel="news", user="42", client="c1")


# Keys that are kept elsewhere


def remote_keys(*names: str) -> list[TokenKey]:
    (key,) = keys_from_pem(pem(RSA))
    return [TokenKey(key.checks, name) for name in names]


def test_remote_key_is_found_by_its_name() -> None:
    remote = RemoteKeys()
    tokens = Tokens([], remote)
    made = token({"sub": "42"}, RSA, "RS256", kid="k1")

    assert tokens.lacks_key(made, NOW)
    remote.replace(remote_keys("k1"), NOW)
    assert not tokens.lacks_key(made, NOW)
    assert tokens.connection(made, NOW).user == "42"
    assert tokens.connection(token({"sub": "42"}, RSA, "RS256"), NOW).user == "42"


def test_remote_key_of_that_name_does_not_check_what_another_signed() -> None:
    remote = RemoteKeys()
    remote.replace(remote_keys("k1"), NOW)

    for made in (
        token({"sub": "42"}, P256, "ES256", kid="k1"),
        token({"sub": "42"}, P256, "ES256"),
    ):
        with pytest.raises(InvalidToken):
            Tokens([], remote).connection(made, NOW)


def test_remote_keys_check_nothing_that_is_signed_with_a_secret() -> None:
    remote = RemoteKeys()
    remote.replace([TokenKey(secret_key(SECRET).checks, "k1")], NOW)
    made = token({"sub": "42"}, kid="k1")

    assert not Tokens([], remote).lacks_key(made, NOW)
    with pytest.raises(InvalidToken):
        Tokens([], remote).connection(made, NOW)


def test_only_a_token_of_a_public_key_makes_a_fetch_due() -> None:
    tokens = Tokens([secret_key(SECRET)], RemoteKeys())

    assert not tokens.lacks_key(token({"sub": "42"}), NOW)
    assert not tokens.lacks_key("garbage", NOW)
    assert not TOKENS.lacks_key(token({"sub": "42"}, RSA, "RS256"), NOW)
    assert tokens.lacks_key(token({"sub": "42"}, RSA, "RS256"), NOW)


def test_client_whose_key_nobody_could_fetch_shall_try_again() -> None:
    """An identity provider that is away must not send clients away for good."""
    remote = RemoteKeys()
    tokens = Tokens([], remote)
    made = token({"sub": "42"}, RSA, "RS256", kid="k2")

    remote.failed(NOW)
    with pytest.raises(InternalError):
        tokens.connection(made, NOW)
    remote.replace(remote_keys("k1"), NOW)
    with pytest.raises(InvalidToken):
        tokens.connection(made, NOW)
    # Too soon to ask again, and the key may be a new one.
    assert not tokens.lacks_key(made, NOW + 1)
    with pytest.raises(InternalError):
        tokens.connection(made, NOW + 1)
    with pytest.raises(InternalError):
        tokens.subscription(made, NOW + 1, channel="news", user="42", client="c1")
    assert tokens.lacks_key(made, NOW + 6)


def test_remote_keys_are_fetched_again_when_they_are_old_or_the_clock_jumps() -> None:
    remote = RemoteKeys()
    remote.replace(remote_keys("k1"), NOW)

    assert not remote.is_due("k1", NOW + 599)
    assert remote.is_due("k1", NOW + 600)
    assert remote.is_due("k1", NOW - 86_400)
    assert remote.is_due("k2", NOW + 6)
    assert not remote.is_due(None, NOW + 6)


def test_old_keys_are_better_than_none() -> None:
    remote = RemoteKeys()
    remote.replace(remote_keys("k1"), NOW)
    remote.failed(NOW + 1000)

    assert not remote.is_due("k1", NOW + 1001)
    assert len(remote.find("k1", NOW + 1001)) == 1
    remote.replace(remote_keys("k2"), NOW + 2000)
    assert not remote.find("k1", NOW + 2000)


# Making them


def test_token_of_ours_is_one_for_others_too() -> None:
    made = make_token(SECRET, {"sub": "42", "exp": int(NOW), "info": msgspec.Raw(b'{"a":1}')})
    read = jwt.decode(made, SECRET, ["HS256"], options={"verify_exp": False})

    assert read == {"sub": "42", "exp": NOW, "info": {"a": 1}}
    assert TOKENS.connection(made, NOW - 1).info == b'{"a":1}'
