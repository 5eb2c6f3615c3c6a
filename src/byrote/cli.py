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
    from byrote.report.axes import VariedResults
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
        Show what would be trained, what the store already has and about how long the rest takes, and stop.
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
def audit(
    *,
    model: str | None = None,
    adapter: str | None = None,
    base: str = "auto",
    members: str | None = None,
    nonmembers: str | None = None,
    population: str | None = None,
    data: str | None = None,
    split_column: str | None = None,
    text: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    attacks: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    max_length: int = 512,
    dtype: Literal["float32", "bfloat16"] = "float32",
    on_bad_rows: Literal["error", "skip"] = "error",
    out: Path | None = None,
    store: Path | None = None,
) -> int:
    """Attack a model that is already tuned, and write the report; nothing is trained.

    Give members and nonmembers as two files, or as one (--data) with a column that tells them apart (--split-column).

    Parameters
    ----------
    model
        The tuned model: a folder or a Hub id. A folder that holds an adapter alone is taken as --adapter.
    adapter
        A PEFT folder, on --model, or on the model that the adapter itself names.
    base
        The untuned model to compare with. auto: what an adapter lies on, else none.
    members
        Records that the model was tuned on: a .jsonl, .csv, .parquet or .txt file.
    nonmembers
        Records of the same kind that it was not tuned on.
    population
        More of these, which some attacks calibrate on and perplexity is measured on.
    data
        One file with all of them, instead.
    split_column
        Its column that says member or nonmember (or train and test, 1 and 0, true and false).
    text
        The column of the text; the obvious one when left out.
    prompt
        The column of the prompt: then completions alone are scored.
    completion
        The column of the completion.
    attacks
        Names of attacks, parted by spaces (`byrote list attacks`). Default: those of a study of text.
    max_length
        Longer texts are cut to so many tokens.
    dtype
        The precision in which the models compute.
    on_bad_rows
        Whether a row that cannot be read ends the audit, or is left out and counted.
    out
        Folder for the report and the tables. Default: byrote-results/audit-NAME.
    store
        Folder for the scores, to share between audits. Default: OUT/runs.
    """
    from byrote.console import watching

    given = {"members": members, "nonmembers": nonmembers, "population": population, "data": data}
    sources = {name: source for name, source in given.items() if source is not None}
    _check_sources(sources, split_column)
    with watching() as progress:
        from byrote.data.base import Columns
        from byrote.runner.auditing import audit_files

        results, place = audit_files(
            model,
            adapter,
            base,
            sources,
            split_column,
            Columns(text=text, prompt=prompt, completion=completion),
            on_bad_rows=on_bad_rows,
            settings={"attacks": attacks, "max_length": max_length, "dtype": dtype},
            out=out,
            store=store,
            progress=progress,
        )
    return _show(results, place)


def _check_sources(sources: dict[str, str], split_column: str | None) -> None:
    """Two files, or one with a column. Raises StudyError."""
    if "data" in sources:
        if len(sources) > 1 or split_column is None:
            raise StudyError("--data is one file with everything: give --split-column with it, and no other file")
    elif split_column is not None:
        raise StudyError("--split-column is a column of --data: give that file")
    elif not {"members", "nonmembers"} <= sources.keys():
        raise StudyError("give --members and --nonmembers, or --data with --split-column")


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
        The study's results folder, which holds study.json, or axes.json where the study varies something.
    """
    from byrote.report.axes import AXES
    from byrote.report.axes_page import report_again
    from byrote.report.results import Results
    from byrote.report.write import write_report

    if (folder / AXES).exists():
        return _show(report_again(folder), folder)
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


def _show(results: Results | VariedResults, folder: Path) -> int:
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
