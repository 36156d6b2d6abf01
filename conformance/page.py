"""`docs/conformance.md`, rendered from the results that are kept."""

from benchmarks.processes import ROOT
from conformance.results_file import Results, table
from conformance.verdicts import REASONS

PAGE = ROOT / "docs" / "conformance.md"

_PAGE = """\
# Conformance

<!-- Generated: scripts/autobahn --page, from conformance/results.json -->

Whether our [WebSocket class](decisions/own-websocket-class.md) speaks RFC 6455 and RFC 7692 is
judged by somebody else: the fuzzing client of the [Autobahn test
suite](https://github.com/crossbario/autobahn-testsuite). It connects once for each case, breaks
rules on purpose, and says what the server made of it. `scripts/autobahn` runs it on your machine,
`scripts/autobahn --quick` a part of it.

{date}, commit {commit}; {versions}.

{verdict}

{table}

*detached* is a connection of `Lastcall.attach` whose `on_message` sends back what it gets,
*endpoint* an ordinary FastAPI endpoint that receives and sends in a loop: one application,
[conformance/echo.py](../conformance/echo.py), under a stock uvicorn. The cases of compression send
a thousand messages each. They are run once on each way and once on each event loop, which takes
half of the time that all four would; `scripts/autobahn --everything` runs them on all.

## What is not simply OK

{exceptions}

*Informational* is the suite's word for what the RFC leaves open. Anything else, a *non-strict*
case without a reason in `conformance/verdicts.py` included, makes `scripts/autobahn` fail. So do
cases that were not run, and a server that writes anything into its log.

## Large messages

What 9.* costs: messages of up to 16 MiB, whole, in frames of 64 bytes or more, and in small pieces
of TCP; then a thousand small ones of each size. The client and the server wait for each other, so
the time is that of both, and not of a machine at rest.

{large}
"""


def render(results: Results) -> str:
    """The whole page."""
    found = results.problems()
    verdict = "Nothing failed." if not found else "\n".join(f"- **{each}**" for each in found)
    return _PAGE.format(
        date=results.date,
        commit=f"`{results.commit}`",
        versions=", ".join(f"{name} {version}" for name, version in results.versions.items()),
        verdict=verdict,
        table=table(results),
        exceptions=_exceptions(results),
        large=_large(results),
    )


def _exceptions(results: Results) -> str:
    lines = []
    for case, kinds in results.exceptions().items():
        for kind, rows in kinds.items():
            where = "everywhere" if len(rows) == len(results.rows) else "; ".join(rows)
            reason = REASONS.get(case, "no reason is known")
            lines.append(f"- **{case}**, {kind.lower()} ({where}): {reason}")
    return "\n".join(lines) or "Nothing."


def _large(results: Results) -> str:
    lines = ["| | seconds for all of 9.* | server's memory at its largest |", "|---|---|---|"]
    lines += [
        f"| {name} | {row.seconds['9.*']:.0f} | {row.peak_memory['9.*'] / 2**20:.0f} MiB |"
        for name, row in results.rows.items()
        if "9.*" in row.seconds
    ]
    return "\n".join(lines)
