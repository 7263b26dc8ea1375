"""Reading, checking and cleaning a data set: ratings, and the catalogue that they refer to."""

import csv
import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import structlog
from pandera.errors import SchemaErrors
from pandera.pandas import Check, Column, DataFrameSchema
from pyarrow import compute
from pyarrow import csv as arrow_csv

from serving.ids import IdMap, Ids
from serving.movies import GENRES, NO_GENRE, Movies, genre_bits
from serving.ratings import Ratings
from training.titles import parse_title

MAX_MOVIE_ID: Final = 2**31 - 1
"""movie_id is an int32 on the wire."""

MAX_TIME: Final = 2**32 - 1
"""Unix seconds, in the year 2106. What is beyond counts something else, as milliseconds."""

MAX_BAD_SHARE: Final = 0.001
"""Share of ratings that may be out of range, and are dropped; beyond it something else is wrong."""

_SECONDS_PER_DAY: Final = 86_400
_MAX_INT64: Final = str(2**63 - 1)
_LINES_SHOWN: Final = 10

_logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DataError(Exception):
    """There is no usable data set. The message is for people: a line per file and broken rule."""


@dataclass(frozen=True)
class Layout:
    """How the files of a data set are named and written."""

    ratings: str
    movies: str
    separator: str
    """Between the fields of a rating."""
    columns: tuple[str, str, str, str]
    """Names of user, movie, rating and time."""
    has_header: bool
    """Whether the first line names the columns; else they are in the order of `columns`."""


LAYOUTS: Final = (
    Layout("ratings.csv", "movies.csv", ",", ("userId", "movieId", "rating", "timestamp"), has_header=True),
    Layout("ratings.dat", "movies.dat", "::", ("UserID", "MovieID", "Rating", "Timestamp"), has_header=False),
    Layout("u.data", "u.item", "\t", ("user id", "item id", "rating", "timestamp"), has_header=False),
)
"""Those of MovieLens: since 2014; 1M and 10M; 100K. The first that fits is read."""

_LINKS: Final = "links.csv"
_MOVIE_COLUMNS: Final = ("movieId", "title", "genres")
_LINK_COLUMNS: Final = ("movieId", "tmdbId")
_ITEM_GENRES: Final = (NO_GENRE, *(genre for genre in GENRES[1:] if genre != "IMAX"))
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


@dataclass(frozen=True)
class CleaningCounts:
    """What cleaning did. read = kept + repeated + out_of_range + unknown_movies."""

    read: int
    repeated: int
    """Dropped, as the user rated the movie again later."""
    out_of_range: int
    """Dropped, as the rating is missing or not 0.5 to 5, or the time missing or not 0 to `MAX_TIME`."""
    unknown_movies: int
    """Dropped, as the movies file does not have the movie."""
    future_times: int
    """Kept, though more than a day ahead of the clock."""
    kept: int


@dataclass(frozen=True)
class CleanRatings:
    """Ratings in canonical order: the same arrays, whatever the order of the file."""

    ratings: Ratings
    """By user, then time, then a fixed hash of user_id and movie_id. Users are those with a rating."""
    counts: CleaningCounts
    digest: str
    """sha256 in hex over user_ids, movie_ids, values and times."""

    def tag(self, name: str) -> str:
        """`dataset_tag`: which data set in which state, as ml-latest-small-1a2b3c4d."""
        return f"{name}-{self.digest[:8]}"


def layout_of(folder: Path) -> Layout:
    """The layout of the data set in `folder`.

    Raises:
        DataError: it holds no ratings with movies beside them.
    """
    for layout in LAYOUTS:
        if (folder / layout.ratings).is_file() and (folder / layout.movies).is_file():
            return layout
    state = "is not a data set" if folder.is_dir() else "is not a folder"
    expected = ", or ".join(f"{layout.ratings} and {layout.movies}" for layout in LAYOUTS)
    raise DataError(f"{folder} {state}: expected {expected}")


