"""What makes a data set unusable, collected and told in words."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from training.errors import TrainingError

_LINES_SHOWN: Final = 10


class DataError(TrainingError):
    """There is no usable data set. The message is for people: a line per file and broken rule."""


class LineError(Exception):
    """Lines of a file break a rule, so that it cannot be read any further."""

    def __init__(self, rule: str, lines: Sequence[int]) -> None:
        super().__init__(rule)
        self.rule = rule
        self.lines = lines


class Problems:
    """Collects what is wrong, so that one run tells all of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: list[str] = []

    def add(self, file: str, rule: str, lines: Sequence[int] = ()) -> None:
        """One broken rule, and the lines that break it, if it is about lines."""
        self._texts.append(f"{file}{lines_in_words(lines)}: {rule}")

    def add_all(self, file: str, failures: Mapping[str, Sequence[int]]) -> None:
        """Broken rules, and the lines that break each."""
        for rule, lines in failures.items():
            self.add(file, rule, lines)

    def raise_any(self) -> None:
        """Raises all that has been collected."""
        if self._texts:
            raise DataError("\n  ".join([f"The data set in {self._folder} cannot be used:", *self._texts]))


def lines_in_words(lines: Sequence[int], *, word: str = "line", name: Callable[[int], str] = str) -> str:
    """The first few lines, or whatever the word says, and how many more there are."""
    if not lines:
        return ""
    shown = ", ".join(name(line) for line in lines[:_LINES_SHOWN])
    more = f" and {len(lines) - _LINES_SHOWN:,} more" if len(lines) > _LINES_SHOWN else ""
    return f" {word}{'s' if len(lines) > 1 else ''} {shown}{more}"
