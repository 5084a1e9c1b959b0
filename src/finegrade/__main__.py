"""The command's door: Ctrl-C ends it in order also while it is still loading."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Loads the command line and runs it."""
    try:
        from finegrade.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