def read_data_set(folder: Path, *, now: float | None = None) -> tuple[MovieTable, CleanRatings]:
    """Reads the catalogue and the ratings, checks both, and cleans the ratings.

    Args:
        folder: holds files in one of `LAYOUTS`.
        now: Unix seconds of the present; the clock's, unless told.

    Raises:
        DataError: all that is wrong, in all files at once; wrong columns before all else.
    """
    layout = layout_of(folder)
    problems = _Problems(folder)
    try:
        _check_columns(folder, layout, problems)
        problems.raise_any()
        movies = _read_movies(folder / layout.movies, problems)
        links = _read_links(folder / _LINKS, problems)
        ratings, out_of_range = _read_ratings(folder / layout.ratings, layout, problems)
    except OSError as error:  # gone, or not ours to read
        raise DataError(f"{error.filename}: {error.strerror}") from error
    problems.raise_any()
    table = _movie_table(movies, links)
    moment = time.time() if now is None else now
    cleaned = _clean(ratings, out_of_range, table.movies.ids, now=int(moment))
    if not cleaned.counts.kept:
        problems.add(layout.ratings, f"none of the {cleaned.counts.read:,} ratings is left after cleaning")
        problems.raise_any()
    _logger.info("ratings cleaned", **asdict(cleaned.counts), digest=cleaned.digest)
    return table, cleaned


class _Problems:
    """Collects what is wrong, so that one run tells all of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: list[str] = []

    def add(self, file: str, rule: str, lines: Sequence[int] = ()) -> None:
        """One broken rule, and the lines that break it, if it is about lines."""
        self._texts.append(f"{file}{_in_words(lines)}: {rule}")

    def add_all(self, file: str, failures: Mapping[str, Sequence[int]]) -> None:
        """Broken rules, and the lines that break each."""
        for rule, lines in failures.items():
            self.add(file, rule, lines)

    def raise_any(self) -> None:
        """Raises all that has been collected."""
        if self._texts:
            raise DataError("\n  ".join([f"The data set in {self._folder} cannot be used:", *self._texts]))


def _in_words(lines: Sequence[int]) -> str:
    """The first few lines, and how many more there are."""
    if not lines:
        return ""
    shown = ", ".join(str(line) for line in lines[:_LINES_SHOWN])
    more = f" and {len(lines) - _LINES_SHOWN:,} more" if len(lines) > _LINES_SHOWN else ""
    return f" line{'s' if len(lines) > 1 else ''} {shown}{more}"


# Rules


def _failures(schema: DataFrameSchema, frame: pd.DataFrame) -> dict[str, list[int]]:
    """The rules that the frame breaks, and the lines (its index) that break them."""
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        groups = errors.failure_cases.groupby(["column", "check"], sort=False)["index"]
        return {f"{column} {rule}": sorted(map(int, lines)) for (column, rule), lines in groups}
    return {}


def _within(low: float, high: float, rule: str) -> Check:
    def is_within(column: "pd.Series[Any]") -> "pd.Series[bool]":
        return column.between(low, high)

    return Check(is_within, error=rule, ignore_na=False)  # NaN is within nothing


def _once(ids: "pd.Series[Any]") -> "pd.Series[bool]":
    return (ids < 1) | ~ids.duplicated(keep=False)  # those below 1 break another rule


def _filled(texts: "pd.Series[str]") -> "pd.Series[bool]":
    return texts.str.strip() != ""


_USER_ID: Final = _within(1, np.inf, "must be a whole number from 1")
_MOVIE_ID: Final = _within(1, MAX_MOVIE_ID, f"must be a whole number from 1 to {MAX_MOVIE_ID}")
_ONE_ROW: Final = Check(_once, error="must be there only once")
_VALUE: Final = _within(0.5, 5, "must be 0.5 to 5")
_TIME: Final = _within(0, MAX_TIME, f"must be whole seconds from 0 to {MAX_TIME}")


# Columns: wrong ones fail before all else, as every line would be wrong


def _check_columns(folder: Path, layout: Layout, problems: _Problems) -> None:
    if layout.has_header:
        _check_header(folder / layout.ratings, layout.columns, problems)
        _check_header(folder / layout.movies, _MOVIE_COLUMNS, problems)
    else:
        first = _first_line(folder / layout.ratings)
        if len(first.split(layout.separator)) != len(layout.columns):
            expected = layout.separator.join(layout.columns)
            problems.add(layout.ratings, f"wrong columns: expected {expected!r}, found {first!r}")
    if (folder / _LINKS).is_file():
        _check_header(folder / _LINKS, _LINK_COLUMNS, problems)


def _check_header(path: Path, expected: Sequence[str], problems: _Problems) -> None:
    found = _header(path)
    if set(expected) - set(found) or len(set(found)) < len(found):
        names = ", ".join(found) or "none: the first line is empty"
        problems.add(path.name, f"wrong columns: expected {', '.join(expected)}; found {names}")


def _header(path: Path) -> list[str]:
    return [name.strip() for name in next(csv.reader([_first_line(path)]), [])]


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return _decode(file.readline()).strip("\r\n")


def _decode(content: bytes) -> str:
    """Newer files are UTF-8, some with a byte order mark; ML-1M and 100K are Latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


