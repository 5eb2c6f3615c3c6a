"""The report in a real browser: headless Chromium, offline, at a laptop's and at a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browsing import Opened, chromium, opened
from byrote.report.results import Results
from byrote.report.write import write_report
from report_folder import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
PICTURES = ("frontier", "epochs", "roc", "scores")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    build(folder, seeds=(0, 1), failed=("p-tuning",), epochs=3, members=120, test=40, settings={"lora": '{"r":16}'})
    write_report(Results.read(folder), folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def laptop(browser: Browser, address: str) -> Opened:
    return opened(browser, address, 1366)


def test_it_opens_offline_without_a_complaint_or_a_request(laptop: Opened, address: str) -> None:
    assert laptop.complaints == []
    assert laptop.requests == [address]


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_have_marks_for_every_method(laptop: Opened, picture: str) -> None:
    paths = laptop.page.locator(f"#plot-{picture} .scatterlayer .trace path")
    assert paths.count() >= 5
    box = laptop.page.locator(f"#plot-{picture} svg.main-svg").first.bounding_box()
    assert box is not None and box["width"] > 800 and box["height"] > 300
    if picture == "frontier":
        assert laptop.page.locator("#plot-frontier .errorbar path").count() >= 4
        names = laptop.page.locator("figure:has(#plot-frontier) .key li:not([hidden])").all_inner_texts()
        assert set(names) == {"full", "head", "lora, r 16", "prefix-tuning", "prompt-tuning", "untuned model"}


def test_choosing_an_attack_changes_every_picture(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = opened(browser, address, 1366).page
    titles = [page.locator(f"#plot-{picture} .ytitle, #plot-{picture} .xtitle") for picture in PICTURES]
    drawn = [page.locator(f"#plot-{picture} .scatterlayer").first for picture in PICTURES]
    before = [layer.inner_html() for layer in drawn]
    assert "AUC of reference" in titles[0].all_text_contents()
    page.locator("select[data-choose=epochs]").select_option(label="loss")
    expect(page.locator("#plot-scores .xtitle")).to_have_text("score of loss")
    assert [layer.inner_html() == old for layer, old in zip(drawn, before, strict=True)] == [False] * 4
    assert "AUC of loss" in titles[0].all_text_contents()
    assert page.locator("select[data-choose=frontier]").input_value() == "0"


def test_pressing_a_method_in_the_key_hides_it_everywhere_and_shows_it_again(browser: Browser, address: str) -> None:
    page = opened(browser, address, 1366).page
    layers = [page.locator(f"#plot-{picture} .scatterlayer .trace") for picture in ("frontier", "epochs", "roc")]
    before = [layer.count() for layer in layers]
    button = page.locator("figure:has(#plot-epochs) .key button", has_text="head")
    button.focus()
    page.keyboard.press("Enter")
    assert [layer.count() for layer in layers] == [before[0] - 2, before[1] - 1, before[2] - 1]
    assert page.locator("button[aria-pressed=false]").all_inner_texts() == ["head"] * 3
    button.click()
    assert [layer.count() for layer in layers] == before


def test_a_limit_goes_with_the_last_method_that_it_holds_for(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("private")
    build(folder, methods=("full", "lora"), attacks=("loss",), epochs=1, members=120, test=20, levels=("none", "8"))
    write_report(Results.read(folder), folder)
    found = opened(browser, (folder / "report.html").as_uri(), 390)
    traces = found.page.locator("#plot-roc .scatterlayer .trace")
    before = traces.count()
    assert before == 5 + 1 + 2, "the untuned model and four others, chance, and two lines of one limit"
    assert "limit at ε 8" in found.page.locator("#plot-roc .scatterlayer text").all_text_contents()
    counts = []
    for label in ("full, ε 8", "lora, ε 8"):
        found.page.get_by_role("button", name=label, exact=True).last.click()
        counts.append(traces.count())
    assert counts == [before - 1, before - 4]
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth") and found.complaints == []


@pytest.mark.parametrize("width", [375, 820])
def test_a_phone_and_a_tablet_have_no_sideways_scroll_and_pictures_that_fit(
    browser: Browser, address: str, width: int
) -> None:
    found = opened(browser, address, width)
    assert found.fits
    for picture in PICTURES:
        box = found.page.locator(f"#plot-{picture} svg.main-svg").first.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert found.page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((box) => getComputedStyle(box).overflowX === 'auto')"
    )
    assert found.complaints == []


def test_the_list_of_contents_stands_beside_the_page_and_says_where_the_reader_is(laptop: Opened) -> None:
    from playwright.sync_api import expect

    page = laptop.page
    links = page.locator("nav.contents a")
    titles = page.locator("main h2").all_inner_texts()
    assert links.all_inner_texts() == titles and titles[0] == "What to choose" and titles[-1] == "To repeat it"
    order = ["What was found", "Methods against each other", "In pictures", "Every number", "The most exposed records",
             "What failed", "Before you trust a number", "To repeat it"]  # fmt: skip
    assert [title for title in titles if title in order] == order
    for name in ("Cost", "The most exposed records"):
        links.filter(has_text=name).click()
        heading = page.locator("h2", has_text=name)
        expect(heading).to_be_in_viewport()
        expect(page.locator("nav.contents [aria-current=location]")).to_have_text(name)
        box, column = heading.bounding_box(), links.filter(has_text=name).bounding_box()
        assert box is not None and column is not None and column["x"] + column["width"] <= box["x"]
    page.evaluate("scrollTo(0, 0)")


def test_on_a_phone_the_contents_fold_away(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = opened(browser, address, 375).page
    fold, link = page.locator("nav.contents details"), page.locator("nav.contents a", has_text="Every number")
    assert fold.get_attribute("open") is None
    expect(link).to_be_hidden()
    page.locator("nav.contents summary").press("Enter")
    expect(link).to_be_visible()
    link.click()
    expect(link).to_be_hidden()
    heading, bar = page.locator("#rows-title").bounding_box(), page.locator("nav.contents").bounding_box()
    assert heading is not None and bar is not None
    assert bar["y"] == 0 and heading["y"] >= bar["height"], "the bar stays, and covers no title"


def test_rows_are_shown_a_page_at_a_time_and_filtered_by_keyboard(laptop: Opened) -> None:
    from playwright.sync_api import expect

    page, status = laptop.page, laptop.page.locator(".rows [role=status]")
    lines, total = page.locator(".rows tbody tr"), len(laptop_rows(laptop))
    assert total > 200 and lines.count() == 50
    expect(status).to_have_text(f"Rows 1 to 50 of {total:,}")
    page.get_by_role("button", name="Next").press("Enter")
    expect(status).to_have_text(f"Rows 51 to 100 of {total:,}")
    page.get_by_role("button", name="Last").press("Enter")
    assert lines.count() == (total - 1) % 50 + 1
    assert page.get_by_role("button", name="Next").get_attribute("aria-disabled") == "true"
    page.locator("[data-filter=method]").focus()
    page.keyboard.type("lora")
    page.locator("[data-filter=metric]").select_option(label="auc")
    page.get_by_label("search").type("REFER")
    expect(status).to_contain_text(f", of {total:,} in all")
    wanted = [row for row in laptop_rows(laptop) if row[:3] == ("lora, r 16", "auc", "reference")]
    expect(status).to_contain_text(f"Rows 1 to {len(wanted)} of {len(wanted)},")
    assert set(page.locator(".rows tbody th").all_inner_texts()) == {"lora, r 16"}
    head = page.locator(".rows thead th", has_text="value")
    first = (
        "[...document.querySelectorAll('.rows tbody tr')].map((line) => line.querySelector('.number').firstChild.data)"
    )
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", order)
        numbers = [sign * float(text) for text in page.evaluate(first)]
        assert numbers == sorted(numbers) and len(numbers) == len(wanted)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") is None
    page.get_by_label("search").fill("nothing has this")
    expect(status).to_have_text("No row has all of this.")
    page.get_by_role("button", name="Clear").press("Enter")
    expect(status).to_have_text(f"Rows 1 to 50 of {total:,}")
    assert laptop.complaints == []


def laptop_rows(found: Opened) -> list[tuple[str, ...]]:
    """(method, metric, measure) of every row that the page holds."""
    held = found.page.evaluate("JSON.parse(document.getElementById('rows').textContent)")
    columns = [[held["words"][name][at] for at in held["rows"][name]] for name in ("method", "metric", "measure")]
    return list(zip(*columns, strict=True))


def test_on_paper_there_are_the_tables_whole_and_no_controls(browser: Browser, address: str) -> None:
    found = opened(browser, address, 720)
    found.page.emulate_media(media="print")
    found.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for gone in ("nav.contents", ".choose", ".rows", ".skip"):
        assert not any(one.is_visible() for one in found.page.locator(gone).all()), gone
    assert found.page.locator("#plot-frontier svg.main-svg").first.is_visible()
    over = found.page.evaluate(
        "[...document.querySelectorAll('main table')].filter((one) => one.getClientRects().length"
        " && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.caption.textContent)"
    )
    assert over == [], "tables that the edge of the paper would cut"


def test_pictures_follow_dark_and_print_in_light(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = opened(browser, address, 1366, "dark").page
    colour = "getComputedStyle(document.querySelector('#plot-frontier .xtitle')).fill"
    dark = page.evaluate(colour)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    printed = page.evaluate(colour)
    assert page.evaluate("document.querySelector('details').open") is True
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert (dark, printed, page.evaluate(colour)) == ("rgb(232, 232, 229)", "rgb(29, 30, 32)", dark)
    page.emulate_media(color_scheme="light")
    expect(page.locator("#plot-frontier .xtitle")).to_have_css("fill", "rgb(29, 30, 32)")


def test_the_page_prints(laptop: Opened) -> None:
    pdf = laptop.page.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 30_000


def test_without_scripts_the_tables_still_tell(browser: Browser, address: str) -> None:
    page = opened(browser, address, 1366, scripts=False).page
    assert page.locator("noscript").count() == 3
    row = page.locator("tr", has=page.locator("th", has_text="prompt-tuning")).first.inner_text()
    assert "[" in row and page.locator(".whisker").count() >= 4


def test_the_keyboard_reaches_what_scrolls_and_what_is_chosen(browser: Browser, address: str) -> None:
    page = opened(browser, address, 1366).page
    reached = []
    for _ in range(45):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className + document.activeElement.tagName"))
    assert reached[0] == "skipA" and "scrollDIV" in reached and "SELECT" in reached
    page.keyboard.press("Shift+Tab")
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#decision"
