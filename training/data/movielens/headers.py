"""The first lines of files: wrong columns fail before all else, as every line would be wrong."""

import csv
from collections.abc import Sequence
from pathlib import Path

from training.data.movielens.layouts import LINK_COLUMNS, LINKS, MOVIE_COLUMNS, Layout
from training.data.movielens.problems import Problems


def check_columns(folder: Path, layout: Layout, problems: Problems) -> None:
    """Tells `problems` which files have other columns than `layout` says."""
    if layout.has_header:
        _check_header(folder / layout.ratings, layout.columns, problems)
        _check_header(folder / layout.movies, MOVIE_COLUMNS, problems)
    else:
        first = _first_line(folder / layout.ratings)
        if len(first.split(layout.separator)) != len(layout.columns):
            expected = layout.separator.join(layout.columns)
            problems.add(layout.ratings, f"wrong columns: expected {expected!r}, found {first!r}")
    if (folder / LINKS).is_file():
        _check_header(folder / LINKS, LINK_COLUMNS, problems)


def _check_header(path: Path, expected: Sequence[str], problems: Problems) -> None:
    found = header_of(path)
    if set(expected) - set(found) or len(set(found)) < len(found):
        names = ", ".join(found) or "none: the first line is empty"
        problems.add(path.name, f"wrong columns: expected {', '.join(expected)}; found {names}")


def header_of(path: Path) -> list[str]:
    """The names in the first line of a csv file."""
    return [name.strip() for name in next(csv.reader([_first_line(path)]), [])]


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline().decode("utf-8-sig", errors="replace").strip("\r\n")
