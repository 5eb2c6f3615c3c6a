"""The entry point: from words to an exit code, with every error as a sentence for people."""

from __future__ import annotations

import io
import os
import signal
import sys

import cyclopts

from byrote.cli.app import BAD_USAGE, DONE, FAILED, INTERRUPTED, app
from byrote.cli.outputs import card, compare, gate, report
from byrote.cli.start import init, list_, schema
from byrote.cli.train import audit, doctor, run
from byrote.types import ByroteError, StudyError

KEPT = "interrupted. Everything finished so far is kept: the same command goes on from there."

for command in (run, audit, doctor, report, compare, card, gate):
    app.command(command)
app.command(list_, name="list")
app.command(init)
app.command(schema)


def main(arguments: list[str] | None = None) -> int:
    """The entry point; returns the exit code. `--debug` anywhere shows tracebacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = app([word for word in words if word != "--debug"], exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in `byrote list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except cyclopts.CycloptsError as error:
        _complain(f"{error}\nbyrote --help shows how it is called.")
        return BAD_USAGE
    except KeyboardInterrupt:
        try:
            _complain(KEPT)
        except KeyboardInterrupt:  # a second Ctrl-C before the first was told
            _complain(KEPT)
        return INTERRUPTED
    except ByroteError as error:
        if debug:
            raise
        _complain(str(error))
        return BAD_USAGE if isinstance(error, StudyError) else FAILED
    except OSError as error:
        if debug:
            raise
        _complain(f"{error.strerror or error}: {error.filename or ''}. --debug shows where.")
        return FAILED
    except Exception as error:
        if debug:
            raise
        _complain(f"unforeseen {type(error).__name__}: {error}\nRun again with --debug for the traceback.")
        return FAILED
    return code if isinstance(code, int) else DONE


def _complain(message: str) -> None:
    print(f"byrote: {message}", file=sys.stderr)


def _main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without an arrow still gets the sentence around it
    try:
        code = main()
    except KeyboardInterrupt:  # a second Ctrl-C when the first had been told
        code = INTERRUPTED
    if code == INTERRUPTED:  # all is told and kept: one more would only break the ending
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
