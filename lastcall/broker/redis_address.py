"""Where Redis is, as a setting says it: one server, sentinels, or a cluster. Pure.

redis-py reads the addresses of single servers. Those of several have the form that the tools around
it have settled on: `redis+sentinel://[user:pass@]host[:port],…/service[/db][?options]` and
`redis+cluster://[user:pass@]host[:port],…[?options]`, both with `rediss` for TLS.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import parse_qsl, quote, unquote, urlencode

_FORM = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<login>[^/?#@]*)@)?(?P<hosts>[^/?#@]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")
_EXAMPLES = "redis+sentinel://host:26379,host:26379/service/0 or redis+cluster://host:6379,host"

type Place = tuple[str, int]
"""A server's host and port."""
type Options = list[tuple[str, str]]


class Kind(Enum):
    """What is found at an address."""

    SERVER = auto()
    SENTINEL = auto()
    CLUSTER = auto()


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What an address says."""

    kind: Kind
    server_url: str
    """A server, with who logs in and all options; where there are several, without a host."""
    hosts: tuple[Place, ...] = ()
    """Whom to ask where the servers are."""
    service: str = ""
    """How the sentinels call the master and its replicas."""
    sentinel_url: str = ""
    """A sentinel, likewise without a host."""


def address(url: str) -> RedisAddress:
    """Read *url*.

    Raises:
        ValueError: it is that of several servers, and cannot be understood.
    """
    if not re.match("rediss?[+]", url):
        return RedisAddress(Kind.SERVER, url)
    form = _FORM.fullmatch(url)
    if form is None:
        raise ValueError(f"it is not like {_EXAMPLES}")
    scheme, login = form["scheme"], form["login"] or ""
    options = parse_qsl(form["query"] or "", keep_blank_values=True)
    path = [unquote(part) for part in (form["path"] or "").split("/") if part]
    if form["kind"] == "cluster":
        if path not in ([], ["0"]):
            raise ValueError("a cluster has no database but 0")
        hosts = _hosts(form["hosts"], 6379)
        return RedisAddress(Kind.CLUSTER, _url(scheme, login, "0", options), hosts)
    service, database = (*path, "0")[:2] if len(path) in (1, 2) else ("", "")
    if not database.isdecimal():
        raise ValueError("a path like /service or /service/0 names what the sentinels watch")
    servers = [each for each in options if not each[0].startswith("sentinel_")]
    return RedisAddress(
        Kind.SENTINEL,
        _url(scheme, login, database, servers),
        _hosts(form["hosts"], 26379),
        service,
        _url(scheme, _login(options), "0", [each for each in servers if _is_of_tls(each)]),
    )


def shown(place: Place) -> str:
    """A host and port as people read them."""
    return f"{place[0]}:{place[1]}"


def _is_of_tls(option: tuple[str, str]) -> bool:
    # Sentinels have the same certificates as the servers, but other users and no databases.
    return option[0].startswith("ssl_")


def _login(options: Options) -> str:
    given = {name: quote(value, safe="") for name, value in options}
    user, password = given.get("sentinel_username", ""), given.get("sentinel_password", "")
    return f"{user}:{password}" if user or password else ""


def _url(scheme: str, login: str, database: str, options: Iterable[tuple[str, str]]) -> str:
    query = urlencode(list(options))
    return f"{scheme}://{login}{'@' if login else ''}/{database}{'?' if query else ''}{query}"


def _hosts(several: str, port: int) -> tuple[Place, ...]:
    found = []
    for each in several.split(","):
        host = _HOST.fullmatch(each)
        if host is None or int(host["port"] or port) > 65535:  # noqa: PLR2004  (ports are 16 bit)
            raise ValueError(f"{each!r} is no host and port")
        found.append((unquote(host["v6"] or host["name"]), int(host["port"] or port)))
    return tuple(found)
