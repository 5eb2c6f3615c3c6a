"""The overview of a study that varies something: its pictures against the rows, its words, and it in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from browsing import chromium, opened
from byrote.attacks.membership.min_k import MinK
from byrote.report.axes import AxesManifest, AxisEntry, PointEntry, VariedResults
from byrote.report.axes_page import axes_html
from byrote.report.axes_pictures import Picture, look_of, pictures_of
from byrote.report.axes_spots import spots_of
from byrote.report.axes_tables import Overview
from byrote.report.formats import signed
from byrote.report.write import write_report
from byrote.runner.study import run
from byrote.store import RunFolder
from report_folder import build, pick
from small_study import leave_out_what_is_slow, make_folder, write_study


def make_overview(folder: Path, points: list[dict[str, Any]], axes: dict[str, list[Any]], **options: Any) -> Path:
    """Synthetic points: each with its values, and what `build` is told of it beside."""
    entries = []
    for number, point in enumerate(points):
        words = {path: str(value).removeprefix("builtin:") for path, value in point["values"].items()}
        entries.append(PointEntry(values=point["values"], words=words, folder=f"points/p {number}"))
        if point.get("error"):
            entries[-1].error = point["error"]
        elif not point.get("later"):
            build(folder / f"points/p {number}", **{**options, **point.get("options", {})})
    entries_of_axes = [
        AxisEntry(path=path, values=values, labels=[str(value).removeprefix("builtin:") for value in values])
        for path, values in axes.items()
    ]
    manifest = AxesManifest(byrote="0", name="two axes", question="Why?", axes=entries_of_axes, points=entries)
    manifest.write(folder)
    return folder


AXES = {"epochs": [1, 2, 20], "model": ["builtin:tiny", "b/<i>"], "method.r": [8, 16]}
SMALL: dict[str, Any] = {"methods": ("full", "lora"), "attacks": ("loss", "reference"), "members": 60, "test": 30}


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    points: list[dict[str, Any]] = [
        {"values": {"epochs": epochs, "model": model}, "options": {"epochs": epochs, "seeds": (seed,)}}
        for seed, model in enumerate(AXES["model"])
        for epochs in AXES["epochs"][:2]
    ]
    points.append({"values": {"epochs": 20, "model": "builtin:tiny"}, "error": "no room for <b> it"})
    points.append({"values": {"epochs": 20, "model": "b/<i>"}, "later": True})
    return make_overview(tmp_path_factory.mktemp("varied"), points, AXES, **SMALL)


def pictures(results: VariedResults) -> dict[str, Picture]:
    spots = spots_of(results)
    return {picture.title: picture for picture in pictures_of(results, spots, look_of(results, spots))}


def test_a_picture_s_marks_are_the_rows_with_their_intervals(varied: Path) -> None:
    results = VariedResults.read(varied)
    found = pictures(results)
    assert list(found) == ["By epochs", "By model"], "no two values of r stand anywhere"
    picture = found["By epochs"]
    assert picture.measures == ["AUC of reference", "perplexity", "AUC of loss"]
    assert picture.places == ["model tiny", "model b/<i>"] and len(picture.figures) == 3 * 2
    of_points = {(row.values["epochs"], row.values["model"]): point for row, point in results.done()}
    for at, (metric, name) in enumerate((("auc", "reference"), ("perplexity", "perplexity"), ("auc", "loss"))):
        for place, model in enumerate(AXES["model"]):
            figure = picture.figures[at * 2 + place]
            assert figure is not None
            lines = {trace["name"]: trace for trace in figure["data"]}
            assert set(lines) == {"full", "lora"} | (set() if name == "reference" else {"untuned model"})
            for method in ("full", "lora"):
                rows = [pick(of_points[e, model], metric, method=method, name=name, epoch=e) for e in (1, 2)]
                assert lines[method]["y"] == [row.value for row in rows]
                assert lines[method]["error_y"]["array"] == [row.high - row.value for row in rows]  # type: ignore[operator]
                assert lines[method]["error_y"]["arrayminus"] == [row.value - row.low for row in rows]  # type: ignore[operator]
                assert lines[method]["x"] == pytest.approx([1, 2], rel=0.05)
            axis = figure["layout"]["xaxis"]
            assert (axis["type"], axis["tickvals"], axis["ticktext"]) == ("log", [1, 2, 20], ["1", "2", "20"])
    assert found["By epochs"].figures[0]["layout"]["shapes"][0]["y0"] == 0.5  # type: ignore[index]
    by_model = found["By model"].figures[0]
    assert by_model is not None and by_model["layout"]["xaxis"]["tickvals"] == [0.0, 1.0], "both are of one size"
    assert by_model["layout"]["xaxis"]["ticktext"] == ["tiny", "b/&lt;i&gt;"]


def test_ranks_make_one_line_and_numbers_close_together_a_plain_axis(tmp_path: Path) -> None:
    # A rank of 8 is the default, and so in no settings; what is called rank 16 is head tuning.
    make_overview(tmp_path, [{"values": {}}], {"method.r": [8, 16]}, **SMALL | {"methods": ("head", "lora", "full")})
    manifest = json.loads((tmp_path / "points/p 0/study.json").read_text())
    next(cell for cell in manifest["cells"] if cell["method"] == "head").update(method="lora", settings='{"r":16}')
    (tmp_path / "points/p 0/study.json").write_text(json.dumps(manifest))
    results = VariedResults.read(tmp_path)
    (picture,) = pictures(results).values()
    (trace,) = picture.figures[0]["data"]  # type: ignore[index]
    assert (picture.title, picture.places, trace["name"], trace["x"]) == ("By r", [""], "lora", [8.0, 16.0])
    assert "type" not in picture.figures[0]["layout"]["xaxis"]  # type: ignore[index]
    (_, point), low, high = next(results.done()), {"settings": ""}, {"settings": '{"r":16}'}
    rows = [pick(point, "auc", method="lora", name="reference", epoch=4, **of) for of in (low, high)]
    assert trace["y"] == [row.value for row in rows] and rows[0].value != rows[1].value
    assert Overview(results).answer()[0] == "Varied: method.r (8, 16)."


def test_models_of_different_sizes_stand_at_their_sizes(tmp_path: Path) -> None:
    points = [{"values": {"model": name}} for name in ("a", "b")]
    make_overview(tmp_path, points, {"model": ["a", "b"]}, **SMALL)
    for cost in (tmp_path / "points/p 1/runs").glob("*/cost.json"):
        raw = json.loads(cost.read_text())
        if "total_parameters" in raw:
            RunFolder(cost.parent).write_json("cost.json", raw | {"total_parameters": 4_000_000})
    figure = pictures(VariedResults.read(tmp_path))["By model"].figures[0]
    assert figure is not None
    axis = figure["layout"]["xaxis"]
    assert (axis["type"], axis["tickvals"], axis["ticktext"]) == ("log", [1_382_784, 4_000_000], ["a", "b"])


def test_an_attack_s_own_field_is_an_axis_too(tmp_path: Path) -> None:
    points = [{"values": {"attacks.min-k.k": k}} for k in (0.1, 0.3)]
    make_overview(tmp_path, points, {"attacks.min-k.k": [0.1, 0.3]}, **SMALL | {"attacks": ("min-k",)})
    for number, k in enumerate((0.1, 0.3)):  # what the scores of a folder are kept under
        place = tmp_path / f"points/p {number}"
        manifest = json.loads((place / "study.json").read_text())
        manifest["attacks"] = [{"name": "min-k", "k": k}]
        (place / "study.json").write_text(json.dumps(manifest))
        for path in (place / "runs").glob("*/scores.parquet"):
            table = pyarrow.parquet.read_table(path)
            own = pa.array([MinK(k=k).settings()] * len(table))
            table = table.set_column(table.column_names.index("settings"), "settings", own)
            RunFolder(path.parent).write_table("scores.parquet", table)
    results = VariedResults.read(tmp_path)
    (picture,) = pictures(results).values()
    assert picture.measures == ["AUC of min-k", "perplexity"] and picture.figures[0] is not None
    lines = {trace["name"]: trace["y"] for trace in picture.figures[0]["data"]}
    assert {name: len(values) for name, values in lines.items()} == {"untuned model": 2, "full": 2, "lora": 2}


def test_seeds_are_pooled_and_methods_that_failed_stand_in_the_table(tmp_path: Path) -> None:
    points = [
        {"values": {"model": name}, "options": {"failed": failed}} for name, failed in (("nan", ["lora"]), ("b", []))
    ]
    make_overview(tmp_path, points, {"model": ["nan", "b"]}, **SMALL | {"seeds": (0, 1, 2)})
    results = VariedResults.read(tmp_path)
    figure = pictures(results)["By model"].figures[0]
    assert figure is not None
    pooled = {
        method: [pick(of, "auc", method=method, name="reference", seed=None, epoch=4).value for of in points]
        for method, points in (("full", [of for _, of in results.done()]), ("lora", [results.points[1].results]))
    }  # type: ignore[list-item]
    assert {trace["name"]: trace["y"] for trace in figure["data"]} == pooled
    page = axes_html(results)
    assert page.count('<span class="verdict failed">failed</span></td>') == 1
    assert [(point, run) for point, run, _ in results.failed] == [
        ("model nan", f"lora, seed {seed}") for seed in range(3)
    ]
    assert "**lora** failed at model nan and leaks at model b; AUC " in " ".join(Overview(results).answer())


def test_the_words_say_what_varies_who_leaks_where_and_what_is_missing(varied: Path) -> None:
    results = VariedResults.read(varied)
    overview = Overview(results)
    first, full, *rest = overview.answer()
    assert first == "6 points: epochs (1, 2, 20) by model (tiny, b/<i>). Inside each: method.r (8, 16)."
    rows = [row for row in results.rows if (row.method, row.name, row.metric) == ("full", "reference", "auc")]
    last = {"1": 1, "2": 2}
    aucs = sorted(row.value for row in rows if row.epoch == last[str(json.loads(row.point)["epochs"])])  # type: ignore[type-var]
    assert full.startswith("By the reference attack **full** leaks at every point with results; AUC from ")
    assert f"from {aucs[0]:.3f} [" in full and f"to {aucs[-1]:.3f} [" in full
    assert rest[1:] == [
        "**epochs 20, model tiny** failed: no room for <b> it",
        "Not run yet: epochs 20, model b/<i>. The same command goes on from there.",
        rest[-1],
    ]
    entries = [entry for entry, _ in results.done()]
    assert results.where(entries[:2]) == "model tiny"
    assert results.where([entries[0], entries[2]]) == "epochs 1"
    assert results.where(entries[1:]) == "every point with results but epochs 1, model tiny"
    assert results.where([entries[0], entries[3]]) == "epochs 1, model tiny; epochs 2, model b/<i>"
    assert [len(table.lines) for table in overview.tables] == [3, 3, 3, 3, 0, 0]


def test_the_page_links_to_every_point_and_escapes_what_it_is_told(varied: Path) -> None:
    write_report(VariedResults.read(varied), varied)
    page, text = axes_html(VariedResults.read(varied)), (varied / "report.md").read_text()
    assert "<b> it" not in page and "b/<i>" not in page.split("<script>")[0] and "&lt;b&gt; it" in page
    for number in range(4):
        assert f'href="points/p%20{number}/report.html"' in page and f"(points/p%20{number}/report.md)" in text
    assert "p%204/report" not in page + text and "p%205/report" not in page + text
    assert text.count("| full | leaks |") == 4


def test_what_comes_out_has_a_column_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_is_slow(monkeypatch)
    attacks = ["reference", "extraction-strength", {"name": "k-extractable", "prefix_tokens": 900}]
    vary, data = {"epochs": [1, 3]}, {"members": 20, "nonmembers": 20}
    path = write_study(tmp_path / "s.yaml", make_folder(tmp_path), vary=vary, attacks=attacks, data=data)
    results = run(path, tmp_path / "out")
    assert isinstance(results, VariedResults)
    overview = Overview(results)
    titles = [column.title for column in overview.columns]
    assert titles == ["AUC of reference", "extraction-strength", "perplexity"], "k-extractable says nothing"
    (picture,) = pictures(results).values()
    assert picture.measures[:3] == [
        "AUC of reference",
        "strength of extraction-strength (members − nonmembers, less untuned)",
        "perplexity",
    ]
    figure, metric = picture.figures[1], "strength-excess-vs-nonmembers"
    assert figure is not None
    rows = [pick(of, metric, slice="", epoch=epoch) for (_, of), epoch in zip(results.done(), (1, 3), strict=True)]
    assert [trace["y"] for trace in figure["data"] if trace["name"] == "full"] == [[row.value for row in rows]]
    shown = [line.values[1].main for table in overview.tables for line in table.lines if line.line.label == "full"]
    assert shown == [signed(row.value) for row in rows]


@pytest.mark.browser
def test_the_overview_in_a_browser(varied: Path) -> None:
    from playwright.sync_api import expect

    write_report(VariedResults.read(varied), varied)
    point = varied / "points/p 0/report.html"
    point.write_text("<title>its own</title>")
    address = (varied / "report.html").as_uri()
    with chromium() as browser:
        for width, scheme, background in ((375, "light", "rgb(253, 253, 251)"), (1366, "dark", "rgb(19, 20, 22)")):
            found = opened(browser, address, width, scheme, drawn="axis-0")
            page = found.page
            assert found.fits
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
            assert page.locator("#plot-axis-0 .scatterlayer .trace").count() == 2
            assert page.locator("#plot-axis-0 .errorbar path").count() == 4
            assert page.locator("#plot-frontier .scatterlayer .trace").count() >= 3
            assert found.requests == [address] and found.complaints == []
        assert page.locator("nav.contents a").all_inner_texts() == page.locator("main h2").all_inner_texts()
        # A point is chosen for the frontier, and its rows by the same name.
        place = page.locator("select[data-choose=frontier][data-together=place]")
        drawn = page.locator("#plot-frontier .scatterlayer")
        before = drawn.inner_html()
        place.select_option(label="epochs 2, model b/<i>")
        assert drawn.inner_html() != before
        page.locator("[data-filter=point]").select_option(index=2)
        assert set(page.locator(".rows tbody th").all_inner_texts()) == {"epochs 2, tiny"}
        # A measure is chosen for all pictures, a place for its own; nothing stands at 20 epochs.
        drawn = page.locator("#plot-axis-0 .scatterlayer")
        page.locator("select[data-choose=axis-0][data-together=measure]").select_option(label="perplexity")
        for picture in ("axis-0", "axis-1"):
            expect(page.locator(f"#plot-{picture} .ytitle")).to_have_text("perplexity")
        before = drawn.inner_html()
        page.locator("select[data-together=axis-0]").select_option(label="model b/<i>")
        assert drawn.inner_html() != before
        assert page.locator("select[data-together=axis-1]").input_value() == "0"
        page.locator("select[data-together=axis-1]").select_option(label="epochs 2")
        expect(page.locator("#plot-axis-1 .xtitle")).to_have_text("model")
        assert found.complaints == []
        page.get_by_role("link", name="its report").first.click()
        expect(page).to_have_title("its own")
