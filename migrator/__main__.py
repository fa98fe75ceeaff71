"""`python -m migrator` is `keyferry`."""

from migrator.cli import main

main()
