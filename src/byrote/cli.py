"""The command line: parses, calls, prints. Nothing heavy is imported before it is needed.

Exit codes: 0 done, 1 a run failed (the others finished), 2 bad usage or study, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from byrote._version import __version__
from byrote.types import ByroteError, StudyError

if TYPE_CHECKING:
    from byrote.report.results import Results

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

app = cyclopts.App(
    name="byrote",
    help="Tells you what a fine-tuned language model has learned by rote.\n\nAny command: --debug shows tracebacks.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Rooms = Literal["methods", "attacks", "utility", "sources", "models", "studies"]


@app.command
def run(
    study: str,
    /,
    *,
    out: Path | None = None,
    store: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    jobs: int = 1,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train what a study asks, attack it, and write the report.

    What is in the store already is not done again, so a killed run goes on where it was.

    Parameters
    ----------
    study
        A study file, or the name of a shipped study (`byrote list studies`), for example demo.
    out
        Folder for the report and the tables. Default: byrote-results/NAME.
    store
        Folder for the trained runs, to share between studies. Default: OUT/runs.
    set_
        Override a setting, for example --set epochs=2 --set data.members=50. Repeatable.
    jobs
        Processes that train at the same time, each with its share of the threads: for many small models. The numbers
        are those of one process with as many threads as each of these has.
    dry_run
        Show what would be trained and what the store already has, and stop.
    """
    from byrote.console import out_console, watching

    if dry_run:
        from byrote.runner.plan import plan

        out_console().print(plan(study, out, store, settings=set_ or []).table())
        return DONE
    with watching() as progress:
        from byrote.runner.study import default_folder
        from byrote.runner.study import run as run_study

        results = run_study(study, out, store, settings=set_ or [], progress=progress, jobs=jobs)
    return _show(results, out or default_folder(results.manifest.name))


@app.command
def doctor(
    study: str,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
) -> int:
    """Test whether private training would be right, for every method and privacy level of a study; nothing is trained.

    Exit code 1 where something would be refused.

    Parameters
    ----------
    study
        A study file, or the name of a shipped study (`byrote list studies`), for example demo.
    set_
        Override a setting, for example --set 'privacy=[{epsilon: 8}]'. Repeatable.
    """
    from byrote.console import out_console, watching

    with watching() as progress:
        from byrote.runner.doctor import examine

        found = examine(study, settings=set_ or [], progress=progress)
    out_console().print(found.table())
    return FAILED if found.refused else DONE


@app.command
def report(folder: Path, /) -> int:
    """Write the report of a finished or half-finished study again; nothing is trained.

    Parameters
    ----------
    folder
        The study's results folder, which holds study.json.
    """
    from byrote.report.results import Results
    from byrote.report.write import write_report

    results = Results.read(folder)
    write_report(results, folder)
    return _show(results, folder)


@app.command(name="list")
def list_(what: Rooms | None = None, /) -> int:
    """List what byrote has: methods, attacks, utility measures, sources, models or studies.

    Parameters
    ----------
    what
        One kind; all of them when left out.
    """
    from byrote.console import listing, out_console

    out_console().print(listing(what))
    return DONE


@app.command
def init(
    file: Path,
    /,
    *,
    study: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a commented first study for a data file, by looking at its columns.

    Parameters
    ----------
    file
        A .jsonl, .csv, .parquet or .txt file.
    study
        The study file to write. Default: NAME.yaml beside the data.
    force
        Overwrite it if it exists.
    """
    from byrote.console import out_console
    from byrote.data.describe import describe_file
    from byrote.data.init import study_text
    from byrote.store import write_text

    place = study or file.with_suffix(".yaml")
    if place.exists() and not force:
        raise StudyError(f"{place} exists already: give --force to overwrite it, or another --study")
    write_text(place, study_text(describe_file(file), _source_from(file, place)))
    out_console().print(f"Wrote {place}. Look through it, then: byrote run {place}", soft_wrap=True)
    return DONE


def _source_from(file: Path, study: Path) -> str:
    """The data file as the study must spell it: relative to the study's own folder where it can be."""
    return Path(os.path.relpath(file.resolve(), study.resolve().parent)).as_posix()


def _show(results: Results, folder: Path) -> int:
    from byrote.console import show_results

    show_results(results, folder)
    return FAILED if results.failed else DONE


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
        _complain("interrupted. Everything finished so far is kept: the same command goes on from there.")
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
    sys.exit(main())


if __name__ == "__main__":
    _main()
