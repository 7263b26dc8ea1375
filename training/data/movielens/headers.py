"""The first lines of files: wrong columns fail before all else, as every line would be wrong."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa  # type: ignore[import-untyped]

from training.data.movielens.dialect import COLUMN_KEYS, Dialect
from training.data.movielens.layouts import LINK_COLUMNS, LINKS, MOVIE_COLUMNS, Layout
from training.data.movielens.parquet import parquet_names
from training.data.movielens.problems import Problems

_IN_EVERY_FILE: Final = "movie_id"
"""Files other than that of the ratings may keep MovieLens's name for it."""

_MAX_HEADER_BYTES: Final = 64 * 1024


def spoken(layout: Layout, dialect: Dialect) -> Layout:
    """The layout with the columns of ratings as the dialect names them, and without times if it has none."""
    columns = layout.columns if dialect.has_times else layout.columns[:-1]
    if layout.has_header:
        columns = tuple(dialect.columns.get(COLUMN_KEYS[name], name) for name in columns)
    return replace(layout, columns=columns)


def columns_of(path: Path, names: Sequence[str], dialect: Dialect) -> list[str]:
    """The columns of the movies or links file that MovieLens calls `names`, as this file calls them."""
    if path.suffix != ".csv":
        return list(names)
    header = header_of(path)
    columns = []
    for name in names:
        key = COLUMN_KEYS[name]
        other = dialect.columns.get(key, name)
        columns.append(name if key == _IN_EVERY_FILE and other not in header else other)
    return columns


def check_columns(folder: Path, layout: Layout, dialect: Dialect, problems: Problems) -> None:
    """Tells `problems` which files have other columns than `layout` says."""
    links = folder / LINKS
    if layout.has_header:
        movies = folder / layout.movies
        ratings = folder / layout.ratings
        try:
            names = header_of(ratings) if layout.separator else parquet_names(ratings)
        except pa.ArrowException as error:  # the first file is no parquet
            problems.add(layout.ratings, str(error).partition("\n")[0])
        else:
            _check_names(layout.ratings, names, layout.columns, problems)
        _check_names(layout.movies, header_of(movies), columns_of(movies, MOVIE_COLUMNS, dialect), problems)
    else:
        if dialect.columns:
            problems.add(layout.ratings, "has no line of names, so that --columns says nothing of it")
        first = _first_line(folder / layout.ratings)
        if len(first.split(layout.separator)) != len(layout.columns):
            expected = layout.separator.join(layout.columns)
            problems.add(layout.ratings, f"wrong columns: expected {expected!r}, found {first!r}")
    if links.is_file():
        _check_names(LINKS, header_of(links), columns_of(links, LINK_COLUMNS, dialect), problems)


def _check_names(file: str, found: Sequence[str], expected: Sequence[str], problems: Problems) -> None:
    missing = [name for name in expected if name not in found]
    if missing or len(set(found)) < len(found):
        names = ", ".join(found) or ("none: the first line is empty" if file.endswith(".csv") else "none")
        advice = f". {_advice(missing)}" if found and missing else ""
        problems.add(file, f"wrong columns: expected {', '.join(expected)}; found {names}{advice}")


def _advice(missing: Sequence[str]) -> str:
    keys = [COLUMN_KEYS[name] for name in missing if name in COLUMN_KEYS]
    if not keys:
        return "--columns names what is not there"
    advice = f"Other names are told by --columns {','.join(f'{key}=NAME' for key in keys)}"
    return f"{advice}; ratings without times are read with --no-times" if "time" in keys else advice


def header_of(path: Path) -> list[str]:
    """The names in the first line of a csv file."""
    return [name.strip() for name in next(csv.reader([_first_line(path)]), [])]


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(_MAX_HEADER_BYTES).decode("utf-8-sig", errors="replace").strip("\r\n")
