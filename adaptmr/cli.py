"""The command line: parse, call, print."""

import sys


def main() -> None:
    """Entry point of the ``adaptmr`` command."""
    sys.exit(0)