# Movies and links: small files, read line by line


def _read_movies(path: Path, problems: _Problems) -> pd.DataFrame:
    """Columns movieId, title, genres ("|" between them); the index is the line."""
    movies = _read_by_movie(path, _MOVIE_COLUMNS, problems)
    title = Column(checks=Check(_filled, error="must not be empty"))
    schema = DataFrameSchema({"movieId": Column(checks=[_MOVIE_ID, _ONE_ROW]), "title": title})
    problems.add_all(path.name, _failures(schema, movies))
    if movies.empty:
        problems.add(path.name, "there are no movies in it")
    return movies


def _read_links(path: Path, problems: _Problems) -> pd.DataFrame:
    """Columns movieId, tmdbId (0 when unknown); no rows without the file."""
    if not path.is_file():
        return pd.DataFrame({"movieId": [], "tmdbId": []}, dtype=np.int64)
    links = _read_by_movie(path, _LINK_COLUMNS, problems)
    known = links["tmdbId"].str.strip() != ""
    links["tmdbId"] = _whole(pa.array(links["tmdbId"], pa.string())).fill_null(-1).to_numpy()
    links["tmdbId"] = links["tmdbId"].where(known, 0)
    tmdb_id = Column(checks=_within(0, MAX_MOVIE_ID, "must be a whole number or empty"))
    schema = DataFrameSchema({"movieId": Column(checks=[_MOVIE_ID, _ONE_ROW]), "tmdbId": tmdb_id})
    problems.add_all(path.name, _failures(schema, links))
    return links


def _read_by_movie(path: Path, columns: Sequence[str], problems: _Problems) -> pd.DataFrame:
    """These columns as texts, but for movieId, which is 0 where it is no number. The index is the line."""
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
    except csv.Error as error:
        problems.add(path.name, f"cannot be read: {error}")
    if wrong:
        problems.add(path.name, "wrong number of fields", wrong)
    frame = pd.DataFrame(rows, index=lines, columns=list(columns), dtype="str")
    frame["movieId"] = _whole(pa.array(frame["movieId"], pa.string())).fill_null(0).to_numpy()
    return frame


