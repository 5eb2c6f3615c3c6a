"""The Python door: `byrote.run` returns what the command line shows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import byrote
from byrote.cli import main
from byrote.report.rows import COLUMNS
from small_study import make_folder, study_of, write_study


def test_run_returns_the_results_that_the_command_line_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path)
    study = write_study(tmp_path / "study.yaml", folder)
    results = byrote.run(study, tmp_path / "api", tmp_path / "runs")
    assert isinstance(results, byrote.Results)
    table = results.table()
    assert list(table.columns) == list(COLUMNS)
    aucs = table[(table["kind"] == "membership") & (table["metric"] == "auc") & (table["method"] == "full")]
    assert {"loss", "reference", "min-k"} == set(aucs["name"]) and aucs["value"].between(0, 1).all()
    assert main(["run", str(study), "--out", str(tmp_path / "cli"), "--store", str(tmp_path / "runs")]) == 0
    assert "nothing was trained and nothing scored" in capsys.readouterr().err
    assert (tmp_path / "cli/results.csv").read_text() == (tmp_path / "api/results.csv").read_text()
    with (tmp_path / "api/results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(table)


def test_a_study_object_and_overrides_are_taken_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    made = byrote.run(study_of(folder, epochs=1), tmp_path / "object")
    study = write_study(tmp_path / "study.yaml", folder)
    read = byrote.run(study, tmp_path / "file", settings=["epochs=1"])
    one, two = ([row for row in results.rows if row.kind != "cost"] for results in (made, read))
    assert one == two and len(one) > 20
    with pytest.raises(byrote.StudyError, match="Did you mean 'epochs'"):
        byrote.run(study, tmp_path / "typo", settings=["epoch=1"])
