"""One model by itself, judged on the validation and the test part."""

from collections.abc import Callable, Sequence

from serving.ids import Rows
from serving.limits import DEFAULT_CANDIDATES
from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.evaluation.judging import judge
from training.evaluation.splits import Split, SplitProtocol, judged_split
from training.experiments.baselines import popular_lists
from training.models.lists import else_popular
from training.models.recommenders import Recommender
from training.progress import Progress

Fit = Callable[[Ratings], Recommender]
"""Fits a model on ratings."""


def measure_single(
    ratings: Ratings,
    table: MovieTable,
    protocol: SplitProtocol,
    fit: Fit,
    progress: Progress,
    *,
    n_candidates: int = DEFAULT_CANDIDATES,
) -> dict[str, float]:
    """Metrics by name, as `val_ndcg_at_10` and `test_ndcg_at_10`; none of a part that can judge nobody.

    The validation part is cut from what is left without the test part, in the same way. Lists are of
    `n_candidates` movies.
    """
    test = judged_split(ratings, protocol)
    metrics: dict[str, float] = {}
    for part, judged in (("val", judged_split(test.train, protocol)), ("test", test)):
        if not judged.users.size:  # nor is there always a past to fit on
            continue
        with progress.step(f"Fitting and judging on the {part} part", judged.users.size) as advance:
            quality = judge(
                _lists(judged, table, fit, n_candidates, advance), judged, candidates=n_candidates
            )
        metrics |= {f"{part}_{name}": mean for name, mean in quality.means().items()}
    return metrics


def _lists(
    judged: Split, table: MovieTable, fit: Fit, limit: int, advance: Callable[[], None]
) -> Sequence[Rows]:
    """Each judged user's list; what is popular for one whom the model knows nothing of, as when serving."""
    model = fit(judged.train)
    lists = []
    for user_row in judged.users.tolist():
        lists.append(model.scored(user_row, limit, explain=False).movie_rows)
        advance()
    return else_popular(lists, popular_lists(judged, len(table.movies.ids), limit=limit))
