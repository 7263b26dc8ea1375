"""Implicit ALS on shards of users: for engines whose machines do not hold all ratings.

Each shard solves its users exactly against the item factors (`serving.fold_in`), and says what they add to
the normal equations of each movie. The sums of these are solved for the item factors. Where implicit does a
few steps of conjugate gradients, both halves are exact: factors differ.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, overload

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from typing_extensions import override

from serving.fold_in import AlsParameters, FoldIn
from serving.ids import Rows
from serving.ratings import History, Ratings
from training.engine.engine import MOVIE_ROWS, Arrays, Engine, Work
from training.errors import TrainingError

_USERS_PER_SHARD: Final = 2_000
_BYTES_PER_BLOCK: Final = 64 * 2**20
"""Of the normal equations that are summed and solved together."""
_START_DEVIATION: Final = 0.01
"""Of random factors, as implicit has it."""


class FitError(TrainingError):
    """Parameters with which a model cannot be fitted. The message is for people."""


def overflow(parameters: AlsParameters) -> str:
    """What a person is told when there is no finite solution."""
    return (
        f"ALS has no finite solution with alpha = {parameters.alpha:g}, regularization = "
        f"{parameters.regularization:g} and {parameters.factors} factors: take values nearer to the defaults"
    )


@dataclass(frozen=True)
class UserShards(Sequence[Arrays]):
    """Histories of users, some users at a time, gathered when they are asked for.

    Each has `indptr`, `movie_rows`, `values` and `times`, as `Ratings` has them.
    """

    ratings: Ratings
    user_rows: Rows
    users_per_shard: int

    @override
    def __len__(self) -> int:
        return math.ceil(self.user_rows.size / self.users_per_shard)

    @overload
    def __getitem__(self, place: int) -> Arrays: ...
    @overload
    def __getitem__(self, place: slice) -> list[Arrays]: ...
    @override
    def __getitem__(self, place: int | slice) -> Arrays | list[Arrays]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start = place * self.users_per_shard
        rows = self.user_rows[start : start + self.users_per_shard].tolist()
        histories = [self.ratings.of(row) for row in rows]
        return {
            "indptr": np.cumsum([0, *map(len, histories)]),
            MOVIE_ROWS: np.concatenate([one.movie_rows for one in histories]),
            "values": np.concatenate([one.values for one in histories]),  # not a frame
            "times": np.concatenate([one.times for one in histories]),
        }


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
                    history = History(shard[MOVIE_ROWS][one], shard["values"][one], shard["times"][one])
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
class _SolvedUsers(Work):
    """A shard with the vectors of its users."""

    vectors: UserVectors

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        solve = self.vectors.open()
        return lambda shard: {**shard, **solve(shard)}


@dataclass(frozen=True)
class _Gram(Work):
    """What a shard's users add to the part of the equations that movies share."""

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        def gram(shard: Arrays) -> Arrays:
            wide = shard["vectors"].astype(np.float64)
            return {"gram": wide.T @ wide}

        return gram


@dataclass(frozen=True)
class _Equations(Work):
    """What a shard's users add to the equations of each movie: Σ (c - 1) x xᵀ, its lower half, and Σ c x."""

    parameters: AlsParameters

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        def equations(shard: Arrays) -> Arrays:
            vectors, n_factors = shard["vectors"], self.parameters.factors
            users = np.repeat(np.arange(len(vectors)), np.diff(shard["indptr"]))
            by_movie = np.argsort(shard[MOVIE_ROWS], kind="stable")
            rows, starts = np.unique(shard[MOVIE_ROWS][by_movie], return_index=True)
            confidences = self.parameters.confidences(shard["values"])[by_movie]
            lower = np.tril_indices(n_factors)
            systems = np.empty((rows.size, lower[0].size), np.float32)
            sides = np.empty((rows.size, n_factors), np.float32)
            for place, (start, end) in enumerate(zip(starts, [*starts[1:], by_movie.size], strict=True)):
                of_users = vectors[users[by_movie[start:end]]]
                weights = confidences[start:end]
                systems[place] = ((of_users * (weights - 1)[:, None]).T @ of_users)[lower]
                sides[place] = weights @ of_users
            return {MOVIE_ROWS: rows, "systems": systems, "sides": sides}

        return equations


@dataclass(frozen=True, eq=False)
class _ItemFactors(Work):
    """Solves the summed equations of movies."""

    gram: npt.NDArray[np.float64]
    """Shape (n_factors, n_factors), with λ on its diagonal."""
    parameters: AlsParameters

    @override
    def open(self) -> Callable[[Arrays], Arrays]:
        def solve(block: Arrays) -> Arrays:
            factors = np.empty(block["sides"].shape, np.float32)
            lower = np.tril_indices(self.parameters.factors)
            try:
                for place, (system, side) in enumerate(zip(block["systems"], block["sides"], strict=True)):
                    whole = self.gram.copy()
                    whole[lower] += system
                    factors[place] = cho_solve(cho_factor(whole, lower=True), side)
            except (LinAlgError, ValueError) as error:  # not positive definite, or not finite
                raise FitError(overflow(self.parameters)) from error
            return {MOVIE_ROWS: block[MOVIE_ROWS], "factors": factors}

        return solve


def fit_on_shards(
    engine: Engine,
    ratings: Ratings,
    n_movies: int,
    parameters: AlsParameters,
    *,
    seed: int,
    progress: Callable[[], None],
) -> npt.NDArray[np.float32]:
    """Item factors, shape (n_movies, n_factors); a zero row for a movie without ratings.

    The same bits on every engine.

    Raises:
        FitError: there is no finite solution.
    """
    shape = (n_movies, parameters.factors)
    rated = np.unique(ratings.movie_rows)
    factors = np.zeros(shape, np.float32)
    factors[rated] = np.random.default_rng(seed).normal(0, _START_DEVIATION, (rated.size, parameters.factors))
    n_blocks = math.ceil(4 * n_movies * parameters.factors**2 / _BYTES_PER_BLOCK)
    everybody = np.arange(len(ratings.users), dtype=np.int32)
    with engine.shards(UserShards(ratings, everybody, _USERS_PER_SHARD)).kept() as shards:
        for _ in range(parameters.iterations):
            with shards.map(_SolvedUsers(UserVectors(factors, parameters))).kept() as solved:
                gram = parameters.regularization * np.eye(parameters.factors)
                for part in solved.map(_Gram()).collect():
                    gram += part["gram"]
                summed = solved.map(_Equations(parameters)).sum_by_movie(n_blocks)
                factors = np.zeros(shape, np.float32)
                for block in summed.map(_ItemFactors(gram, parameters)).collect():
                    factors[block[MOVIE_ROWS]] = block["factors"]
            progress()
    return factors
