"""What the name of a channel says, and who may do what there: rules without I/O.

A name is ASCII. `chat:room` belongs to the namespace `chat`, `room` to none; a leading `$` asks for
a token and does not count for the namespace; what follows the last `#` lists the users that the
channel is for. Who has no user id is anonymous.
"""

import re
from dataclasses import dataclass
from enum import Enum

from lastcall.broker.base import HistoryLimits
from lastcall.channel_options import ChannelOptions, Override, Switch
from lastcall.errors import BadCommand, FeatureOff, Refused, UnknownChannel
from lastcall.settings import Settings

ANONYMOUS = ""
"""The user id of who has none."""

ANSWERS = "\0answers:"
"""Begins the names of channels of ours in which workers answer each other (see `everyone`)."""
EMULATED = "\0emulated:"
"""Begins the names of channels of ours by which workers pass on what clients say (`emulation`)."""
_LETTERS_KEPT = HistoryLimits(64, 10)
"""For a worker that has to find another sequencer in between; nobody reads a letter twice."""

_KNOWN_LIMIT = 10_000
"""Names whose options are remembered, so that a publication costs one look-up."""


class Access(Enum):
    """What the rules say to one wish of a client."""

    GRANTED = "granted"
    ASK = "ask"
    """The application decides: its hook or its proxy."""
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client would like of a subscription."""

    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    """The kind of deltas that it applies; empty: it applies none."""


NOTHING_ASKED = Asked()
NO_OVERRIDE = Override()


@dataclass(frozen=True, slots=True)
class Features:
    """What one subscription has."""

    presence: bool
    """It is seen in the channel's presence."""
    join_leave: bool
    """Others are told that it comes and goes."""
    push_join_leave: bool
    """It is told who comes and goes."""
    positioned: bool
    """It is told when publications were lost on their way."""
    recoverable: bool
    """It gets what it missed when it comes back; then it is positioned as well."""
    delta: bool = False
    """It hears deltas."""


