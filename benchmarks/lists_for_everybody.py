"""What the lists for everybody are worth: `python -m benchmarks.lists_for_everybody --help`.

Trending against popularity of all time: what users like after a moment, by nDCG@10, as under the protocol
`time`. Movies to ask a newcomer about against the most popular ones: recall@20 of ALS for users who were held
out whole, after five answers.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_ratings, read_user_factors
from serving.bundle.store import BundleStore
from serving.fold_in import AlsParameters, FoldIn
from serving.ids import Rows
from serving.ratings import LIKED, History, Ratings
from training.data.popularity import MovieStatistics, popularity
from training.data.trending import trending
from training.engine.local import LocalEngine
from training.evaluation.judging import interval, ndcg_at_10
from training.evaluation.metrics import capped_recall, hits
from training.evaluation.splits import SplitProtocol, split
from training.models.als_shards import fit_item_factors
from training.models.lists import best_unseen
from training.models.taste import TASTE_MOVIES, taste_movies

ANSWERS: Final = 5
CUTOFF: Final = 20
PARTS: Final = 5


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")] = Path("artifacts"),
) -> None:
    """Measures on the ratings of the current bundle, and prints."""
    store = BundleStore(bundle_root)
    folder = store.folder(store.pointer().bundle_id, "candidate")
    ratings, n_movies = read_ratings(folder), len(read_movies(folder).ids)
    _, parameters = read_user_factors(folder)
    for past_share in (0.6, 0.7, 0.8, 0.9):
        show(f"trending, after {past_share:.0%} of the ratings", *of_trending(ratings, n_movies, past_share))
    show("five answers to taste movies", *of_answers(ratings, n_movies, parameters))


def show(title: str, ours: npt.NDArray[np.float64], popular: npt.NDArray[np.float64]) -> None:
    """Prints means over users, and the interval of their difference."""
    low, high = interval(ours - popular)
    typer.echo(
        f"{title}: {ours.mean():.3f}, popular {popular.mean():.3f}, "
        f"difference {(ours - popular).mean():+.3f} [{low:+.3f}, {high:+.3f}], {ours.size} users"
    )


def of_trending(
    ratings: Ratings, n_movies: int, past_share: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """nDCG@10 of each judged user: of what was trending, and of what was popular."""
    cut = split(ratings, SplitProtocol.TIME, past_share)
    now = trending(cut.train, n_movies)
    ever = popularity(MovieStatistics.of(cut.train, n_movies))

    def reached(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        lists = [best_unseen(scores, cut.train.of(int(user)).movie_rows, 10) for user in cut.users]
        return ndcg_at_10(lists, cut)

    return reached(now), reached(ever)


def of_answers(
    ratings: Ratings, n_movies: int, parameters: AlsParameters
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Recall@20 of each user, over min(20, likes): after answers to taste movies, and to popular ones.

    A fifth of the users is held out whole at a time. Somebody answers for the first five movies of 30 that
    they have rated. What they like of all that they were not asked about, in either way, is relevant.
    """
    rng = np.random.default_rng(0)
    part_of = rng.permutation(len(ratings.users)) % PARTS
    ours, popular = [], []
    for part in range(PARTS):
        held_out = part_of == part
        trained = ratings.where(np.repeat(~held_out, ratings.counts()))
        item_factors = fit_item_factors(trained, n_movies, parameters, seed=0, engine=LocalEngine(1))
        statistics = MovieStatistics.of(trained, n_movies)
        scores = popularity(statistics)
        asked = {
            "taste": taste_movies(item_factors, scores, statistics.counts),
            "popular": np.argsort(-scores, kind="stable")[:TASTE_MOVIES].astype(np.int32),
        }
        for recalls in _recalls(
            ratings,
            users=np.flatnonzero(held_out),
            asked=asked,
            item_factors=item_factors,
            parameters=parameters,
            popular=scores,
        ):
            ours.append(recalls["taste"])
            popular.append(recalls["popular"])
    return np.array(ours), np.array(popular)


def _recalls(
    ratings: Ratings,
    *,
    users: npt.NDArray[np.integer],
    asked: Mapping[str, Rows],
    item_factors: npt.NDArray[np.float32],
    parameters: AlsParameters,
    popular: npt.NDArray[np.float64],
) -> Iterator[dict[str, float]]:
    fold_in = FoldIn(item_factors, parameters)
    warm = item_factors.any(axis=1)
    left_out = np.union1d(np.concatenate(list(asked.values())), np.flatnonzero(~warm)).astype(np.int32)
    for user in users:
        history = ratings.of(int(user))
        rows = history.movie_rows
        relevant = rows[(history.values >= LIKED) & ~np.isin(rows, left_out)]
        if relevant.size:
            lists = {
                name: best_unseen(
                    _scores(_answers(history, movies), fold_in, item_factors, popular), left_out, CUTOFF
                )
                for name, movies in asked.items()
            }
            yield {
                name: float(capped_recall(hits(own, relevant, CUTOFF), relevant.size, CUTOFF))
                for name, own in lists.items()
            }


def _answers(history: History, asked: Rows) -> History:
    """The ratings of the first movies asked about that the user has rated; five at the most."""
    known = asked[np.isin(asked, history.movie_rows)][:ANSWERS]
    kept = np.isin(history.movie_rows, known)
    return History(history.movie_rows[kept], history.values[kept], history.times[kept])


def _scores(
    answers: History,
    fold_in: FoldIn,
    item_factors: npt.NDArray[np.float32],
    popular: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    vector = fold_in.user_vector(answers) if len(answers) else None
    return popular if vector is None else (item_factors @ vector).astype(np.float64)


if __name__ == "__main__":
    typer.run(main)
