"""A page in headless Chromium, with everything that it complained of or asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def chromium() -> Iterator[Browser]:
    """The distribution's Chromium; where there is none the test is skipped, or fails where it is required."""
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

    @property
    def fits(self) -> bool:
        """Whether nothing makes the page wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def opened(
    browser: Browser, address: str, width: int, scheme: str = "light", scripts: bool = True, drawn: str = "frontier"
) -> Opened:
    """The page once its picture `drawn` has marks; without a network."""
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        offline=True,
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    found = Opened(context.new_page())
    found.page.set_default_timeout(15_000)
    found.page.goto(address)
    if scripts and drawn:
        found.page.wait_for_selector(f"#plot-{drawn} .scatterlayer path", state="attached")
    return found
