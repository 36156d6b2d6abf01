"""`python -m lastcall` and the command `lastcall`."""

import signal


def main() -> None:
    """Run the command line; until something is served, Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Only now: Ctrl-C may come meanwhile, and workers, which import this module, need none of it.
    from lastcall.cli import main as run  # noqa: PLC0415  (see above)

    run()


if __name__ == "__main__":
    main()
