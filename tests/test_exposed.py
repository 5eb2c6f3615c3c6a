"""The view by record: against a naive loop, and what it says of the records' texts."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from byrote.report.exposed import SHOWN, exposed_of, keep_texts, visible
from byrote.report.html import report_html
from byrote.report.pieces import TEXTS
from byrote.report.results import Results
from byrote.report.summary import Summary
from byrote.report.write import report_again, write_report
from byrote.runner.study import run
from byrote.types import Record
from report_folder import build, pick, stored
from small_study import make_folder, write_study
from test_report_html import HOSTILE, Page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    methods, attacks = ("full", "prompt-tuning"), ("loss", "reference")
    build(tmp_path, methods=methods, attacks=attacks, members=60, nonmembers=80, test=10, epochs=2)
    return tmp_path


def test_records_stand_in_the_order_of_a_naive_loop(folder: Path) -> None:
    summary = Summary(Results.read(folder))
    found = exposed_of(summary)
    assert found is not None and len(found.records) == SHOWN
    part = summary.results.evidence.part_of(0, "member")
    outs, shares = [], []
    for one in summary.tuned:
        members, nonmembers = stored(folder, one.configuration.done[0].run_id, "reference", 2, 0)
        above = [sum(other >= score for other in nonmembers) for score in members]
        outs.append([NormalDist().inv_cdf((80 - count + 0.5) / 81) for count in above])
        shares.append([count / 80 for count in above])
    order = sorted(zip(np.mean(outs, axis=0), part.records, strict=True), reverse=True)
    strengths = {record: strength for strength, record in order}
    listed = [strengths[record.id] for record in found.records]
    assert listed == pytest.approx([strength for strength, _ in order[:SHOWN]])
    first = part.records.index(found.records[0].id)
    for value, share in zip(found.records[0].values, shares, strict=True):
        assert value.main == ("0%" if share[first] == 0 else f"{100 * share[first]:.2g}%")
    assert "The 20 of 60 members were picked because they stand out" in found.about


def test_seeds_together_weigh_how_often_a_record_was_a_member(tmp_path: Path) -> None:
    build(tmp_path, methods=("full",), attacks=("loss",), seeds=(0, 1, 2), members=40, test=10, epochs=1)
    found = exposed_of(Summary(Results.read(tmp_path)))
    assert found is not None and found.several_seeds and {record.seeds for record in found.records} == {1}
    assert "means over the seeds in which the record is a member" in found.about


def test_ids_alone_are_named_unless_texts_were_asked_for_and_kept(folder: Path) -> None:
    results = Results.read(folder)
    page = report_html(results)
    assert "member-0-" in page and "test-0-" not in page and "--show-text puts the texts" in page
    assert "holds no record text" in page
    asked = report_html(results, show_text=True)
    assert "Their texts were not kept" in asked and "holds no record text" in asked
    ids = results.evidence.part(0, "member").records
    keep_texts(results, folder, [[Record(record, f"secret of {record} {HOSTILE}") for record in ids]])
    kept = json.loads((folder / TEXTS).read_text())
    shown = exposed_of(Summary(results))
    assert shown is not None and set(kept) == {record.id for record in shown.records} and len(kept) == SHOWN < 60
    again = Results.read(folder)
    assert "secret of" not in report_html(again), "kept, and still not shown unasked"
    text = report_html(again, show_text=True)
    read = Page(text)
    assert text.count("secret of member-0-") == SHOWN and not read.named("img") and HOSTILE in "".join(read.words)
    assert "holds the texts of the records named above" in text and "treat it as you treat the data" in text
    assert "secret of" not in "".join(read.scripts)
    keep_texts(again, folder, None)
    assert not (folder / TEXTS).exists() and again.evidence.texts == {}


def test_a_text_is_seen_and_does_not_act() -> None:
    assert visible("a\u202eb\x00c\ud800d\n\te") == "a\ufffdb\ufffdc\ufffdd\n\te"
    assert visible("x" * 5000).startswith("x" * 4000 + "… (5,000 characters)")
    visible("é中\U0001f600").encode()


def test_a_run_keeps_texts_only_while_it_is_asked_to(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "s.yaml", make_folder(tmp_path), attacks=["loss"], data={"members": 30, "nonmembers": 30}
    )
    results = run(path, tmp_path / "out", show_text=True)
    assert isinstance(results, Results)
    texts = results.evidence.texts
    page = (tmp_path / "out" / "report.html").read_text()
    found = exposed_of(Summary(results), show_text=True)
    assert (
        found is not None and len(texts) == SHOWN and all(record.text == texts[record.id] for record in found.records)
    )
    assert all(text.split()[0] in page for text in texts.values()) and '<details class="text">' in page
    assert '<details class="text">' not in report_html(Results.read(tmp_path / "out"))
    again = report_again(tmp_path / "out", show_text=True)
    assert isinstance(again, Results) and '<details class="text">' in (tmp_path / "out" / "report.html").read_text()
    run(path, tmp_path / "out")
    assert not (tmp_path / "out" / TEXTS).exists()
    assert '<details class="text">' not in (tmp_path / "out" / "report.html").read_text()


def test_nothing_is_shown_without_scores(folder: Path) -> None:
    results = Results.read(folder)
    assert pick(results, "auc", name="reference", method="full", epoch=2).value is not None
    manifest = results.manifest.model_copy(update={"attacks": []})
    manifest.write(folder)
    alone = Results.read(folder)
    assert exposed_of(Summary(alone)) is None
    write_report(alone, folder)
    assert "most exposed records" not in (folder / "report.html").read_text()
