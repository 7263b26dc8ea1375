"""What is rated after what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from typing_extensions import override

from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.engine.engine import Arrays, Engine, GatheredParts, Work

_WINDOW: Final = 20
_SHRINKAGE: Final = 10.0
_LINKS_PER_MOVIE: Final = 200
_RATINGS_PER_BLOCK: Final = 100_000
"""Whose pairs are counted at once: those of all ratings do not fit into memory."""


def build(ratings: Ratings, table: MovieTable, engine: Engine) -> dict[str, npt.NDArray[Any]]:
    """How often movie j is rated within 20 places after movie i: the strongest links of each movie.

    A pair weighs 1 / sqrt(distance); the sum is divided by `sqrt((n_i + 10)(n_j + 10))`, so that popular
    movies do not follow everything. Links of equal weight are kept in ascending movie row.
    """
    counts = np.bincount(ratings.movie_rows, minlength=len(table.movies.ids))
    links = _LinksOfBlock(1.0 / np.sqrt(counts + _SHRINKAGE))
    found = list(engine.shards(_blocks(ratings, counts)).map(links).collect())
    joined = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return {"indptr": np.concatenate([[0], np.cumsum(joined.pop("n_links"))]), **joined}


def _blocks(ratings: Ratings, counts: npt.NDArray[np.int64]) -> Sequence[Arrays]:
    """The ratings of some movies at a time, and what their users rated next.

    Each has `first_movie`, a row; `n_ratings` of each; and `followers`, shape (20, n_ratings):
    the movie rows that were rated next, -1 after a user's last.
    """
    users, by_movie = ratings.user_rows(), np.argsort(ratings.movie_rows, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])
    inner = np.searchsorted(ends, np.arange(_RATINGS_PER_BLOCK, ends[-1], _RATINGS_PER_BLOCK))
    borders = np.unique([0, *inner, counts.size])

    def block(place: int) -> Arrays:
        start, stop = borders[place : place + 2]
        places = by_movie[ends[start] : ends[stop]]
        followers = np.full((_WINDOW, places.size), -1, np.int32)
        within = np.arange(places.size)  # those with a follower at this gap: others have none at wider ones
        for gap in range(1, _WINDOW + 1):
            within = within[places[within] < len(ratings) - gap]
            within = within[users[places[within]] == users[places[within] + gap]]
            followers[gap - 1, within] = ratings.movie_rows[places[within] + gap]
        return {"first_movie": np.array(start), "n_ratings": counts[start:stop], "followers": followers}

    return GatheredParts(borders.size - 1, block)


@dataclass(frozen=True, eq=False)
class _LinksOfBlock(Work):
    """Sums and keeps the strongest: `movie_rows` and `weights`, and `n_links` of each movie."""

    scale: npt.NDArray[np.float64]
    """Shape (n_movies,)."""

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        return self._links

    def _links(self, block: Arrays) -> Arrays:
        start, n_movies = int(block["first_movie"]), block["n_ratings"].size
        of_rating = np.repeat(np.arange(n_movies, dtype=np.int32), block["n_ratings"])
        rows, targets, weights = [], [], []
        for gap, followers in enumerate(block["followers"], start=1):
            there = followers >= 0
            rows.append(of_rating[there])
            targets.append(followers[there])
            weights.append(np.full(rows[-1].size, gap**-0.5))
        sums = csr_array(
            (np.concatenate(weights), (np.concatenate(rows), np.concatenate(targets))),
            shape=(n_movies, self.scale.size),
        )
        row_of = np.repeat(np.arange(n_movies), np.diff(sums.indptr))
        of_pair = sums.data * self.scale[start + row_of] * self.scale[sums.indices]
        strongest_first = np.lexsort((-of_pair, row_of))  # stable: ties stay in ascending movie row
        is_kept = np.arange(row_of.size) - sums.indptr[row_of] < _LINKS_PER_MOVIE
        kept = strongest_first[is_kept]
        return {
            "n_links": np.bincount(row_of[is_kept], minlength=n_movies),
            "movie_rows": sums.indices[kept].astype(np.int32),
            "weights": of_pair[kept].astype(np.float32),
        }
