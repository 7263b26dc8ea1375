"""Links between movies that the ranker's sequence features add up: transitions and co-occurrence."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array

from serving.features import MovieLinks
from serving.ratings import Ratings

_WINDOW = 20
_TRANSITION_SHRINKAGE = 10.0
_COSINE_SHRINKAGE = 20.0
_LINKS_PER_MOVIE = 200
_BLOCK_ROWS = 2_048


def transitions(ratings: Ratings, n_movies: int) -> MovieLinks:
    """How often movie j is rated within 20 places after movie i.

    A pair weighs 1 / sqrt(distance); the sum is divided by `sqrt((n_i + 10)(n_j + 10))`, so that popular
    movies do not follow everything.
    """
    users = ratings.user_rows()
    matrix = csr_array((n_movies, n_movies), dtype=np.float32)
    for gap in range(1, _WINDOW + 1):
        same_user = users[:-gap] == users[gap:]
        sources, targets = ratings.movie_rows[:-gap][same_user], ratings.movie_rows[gap:][same_user]
        weights = np.full(sources.size, gap**-0.5, dtype=np.float32)
        matrix = matrix + coo_array((weights, (sources, targets)), shape=matrix.shape).tocsr()
    scale = 1.0 / np.sqrt(np.bincount(ratings.movie_rows, minlength=n_movies) + _TRANSITION_SHRINKAGE)
    matrix = matrix.multiply(scale[:, None]).multiply(scale[None, :]).tocsr()
    return _strongest(iter([matrix]))


def cooccurrence(ratings: Ratings, n_movies: int) -> MovieLinks:
    """How often two movies are rated by the same users, as a shrunk cosine.

    `c_ij / (sqrt(n_i n_j) + 20)`; computed in blocks of rows, as the whole matrix of a large catalogue
    does not fit into memory.
    """
    rated = csr_array(
        (np.ones(len(ratings), dtype=np.float32), ratings.movie_rows, ratings.indptr),
        shape=(len(ratings.users), n_movies),
    )
    by_movie = rated.T.tocsr()
    roots = np.sqrt(np.bincount(ratings.movie_rows, minlength=n_movies))

    def blocks() -> Iterator[csr_array]:
        for start in range(0, n_movies, _BLOCK_ROWS):
            block = (by_movie[start : start + _BLOCK_ROWS] @ rated).tocoo()
            rows, columns = block.coords
            cosine = block.data / (roots[start + rows] * roots[columns] + _COSINE_SHRINKAGE)
            cosine[start + rows == columns] = 0.0
            yield csr_array((cosine, (rows, columns)), shape=block.shape)

    return _strongest(blocks())


def _strongest(blocks: Iterator[csr_array]) -> MovieLinks:
    """Keeps the strongest links of each row, ties to the lower movie row; rows in ascending order."""
    indptr, targets, weights = [0], [], []
    for block in blocks:
        block.eliminate_zeros()
        for row in range(block.shape[0]):
            one = slice(block.indptr[row], block.indptr[row + 1])
            order = np.lexsort((block.indices[one], -block.data[one]))[:_LINKS_PER_MOVIE]
            targets.append(block.indices[one][order].astype(np.int32))
            weights.append(block.data[one][order].astype(np.float32))
            indptr.append(indptr[-1] + order.size)
    return MovieLinks(
        indptr=np.array(indptr, dtype=np.int64),
        movie_rows=np.concatenate(targets) if targets else np.empty(0, np.int32),
        weights=np.concatenate(weights) if weights else np.empty(0, np.float32),
    )
