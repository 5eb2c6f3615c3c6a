"""The commands that work with models: run, audit, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from byrote.cli.app import DONE, FAILED, show
from byrote.types import StudyError


def run(
    study: str,
    /,
    *,
    out: Path | None = None,
    store: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    jobs: int = 1,
    report_to: Annotated[list[str] | None, Parameter(negative=())] = None,
    show_text: Annotated[bool, Parameter(negative=())] = False,
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
    report_to
        Trackers to send the finished results to: none, mlflow, wandb, trackio or tensorboard; several are parted by
        commas. Nothing leaves the machine unless their own environment variables say so.
    show_text
        Put the texts of the most exposed records on the report, which else names records by their ids alone.
    dry_run
        Show what would be trained, what the store already has and about how long the rest takes, and stop.
    """
    from byrote.console import out_console, watching

    settings = [*(set_ or []), *([f"report_to=[{','.join(report_to)}]"] if report_to else [])]
    if dry_run:
        from byrote.runner.plan import plan

        out_console().print(plan(study, out, store, settings=settings).table())
        return DONE
    with watching() as progress:
        from byrote.runner.study import default_folder
        from byrote.runner.study import run as run_study

        results = run_study(study, out, store, settings=settings, progress=progress, jobs=jobs, show_text=show_text)
    return show(results, out or default_folder(results.manifest.name))


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
    show_text: Annotated[bool, Parameter(negative=())] = False,
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
    show_text
        Put the texts of the most exposed records on the report, which else names records by their ids alone.
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
            show_text=show_text,
        )
    return show(results, place)


def _check_sources(sources: dict[str, str], split_column: str | None) -> None:
    """Two files, or one with a column. Raises StudyError."""
    if "data" in sources:
        if len(sources) > 1 or split_column is None:
            raise StudyError("--data is one file with everything: give --split-column with it, and no other file")
    elif split_column is not None:
        raise StudyError("--split-column is a column of --data: give that file")
    elif not {"members", "nonmembers"} <= sources.keys():
        raise StudyError("give --members and --nonmembers, or --data with --split-column")


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
