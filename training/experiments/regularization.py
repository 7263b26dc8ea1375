"""λ of ALS and of EASE, chosen on a validation part: the best one differs tenfold between data sets."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from serving.ratings import Ratings
from training.checkpoints import Arrays
from training.evaluation.judging import mean_ndcg
from training.evaluation.splits import ENOUGH_USERS, Split, SplitProtocol, split
from training.models.als import Als
from training.models.job_context import JobContext

GRID_FACTOR: Final = 2.0
"""From one λ of a grid to the next."""
MOST_WIDENINGS: Final = 8
"""Values at the most that are tried beyond the ends of a grid."""
_MOST_JUDGED: Final = 3_000
_JUDGED: Final = 10


def choose_als_regularization(past: Ratings, job: JobContext) -> dict[float, float]:
    """Fits ALS with each λ of a grid around that of the recipe, and judges it on a validation part.

    It is cut off `past`, all but the test part, by the protocol that cut off that one.

    Returns:
        nDCG@10 by λ, ascending.
    """
    recipe, checkpoints = job.recipe, job.checkpoints
    judged, _ = validation_part(past, recipe.protocol)

    def ndcg_of(regularization: float) -> float:
        def judge() -> Arrays:
            als = Als.fit(
                judged.train,
                job.n_movies,
                replace(recipe.als, regularization=regularization),
                seed=recipe.seed,
                engine=job.engine,
                users=judged.users,
                checkpoints=checkpoints,
            )
            found = als.candidates(judged.users, judged.train, _JUDGED)
            return {"ndcg": np.array(mean_ndcg([one.movie_rows for one in found], judged))}

        return float(checkpoints.step(f"als-regularization-{regularization:g}", judge)["ndcg"])

    with job.progress.step("Regularization of ALS, on a validation part"):
        return search_grid(judged, recipe.als.regularization, ndcg_of)


def validation_part(past: Ratings, protocol: SplitProtocol) -> tuple[Split, SplitProtocol]:
    """Cuts a validation part off `past` as the test part was cut off, with 3,000 users at the most.

    Where that judges too few users to choose by, as `time` does on small data sets, each user's last ratings
    are the validation part: a λ that suits the same users and movies otherwise, not one that chance picks.

    Returns:
        The part, and the protocol that it was cut by.
    """
    judged = split(past, protocol)
    if judged.users.size < ENOUGH_USERS:
        judged, protocol = split(past, SplitProtocol.USER), SplitProtocol.USER
    return judged.sample(_MOST_JUDGED), protocol


def search_grid(judged: Split, start: float, ndcg_of: Callable[[float], float]) -> dict[float, float]:
    """Tries `start` and its neighbours on a logarithmic grid, and widens that while its best is at an end.

    Returns:
        nDCG by λ, ascending; 0 for `start` alone where `judged` judges nobody.
    """
    if not judged.users.size:
        return {start: 0.0}
    found = {value: ndcg_of(value) for value in (start / GRID_FACTOR, start, start * GRID_FACTOR)}
    for _ in range(MOST_WIDENINGS):
        best = best_regularization(found)
        if min(found) < best < max(found):
            break
        wider = best / GRID_FACTOR if best == min(found) else best * GRID_FACTOR
        found[wider] = ndcg_of(wider)
    return dict(sorted(found.items()))


def best_regularization(ndcg: Mapping[float, float]) -> float:
    """The λ with the best nDCG; of equals, between which nothing tells, the one in their middle."""
    best = max(ndcg.values())
    equals = sorted(regularization for regularization, value in ndcg.items() if value == best)
    return equals[len(equals) // 2]