class Channels:
    """The configured channels, and who may do what in them."""

    def __init__(self, settings: Settings) -> None:
        """Take the namespaces, the limits and the mode from *settings*."""
        self._namespaces = {"": settings.channels, **settings.namespaces}
        self._patterns = {
            name: re.compile(options.channel_regex) for name, options in self._namespaces.items()
        }
        self._max_length = settings.max_channel_length
        self._personal_prefix = _personal_prefix(settings)
        self._insecure = settings.insecure
        self._known: dict[str, ChannelOptions] = {}

    def options(self, channel: str) -> ChannelOptions:
        """The options that hold for the channel.

        Raises:
            UnknownChannel: its namespace is not configured.
            BadCommand: it is no name: too long, not printable ASCII, or not as its namespace
                wants it. (A client that names no channel at all has broken the protocol; that is
                for the caller to see.)
        """
        options = self._known.get(channel)
        return self._find(channel) if options is None else options

    def has_history(self, channel: str) -> bool:
        """Whether offsets of the channel mean something to clients."""
        try:
            return self.options(channel).history_size > 0
        except Refused:
            return False

    def asks_about_subscribe(self, channel: str) -> bool:
        """Whether the backend is asked who may subscribe to the channel."""
        return self._says(channel, "subscribe_proxy_enabled")

    def asks_about_publish(self, channel: str) -> bool:
        """Whether the backend is asked who may publish in the channel."""
        return self._says(channel, "publish_proxy_enabled")

    def _says(self, channel: str, option: str) -> bool:
        try:
            return bool(getattr(self.options(channel), option))
        except Refused:
            return False

    def _find(self, channel: str) -> ChannelOptions:
        if not 1 <= len(channel) <= self._max_length:
            raise BadCommand
        name, rest = _split(channel)
        options = self._namespaces.get(name)
        if options is None:
            raise UnknownChannel
        # A name stands in logs and in lines of text: a control character there is an attack.
        if not (channel.isascii() and channel.isprintable()):
            raise BadCommand
        if not self._patterns[name].search(rest):
            raise BadCommand
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()
        self._known[channel] = options
        return options

    def personal_channel(self, user: str) -> str | None:
        """The channel of the user's own to subscribe each of their connections to, if configured.

        Raises:
            BadCommand: the user id cannot stand in the name, or would stand for other users.
        """
        if self._personal_prefix is None or user == ANONYMOUS:
            return None
        channel = self._personal_prefix + user
        if users_of(channel) != (user,):
            raise BadCommand
        self.options(channel)
        return channel

    def may_subscribe(self, channel: str, user: str, *, has_token: bool, has_hook: bool) -> Access:
        """Whether the client may subscribe; what applies first counts.

        ================================================================  =======================
        `$` channel, no token                                             denied
        a token, which the caller has verified                            granted
        `#` channel, `allow_user_limited_channels`: the user is listed    granted
        the same: the user is not listed                                  denied, insecure: granted
        the application has a hook or proxy for it                        ask
        `#` channel                                                       denied, insecure: granted
        `allow_subscribe_for_client`, and a user id or `..._anonymous`    granted
        insecure mode                                                     granted
        else                                                              denied
        ================================================================  =======================

        What a client names in `connect.subs` it may have if this grants it without a token; where
        it says *ask*, the client has to subscribe by itself.

        Raises:
            UnknownChannel, BadCommand: like `options`.
        """
        options = self.options(channel)
        if is_private(channel) and not has_token:
            return Access.DENIED
        if has_token:
            return Access.GRANTED
        listed = users_of(channel)
        if listed is not None and options.allow_user_limited_channels:
            return self._granted(user != ANONYMOUS and user in listed)
        if has_hook:
            return Access.ASK
        # Without its option a list of users would be an ordinary name: open to all users, which
        # is what nobody means who writes it.
        return self._granted(
            listed is None
            and options.allow_subscribe_for_client
            and (user != ANONYMOUS or options.allow_subscribe_for_anonymous)
        )

    def may_publish(
        self, channel: str, user: str, *, is_subscribed: bool, has_hook: bool
    ) -> Access:
        """Whether the client may publish; what applies first counts.

        ==================================================================  =======
        the application has a hook or proxy for it                          ask
        `allow_publish_for_client`, and a user id or `..._anonymous`        granted
        `allow_publish_for_subscriber` and subscribed, and the same         granted
        insecure mode                                                       granted
        else                                                                denied
        ==================================================================  =======

        Raises:
            UnknownChannel, BadCommand: like `options`.
        """
        options = self.options(channel)
        if has_hook:
            return Access.ASK
        return self._granted(
            (
                options.allow_publish_for_client
                or (options.allow_publish_for_subscriber and is_subscribed)
            )
            and (user != ANONYMOUS or options.allow_publish_for_anonymous)
        )

    def may_read_history(self, channel: str, user: str, *, is_subscribed: bool) -> bool:
        """Whether the client may read the history: as for publishing, but nobody is asked.

        Raises:
            FeatureOff: the channel has none.
            UnknownChannel, BadCommand: like `options`.
        """
        options = self.options(channel)
        if not options.history_size:
            raise FeatureOff
        return self._reads_history(options, user, is_subscribed=is_subscribed)

    def may_see_presence(self, channel: str, user: str, *, is_subscribed: bool) -> bool:
        """Whether the client may see who is subscribed: as for publishing, but nobody is asked.

        Raises:
            FeatureOff: the channel has no presence.
            UnknownChannel, BadCommand: like `options`.
        """
        options = self.options(channel)
        if not options.presence:
            raise FeatureOff
        return self._sees_presence(options, user, is_subscribed=is_subscribed)

    def features(
        self,
        channel: str,
        user: str,
        *,
        asked: Asked = NOTHING_ASKED,
        override: Override = NO_OVERRIDE,
    ) -> Features:
        """What a permitted subscription has, by the options, its token and the client's wishes.

        ===============  ===================================  =================================
        has              if the options (or the token) say    or if the client asks, and
        ===============  ===================================  =================================
        presence         `presence`
        join_leave       `join_leave`
        push_join_leave  `force_push_join_leave`              `join_leave`, may see presence
        positioned       `force_positioning`; history         `allow_positioning`, or may read
                                                              the history; history
        recoverable      `force_recovery`; history            `allow_recovery`, or may read
                                                              the history; history
        delta                                                 `allowed_delta_types` has it
        ===============  ===================================  =================================

        Raises:
            UnknownChannel, BadCommand: like `options`.
        """
        options = self.options(channel)
        reads = self._reads_history(options, user, is_subscribed=True)
        sees = self._sees_presence(options, user, is_subscribed=True)
        # Without a history a position says nothing, whoever wants one.
        has_history = options.history_size > 0
        recoverable = has_history and (
            _either(override.force_recovery, options.force_recovery)
            or (asked.recoverable and (options.allow_recovery or reads))
        )
        positioned = has_history and (
            _either(override.force_positioning, options.force_positioning)
            or (asked.positioned and (options.allow_positioning or reads))
        )
        pushed = _either(override.force_push_join_leave, options.force_push_join_leave)
        return Features(
            presence=_either(override.presence, options.presence),
            join_leave=_either(override.join_leave, options.join_leave),
            push_join_leave=pushed or (asked.join_leave and options.join_leave and sees),
            positioned=positioned or recoverable,
            recoverable=recoverable,
            delta=asked.delta in options.allowed_delta_types,
        )

    def _reads_history(self, options: ChannelOptions, user: str, *, is_subscribed: bool) -> bool:
        return self._insecure or (
            (
                options.allow_history_for_client
                or (options.allow_history_for_subscriber and is_subscribed)
            )
            and (user != ANONYMOUS or options.allow_history_for_anonymous)
        )

    def _sees_presence(self, options: ChannelOptions, user: str, *, is_subscribed: bool) -> bool:
        return self._insecure or (
            (
                options.allow_presence_for_client
                or (options.allow_presence_for_subscriber and is_subscribed)
            )
            and (user != ANONYMOUS or options.allow_presence_for_anonymous)
        )

    def _granted(self, is_granted: bool) -> Access:  # noqa: FBT001  (the one value it is about)
        return Access.GRANTED if is_granted or self._insecure else Access.DENIED


