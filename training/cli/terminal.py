"""The terminal: it takes any character, and shows data as they are, never as markup or as commands."""

import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the newline


class Terminal(Console):
    """A console for data: brackets and colons mean nothing, and control characters are printed escaped."""

    def __init__(self, width: int | None = None) -> None:
        accept_any_character()
        super().__init__(markup=False, emoji=False, highlight=False, width=width)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # Whatever is printed passes here. Segments with `control` are rich's own moves of the cursor.
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def printable(text: str) -> str:
    """The text with control characters escaped, but for newlines: a terminal obeys none of them."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def accept_any_character() -> None:
    """Lets standard output escape what its encoding lacks, instead of raising an error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
