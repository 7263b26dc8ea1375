"""Implicit ALS (Hu, Koren, Volinsky 2008): stage one."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.fold_in import AlsParameters
from serving.ids import IdMap, Rows
from serving.ratings import Ratings
from serving.retrieval import Candidates, retrieve
from training.checkpoints import NO_CHECKPOINTS, Arrays, Checkpoints
from training.data.movielens.cleaning import ratings_digest
from training.engine.engine import Engine
from training.models.als_shards import UserVectors, fit_item_factors, histories

_USERS_PER_PRODUCT: Final = 256
_USERS_PER_SHARD: Final = 500


@dataclass(frozen=True)
class Als:
    """Fitted factors: the items' as implicit fits them, the users' solved exactly against them."""

    parameters: AlsParameters
    item_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors); a zero row for a movie without ratings."""
    user_factors: npt.NDArray[np.float32]
    """Shape (n_users, n_factors); a zero row for a user whom `FoldIn` has no vector for, and a row of NaN
    for one whose vector nobody asked for."""

    @classmethod
    def fit(
        cls,
        ratings: Ratings,
        n_movies: int,
        parameters: AlsParameters,
        *,
        seed: int,
        engine: Engine,
        progress: Callable[[], None] = lambda: None,
        users: Rows | None = None,
        checkpoints: Checkpoints = NO_CHECKPOINTS,
    ) -> "Als":
        """Fits on all ratings given.

        A job meets some histories twice: the one that it measures on is an inner cut of the one that it
        serves, and λ is chosen on that of the sources. The factors are then found in `checkpoints`, which are
        all of one catalogue. `progress` is called after each iteration. `users` are the rows of those whose
        vectors are wanted, or None for all. The result does not depend on the engine.

        Raises:
            FitError: there is no finite solution.
        """

        def factors() -> Arrays:
            found = fit_item_factors(
                ratings, n_movies, parameters, seed=seed, engine=engine, progress=progress
            )
            return {"item_factors": found}

        digest = ratings_digest(ratings, IdMap(range(1, n_movies + 1)))  # rows name movies as well
        key = hashlib.sha256(f"{digest} {n_movies} {parameters} {seed}".encode()).hexdigest()[:16]
        item_factors = checkpoints.whole().step(f"factors-{key}", factors)["item_factors"]
        return cls.of_items(item_factors, ratings, parameters, engine=engine, users=users)

    @classmethod
    def of_items(
        cls,
        item_factors: npt.NDArray[np.float32],
        ratings: Ratings,
        parameters: AlsParameters,
        *,
        engine: Engine,
        users: Rows | None = None,
    ) -> "Als":
        """Solves for the users' vectors, exactly.

        implicit ends on an item step and solves approximately, so that its user vectors are not those
        that folding a history in would give. Each takes half a millisecond: where users are many, those
        who are not asked for are left out.

        Raises:
            FitError: there is no finite solution.
        """
        rows = np.arange(len(ratings.users), dtype=np.int32) if users is None else users
        user_factors = np.full((len(ratings.users), parameters.factors), np.nan, dtype=np.float32)
        shards = engine.shards(histories(ratings, rows, _USERS_PER_SHARD))
        start = 0
        for solved in shards.map(UserVectors(item_factors, parameters)).collect():
            vectors = solved["vectors"]
            user_factors[rows[start : start + len(vectors)]] = vectors
            start += len(vectors)
        return cls(parameters=parameters, item_factors=item_factors, user_factors=user_factors)

    @cached_property
    def cold(self) -> npt.NDArray[np.bool_]:
        """Shape (n_movies,): the movies without factors."""
        cold: npt.NDArray[np.bool_] = ~np.any(self.item_factors, axis=1)
        return cold

    def candidates(self, user_rows: Rows, seen: Ratings, limit: int) -> Iterator[Candidates]:
        """The best unseen movies of each user, in order; none for a user without a vector.

        Raises:
            ValueError: the vector of one of the users was not asked for in the fit.
        """
        for start in range(0, len(user_rows), _USERS_PER_PRODUCT):
            rows = user_rows[start : start + _USERS_PER_PRODUCT]
            vectors = self.user_factors[rows]
            if np.isnan(vectors).any():
                raise ValueError("candidates are asked for users whose vectors were not solved for")
            blocked = np.tile(self.cold, (len(rows), 1))
            blocked[~vectors.any(axis=1)] = True
            for mask, user_row in zip(blocked, rows, strict=True):
                mask[seen.of(int(user_row)).movie_rows] = True
            yield from retrieve(self.item_factors, vectors, list(blocked), [limit] * len(rows))
