"""The application that every command belongs to, the exit codes, and what several commands do alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cyclopts

from byrote._version import __version__

if TYPE_CHECKING:
    from byrote.report.axes import VariedResults
    from byrote.report.results import Results

DONE, FAILED, BAD_USAGE, GATED, INTERRUPTED = 0, 1, 2, 3, 130
"""0 done, 1 a run failed (the others finished), 2 bad usage or study, 3 a gate failed, 130 interrupted."""

app = cyclopts.App(
    name="byrote",
    help="Tells you what a fine-tuned language model has learned by rote.\n\n"
    "Any command: --debug shows tracebacks. Exit codes: 0 done; 1 a run failed, the others finished; 2 bad usage or "
    "study; 3 a gate failed; 130 interrupted.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


def show(results: Results | VariedResults, folder: Path) -> int:
    from byrote.console import show_results

    show_results(results, folder)
    return FAILED if results.failed else DONE
