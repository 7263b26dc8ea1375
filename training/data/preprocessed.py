"""A data set's cleaned ratings and catalogue as parquet: written once, read as long as nothing changes."""

import glob
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog

from serving import movies as catalogue
from serving.ids import IdMap
from serving.movies import Movies
from serving.ratings import Ratings
from training.data import movielens
from training.data.datasets import DatasetFolder
from training.data.movielens.cleaning import CleaningCounts, CleanRatings, ratings_digest
from training.data.movielens.data_set import read_data_set
from training.data.movielens.layouts import LINKS, layout_of
from training.data.movielens.movies import MovieTable

_FOLDER: Final = "preprocessed"
_RATINGS: Final = "ratings.parquet"
_MOVIES: Final = "movies.parquet"
_SUMMARY: Final = "summary.json"
_KEY_DIGITS: Final = 16
_ANY_KEY: Final = "[0-9a-f]" * _KEY_DIGITS

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Preprocessed:
    """A data set, ready to be trained on."""

    table: MovieTable
    clean: CleanRatings
    folder: Path
    """Where the parquet files lie."""
    reused: bool
    """Whether they were there already."""


def preprocess(dataset: DatasetFolder, root: Path) -> Preprocessed:
    """Reads the parquet files of this data set below `root`, or cleans it and writes them there.

    They are known by the bytes of the inputs, by their dialect, and by the bytes of the modules that clean
    them. What is read back is the same to the bit; what is not is written again.

    Raises:
        DataError: the data set cannot be used.
    """
    folder = root / _FOLDER / f"{dataset.name}-{_key(dataset)}"
    for torn in folder.parent.glob(f".*-{_ANY_KEY}"):  # of a job that was killed
        shutil.rmtree(torn)
    try:
        table, clean = _read(folder)
    except FileNotFoundError:
        pass
    except (KeyError, OSError, ValueError) as error:
        _logger.warning("preprocessed files are damaged; written again", folder=str(folder), error=str(error))
    else:
        return Preprocessed(table, clean, folder, reused=True)
    table, clean = read_data_set(dataset.folder, dataset.dialect)
    _write(folder, table, clean)
    for older in folder.parent.glob(f"{glob.escape(dataset.name)}-{_ANY_KEY}"):
        if older != folder:
            shutil.rmtree(older)
    return Preprocessed(table, clean, folder, reused=False)


def _key(dataset: DatasetFolder) -> str:
    source = dataset.folder
    layout = layout_of(source)
    hasher = hashlib.sha256(repr(dataset.dialect).encode())
    modules = sorted(Path(str(movielens.__file__)).parent.glob("*.py"))
    for module in (*modules, Path(str(catalogue.__file__))):
        hasher.update(module.read_bytes())
    for path in (source / layout.ratings, source / layout.movies, source / LINKS):
        for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if one.is_file():
                with one.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                hasher.update(f"{one.relative_to(source)}\0{digest}\n".encode())
    return hasher.hexdigest()[:_KEY_DIGITS]


def _write(folder: Path, table: MovieTable, clean: CleanRatings) -> None:
    """Writes aside, and renames when all is whole."""
    aside = folder.with_name(f".{folder.name}")
    aside.mkdir(parents=True)
    ratings_frame(clean.ratings, table.movies.ids).to_parquet(aside / _RATINGS, index=False)
    movies = pd.DataFrame(
        {
            "movieId": table.movies.ids.ids,
            "title": table.titles,
            "year": table.movies.years,
            "genre_bits": table.movies.genre_bits,
            "title_length": table.title_lengths,
            "tmdbId": table.tmdb_ids,
        }
    )
    movies.to_parquet(aside / _MOVIES, index=False)
    summary = {
        "digest": clean.digest,
        "counts": asdict(clean.counts),
        "genres": table.movies.genres,
    }
    (aside / _SUMMARY).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    for path in aside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)  # it is damaged: else it would have been read
    aside.rename(folder)


def ratings_frame(ratings: Ratings, movie_ids: IdMap) -> pd.DataFrame:
    """Columns userId, movieId, rating, timestamp, in canonical order."""
    return pd.DataFrame(
        {
            "userId": ratings.users.ids[ratings.user_rows()],
            "movieId": movie_ids.ids[ratings.movie_rows],
            "rating": ratings.values,  # noqa: PD011  # not a frame
            "timestamp": ratings.times,
        }
    )


def _read(folder: Path) -> tuple[MovieTable, CleanRatings]:
    summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    movies = pd.read_parquet(folder / _MOVIES)
    table = MovieTable(
        movies=Movies(
            ids=IdMap(movies["movieId"].to_numpy()),
            years=movies["year"].to_numpy(np.int16),
            genre_bits=movies["genre_bits"].to_numpy(np.uint64),
            genres=tuple(summary["genres"]),
        ),
        titles=tuple(movies["title"]),
        title_lengths=movies["title_length"].to_numpy(np.int32),
        tmdb_ids=movies["tmdbId"].to_numpy(np.int32),
    )
    frame = pd.read_parquet(folder / _RATINGS)
    users, counts = np.unique(frame["userId"].to_numpy(), return_counts=True)
    ratings = Ratings(
        users=IdMap(users),
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        movie_rows=table.movies.ids.rows(frame["movieId"].to_numpy()),
        values=frame["rating"].to_numpy(np.float32),
        times=frame["timestamp"].to_numpy(np.int64),
    )
    digest = ratings_digest(ratings, table.movies.ids)
    if digest != summary["digest"]:
        raise ValueError("the ratings are not those that were written")
    return table, CleanRatings(ratings=ratings, counts=CleaningCounts(**summary["counts"]), digest=digest)