def _records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and the fields of `columns`; of a line with the wrong number, none."""
    text = _decode(path.read_bytes())
    if path.suffix == ".csv":
        header = _header(path)
        places = [header.index(column) for column in columns]
        reader = csv.reader(io.StringIO(text, newline=""))
        next(reader)
        for fields in reader:
            if fields:
                yield reader.line_num, [fields[p] for p in places] if len(fields) == len(header) else []
        return
    for line, content in enumerate(io.StringIO(text), start=1):
        fields = content.rstrip("\r\n").split("::" if path.suffix == ".dat" else "|")
        if path.suffix == ".item" and len(fields) >= len(_ITEM_GENRES):
            flags = fields[-len(_ITEM_GENRES) :]
            genres = [genre for genre, flag in zip(_ITEM_GENRES, flags, strict=True) if flag == "1"]
            yield line, [*fields[:2], "|".join(genres)]
        elif content.strip():
            yield line, fields


def _movie_table(movies: pd.DataFrame, links: pd.DataFrame) -> MovieTable:
    movies = movies.sort_values("movieId")
    bits = {text: _genre_bits(text) for text in movies["genres"].unique()}
    parsed = [parse_title(title) for title in movies["title"]]
    tmdb_ids = movies["movieId"].map(links.set_index("movieId")["tmdbId"]).fillna(0)
    return MovieTable(
        movies=Movies(
            ids=IdMap(movies["movieId"].to_numpy()),
            years=np.array([year for _, year in parsed], dtype=np.int16),
            genre_bits=np.array([bits[text] for text in movies["genres"]], dtype=np.uint32),
        ),
        titles=tuple(title for title, _ in parsed),
        title_lengths=np.array([len(title) for title in movies["title"]], dtype=np.int32),
        tmdb_ids=tmdb_ids.to_numpy(np.int32),
    )


def _genre_bits(text: str) -> int:
    names = ["Children" if name == "Children's" else name for name in text.split("|")]
    return genre_bits(names) or genre_bits([NO_GENRE])


# Ratings: tens of millions of lines, so a fast way for files as they should be, and a careful one


@dataclass(frozen=True)
class _RatingColumns:
    """Ratings in the order of the file. Arrays of one length."""

    user_ids: Ids
    movie_ids: Ids
    stars: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]

    def where(self, mask: npt.NDArray[np.bool_]) -> "_RatingColumns":
        """The ratings that `mask` keeps."""
        return _RatingColumns(
            user_ids=self.user_ids[mask],
            movie_ids=self.movie_ids[mask],
            stars=self.stars[mask],
            times=self.times[mask],
        )


_TYPES: Final = (pa.int64(), pa.int64(), pa.float32(), pa.int64())
_TEXTS: Final = (pa.string(),) * len(_TYPES)
_MISSING: Final = ["", "NA", "N/A", "NULL", "NaN", "nan", "null"]
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$|^[+-]?inf$"


def _read_ratings(path: Path, layout: Layout, problems: _Problems) -> tuple[_RatingColumns, int]:
    """The ratings that are in range, and how many are not. What is not tolerable goes to `problems`."""
    try:
        table = _read_arrow(path, layout, _TYPES)
        first = 2 if layout.has_header else 1
        lines = np.arange(first, first + table.num_rows)
    except pa.ArrowInvalid:  # does not say where, or what else
        table, lines = _read_arrow_carefully(path, layout, problems)
    frame = _as_frame(table, layout, lines)
    user, movie, value, moment = layout.columns
    if frame.empty:
        problems.add(path.name, "there are no ratings in it")

    ids = DataFrameSchema({user: Column(checks=_USER_ID), movie: Column(checks=_MOVIE_ID)})
    problems.add_all(path.name, _failures(ids, frame))

    ranges = DataFrameSchema({value: Column(nullable=True, checks=_VALUE), moment: Column(checks=_TIME)})
    failures = _failures(ranges, frame)
    bad_lines = sorted(set().union(*failures.values()))
    if len(bad_lines) > MAX_BAD_SHARE * len(frame):
        problems.add_all(path.name, failures)
    elif bad_lines:
        for rule, where in failures.items():
            _logger.warning("ratings dropped", file=path.name, rule=rule, lines=_in_words(where).strip())
        frame = frame[~frame.index.isin(bad_lines)]
    columns = _RatingColumns(
        user_ids=frame[user].to_numpy(),
        movie_ids=frame[movie].to_numpy(),
        stars=frame[value].to_numpy(),
        times=frame[moment].to_numpy(),
    )
    return columns, len(bad_lines)


def _read_arrow(path: Path, layout: Layout, types: Sequence[Any], *, skip: Any = None) -> Any:
    """The four columns as an Arrow table, one row a line; an empty line is a row of nulls.

    Args:
        path: the file.
        layout: what is in it.
        types: of the columns.
        skip: is told of lines with the wrong number of fields; without it they raise `ArrowInvalid`, as
            does what does not fit `types`.
    """
    source: Any = str(path)
    separator = layout.separator
    if len(separator) > 1 or skip is not None:
        separator = "\t" if len(separator) > 1 else separator  # Arrow knows those of one character
        content = path.read_bytes().replace(layout.separator.encode(), separator.encode())
        if skip is not None:  # not to fail for a stray byte
            content = content.decode(errors="replace").encode()
        source = io.BytesIO(content)
    return arrow_csv.read_csv(
        source,
        read_options=arrow_csv.ReadOptions(
            column_names=_header(path) if layout.has_header else layout.columns,
            skip_rows=int(layout.has_header),
            use_threads=skip is None,  # threads do not know the number of a line
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=layout.columns,
            column_types=dict(zip(layout.columns, types, strict=True)),
            null_values=_MISSING,
            strings_can_be_null=True,
        ),
    )


def _read_arrow_carefully(
    path: Path, layout: Layout, problems: _Problems
) -> tuple[Any, npt.NDArray[np.int64]]:
    """The same table and the line of each row; without the lines that cannot be read, which are problems."""
    skipped: list[int] = []

    def skip(row: Any) -> str:
        skipped.append(row.number)
        return "skip"

    try:
        texts = _read_arrow(path, layout, _TEXTS, skip=skip)
    except pa.ArrowInvalid as error:
        if path.read_bytes().count(b"\n") > 1:  # else there is nothing below the header
            problems.add(path.name, f"cannot be read: {error}")
        texts = pa.table([pa.array([], pa.string())] * len(_TYPES), names=layout.columns)
    if skipped:
        n_fields = len(_header(path)) if layout.has_header else len(layout.columns)
        problems.add(path.name, f"must have {n_fields} fields", skipped)
    first = 2 if layout.has_header else 1
    lines = np.arange(first, first + texts.num_rows + len(skipped))
    lines = np.delete(lines, np.array(skipped, dtype=np.int64) - first)

    user, movie, value, moment = layout.columns
    values, times = _present(texts[value]), _present(texts[moment])
    table = pa.table(
        {
            user: _whole(texts[user]),
            movie: _whole(texts[movie]),
            value: _decimal(values),
            moment: _whole(compute.replace_substring_regex(times, r"\.\d*$", "")),
        }
    )
    readable = np.ones(lines.size, dtype=np.bool_)
    for column, present, rule in ((value, values, "a number"), (moment, times, "whole seconds")):
        wrong = compute.and_(present.is_valid(), table[column].is_null()).to_numpy()
        if wrong.any():
            problems.add(path.name, f"{column} must be {rule}", lines[wrong].tolist())
        readable &= ~wrong
    return table.filter(readable), lines[readable]


def _present(texts: Any) -> Any:
    """The Arrow texts without blanks around them; null where nothing is left."""
    texts = compute.utf8_trim_whitespace(texts)
    return compute.if_else(compute.is_in(texts, pa.array(_MISSING)), None, texts)


def _whole(texts: Any) -> Any:
    """Texts as an Arrow array of int64; null where one is no whole number or too large."""
    digits = compute.utf8_ltrim(compute.utf8_trim_whitespace(texts), "+")
    digits = compute.replace_substring_regex(digits, r"\.0*$", "")  # a column with gaps, saved by pandas
    fits = compute.or_(
        compute.match_substring_regex(digits, r"^-?\d{1,18}$"),
        compute.and_(
            compute.match_substring_regex(digits, r"^\d{19}$"), compute.less_equal(digits, _MAX_INT64)
        ),
    )
    return compute.cast(compute.if_else(fits, digits, None), pa.int64())


def _decimal(texts: Any) -> Any:
    """Arrow texts as float32; null where one is no number."""
    digits = compute.utf8_ltrim(texts, "+")
    fits = compute.match_substring_regex(digits, _NUMBER)
    return compute.cast(compute.if_else(fits, digits, None), pa.float32())


def _as_frame(table: Any, layout: Layout, lines: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Without empty lines; a missing id is 0, a missing value NaN, a missing time -1. Indexed by line."""
    fills = dict(zip(layout.columns, (0, 0, np.nan, -1), strict=True))
    missing = [table[name].is_null().to_numpy() for name in layout.columns if table[name].null_count]
    columns = {name: table[name].fill_null(fill).to_numpy() for name, fill in fills.items()}
    frame = pd.DataFrame(columns, index=lines, copy=False)
    return frame[~np.logical_and.reduce(missing)] if len(missing) == len(fills) else frame


