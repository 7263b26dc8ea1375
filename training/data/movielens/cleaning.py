"""Ratings without those of unknown movies and repeated ones, in canonical order."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from serving.ids import IdMap, Ids
from serving.ratings import Ratings
from serving.shards import hashed, mixed
from training.data.movielens.ratings import RatingColumns

_SECONDS_PER_DAY: Final = 86_400


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

    @property
    def dropped(self) -> str:
        """How many were, in words."""
        parts = (
            (self.repeated, "rated again later"),
            (self.out_of_range, "out of range"),
            (self.unknown_movies, "of movies that the movies file lacks"),
        )
        return ", ".join(f"{count:,} {why}" for count, why in parts if count)


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


def clean(columns: RatingColumns, out_of_range: int, movie_ids: IdMap, *, now: int) -> CleanRatings:
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


def _last_of_repeated(pairs: npt.NDArray[np.int64], columns: RatingColumns) -> npt.NDArray[np.bool_]:
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
    hashes: npt.NDArray[np.uint64] = mixed(hashed(user_ids.astype(np.uint64)) + movie_ids.astype(np.uint64))
    return hashes


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
