"""`python -m tlkit` is the same as `tlkit`."""

from tlkit.cli import program

program()
