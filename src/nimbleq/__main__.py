"""``python -m nimbleq`` and the ``nimbleq`` command."""

import sys

from nimbleq import cli


def main() -> None:
    """Entry point of the installed command."""
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
