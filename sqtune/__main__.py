"""`python -m sqtune` is `sqtune`."""

from sqtune.cli import main

main()