# Cleaning


def _clean(columns: _RatingColumns, out_of_range: int, movie_ids: IdMap, *, now: int) -> CleanRatings:
    """Drops ratings of unknown movies and repeated ones, and puts the rest into canonical order."""
    n_read = columns.stars.size + out_of_range
    movie_rows = movie_ids.rows(columns.movie_ids)
    known = movie_rows >= 0
    n_unknown = int(known.size - np.count_nonzero(known))
    if n_unknown:
        columns, movie_rows = columns.where(known), movie_rows[known]
    users = IdMap(np.sort(pd.unique(columns.user_ids)))
    user_rows = users.rows(columns.user_ids)

    kept = _last_of_repeated(user_rows.astype(np.int64) * len(movie_ids) + movie_rows, columns)
    n_repeated = int(kept.size - np.count_nonzero(kept))
    if n_repeated:
        columns, movie_rows, user_rows = columns.where(kept), movie_rows[kept], user_rows[kept]

    order = np.lexsort((_hashes(columns.user_ids, columns.movie_ids), columns.times, user_rows))
    movie_rows, values, times = movie_rows[order], columns.stars[order], columns.times[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(users)))]).astype(np.int64)
    ratings = Ratings(users=users, indptr=indptr, movie_rows=movie_rows, values=values, times=times)
    return CleanRatings(
        ratings=ratings,
        counts=CleaningCounts(
            read=n_read,
            repeated=n_repeated,
            out_of_range=out_of_range,
            unknown_movies=n_unknown,
            future_times=int(np.count_nonzero(times > now + _SECONDS_PER_DAY)),
            kept=values.size,
        ),
        digest=ratings_digest(ratings, movie_ids),
    )


