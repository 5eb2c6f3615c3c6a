"""`python -m byrote.cli`."""

from byrote.cli.entry import _main

_main()
