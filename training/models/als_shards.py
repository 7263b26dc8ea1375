"""Implicit ALS on shards of users and of movies: the same steps on every engine.

Each half of an iteration solves rows against all factors of the other side, row by row, by implicit's own
solver: a few steps of conjugate gradients. So factors have the bits of implicit's own fit, however the rows
are split. The users' vectors that are served are exact (`serving.fold_in`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from typing_extensions import override

from serving.fold_in import AlsParameters, FoldIn
from serving.ids import Rows
from serving.ratings import History, Ratings
from training.engine.engine import Arrays, Engine, GatheredParts, Shards, Work
from training.errors import TrainingError

_RATINGS_PER_SHARD: Final = 2**20
"""A shard has about as many, and one row at least. Each squares the factors of the other side again."""
_START: Final = 0.01
"""Random factors are from 0 to this, as implicit has it."""


class FitError(TrainingError):
    """Parameters with which a model cannot be fitted. The message is for people."""


def overflow(parameters: AlsParameters) -> str:
    """What a person is told when there is no finite solution."""
    return (
        f"ALS has no finite solution with alpha = {parameters.alpha:g}, regularization = "
        f"{parameters.regularization:g} and {parameters.factors} factors: take values nearer to the defaults"
    )


def histories(ratings: Ratings, user_rows: Rows, users_per_shard: int) -> Sequence[Arrays]:
    """Histories of some users at a time: `indptr`, `movie_rows`, `values` and `times`, as in `Ratings`."""

    def of_shard(place: int) -> Arrays:
        start = place * users_per_shard
        rows = user_rows[start : start + users_per_shard].tolist()
        found = [ratings.of(row) for row in rows]
        return {
            "indptr": np.cumsum([0, *map(len, found)]),
            "movie_rows": np.concatenate([one.movie_rows for one in found]),
            "values": np.concatenate([one.values for one in found]),
            "times": np.concatenate([one.times for one in found]),
        }

    return GatheredParts(math.ceil(user_rows.size / users_per_shard), of_shard)


@dataclass(frozen=True, eq=False)
class UserVectors(Work):
    """Solves for the vectors of a shard's users, shape (n_users, n_factors); zeros where there is none."""

    item_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors)."""
    parameters: AlsParameters

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        fold_in = FoldIn(self.item_factors, self.parameters)

        def solve(shard: Arrays) -> Arrays:
            ends = shard["indptr"]
            vectors = np.zeros((ends.size - 1, self.parameters.factors), np.float32)
            try:
                for place in range(ends.size - 1):
                    one = slice(ends[place], ends[place + 1])
                    history = History(shard["movie_rows"][one], shard["values"][one], shard["times"][one])
                    vector = fold_in.user_vector(history)
                    if vector is not None:
                        vectors[place] = vector
            except np.linalg.LinAlgError as error:
                raise FitError(overflow(self.parameters)) from error
            if not np.isfinite(vectors).all():
                raise FitError(overflow(self.parameters))
            return {"vectors": vectors}

        return solve


@dataclass(frozen=True, eq=False)
class _HalfStep(Work):
    """Solves a shard's rows against the factors of the other side, from where they are."""

    solved: npt.NDArray[np.float32]
    """Shape (n_rows, n_factors); of all rows, before the step."""
    fixed: npt.NDArray[np.float32]
    """Shape (n_other_rows, n_factors)."""
    parameters: AlsParameters

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        solver = AlternatingLeastSquares(factors=self.parameters.factors).solver

        def solve(shard: Arrays) -> Arrays:
            n_rows = shard["indptr"].size - 1
            start = int(shard["first_row"])
            matrix = csr_matrix(
                (shard["confidences"], shard["others"], shard["indptr"]), shape=(n_rows, len(self.fixed))
            )
            factors = self.solved[start : start + n_rows].copy()
            solver(matrix, factors, self.fixed, self.parameters.regularization, num_threads=1)
            return {"factors": factors}

        return solve


def fit_item_factors(
    ratings: Ratings,
    n_movies: int,
    parameters: AlsParameters,
    *,
    seed: int,
    engine: Engine,
    progress: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """Item factors, shape (n_movies, n_factors); a zero row for a movie without ratings.

    The same bits on every engine. `progress` is called after each iteration.

    Raises:
        FitError: there is no finite solution.
    """
    by_user = csr_matrix(
        (parameters.confidences(ratings.values), ratings.movie_rows, ratings.indptr),
        shape=(len(ratings.users), n_movies),
    )
    by_movie = by_user.T.tocsr()
    rng = np.random.default_rng(seed)
    users, movies = (
        rng.random((n_rows, parameters.factors), dtype=np.float32) * _START for n_rows in by_user.shape
    )
    with ExitStack() as stack:
        user_shards, movie_shards = (
            stack.enter_context(engine.shards(list(_shards(matrix, engine.cores, parameters.factors))).kept())
            for matrix in (by_user, by_movie)
        )
        for _ in range(parameters.iterations):
            users = _solved(user_shards, _HalfStep(users, movies, parameters))
            movies = _solved(movie_shards, _HalfStep(movies, users, parameters))
            progress()
    return movies


def _shards(matrix: csr_matrix, cores: int, factors: int) -> Iterator[Arrays]:
    """Consecutive rows with about as much work each, enough shards for all cores.

    A step for a row reads the square of the other side's factors once, and two rows of them for each rating.
    """
    n_shards = max(cores, math.ceil(matrix.nnz / _RATINGS_PER_SHARD))
    counts = np.diff(matrix.indptr)
    work = np.concatenate([[0.0], np.cumsum(counts + np.where(counts, factors / 2, 0))])
    even = np.linspace(0, work[-1], n_shards + 1)[1:-1]
    bounds = [0, *np.searchsorted(work, even).tolist(), matrix.shape[0]]
    for start, end in pairwise(bounds):
        if start < end:
            indptr = matrix.indptr[start : end + 1]
            of_rows = slice(indptr[0], indptr[-1])
            yield {
                "first_row": np.array(start),
                "indptr": indptr - indptr[0],
                "others": matrix.indices[of_rows],
                "confidences": matrix.data[of_rows],
            }


def _solved(shards: Shards, step: _HalfStep) -> npt.NDArray[np.float32]:
    factors = np.concatenate([solved["factors"] for solved in shards.map(step).collect()])
    if not np.isfinite(factors).all():
        raise FitError(overflow(step.parameters))
    return factors
