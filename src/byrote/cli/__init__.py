"""The command line: parses, calls, prints. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from byrote.cli.entry import _main, main

__all__ = ["_main", "main"]