def _last_of_repeated(pairs: npt.NDArray[np.int64], columns: _RatingColumns) -> npt.NDArray[np.bool_]:
    """Shape (n_ratings,): False where the same pair was rated later; of one time, the highest counts."""
    kept = np.ones(pairs.size, dtype=np.bool_)
    ascending = np.sort(pairs)  # cheap, and usually the end of it
    repeated = ascending[1:][ascending[1:] == ascending[:-1]]
    if repeated.size:
        places = np.flatnonzero(np.isin(pairs, repeated))
        places = places[np.lexsort((columns.stars[places], columns.times[places], pairs[places]))]
        kept[places[:-1][pairs[places[:-1]] == pairs[places[1:]]]] = False
    return kept


def _hashes(user_ids: Ids, movie_ids: Ids) -> npt.NDArray[np.uint64]:
    """Never equal for two movies of one user. Not Python's hash, which differs from run to run."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    return _mixed(_mixed(user_ids.astype(np.uint64) + golden) + movie_ids.astype(np.uint64))


def _mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): one to one, and each bit moves half of all."""
    keys = (keys ^ keys >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ keys >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return keys ^ keys >> np.uint64(31)


def ratings_digest(ratings: Ratings, movie_ids: IdMap) -> str:
    """sha256 in hex. Movies count by id, so that an unrated movie more in the catalogue changes nothing."""
    hasher = hashlib.sha256()
    for array in (
        ratings.users.ids,
        ratings.indptr,
        movie_ids.ids[ratings.movie_rows],
        ratings.values,  # noqa: PD011  # not a frame
        ratings.times,
    ):
        hasher.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return hasher.hexdigest()
