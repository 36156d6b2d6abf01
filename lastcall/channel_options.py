"""What a channel has, and who may do what in it: the options of one namespace."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from lastcall.setting_values import (
    Allowed,
    BrokenRule,
    OwnJoinWindow,
    Seconds,
    from_json,
    refuse_switch,
)

NAME_WORDS = "two or more letters, digits, - and _"
_NAMESPACE = "[-a-zA-Z0-9_]{2,}"


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError("not a regular expression") from error
    return value


class ChannelOptions(BaseModel):
    """The options of all channels of one namespace; by default a channel has and allows nothing.

    The names are Centrifugo's. *Client* means every connection, *subscriber* one that is
    subscribed to the channel, and both mean users: who has no user id is *anonymous*, and needs
    the permission for that as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    history_size: int = Field(
        default=0,
        ge=0,
        description="Publications that a channel remembers, at most; 0: none.",
    )
    history_ttl: Seconds = Field(
        default=300,
        description="Seconds that a publication is remembered, at most.",
    )
    force_recovery: bool = Field(
        default=False,
        description="Subscribers get what they missed when they come back.",
    )
    allow_recovery: bool = Field(
        default=False,
        description="The same, for those that ask.",
    )
    force_recovery_mode: Literal["stream", "cache"] = Field(
        default="stream",
        description="`stream`: all that was missed; `cache`: the latest publication only.",
    )
    allowed_delta_types: Annotated[
        tuple[Literal["fossil"], ...], Allowed('a list that is empty or `["fossil"]`')
    ] = Field(
        default=(),
        description="Subscribers that ask for it hear what has changed since the last publication.",
    )
    force_positioning: bool = Field(
        default=False,
        description="Subscribers learn of it when publications were lost on their way.",
    )
    allow_positioning: bool = Field(
        default=False,
        description="The same, for those that ask.",
    )
    presence: bool = Field(
        default=False,
        description="Who is subscribed is known.",
    )
    join_leave: bool = Field(
        default=False,
        description="Who comes and goes is told to subscribers that ask and may see presence.",
    )
    force_push_join_leave: bool = Field(
        default=False,
        description="It is told to all subscribers.",
    )
    allow_subscribe_for_client: bool = Field(
        default=False,
        description="Users may subscribe without a token.",
    )
    allow_subscribe_for_anonymous: bool = Field(
        default=False,
        description="So may anonymous clients.",
    )
    allow_publish_for_client: bool = Field(
        default=False,
        description="Users may publish.",
    )
    allow_publish_for_subscriber: bool = Field(
        default=False,
        description="Subscribed users may publish.",
    )
    allow_publish_for_anonymous: bool = Field(
        default=False,
        description="So may anonymous clients.",
    )
    allow_history_for_client: bool = Field(
        default=False,
        description="Users may read the history.",
    )
    allow_history_for_subscriber: bool = Field(
        default=False,
        description="Subscribed users may read the history.",
    )
    allow_history_for_anonymous: bool = Field(
        default=False,
        description="So may anonymous clients.",
    )
    allow_presence_for_client: bool = Field(
        default=False,
        description="Users may see who is subscribed.",
    )
    allow_presence_for_subscriber: bool = Field(
        default=False,
        description="Subscribed users may see who is subscribed.",
    )
    allow_presence_for_anonymous: bool = Field(
        default=False,
        description="So may anonymous clients.",
    )
    allow_user_limited_channels: bool = Field(
        default=False,
        description="The users that a name lists after its last `#` may subscribe without a token.",
    )
    subscribe_proxy_enabled: bool = Field(
        default=False,
        description="The backend is asked who may subscribe (`LASTCALL_PROXY_SUBSCRIBE_URL`).",
    )
    publish_proxy_enabled: bool = Field(
        default=False,
        description="The backend is asked who may publish (`LASTCALL_PROXY_PUBLISH_URL`).",
    )
    channel_regex: Annotated[str, AfterValidator(_regex), Allowed("a regular expression")] = Field(
        default="",
        description="What is to be found in a name after the namespace; empty: anything.",
    )
    join_window: OwnJoinWindow = Field(
        default=None,
        description="Seconds for which publications wait to leave in one write; "
        "unset: `LASTCALL_JOIN_WINDOW`.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        refuse_switch(value, cls.model_fields[info.field_name or ""])
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.history_size and not self.history_ttl:
            raise BrokenRule("history_size needs a history_ttl of more than 0")
        for name in (
            "force_recovery",
            "allow_recovery",
            "force_positioning",
            "allow_positioning",
        ):
            if getattr(self, name) and not self.history_size:
                raise BrokenRule(f"{name} needs a history_size of 1 or more")
        if self.force_push_join_leave and not self.join_leave:
            raise BrokenRule("force_push_join_leave needs join_leave")
        for right in ("subscribe", "publish", "history", "presence"):
            self._check_anonymous(right)
        return self

    def _check_anonymous(self, right: str) -> None:
        # Alone it would change nothing, and whoever wrote it would wonder.
        others = [f"allow_{right}_for_client"]
        if right != "subscribe":
            others.append(f"allow_{right}_for_subscriber")
        if getattr(self, f"allow_{right}_for_anonymous") and not any(
            getattr(self, other) for other in others
        ):
            raise BrokenRule(f"allow_{right}_for_anonymous needs {' or '.join(others)}")

    def set_options(self) -> dict[str, object]:
        """The options that differ from their defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Switch(msgspec.Struct, frozen=True):
    """One option that a token or the server API sets for one subscription."""

    value: bool = False


class Override(msgspec.Struct, frozen=True):
    """The options that a token or the server API sets for one subscription; None: as it is."""

    presence: Switch | None = None
    join_leave: Switch | None = None
    force_push_join_leave: Switch | None = None
    force_recovery: Switch | None = None
    force_positioning: Switch | None = None


WithoutNamespace = Annotated[
    ChannelOptions,
    NoDecode,
    BeforeValidator(from_json),
    Allowed("a table of channel options, such as history_size; in the environment as JSON"),
]
Namespaces = Annotated[
    Mapping[Annotated[str, Field(pattern=f"^{_NAMESPACE}$")], ChannelOptions],
    NoDecode,
    BeforeValidator(from_json),
    Allowed(f"tables of channel options by name ({NAME_WORDS}); in the environment as JSON"),
]
NamespaceOrNone = Annotated[
    str,
    Field(pattern=f"^({_NAMESPACE})?$"),
    Allowed(f"the name of a namespace ({NAME_WORDS}), or empty"),
]
