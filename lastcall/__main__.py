"""`python -m lastcall` and the command `lastcall`."""

import os
import signal
import sys

SPOKEN_TO = frozenset({"reload", "scale", "status", "stop", "upgrade"})
"""Commands that speak to a server. They run in the middle of a deploy, in which the cores are those
of who serves: so they import little, and the others ten times as much."""


def main() -> None:
    """Run the command line; until something is served, Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Only now: Ctrl-C may come meanwhile, and workers, which import this module, need none of it.
    if os.name == "posix" and sys.argv[1:2] and sys.argv[1] in SPOKEN_TO:
        from lastcall.control_commands import main as run  # noqa: PLC0415  (see above)
    else:
        from lastcall.cli import main as run  # noqa: PLC0415  (see above)
    from lastcall.collector import spare_the_end  # noqa: PLC0415  (see above)

    try:
        run()
    finally:
        spare_the_end()


if __name__ == "__main__":
    main()
