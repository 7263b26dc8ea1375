"""Strong generalisation: how well a person is served whom training has never seen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from serving.fold_in import FoldIn
from serving.ids import NO_ROWS, Rows
from serving.ratings import LIKED, History, Ratings
from training.data.ease import Ease
from training.data.popularity import MovieStatistics, popularity
from training.evaluation.metrics import capped_recall, hits
from training.experiments.regularization import best_regularization
from training.models.als import Als
from training.models.job_context import JobContext
from training.models.lists import best_unseen

CUTOFF: Final = 20
_PARTS: Final = 5
_FEW_USERS: Final = 2_000
_MOST_JUDGED: Final = 10_000
_HISTORY_SHARE: Final = 0.8


@dataclass(frozen=True)
class StrongGeneralisation:
    """Recall@20 over min(20, liked movies), of users held out whole."""

    users: int
    """Held out, and with a like among the ratings that were not sent."""
    recall: Mapping[str, float]
    """By model: popularity, als, and ease where it is fitted."""


def strong_generalisation(
    ratings: Ratings, job: JobContext, ease_ndcg: Mapping[float, float]
) -> StrongGeneralisation:
    """Holds a fifth of the users out whole; where there are few, each fifth once.

    A random 80 % of a held-out user's ratings come as a request's history, and ALS folds them in as the
    candidate service does. What the user liked among the others, of movies rated in training, is
    relevant. EASE takes the best λ of `ease_ndcg`; there is none where that is empty.
    """
    recipe, n_movies = job.recipe, job.n_movies
    rng = np.random.default_rng(recipe.seed)
    part_of = rng.permutation(len(ratings.users)) % _PARTS
    parts = range(_PARTS if part_of.size < _FEW_USERS else 1)
    recalls: dict[str, list[float]] = {}
    with job.progress.step("Users held out whole", len(parts)) as advance:
        for part in parts:
            held_out = part_of == part
            trained = ratings.where(np.repeat(~held_out, ratings.counts()))
            item_factors = Als.fit(
                trained,
                n_movies,
                recipe.als,
                seed=recipe.seed,
                engine=job.engine,
                users=NO_ROWS,
                checkpoints=job.checkpoints,
            ).item_factors
            fold_in = FoldIn(item_factors, recipe.als)
            cold = np.flatnonzero(~item_factors.any(axis=1)).astype(np.int32)
            popular = popularity(MovieStatistics.of(trained, n_movies))
            ease = Ease.fit(trained, n_movies, best_regularization(ease_ndcg)) if ease_ndcg else None
            users = rng.permutation(np.flatnonzero(held_out)).astype(np.int32)[:_MOST_JUDGED]
            known = np.bincount(trained.movie_rows, minlength=n_movies) > 0
            for history, relevant in _requests(ratings, users, known, rng):
                seen = history.movie_rows
                best = {"popularity": best_unseen(popular, seen, CUTOFF)}
                vector = fold_in.user_vector(history)
                best["als"] = best["popularity"]
                if vector is not None:
                    scores = (item_factors @ vector).astype(np.float64)
                    best["als"] = best_unseen(scores, np.concatenate([seen, cold]), CUTOFF)
                if ease is not None:
                    own = np.zeros((1, n_movies))
                    own[0, seen[history.values >= LIKED]] = 1.0
                    best["ease"] = best_unseen(ease.scores(csr_array(own))[0], seen, CUTOFF)
                for model, found in best.items():
                    recalls.setdefault(model, []).append(
                        float(capped_recall(hits(found, relevant, CUTOFF), relevant.size, CUTOFF))
                    )
            advance()
    judged = len(recalls.get("popularity", ()))
    return StrongGeneralisation(
        users=judged, recall={model: float(np.mean(values)) for model, values in recalls.items()}
    )


def _requests(
    ratings: Ratings, users: Rows, known: np.typing.NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[tuple[History, Rows]]:
    """The history sent and the movies liked beside it, for each user with both."""
    for user_row in users:
        everything = ratings.of(int(user_row))
        sent = np.zeros(len(everything), dtype=np.bool_)
        sent[rng.permutation(len(everything))[: int(_HISTORY_SHARE * len(everything))]] = True
        rows = everything.movie_rows
        relevant = rows[~sent & (everything.values >= LIKED) & known[rows]]
        if sent.any() and relevant.size:
            yield History(rows[sent], everything.values[sent], everything.times[sent]), relevant
