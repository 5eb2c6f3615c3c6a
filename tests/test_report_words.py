"""The verdicts, warnings, words and pictures of a report."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from byrote.report import checks
from byrote.report.answer import answer
from byrote.report.console import summary_table, summary_text
from byrote.report.curves import density, pooled_roc, spread_of_scores
from byrote.report.findings import Finding, Index, verdict_of
from byrote.report.html import report_html
from byrote.report.markdown import report_markdown
from byrote.report.measures import label
from byrote.report.results import Results
from byrote.report.run_facts import RunFacts
from byrote.report.summary import Summary
from byrote.report.write import write_report
from byrote.statistics.roc import auc, tpr_at_fpr
from byrote.store import RunFolder
from byrote.types import ByroteError
from report_folder import ENVIRONMENT, build, build_damaged, pick, stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_damaged(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder)


@pytest.mark.parametrize(
    ("attacks", "chosen"), [(("loss", "zlib", "reference"), "reference"), (("zlib", "min-k++", "loss"), "zlib")]
)
def test_the_headline_attack_is_chosen_before_results_and_is_not_the_strongest(
    tmp_path: Path, attacks: tuple[str, ...], chosen: str
) -> None:
    build(tmp_path, methods=("prompt-tuning",), attacks=attacks, members=60, test=10, epochs=1, shift=0.8)
    summary = Summary(Results.read(tmp_path))
    assert summary.headline is not None and summary.headline.name == chosen
    aucs = {attack.name: row.value or 0.0 for attack, row in summary.tuned[0].auc.items()}
    assert max(aucs, key=lambda name: aucs[name]) != chosen


def test_a_baseline_of_the_split_is_warned_of_and_not_taken_for_leakage(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "prompt-tuning"), attacks=("loss",), members=150, test=20, epochs=3, shift=0.5)
    results = Results.read(tmp_path)
    row = pick(results, "auc", method="prompt-tuning", epoch=3)
    assert row.low is not None and row.low > 0.5, "the planted baseline must look like leakage"
    assert any("has a baseline of its own" in line and "loss 0." in line for line in results.warnings)
    summary = Summary(results)
    assert {one.configuration.method: summary.verdict(one) for one in summary.tuned} == {
        "full": "leaks", "prompt-tuning": "at chance",  # its lift is next to nothing
    }  # fmt: skip


def test_warnings_of_size_and_seeds(tmp_path: Path, results: Results) -> None:
    assert any("Pooled over 2 seeds: fewer than five" in line for line in results.warnings)
    assert any("TPR at 1% FPR cannot be resolved" in line and "has 120" in line for line in results.warnings)
    assert not any("One seed" in line or "Only" in line for line in results.warnings)
    build(tmp_path, methods=("full",), attacks=("loss",), members=40, nonmembers=1000, test=10, epochs=1)
    small = Results.read(tmp_path).warnings
    assert any("Only 40 members" in line for line in small) and any("One seed" in line for line in small)
    assert not any("TPR at 1%" in line for line in small)
    assert any("near-duplicate 41" in line for line in small)


def test_a_stated_null_stands_beside_what_permuted_labels_give(results: Results, folder: Path, tmp_path: Path) -> None:
    (sentence,) = results.null_ranges
    assert sentence.startswith("reference: ") and "120 members and 120 nonmembers" in sentence
    low, high, mean = (float(number) for number in re.findall(r"0\.\d{3}", sentence))
    run = next(cell.run_id for cell in results.manifest.cells if cell.method == "full")
    scores = np.concatenate(stored(folder, run, "reference", 5, 0))
    rng = np.random.default_rng(7)
    draws = [auc(*np.split(rng.permutation(scores), 2)) for _ in range(4000)]
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.008)
    assert mean == pytest.approx(0.5, abs=0.004)
    assert sentence in report_markdown(results) and sentence in report_html(results)
    build(tmp_path, methods=("full",), attacks=("loss",), members=20, test=10, epochs=1)
    assert Results.read(tmp_path).null_ranges == []


def test_the_environment_is_that_of_the_runs_and_differences_are_named(results: Results, tmp_path: Path) -> None:
    same = dict(RunFacts.of(Summary(results)).environment)
    assert same["device"] == "cpu" and same["versions"] == "peft 0.21.2, torch 2.13.0, transformers 5.23.0"
    assert not any("differ in" in line for line in results.warnings)
    manifest = build(tmp_path, methods=("full", "lora"), attacks=("loss",), members=20, test=10, epochs=1)
    other = ENVIRONMENT | {"device": "NVIDIA H100", "versions": {"torch": "2.12.0", "peft": "0.21.2"}}
    RunFolder(tmp_path / "runs" / manifest.cells[2].run_id).write_json("environment.json", other)
    mixed = Results.read(tmp_path)
    assert dict(RunFacts.of(Summary(mixed)).environment)["device"] == "cpu (2 runs); NVIDIA H100 (1 run)"
    found = [line for line in mixed.warnings if "differ in" in line]
    assert [line.split("differ in ")[1].split(",")[0] for line in found] == ["torch", "device"]
    assert "2.13.0: the untuned base model, seed 0, full, seed 0; 2.12.0: lora, seed 0" in found[0]


def test_copies_on_both_sides_are_named(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("reference",), members=20, test=10, epochs=1)
    path = tmp_path / "splits.parquet"
    columns = pyarrow.parquet.read_table(path).to_pydict()
    columns["group"] = ["same"] * len(columns["group"])
    pyarrow.parquet.write_table(pa.table(columns), path)
    assert any("on both sides of the split" in line for line in Results.read(tmp_path).warnings)


def test_the_answer_says_what_leaks_what_is_not_resolved_and_what_would_resolve_it(tmp_path: Path) -> None:
    build(tmp_path, members=200, epochs=4, test=40, attacks=("loss", "reference"))
    results = Results.read(tmp_path)
    first, second, *compared, third, last = answer(Summary(results))
    assert any("leaks less than **full**, **head** and **lora**" in sentence for sentence in compared)
    full = pick(results, "auc", method="full", name="reference", epoch=4)
    assert first.startswith("After 4 epochs, the reference attack can tell training records")
    assert f"**full** (AUC {full.value:.3f} [{full.low:.3f}, {full.high:.3f}])" in first
    assert "**head**" in first and "**lora**" in first and "null of 0.500" in first
    tuning = pick(results, "auc", method="prompt-tuning", name="reference", epoch=4)
    assert tuning.value is not None and tuning.low is not None and tuning.high is not None
    assert second.startswith("Not resolved for") and f"**prompt-tuning** (AUC {tuning.value:.3f} [" in second
    assert "beyond ±0.05 of it, so neither leakage nor its absence is shown" in second
    half, room = max(tuning.high - tuning.value, tuning.value - tuning.low), 0.05 - abs(tuning.value - 0.5)
    if room > 0:
        found = re.search(
            r"\*\*prompt-tuning\*\* \(about ([\d,]+) members and nonmembers would show it, it has 400", second
        )
        assert found is not None
        assert float(found[1].replace(",", "")) == pytest.approx(400 * (half / room) ** 2, rel=0.1)
    assert "perplexity" in third and "untuned model" in third and "nothing shown is not nothing there" in last


def test_chance_is_claimed_within_the_margin_that_the_study_states(tmp_path: Path) -> None:
    """The same scores are at chance by a wide margin, and not resolved by a narrow one."""
    options = {"methods": ("prompt-tuning",), "attacks": ("reference",), "members": 300, "test": 10, "epochs": 1}
    for margin, verdict in ((0.1, "at chance"), (0.02, "not resolved")):
        manifest = build(tmp_path, **options)  # type: ignore[arg-type]
        study = manifest.study | {"equivalence_margin": margin}
        manifest.model_copy(update={"study": study}).write(tmp_path)
        summary = Summary(Results.read(tmp_path))
        assert summary.verdict(summary.tuned[0]) == verdict
        sentences = " ".join(answer(summary))
        assert (
            f"within ±{margin:g} of the null" if verdict == "at chance" else f"beyond ±{margin:g} of it"
        ) in sentences
        assert f"±{margin:g}" in report_markdown(summary.results) and f"±{margin:g}" in report_html(summary.results)


def test_an_auc_below_a_half_is_not_folded(tmp_path: Path) -> None:
    """Members that look less trained on than nonmembers are a signal of their own."""
    build(tmp_path, methods=("full",), attacks=("loss", "reference"), members=200, test=10, epochs=2)
    path = tmp_path / "splits.parquet"
    columns = pyarrow.parquet.read_table(path).to_pydict()
    turned = {"member": "nonmember", "nonmember": "member"}
    columns["split"] = [turned.get(split, split) for split in columns["split"]]
    pyarrow.parquet.write_table(pa.table(columns), path)
    results = Results.read(tmp_path)
    row = pick(results, "auc", method="full", name="reference", epoch=2)
    assert row.high is not None and row.high < 0.2
    assert pick(results, "auc-lift", method="full", name="loss", epoch=2).value < 0  # type: ignore[operator]
    summary = Summary(results)
    assert summary.verdict(summary.tuned[0]) == "below null"
    assert any("lies below the null" in sentence for sentence in answer(summary))


@pytest.mark.parametrize(
    ("pooled", "alone", "expected"),
    [
        ((0.6, 0.8), [(0.6, 0.7), (0.65, 0.8)], "leaks"),
        ((0.3, 1.0), [(0.6, 0.7), (0.65, 0.8)], "not resolved"),  # too few seeds for what each of them shows
        ((0.51, 0.53), [(0.45, 0.58), (0.46, 0.59)], "not resolved"),  # narrow by luck: no seed shows it
        ((0.51, 0.53), [(0.45, 0.58)] * 5, "leaks"),  # five seeds may be believed
        ((0.4, 0.6), [(0.45, 0.58), (0.55, 0.6)], "not resolved"),  # too wide to call it chance
        ((0.46, 0.54), [(0.42, 0.58), (0.45, 0.55)], "at chance"),
        ((0.48, 0.54), [(0.51, 0.58), (0.505, 0.55)], "not resolved"),  # each seed shows more than both
        ((0.3, 0.4), [(0.3, 0.4), (0.35, 0.45)], "below null"),
    ],
)
def test_a_verdict_over_few_seeds_agrees_with_the_seeds(
    results: Results, pooled: tuple[float, float], alone: list[tuple[float, float]], expected: str
) -> None:
    blank = pick(results, "auc", method="lora", name="reference", epoch=5, seed=0)
    limits = dict(enumerate(alone)) | {None: pooled}
    rows = [replace(blank, seed=seed, low=low, high=high) for seed, (low, high) in limits.items()]
    attack = next(one for one in results.evidence.attacks if one.name == "reference")
    lora = next(one for one in Summary(results).configurations if one.method == "lora")
    cells = tuple(lora.cells[0].model_copy(update={"seed": seed}) for seed in range(len(alone)))
    index = Index(results.evidence, rows)
    assert verdict_of(index, replace(lora, cells=cells), 5, attack) == expected


def finding(results: Results, method: str) -> tuple[Summary, Finding]:
    summary = Summary(results)
    return summary, next(one for one in summary.findings if one.configuration.method == method)


def test_the_roc_picture_starts_where_ten_nonmembers_pass_and_agrees_with_tpr_at_fpr(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=150, test=10, epochs=2)
    summary, lora = finding(Results.read(tmp_path), "lora")
    curve = pooled_roc(summary, lora, summary.results.evidence.attacks[0])
    assert curve is not None and curve.fpr[0] == pytest.approx(10 / 150, rel=1e-3) and curve.fpr[-1] == 1.0
    members, nonmembers = stored(tmp_path, lora.configuration.done[0].run_id, "loss", 2, 0)
    for fpr, tpr in list(zip(curve.fpr, curve.tpr, strict=True))[1:-1:10]:
        assert tpr == pytest.approx(tpr_at_fpr(members, nonmembers, fpr).value, abs=2e-3)


def test_smoothed_scores_are_densities(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=300, test=10, epochs=1)
    summary, lora = finding(Results.read(tmp_path), "lora")
    spread = spread_of_scores(summary, lora, summary.results.evidence.attacks[0])
    assert spread is not None
    shapes = density(spread, float(spread.members.min()) - 1, float(spread.members.max()) + 1)
    for heights in (shapes.members, shapes.nonmembers):
        assert np.trapezoid(heights, shapes.at) == pytest.approx(1.0, abs=5e-3)
    top = shapes.at[int(np.argmax(shapes.members))]
    assert top == pytest.approx(float(np.median(spread.members)), abs=0.2)


@pytest.mark.parametrize("change", ["all failed", "no attacks", "no utility", "tiny"])
def test_a_report_is_made_from_whatever_there_is(tmp_path: Path, change: str) -> None:
    methods = ("full", "lora")
    failed = methods if change == "all failed" else ()
    members = 4 if change == "tiny" else 30
    manifest = build(tmp_path, methods=methods, members=members, test=8, epochs=1, failed=failed)
    cleared = {"no attacks": {"attacks": []}, "no utility": {"utility": []}}.get(change, {})
    manifest.model_copy(update=cleared).write(tmp_path)
    results = Results.read(tmp_path)
    write_report(results, tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"results.csv", "results.json", "scores.parquet", "report.md", "report.html"}
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert summary_text(results)
    if change == "all failed":
        assert "no answer" in report_markdown(results) and "out of memory" in report_markdown(results)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "study.json").unlink(), "study.json is missing"),
        (lambda path: (path / "splits.parquet").unlink(), "has no splits.parquet"),
        (lambda path: (path / "splits.parquet").write_bytes(b"PAR1"), "is damaged"),
    ],
)
def test_a_folder_that_cannot_be_reported_says_why(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), members=10, test=5, epochs=1)
    spoil(tmp_path)
    with pytest.raises(ByroteError, match=message):
        Results.read(tmp_path)


def test_the_terminal_table_shows_null_and_verdict_and_reads_no_markup(tmp_path: Path) -> None:
    build(tmp_path, methods=("full", "prompt-tuning"), attacks=("reference",), members=150, test=20, epochs=4,
          name="[red]not red[/red]")  # fmt: skip
    from rich.console import Console

    results = Results.read(tmp_path)
    console = Console(width=140, file=io.StringIO(), force_terminal=False)
    console.print(summary_table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]not red[/red]" in shown
    lines = summary_text(results).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["untuned", "full", "prompt-tuning"]
    assert lines[2].endswith("leaks") and lines[3].endswith("not resolved")
    assert "0.500" in lines[2] and "1.38 M" in lines[2] and "[" in lines[2]


def test_markdown_tables_survive_hostile_names(tmp_path: Path) -> None:
    build(tmp_path, methods=("lora",), attacks=("loss",), members=20, test=10, epochs=1,
          name="a | b <script>x</script>", settings={"lora": '{"target_modules":"q|v<img src=x>"}'})  # fmt: skip
    text = report_markdown(Results.read(tmp_path))
    assert "<script" not in text and "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    widths = [len(line.replace("\\|", "").split("|")) for line in rows]
    assert len(set(widths[:4])) == 1 and "q\\|v" in rows[3]


def test_reading_a_report_loads_no_model_library() -> None:
    code = (
        "import sys, byrote.report.html, byrote.report.console, byrote.report.markdown; "
        "print([name for name in ('torch', 'transformers', 'plotly', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_report_needs_itself() -> None:
    """Not through an import inside a function either."""
    graph = {
        f"byrote.report.{path.stem}": {
            node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        for path in Path(checks.__file__).parent.glob("*.py")
    }
    assert "byrote.report.results" in graph["byrote.report.write"]
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_of_a_long_path_the_end_is_kept() -> None:
    """What tells two adapters apart is the end of their paths."""
    paths = [f"/a/folder/that/is/deep/in/a/tree/of/folders/runs/{name}/adapter" for name in ("first", "second")]
    first, second = (label("full", json.dumps({"adapter": path})) for path in paths)
    assert first != second and first.endswith("/first/adapter") and first.startswith("full, adapter …")
    assert label(paths[0], "").startswith("…") and label(paths[0], "").endswith("/first/adapter")
    assert (
        label("x", json.dumps({"text": "word " * 30})).startswith("x, text word word")
        and len(label("y" * 90, "")) == 40
    )
