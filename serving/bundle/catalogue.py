"""`movies.npz` and the gateway's `catalogue.json` and `popularity.npz`: writers beside readers."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.store import BundleFolder, write_arrays
from serving.ids import IdMap, Rows
from serving.movies import Movies

MOVIES_FILE: Final = "movies.npz"
_CATALOGUE_FILE: Final = "catalogue.json"
POPULARITY_FILE: Final = "popularity.npz"
_ARRAYS: Final = ("tmdb_ids", "rating_counts", "rating_means", "popularity")


def write_movies(folder: Path, movies: Movies) -> None:
    """Writes the movie arrays that every process's rows refer to."""
    write_arrays(
        folder / MOVIES_FILE,
        movie_ids=movies.ids.ids,
        years=movies.years,
        genre_bits=movies.genre_bits,
        genres=np.array(movies.genres),
    )


def read_movies(folder: BundleFolder) -> Movies:
    """Reads what `write_movies` wrote."""
    arrays = folder.arrays(MOVIES_FILE, "movie_ids", "years", "genre_bits", "genres")
    return Movies(
        ids=IdMap(arrays["movie_ids"]),
        years=arrays["years"],
        genre_bits=arrays["genre_bits"],
        genres=tuple(arrays["genres"].tolist()),
    )


@dataclass(frozen=True)
class CatalogueContent:
    """What the gateway says of a movie. Sequences and arrays in movie rows."""

    titles: tuple[str, ...]
    """Display titles, without the year."""
    tmdb_ids: npt.NDArray[np.int32]
    """Shape (n_movies,): The Movie Database's identifiers; 0 when unknown."""
    rating_counts: npt.NDArray[np.int32]
    """Shape (n_movies,)."""
    rating_means: npt.NDArray[np.float64]
    """Shape (n_movies,); NaN for a movie never rated."""
    popularity: npt.NDArray[np.float64]
    """Shape (n_movies,): higher is more popular; 0 for a movie never rated."""

    @cached_property
    def popularity_order(self) -> Rows:
        """Shape (n_movies,): all rows, the most popular first; ties in ascending movie_id."""
        return np.argsort(-self.popularity, kind="stable").astype(np.int32)

    def write(self, folder: Path) -> None:
        """Writes the gateway's files of the catalogue."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"titles": self.titles}, ensure_ascii=False)
        (folder / _CATALOGUE_FILE).write_text(text, encoding="utf-8")
        write_arrays(folder / POPULARITY_FILE, **{name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def read(cls, folder: BundleFolder) -> "CatalogueContent":
        """Reads what `write` wrote."""
        titles = json.loads(folder.read(_CATALOGUE_FILE))["titles"]
        return cls(titles=tuple(titles), **folder.arrays(POPULARITY_FILE, *_ARRAYS))


def read_popularity(folder: BundleFolder) -> npt.NDArray[np.float64]:
    """Reads of `CatalogueContent.write` how popular each movie is, shape (n_movies,)."""
    return folder.arrays(POPULARITY_FILE, "popularity")["popularity"]
