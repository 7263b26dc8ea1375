"""What is rated by the same users."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.features.links import Links, blocks, strongest

_SHRINKAGE: Final = 20.0


def build(ratings: Ratings, table: MovieTable) -> dict[str, npt.NDArray[Any]]:
    """How often two movies are rated by the same users, as a shrunk cosine: `c_ij / (sqrt(n_i n_j) + 20)`."""
    n_movies = len(table.movies.ids)
    rated = csr_array(
        (np.ones(len(ratings), dtype=np.float32), ratings.movie_rows, ratings.indptr),
        shape=(len(ratings.users), n_movies),
    )
    by_movie = rated.T.tocsr()
    roots = np.sqrt(np.bincount(ratings.movie_rows, minlength=n_movies))

    def links() -> Iterator[Links]:
        for block in blocks(n_movies):
            counts = by_movie[block.start : block.stop] @ rated
            for place, row in enumerate(block):
                one = slice(counts.indptr[place], counts.indptr[place + 1])
                others = counts.indices[one] != row
                targets = counts.indices[one][others].astype(np.int32)
                yield targets, counts.data[one][others] / (roots[row] * roots[targets] + _SHRINKAGE)

    return strongest(links())
