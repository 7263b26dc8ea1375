"""How soon the page for people answers: `python -m benchmarks.console --help`.

Needs a running system, `make demo` or `make web`, and a Chromium. Each interaction is done as a person does,
by mouse and keyboard. Its time begins with the event in the browser, and ends when the result is painted: the
call to the API, the answer and the drawing are part of it.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Annotated, Final

import numpy as np
import typer
from playwright.sync_api import Page, Request, sync_playwright
from rich.table import Table

from benchmarks.chromium import MISSING, OPTIONS, chromium_path
from training.cli.terminal import Terminal

_GENRES: Final = ("Comedy", "Drama", "Action", "Thriller", "")
_TYPED: Final = (("matri", "x"), ("alie", "n"), ("toy s", "t"), ("heat 199", "5"), ("schindlrs lis", "t"))
"""What stands in the field, and the letter that is typed."""
_QUIET_MS: Final = 300
_PATIENCE_MS: Final = 10_000

_ARM: Final = """
([event, result, patience]) => {
  window.painted = new Promise((resolve, reject) => {
    let began = null;
    addEventListener(event, (one) => { began = one.timeStamp; }, { capture: true, once: true });
    setTimeout(() => reject(new Error("nothing was painted")), patience);
    const observer = new MutationObserver(() => {
      if (began === null) return;
      observer.disconnect();
      // The callback runs before the next frame is painted, and the task it leaves, after.
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    });
    observer.observe(document.querySelector(result), { childList: true });
  });
}
"""
"""Begins to wait for an event and then for a change of the element that shows its result."""


@dataclass(frozen=True)
class Interaction:
    """What a person does, and where the answer is seen."""

    view: str
    ready: str
    """Selector of what is there once the view is whole."""
    act: Callable[[Page, int], None]
    """Does it for the nth time."""
    event: str
    """Type of the event that it begins with."""
    result: str
    """Selector of the element whose children change with the answer."""


def _like(page: Page, number: int) -> None:
    page.locator(".taste .like").nth(number % 20).click()


def _diversity(page: Page, number: int) -> None:
    page.get_by_label("Diversity").press("ArrowLeft" if number // 5 % 2 else "ArrowRight")


def _genre(page: Page, number: int) -> None:
    page.get_by_label("Genre").select_option(_GENRES[number % len(_GENRES)])


def _movie(page: Page, number: int) -> None:
    page.locator(".row a.title").nth(number % 10).click()


def _search(page: Page, number: int) -> None:
    field = page.get_by_label("Find a movie").first
    before, letter = _TYPED[number % len(_TYPED)]
    field.evaluate("(field, text) => { field.value = text; }", before)
    field.press(letter)


_ROWS: Final = ".main .row:not(.ghost)"
INTERACTIONS: Final = {
    "somebody new: like a movie": Interaction("#/new", ".taste", _like, "click", ".aside .list"),
    "people: move the slider": Interaction("#/people/1", _ROWS, _diversity, "input", ".main .list"),
    "people: choose a genre": Interaction("#/people/1", _ROWS, _genre, "input", ".main .list"),
    "people: open a movie": Interaction("#/people/1", _ROWS, _movie, "click", ".aside > div"),
    "search: type a letter": Interaction("", ".row:not(.ghost)", _search, "input", "#find-options"),
}


def milliseconds(page: Page, origin: str, interaction: Interaction) -> Iterator[float]:
    """From the event to the painted result, time after time."""
    page.goto("about:blank")
    page.goto(f"{origin}/{interaction.view}")
    page.locator(interaction.ready).first.wait_for()
    page.wait_for_timeout(_QUIET_MS)
    for number in count():
        page.evaluate(_ARM, [interaction.event, interaction.result, _PATIENCE_MS])
        interaction.act(page, number)
        yield page.evaluate("window.painted")
        page.wait_for_timeout(_QUIET_MS)


def first_view_bytes(page: Page, origin: str) -> tuple[int, int]:
    """Answers that the first view takes, and their bytes over the wire, headers included."""
    sizes: list[int] = []

    def note(request: Request) -> None:
        size = request.sizes()
        sizes.append(size["responseBodySize"] + size["responseHeadersSize"])

    page.on("requestfinished", note)
    page.goto(f"{origin}/")
    page.locator(".row:not(.ghost)").first.wait_for()
    page.wait_for_timeout(_QUIET_MS)
    page.remove_listener("requestfinished", note)
    return len(sizes), sum(sizes)


def measured(page: Page, origin: str, times: int) -> dict[str, list[float]]:
    """Milliseconds of each interaction, done a few times."""
    return {
        name: list(islice(milliseconds(page, origin, interaction), times))
        for name, interaction in INTERACTIONS.items()
    }


def main(
    url: Annotated[str, typer.Option(help="Where the system answers.")] = "http://127.0.0.1:8080",
    times: Annotated[int, typer.Option(min=1, help="How often each interaction is done.")] = 40,
) -> None:
    """Prints what the first view takes over the wire, and how soon interactions are answered."""
    binary = chromium_path()
    if binary is None:
        sys.exit(MISSING)
    result = Table()
    result.add_column("interaction")
    for heading in ("median, ms", "p95, ms"):
        result.add_column(heading, justify="right")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1_280, "height": 900})
        answers, size = first_view_bytes(page, url)
        for name, taken in measured(page, url, times).items():
            middle, high = np.percentile(taken, [50, 95])
            result.add_row(name, f"{middle:.0f}", f"{high:.0f}")
        browser.close()
    terminal = Terminal()
    terminal.print(f"First view: {answers} answers, {size / 1_024:.1f} KiB over the wire")
    terminal.print(result)


if __name__ == "__main__":
    typer.run(main)
