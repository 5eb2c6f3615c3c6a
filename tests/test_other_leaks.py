"""What the headline attack does not see: other attacks, and the records of one slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from byrote.report.decision import Decision
from byrote.report.recommendation import recommendation
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.store import RunFolder
from report_folder import build

COPIED = 40


def made(folder: Path, attack: str = "", copied: bool = False) -> Decision:
    """Prompt-tuning at chance by the reference attack; `attack` scores its members (or the copied ones) far higher."""
    manifest = build(
        folder,
        methods=("full", "prompt-tuning"),
        attacks=("loss", "reference", "min-k"),
        members=1000,
        test=400,
        epochs=1,
    )
    rows = parquet.read_table(folder / "splits.parquet").to_pylist()
    members = [row for row in rows if row["split"] == "member"]
    chosen = members[:COPIED] if copied else members
    if copied:
        for row in chosen:
            row["slice"], row["copies"] = "copies=16", 16
        parquet.write_table(pa.Table.from_pylist(rows), folder / "splits.parquet")
    run = RunFolder(folder / "runs" / next(cell.run_id for cell in manifest.cells if cell.method == "prompt-tuning"))
    table, high = run.read_table("scores.parquet"), {row["record_id"] for row in chosen}
    assert table is not None
    scores = [row["score"] + 20.0 * (row["attack"] == attack and row["record_id"] in high) for row in table.to_pylist()]
    changed = table.set_column(table.schema.get_field_index("score"), "score", pa.array(np.array(scores)))
    run.write_table("scores.parquet", changed)
    return Decision(Summary(Results.read(folder)))


def test_what_another_attack_finds_is_no_clean_method(tmp_path: Path) -> None:
    assert [one.configuration.label for one in made(tmp_path / "clean").chosen] == ["prompt-tuning"]
    found = made(tmp_path / "min-k", "min-k")
    prompt = found.summary.tuned[1]
    assert found.summary.verdict(prompt) == "at chance" and found.state(prompt) == "leaks" and not found.chosen
    (words,) = found.shown(prompt)
    assert words.startswith("AUC beyond the untuned model's of min-k 0.") and "[" in words
    said = recommendation(found)
    assert said[0].startswith("None is recommended as safe") and "**prompt-tuning** looks clean" in said[1]


def test_what_is_found_of_few_repeated_members_is_no_clean_method(tmp_path: Path) -> None:
    found = made(tmp_path, "reference", copied=True)
    prompt = found.summary.tuned[1]
    assert found.summary.verdict(prompt) == "at chance" and found.state(prompt) == "leaks"
    assert found.shown(prompt)[0].startswith("AUC of reference on copies=16 1.000 [")
