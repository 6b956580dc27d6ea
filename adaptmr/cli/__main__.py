"""``python -m adaptmr.cli``."""

from adaptmr.cli import main

main()
