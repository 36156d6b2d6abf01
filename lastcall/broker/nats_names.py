"""Under which names a server's channels lie in NATS. Pure.

A subject is made of tokens between dots; blanks, stars and control characters mean something or
are forbidden. So whatever is not plain in a name is written as `=` and two hexadecimal digits. What
gets too long for a line of the protocol (4 KiB) is cut, and told from others by a hash after `==`.
"""

import re
from hashlib import blake2b

MAX_TOKEN = 1000
_NOT_PLAIN = re.compile(rb"[^A-Za-z0-9_:-]")


def token(name: str) -> str:
    """Any name as one token of a subject; two names never give the same one."""
    plain = _NOT_PLAIN.sub(lambda found: b"=%02X" % ord(found[0]), name.encode()).decode() or "="
    return plain if len(plain) <= MAX_TOKEN else f"{plain[:MAX_TOKEN]}=={_hash(name)}"


class Names:
    """The names of one server in a NATS that others may use too."""

    def __init__(self, prefix: str) -> None:
        """Put *prefix* in front of everything."""
        self.stream = token(prefix)
        self.every_subject = f"{self.stream}.channel.*"
        self.every_told = f"{self.stream}.told.{{{{wildcard(1)}}}}"

    def subject(self, channel: str) -> str:
        """Under which its messages are stored."""
        return f"{self.stream}.channel.{token(channel)}"

    def told(self, channel: str) -> str:
        """Under which NATS tells what it has stored of it."""
        return f"{self.stream}.told.{token(channel)}"


def message_id(channel: str, key: str) -> str:
    """By which NATS knows a publication with an idempotency key, in all of a stream."""
    # As a header it may not have any character, nor be of any length.
    return _hash(f"{len(channel)} {channel}{key}")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
