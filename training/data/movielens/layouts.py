"""How the files of a data set are named and written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.data.movielens.problems import DataError

DATA_DIR_VARIABLE: Final = "MOVIEREC_DATA_DIR"
"""Names a data set's own folder. Read by the command line alone."""
CHOSEN_BY: Final = f"--data-dir or {DATA_DIR_VARIABLE}"
"""What names a data set, in messages: whoever reads the files is not told which of them did."""


@dataclass(frozen=True)
class Layout:
    """How the files of a data set are named and written."""

    ratings: str
    movies: str
    separator: str
    """Between the fields of a rating; empty: they are in parquet, one file or a folder of them."""
    columns: tuple[str, ...]
    """Names of user, movie, rating and time; without the last where there are no times."""
    has_header: bool
    """Whether the first line names the columns; else they are in the order of `columns`."""


LAYOUTS: Final = (
    Layout("ratings.csv", "movies.csv", ",", ("userId", "movieId", "rating", "timestamp"), has_header=True),
    Layout(
        "ratings.parquet", "movies.csv", "", ("userId", "movieId", "rating", "timestamp"), has_header=True
    ),
    Layout("ratings.dat", "movies.dat", "::", ("UserID", "MovieID", "Rating", "Timestamp"), has_header=False),
    Layout("u.data", "u.item", "\t", ("user id", "item id", "rating", "timestamp"), has_header=False),
)
"""MovieLens since 2014; the same with ratings in parquet; 1M and 10M; 100K. The first that fits is read."""

LINKS: Final = "links.csv"
MOVIE_COLUMNS: Final = ("movieId", "title", "genres")
LINK_COLUMNS: Final = ("movieId", "tmdbId")


def layouts_in(folder: Path) -> Iterator[Layout]:
    """The layouts whose files are in `folder`; the first of them is read."""
    for layout in LAYOUTS:
        if (folder / layout.ratings).exists() and (folder / layout.movies).is_file():
            yield layout


def layout_of(folder: Path) -> Layout:
    """The layout of the data set in `folder`.

    Raises:
        DataError: it holds no ratings with movies beside them.
    """
    for layout in layouts_in(folder):
        return layout
    state = "is not a data set" if folder.is_dir() else "is not a folder"
    expected = ", or ".join(f"{layout.ratings} and {layout.movies}" for layout in LAYOUTS)
    raise DataError(f"{folder} {state}: expected {expected}")
