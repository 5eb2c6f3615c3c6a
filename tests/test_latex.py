"""The table for a paper: what is in it, that nothing of a study can break it, and that its columns hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.report.latex import report_latex, tex
from byrote.report.render import FORMS, read_results, rendered
from byrote.report.results import Results
from byrote.report.write import write_report
from report_folder import build, build_damaged
from small_study import caller
from test_axes_report import SMALL, make_overview

COMMANDS = {
    "textbackslash",
    "textasciitilde",
    "textasciicircum",
    "textless",
    "textgreater",
    "textbar",
    "textasciigrave",
    "ldots",
    "pm",
    "times",
    "leq",
    "geq",
    "rightarrow",
    "varepsilon",
    "delta",
    "textbf",
    "begin",
    "end",
    "centering",
    "caption",
    "label",
    "toprule",
    "midrule",
    "bottomrule",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("latex")
    build(place, methods=("full", "lora"), attacks=("loss", "reference"), epochs=2, members=120, test=40,
          failed=("lora",), name="50%_of {A&B}^2 $x$ ~#1 \\input{x} --- [y]")  # fmt: skip
    return place


def balanced(text: str) -> bool:
    """Whether braces and dollars that are not escaped close again."""
    bare = re.sub(r"\\[{}$\\&%#_]", "", text)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0 and bare.count("$") % 2 == 0


def sound(text: str) -> bool:
    """Whether LaTeX would print this text, and do nothing else: known commands, escaped signs, math in pairs."""
    for command in re.findall(r"\\([a-zA-Z]+)", text):
        if command not in COMMANDS:
            return False
    rest = re.sub(r"\\[a-zA-Z]+|\\[{}$&%#_]", "", text)
    return balanced(text) and not re.search(r"[\\&%#_^~<>|\"`\0\n]|--", rest.replace("$-$", "").replace("---", ""))


@given(st.text(max_size=40))
def test_no_text_acts_on_latex(text: str) -> None:
    printed = tex(text.replace("–", "").replace("—", ""))  # dashes become two and three hyphens on purpose
    assert sound(printed) and not printed.startswith(("[", "*"))


def test_the_check_sees_what_is_not_escaped() -> None:
    for bad in ("50%", "a_b", "a&b", "{", "$x", "\\input{x}", "a--b", "~"):
        assert not sound(bad)
        assert sound(tex(bad))
    assert tex("a--b") == "a-{}-b" and tex("[1]") == "{[}1]" and tex("−0.1") == "$-$0.1"
    assert tex("100% of A&B, r_1 {x} \\y") == r"100\% of A\&B, r\_1 \{x\} \textbackslash{}y"


def test_the_table_says_what_the_report_says(folder: Path) -> None:
    results = Results.read(folder)
    text = report_latex(results)
    assert balanced(text)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    shape = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert shape is not None
    rows = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    cells = [re.split(r"(?<!\\)&", row.removesuffix(r"\\")) for row in rows]
    assert {len(row) for row in cells} == {len(shape[1])}
    assert [row[0].strip() for row in cells] == ["method", "untuned model", "full", "lora"]
    (row,) = [r for r in results.rows if r.method == "full" and r.epoch == 2 and r.name == "reference"
              and r.metric == "auc"]  # fmt: skip
    assert cells[2][1].strip() == f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" and cells[2][2].strip() == "0.500"
    assert cells[2][-1].strip() == "leaks" and cells[3][-1].strip() == "failed"
    caption = next(line for line in text.splitlines() if "caption" in line)
    assert "120 members and 120 nonmembers" in caption and r"50\%\_of \{A\&B\}" in caption and r"\input" not in text
    for rule in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert text.count(rule) == 1


def test_a_split_that_is_not_random_is_told_before_every_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.read(folder)
    monkeypatch.setattr(Results, "broken_splits", ["The split is not random: 100%."])
    caption = next(line for line in report_latex(results).splitlines() if "caption" in line)
    assert r"\textbf{The split is not random: 100\%.} " in caption


def test_every_format_by_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    byrote = caller(capsys)
    results = Results.read(folder)
    write_report(results, tmp_path / "as-run-leaves-it")
    for name, form in FORMS.items():
        code, out, _ = byrote("report", folder, "--format", name)
        assert code == 1  # a run of it failed
        assert out == rendered(results, name)
        if name != "latex":
            assert out == (tmp_path / "as-run-leaves-it" / form.file).read_text()
    code, out, _ = byrote("report", folder, "--format", "latex", "--out", "t.tex")
    assert "Wrote t.tex" in out and (tmp_path / "t.tex").read_text() == report_latex(results)
    assert not (folder / "report.tex").exists() and not (folder / "report.html").exists()
    byrote("report", folder, "--format", "csv,md", "--format", "latex", "--out", "three")
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == ["report.md", "report.tex", "results.csv"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "latx"], "--format: unknown format 'latx'. Did you mean 'latex'? Known: html, md, csv, json, "),
        (["--format", "md,csv"], "several formats need --out FOLDER"),
        (["--out", "x"], "--out needs --format"),
    ],
)  # fmt: skip
def test_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    code, out, err = caller(capsys)("report", folder, *words)
    assert (code, out) == (2, "") and told in err


def test_a_damaged_folder_has_a_table_too(tmp_path: Path) -> None:
    text = rendered(read_results(build_damaged(tmp_path)), "latex")
    assert balanced(text) and "p-tuning" in text and "pooled over" in text


def test_every_point_of_a_study_that_varies_something_has_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        {"values": {"model": "a_1"}, "options": {"failed": ("lora",)}},
        {"values": {"model": "b"}, "error": "no room"},
    ]
    make_overview(tmp_path, points, {"model": ["a_1", "b"]}, **SMALL)
    code, out, _ = caller(capsys)("report", tmp_path, "--format", "latex")
    assert code == 1 and balanced(out)
    rows = [
        [cell.strip() for cell in line.strip().removesuffix(r"\\").split(" & ")]
        for line in out.splitlines()
        if line.endswith(r"\\")
    ]
    assert len({len(row) for row in rows}) == 1
    assert [row[:2] for row in rows[1:4]] == [[r"model a\_1", name] for name in ("untuned model", "full", "lora")]
    assert rows[4][0] == "model b" and rows[4][-1] == "no room" and rows[3][-1] == "failed"
    assert "60 members and 60 nonmembers at every point" in out
