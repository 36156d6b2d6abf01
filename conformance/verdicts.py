"""What the client's findings mean: which of them stop a release, and why the others do not."""

from collections.abc import Iterator, Mapping

OK, NON_STRICT, INFORMATIONAL = "OK", "NON-STRICT", "INFORMATIONAL"

REASONS: Mapping[str, str] = {
    "7.1.6": "a message of 256 KiB with a close right behind it. Whether the message still comes "
    "back is left to the server: on a detached connection it does, an ordinary endpoint's answer "
    "may come too late.",
    "7.13.1": "a close with code 5000, which the RFC does not speak of: we answer 1002.",
    "7.13.2": "a close with code 65535, which the RFC does not speak of: we answer 1002.",
}
"""By case: why an outcome other than OK is as it should be."""


def outcome(behavior: str, close: str) -> str:
    """One word for both: what the case found, and how its connection ended."""
    if close in {OK, behavior}:
        return behavior
    return f"{behavior}, closed {close}"


def problems(outcomes: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each case whose outcome must not be; informational ones may."""
    for case, found in outcomes.items():
        if found in {OK, INFORMATIONAL} or (found == NON_STRICT and case in REASONS):
            continue
        reason = "non-strict without a reason" if found == NON_STRICT else found
        yield f"{case}: {reason}"
