"""A real Chromium, and a page that fails a test for whatever a visitor should not meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import pytest

from benchmarks.chromium import MISSING, OPTIONS, chromium_path

if TYPE_CHECKING:  # not installed where no page is tested
    from playwright.sync_api import Browser, Page

SCREENSHOTS = Path("build/console")
PATIENCE_MS = 30_000

Theme: TypeAlias = Literal["light", "dark"]


@dataclass
class Visit:
    """A page in a window of its own."""

    page: "Page"
    origin: str
    faults: list[str] = field(default_factory=list)
    """What the browser complained of, and requests to other hosts."""
    expected: tuple[str, ...] = ()
    """Parts of complaints that the test provokes."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.text} {message.location.get('url', '')}")

    def _on_request(self, request: Any) -> None:
        if urlsplit(request.url).scheme not in {"data", "blob"} and not request.url.startswith(self.origin):
            self.faults.append(f"request to {request.url}")

    def go(self, address: str) -> "Visit":
        """Opens a view."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.origin}/{address}")
        return self

    def see(self, text: str) -> None:
        """Waits until a text is seen."""
        self.page.get_by_text(text).first.wait_for()

    def rows(self) -> list[str]:
        """Titles of the first list, once it is there."""
        self.page.locator(".row:not(.ghost)").first.wait_for()
        return self.page.locator(".list").first.locator("a.title").all_inner_texts()

    def check(self, name: str) -> None:
        """Keeps a picture; fails for anything that the browser, a narrow window or a screen reader minds."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(250)  # what slides has arrived
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
        found = [fault for fault in self.faults if not any(part in fault for part in self.expected)]
        assert found == []
        assert self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), "it scrolls sideways"
        assert self.page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert self._barriers() == []

    def _barriers(self) -> list[str]:
        """What axe-core finds serious, by rule and element."""
        from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415  # as above

        found = Axe().run(self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
        return [
            f"{violation['id']}: {node['target']}"
            for violation in found.response["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]


@dataclass(frozen=True)
class Chromium:
    """A running browser."""

    browser: "Browser"

    @contextmanager
    def visit(self, origin: str, *, width: int = 1_280, theme: Theme = "light") -> Iterator[Visit]:
        """A new window, without cookies or cache, while the block runs."""
        height = 900 if width > 600 else 780  # a phone's
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        try:
            yield Visit(context.new_page(), origin)
        finally:
            context.close()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Runs a browser while the block runs; skips, and says how to get one, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="make install brings Playwright")
    binary = chromium_path()
    if binary is None:
        pytest.skip(MISSING)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=OPTIONS)
        try:
            yield Chromium(browser)
        finally:
            browser.close()
