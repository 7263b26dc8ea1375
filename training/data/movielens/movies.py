"""The files of movies and links: small, read line by line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pandera.pandas import Column, DataFrameSchema

from serving.ids import IdMap
from serving.movies import MOVIELENS_GENRES, NO_GENRE, Movies, genre_bits
from training.data.movielens.dialect import Dialect
from training.data.movielens.encodings import decoded
from training.data.movielens.genres import SEPARATOR, catalogue_genres, check_genres, genres_of
from training.data.movielens.headers import columns_of, header_of
from training.data.movielens.layouts import LINK_COLUMNS, MOVIE_COLUMNS
from training.data.movielens.numerals import whole
from training.data.movielens.problems import LineError, Problems
from training.data.movielens.rules import MOVIE_ID, ONE_ROW, TITLE, TMDB_ID, failures_of
from training.data.movielens.titles import parse_title

_ITEM_GENRES: Final = (NO_GENRE, *(genre for genre in MOVIELENS_GENRES[1:] if genre != "IMAX"))
"""Genres of the flags at the end of a line of u.item; the first is called "unknown" there."""


@dataclass(frozen=True)
class MovieTable:
    """The catalogue: all of the movies file, rated or not. Rows ascend by movie_id."""

    movies: Movies
    titles: tuple[str, ...]
    """As shown: without the year, articles put back."""
    title_lengths: npt.NDArray[np.int32]
    """Shape (n_movies,); characters of the raw title."""
    tmdb_ids: npt.NDArray[np.int32]
    """Shape (n_movies,); 0 when unknown."""

    def __post_init__(self) -> None:
        if not len(self.titles) == self.title_lengths.size == self.tmdb_ids.size == len(self.movies.ids):
            raise ValueError("movies, titles, title_lengths and tmdb_ids must be of one length")


def read_movies(path: Path, dialect: Dialect, problems: Problems) -> pd.DataFrame:
    """Columns movieId, title, genres (tuples of names); the index is the line."""
    columns = columns_of(path, MOVIE_COLUMNS, dialect)
    movies = _read_by_movie(path, columns, problems)
    movie_id, title, _ = columns
    schema = DataFrameSchema(
        {movie_id: Column(checks=[MOVIE_ID, ONE_ROW]), title: Column(checks=list(TITLE))}
    )
    problems.add_all(path.name, failures_of(schema, movies))
    if movies.empty:
        problems.add(path.name, "there are no movies in it")
    movies.columns = pd.Index(MOVIE_COLUMNS)
    separator = SEPARATOR if path.suffix == ".item" else dialect.genre_separator  # its flags were joined here
    check_genres(path.name, movies["genres"], separator, problems)
    movies["genres"] = [tuple(genres_of(text, separator)) for text in movies["genres"]]
    return movies


def read_links(path: Path, dialect: Dialect, problems: Problems) -> pd.DataFrame:
    """Columns movieId, tmdbId (0 when unknown); no rows without the file."""
    if not path.is_file():
        return pd.DataFrame({"movieId": [], "tmdbId": []}, dtype=np.int64)
    columns = columns_of(path, LINK_COLUMNS, dialect)
    links = _read_by_movie(path, columns, problems)
    links.columns = pd.Index(LINK_COLUMNS)
    known = links["tmdbId"].str.strip() != ""
    links["tmdbId"] = whole(pa.array(links["tmdbId"], pa.string())).fill_null(-1).to_numpy()
    links["tmdbId"] = links["tmdbId"].where(known, 0)
    schema = DataFrameSchema(
        {"movieId": Column(checks=[MOVIE_ID, ONE_ROW]), "tmdbId": Column(checks=TMDB_ID)}
    )
    problems.add_all(path.name, failures_of(schema, links))
    return links


def _read_by_movie(path: Path, columns: Sequence[str], problems: Problems) -> pd.DataFrame:
    """These columns as texts, but for the first, a movie's id: 0 where it is no number. Indexed by line."""
    lines: list[int] = []
    rows: list[list[str]] = []
    wrong: list[int] = []
    try:
        for line, fields in _records(path, columns):
            if len(fields) == len(columns):
                lines.append(line)
                rows.append(fields)
            else:
                wrong.append(line)
    except LineError as error:
        problems.add(path.name, error.rule, error.lines)
    if wrong:
        problems.add(path.name, "wrong number of fields", wrong)
    frame = pd.DataFrame(rows, index=lines, columns=list(columns), dtype="str")
    frame[columns[0]] = whole(pa.array(frame[columns[0]], pa.string())).fill_null(0).to_numpy()
    return frame


def _records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and the fields of `columns`; of a line with the wrong number, none.

    Raises:
        LineError: the file cannot be read from this line on.
    """
    text = decoded(path.read_bytes())
    if path.suffix == ".csv":
        header = header_of(path)
        places = [header.index(column) for column in columns]
        for line, fields in _csv_records(text):
            yield line, [fields[p] for p in places] if len(fields) == len(header) else []
        return
    for line, content in enumerate(io.StringIO(text), start=1):
        if len(content) > csv.field_size_limit():  # what the csv module takes in one field
            raise LineError(f"must have at most {csv.field_size_limit()} characters", [line])
        fields = content.rstrip("\r\n").split("::" if path.suffix == ".dat" else "|")
        if path.suffix == ".item" and len(fields) >= len(_ITEM_GENRES):
            flags = fields[-len(_ITEM_GENRES) :]
            genres = [genre for genre, flag in zip(_ITEM_GENRES, flags, strict=True) if flag == "1"]
            yield line, [*fields[:2], SEPARATOR.join(genres)]
        elif content.strip():
            yield line, fields


def _csv_records(text: str) -> Iterator[tuple[int, list[str]]]:
    """The last line and the fields of each record below the header, but for empty lines.

    Raises:
        LineError: quotes are not as RFC 4180 has them, for one if a backslash stands before those inside.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    read = 0
    try:
        for fields in reader:
            if read and fields:
                yield reader.line_num, fields
            read = reader.line_num
    except csv.Error as error:
        rule = f'cannot be read: {error}; a quote inside a quoted field must be written twice, ""'
        raise LineError(rule, [read + 1]) from error


def movie_table(movies: pd.DataFrame, links: pd.DataFrame) -> MovieTable:
    """The catalogue that the frames of `read_movies` and `read_links` make."""
    movies = movies.sort_values("movieId")
    genres = catalogue_genres(movies["genres"])
    bits = {names: genre_bits(names or [NO_GENRE], genres) for names in set(movies["genres"])}
    parsed = [parse_title(title) for title in movies["title"]]
    tmdb_ids = movies["movieId"].map(links.set_index("movieId")["tmdbId"]).fillna(0)
    return MovieTable(
        movies=Movies(
            ids=IdMap(movies["movieId"].to_numpy()),
            years=np.array([year for _, year in parsed], dtype=np.int16),
            genre_bits=np.array([bits[names] for names in movies["genres"]], dtype=np.uint64),
            genres=genres,
        ),
        titles=tuple(title for title, _ in parsed),
        title_lengths=np.array([len(title) for title in movies["title"]], dtype=np.int32),
        tmdb_ids=tmdb_ids.to_numpy(np.int32),
    )
