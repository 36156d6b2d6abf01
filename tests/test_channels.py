"""What a channel's name says, and who may do what there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.channel_options import ChannelOptions, Override, Switch
from lastcall.channels import Access, Asked, Channels, Features, is_private, users_of
from lastcall.errors import BadCommand, FeatureOff, UnknownChannel
from lastcall.settings import Settings

OPEN_TO_USERS = ChannelOptions(allow_subscribe_for_client=True)
OPEN_TO_ALL = ChannelOptions(allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)
FOR_LISTED = ChannelOptions(allow_user_limited_channels=True)


def channels(options: ChannelOptions | None = None, **settings: object) -> Channels:
    return Channels(Settings(channels=options or ChannelOptions(), **settings))  # type: ignore[arg-type]  # values of any setting


def subscribe(
    rules: Channels, channel: str, user: str = "42", *, token: bool = False, hook: bool = False
) -> str:
    return rules.may_subscribe(channel, user, has_token=token, has_hook=hook).value


# Names


@pytest.mark.parametrize(
    ("channel", "size"),
    [
        ("news", 1),
        ("chat:room", 2),
        ("chat:room:5", 2),
        ("$chat:room", 2),
        ("$news", 1),
        (":room", 1),
        ("#42", 1),
        ("chat:#42", 2),
        ("room with a view", 1),
        ("a" * 255, 1),
    ],
)
def test_name_leads_to_the_options_of_its_namespace(channel: str, size: int) -> None:
    rules = channels(
        ChannelOptions(history_size=1), namespaces={"chat": ChannelOptions(history_size=2)}
    )

    assert rules.options(channel).history_size == size
    assert rules.options(channel) is rules.options(channel)


@pytest.mark.parametrize("channel", ["nosuch:room", "$nosuch:room", "Chat:room", "$$chat:room"])
def test_namespace_that_is_not_configured_is_unknown(channel: str) -> None:
    with pytest.raises(UnknownChannel):
        channels(namespaces={"chat": {}}).options(channel)


@pytest.mark.parametrize("channel", ["", "a" * 256, "größe", "a\nb", "a\x00", "a\x7f", "\u2028"])
def test_what_is_no_name_is_refused(channel: str) -> None:
    with pytest.raises(BadCommand):
        channels().options(channel)


def test_length_is_limited_by_the_setting() -> None:
    rules = channels(max_channel_length=4)

    assert rules.options("abcd")
    with pytest.raises(BadCommand):
        rules.options("abcde")


def test_pattern_is_searched_in_what_follows_the_namespace() -> None:
    rules = channels(
        ChannelOptions(channel_regex="^[$a-z]+$"),
        namespaces={"chat": ChannelOptions(channel_regex="^[0-9]+$")},
    )

    assert rules.options("chat:42")
    assert rules.options("$chat:42")
    assert rules.options("$news")
    for wrong in ("chat:room", "chat:", "news42"):
        with pytest.raises(BadCommand):
            rules.options(wrong)


def test_what_is_remembered_of_names_is_bounded() -> None:
    rules = channels()
    for number in range(25_000):
        rules.options(f"room-{number}")

    assert len(rules._known) <= 10_000  # noqa: SLF001  (nothing shows it from outside)


@given(st.text(max_size=300))
def test_any_text_has_options_or_one_of_two_errors(channel: str) -> None:
    rules = channels(namespaces={"chat": {}})
    try:
        options = rules.options(channel)
    except (BadCommand, UnknownChannel):
        return
    assert options == ChannelOptions()
    assert channel.isascii()
    assert channel.isprintable()
    assert 1 <= len(channel) <= 255


@pytest.mark.parametrize(
    ("channel", "users"),
    [
        ("news", None),
        ("#42", ("42",)),
        ("chat#1,2", ("1", "2")),
        ("chat:a#b#c", ("c",)),
        ("chat#", ("",)),
    ],
)
def test_users_stand_after_the_last_hash(channel: str, users: tuple[str, ...] | None) -> None:
    assert users_of(channel) == users


def test_private_is_what_begins_with_a_dollar() -> None:
    assert is_private("$news")
    assert not is_private("news$")


def test_personal_channel_is_the_users_alone() -> None:
    assert channels(user_personal_channel=True).personal_channel("42") == "#42"
    assert channels().personal_channel("42") is None
    assert channels(user_personal_channel=True).personal_channel("") is None
    assert (
        channels(
            user_personal_channel=True,
            user_personal_channel_namespace="user",
            namespaces={"user": {}},
        ).personal_channel("42")
        == "user:#42"
    )


@pytest.mark.parametrize("user", ["1,2", "a#b", "jürgen", "a\n", "a" * 255])
def test_user_id_that_would_name_another_channel_or_none_has_no_personal_one(user: str) -> None:
    with pytest.raises(BadCommand):
        channels(user_personal_channel=True).personal_channel(user)


# Who may subscribe


@pytest.mark.parametrize("channel", ["news", "$news", "chat#42", "#42"])
def test_everything_is_closed_by_default(channel: str) -> None:
    rules = channels()

    assert subscribe(rules, channel) == "denied"
    assert rules.may_publish(channel, "42", is_subscribed=True, has_hook=False) is Access.DENIED
    with pytest.raises(FeatureOff):
        rules.may_read_history(channel, "42", is_subscribed=True)
    with pytest.raises(FeatureOff):
        rules.may_see_presence(channel, "42", is_subscribed=True)


def test_token_opens_every_channel() -> None:
    for channel in ("news", "$news", "chat#1"):
        assert subscribe(channels(), channel, token=True) == "granted"
        assert subscribe(channels(), channel, user="", token=True) == "granted"
        assert subscribe(channels(FOR_LISTED), channel, token=True, hook=True) == "granted"


def test_private_channel_needs_a_token_whatever_else_is_allowed() -> None:
    rules = channels(OPEN_TO_ALL, insecure=True)

    assert subscribe(rules, "$news", hook=True) == "denied"
    assert subscribe(channels(FOR_LISTED), "$chat#42") == "denied"


def test_listed_users_need_no_token() -> None:
    rules = channels(FOR_LISTED)

    assert subscribe(rules, "chat#1,42") == "granted"
    assert subscribe(rules, "chat#1,42", hook=True) == "granted"
    assert subscribe(rules, "chat#1,2") == "denied"
    assert subscribe(rules, "chat#1,2", hook=True) == "denied"
    assert subscribe(rules, "chat#4,2", user="4,2") == "denied"


def test_nobody_is_no_listed_user() -> None:
    assert subscribe(channels(FOR_LISTED), "chat#", user="") == "denied"
    assert subscribe(channels(FOR_LISTED), "chat#1,", user="") == "denied"


def test_list_of_users_is_no_ordinary_name_where_lists_are_off() -> None:
    assert subscribe(channels(OPEN_TO_ALL), "chat#42") == "denied"
    assert subscribe(channels(OPEN_TO_ALL), "chat#42", hook=True) == "ask"


def test_hook_is_asked_before_the_options() -> None:
    assert subscribe(channels(), "news", hook=True) == "ask"
    assert subscribe(channels(OPEN_TO_ALL), "news", hook=True) == "ask"


def test_open_channel_is_for_users_and_for_anonymous_clients_if_it_says_so() -> None:
    assert subscribe(channels(OPEN_TO_USERS), "news") == "granted"
    assert subscribe(channels(OPEN_TO_USERS), "news", user="") == "denied"
    assert subscribe(channels(OPEN_TO_ALL), "news", user="") == "granted"


def test_insecure_mode_opens_what_needs_no_token() -> None:
    rules = channels(FOR_LISTED, insecure=True)

    assert subscribe(rules, "news", user="") == "granted"
    assert subscribe(rules, "chat#1", user="2") == "granted"
    assert rules.may_publish("news", "", is_subscribed=False, has_hook=False) is Access.GRANTED


# Who may publish, read the history and see presence

RIGHTS = ("publish", "history", "presence")


def may(rules: Channels, right: str, user: str, *, is_subscribed: bool) -> bool:
    if right == "history":
        return rules.may_read_history("news", user, is_subscribed=is_subscribed)
    if right == "presence":
        return rules.may_see_presence("news", user, is_subscribed=is_subscribed)
    access = rules.may_publish("news", user, is_subscribed=is_subscribed, has_hook=False)
    return access is Access.GRANTED


def allowing(right: str, *whom: str) -> Channels:
    options = {f"allow_{right}_for_{who}": True for who in whom}
    return channels(ChannelOptions.model_validate({"history_size": 1, "presence": True} | options))


@pytest.mark.parametrize("right", RIGHTS)
def test_right_of_clients_subscribers_and_anonymous_ones(right: str) -> None:
    nobody, client = allowing(right), allowing(right, "client")
    subscriber = allowing(right, "subscriber")
    anonymous = allowing(right, "subscriber", "anonymous")

    assert not may(nobody, right, "42", is_subscribed=True)
    assert may(client, right, "42", is_subscribed=False)
    assert not may(client, right, "", is_subscribed=True)
    assert may(subscriber, right, "42", is_subscribed=True)
    assert not may(subscriber, right, "42", is_subscribed=False)
    assert not may(subscriber, right, "", is_subscribed=True)
    assert may(anonymous, right, "", is_subscribed=True)
    assert not may(anonymous, right, "", is_subscribed=False)


def test_insecure_mode_shows_history_and_presence_where_there_are_any() -> None:
    rules = channels(ChannelOptions(history_size=1, presence=True), insecure=True)

    assert may(rules, "history", "", is_subscribed=False)
    assert may(rules, "presence", "", is_subscribed=False)
    with pytest.raises(FeatureOff):
        may(channels(insecure=True), "history", "", is_subscribed=False)
    with pytest.raises(FeatureOff):
        may(channels(insecure=True), "presence", "", is_subscribed=False)


def test_hook_is_asked_before_a_publication() -> None:
    rules = allowing("publish", "client")
    assert rules.may_publish("news", "42", is_subscribed=False, has_hook=True) is Access.ASK


WHOM = [f"allow_{right}_for_client" for right in (*RIGHTS, "subscribe")] + [
    f"allow_{right}_for_subscriber" for right in RIGHTS
]


@given(
    granted=st.sets(st.sampled_from(WHOM)),
    channel=st.sampled_from(["news", "$news", "chat#42", "chat#1"]),
    is_subscribed=st.booleans(),
    has_hook=st.booleans(),
)
def test_who_is_anonymous_may_never_do_more_than_a_user(
    *, granted: set[str], channel: str, is_subscribed: bool, has_hook: bool
) -> None:
    rules = channels(
        ChannelOptions.model_validate(
            {"history_size": 1, "presence": True, "allow_user_limited_channels": True}
            | dict.fromkeys(granted, True)
            | {name.rpartition("_")[0] + "_anonymous": True for name in granted}
        )
    )

    def rights_of(user: str) -> list[bool]:
        return [
            Access.GRANTED
            is rules.may_subscribe(channel, user, has_token=False, has_hook=has_hook),
            Access.GRANTED
            is rules.may_publish(channel, user, is_subscribed=is_subscribed, has_hook=has_hook),
            rules.may_read_history(channel, user, is_subscribed=is_subscribed),
            rules.may_see_presence(channel, user, is_subscribed=is_subscribed),
        ]

    assert all(mine >= theirs for mine, theirs in zip(rights_of("42"), rights_of(""), strict=True))


# What a subscription has

NOTHING = Features(
    presence=False, join_leave=False, push_join_leave=False, positioned=False, recoverable=False
)
EVERYTHING_ASKED = Asked(positioned=True, recoverable=True, join_leave=True)
ON, OFF = Switch(value=True), Switch(value=False)


def test_subscription_has_nothing_by_default_whatever_is_asked() -> None:
    assert channels().features("news", "42") == NOTHING
    assert channels().features("news", "42", asked=EVERYTHING_ASKED) == NOTHING


def test_subscription_has_what_the_options_force() -> None:
    rules = channels(
        ChannelOptions(
            history_size=1,
            presence=True,
            join_leave=True,
            force_push_join_leave=True,
            force_recovery=True,
        )
    )

    assert rules.features("news", "") == Features(
        presence=True, join_leave=True, push_join_leave=True, positioned=True, recoverable=True
    )


def test_positioned_is_not_recoverable() -> None:
    rules = channels(ChannelOptions(history_size=1, force_positioning=True))
    features = rules.features("news", "42")

    assert (features.positioned, features.recoverable) == (True, False)


@pytest.mark.parametrize(
    "options",
    [
        ChannelOptions(history_size=1, allow_positioning=True, allow_recovery=True),
        ChannelOptions(history_size=1, allow_history_for_client=True),
        ChannelOptions(history_size=1, allow_history_for_subscriber=True),
    ],
)
def test_client_may_ask_for_positions_and_recovery(options: ChannelOptions) -> None:
    rules = channels(options)
    asked = rules.features("news", "42", asked=EVERYTHING_ASKED)
    positioned = rules.features("news", "42", asked=Asked(positioned=True))

    assert (asked.positioned, asked.recoverable, asked.push_join_leave) == (True, True, False)
    assert (positioned.positioned, positioned.recoverable) == (True, False)
    assert rules.features("news", "42") == NOTHING


def test_client_that_may_see_presence_may_ask_for_joins() -> None:
    seen = ChannelOptions(join_leave=True, presence=True, allow_presence_for_subscriber=True)
    asked = Asked(join_leave=True)

    assert channels(seen).features("news", "42", asked=asked).push_join_leave
    assert not channels(seen).features("news", "", asked=asked).push_join_leave
    assert not channels(seen).features("news", "42").push_join_leave
    assert (
        not channels(seen.model_copy(update={"join_leave": False}))
        .features("news", "42", asked=asked)
        .push_join_leave
    )


def test_token_overrides_the_options_both_ways() -> None:
    every = Override(ON, ON, ON, ON, ON)
    none = Override(OFF, OFF, OFF, OFF, OFF)
    full = ChannelOptions(
        history_size=1,
        presence=True,
        join_leave=True,
        force_push_join_leave=True,
        force_recovery=True,
        force_positioning=True,
    )

    assert channels(full).features("news", "42", override=none) == NOTHING
    assert channels(ChannelOptions(history_size=1)).features(
        "news", "42", override=every
    ) == Features(
        presence=True, join_leave=True, push_join_leave=True, positioned=True, recoverable=True
    )


def test_token_cannot_make_positions_where_there_is_no_history() -> None:
    features = channels().features(
        "news", "42", override=Override(force_recovery=ON, force_positioning=ON)
    )

    assert (features.positioned, features.recoverable) == (False, False)


def test_channel_without_a_place_has_no_history() -> None:
    assert not Channels(Settings()).has_history("unknown:a")