class ChannelRetention:
    """How much each channel remembers: its namespace's history, and never less than moves need."""

    def __init__(self, settings: Settings) -> None:
        """Take sizes and times from *settings*."""
        self._channels = Channels(settings)
        self._least = HistoryLimits(settings.history_size, settings.history_ttl)
        every = [settings.channels, *settings.namespaces.values()]
        self.size = max([self._least.size, *(each.history_size for each in every)])
        self.ttl = max([self._least.ttl, *(each.history_ttl for each in every)])

    def of(self, channel: str) -> HistoryLimits:
        """See `Retention.of`.

        More publications than the namespace says are kept for clients that change their worker;
        readers are shown as many as it says. Its time is kept exactly.
        """
        if channel.startswith((ANSWERS, EMULATED)):
            return _LETTERS_KEPT
        try:
            options = self._channels.options(channel)
        except Refused:
            return self._least
        if not options.history_size:
            return self._least
        return HistoryLimits(max(options.history_size, self._least.size), options.history_ttl)


def is_private(channel: str) -> bool:
    """Whether the channel always needs a subscription token."""
    return channel.startswith("$")


def users_of(channel: str) -> tuple[str, ...] | None:
    """The users that a channel's name lists, or None if it lists none.

    Two names with the same users in another order are two channels.
    """
    _, mark, users = channel.rpartition("#")
    return tuple(users.split(",")) if mark else None


def _split(channel: str) -> tuple[str, str]:
    """The namespace, and what the regular expression of the namespace is about."""
    name, mark, rest = channel.removeprefix("$").partition(":")
    return (name, rest) if mark else ("", channel)


def _personal_prefix(settings: Settings) -> str | None:
    if not settings.user_personal_channel:
        return None
    namespace = settings.user_personal_channel_namespace
    return f"{namespace}:#" if namespace else "#"


def _either(override: Switch | None, option: bool) -> bool:  # noqa: FBT001  (values to choose from)
    return option if override is None else override.value
