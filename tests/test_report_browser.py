"""The report in a real browser: headless Chromium, offline, at a laptop's and at a phone's width."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from byrote.report.results import Results
from byrote.report.write import write_report
from report_folder import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing = "Chromium is not installed, so the report was not opened in a browser (Debian: apt install chromium)"
        pytest.fail(missing) if os.environ.get("BYROTE_REQUIRE_BROWSER") == "1" else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """The page and everything it complained of or asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


def opened(browser: Browser, address: str, width: int, scheme: str = "light", scripts: bool = True) -> Opened:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        offline=True,
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=scripts,
    )
    found = Opened(context.new_page())
    found.page.set_default_timeout(15_000)
    found.page.goto(address)
    if scripts:
        found.page.wait_for_selector("#plot-scores .scatterlayer path")
    return found


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


def test_a_phone_has_no_sideways_scroll_and_pictures_that_fit(browser: Browser, address: str) -> None:
    found = opened(browser, address, 390)
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for picture in PICTURES:
        box = found.page.locator(f"#plot-{picture} svg.main-svg").first.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert found.page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((box) => getComputedStyle(box).overflowX === 'auto')"
    )
    assert found.complaints == []


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
