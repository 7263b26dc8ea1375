"""Writes what RecTools says of generated lists: the oracle of our own metrics.

Runs in an environment of its own (`make oracle`), as RecTools needs older numpy and pandas than we use;
the file that it writes is committed, and tests/training/evaluation/test_metrics.py compares.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.metrics import MAP, NDCG, CatalogCoverage, MeanInvUserFreq, Precision, Recall, calc_metrics

N_USERS = 40
N_MOVIES = 80
CUTOFFS = (5, 10, 20)


def main(path: Path) -> None:
    """Draws histories, relevant movies and lists, and writes them with RecTools' values per user."""
    rng = np.random.default_rng(20)
    popularity = 1.0 / np.arange(1, N_MOVIES + 1)
    past, truth, lists = {}, {}, {}
    for user in range(N_USERS):
        drawn = rng.choice(N_MOVIES, 50, replace=False, p=popularity / popularity.sum())
        past[user] = np.sort(drawn[: rng.integers(3, 15)]).tolist()
        truth[user] = np.sort(drawn[15 : 15 + rng.integers(1, 25)]).tolist()
        # Some lists are shorter than the cutoffs, and some find nothing.
        shown = rng.permutation(np.setdiff1d(drawn if user % 5 else np.arange(N_MOVIES), past[user]))
        lists[user] = shown[: rng.integers(1, 25) if user % 3 else 20].tolist()
    # Movies without a history have no inverse frequency.
    known = sorted(set().union(*past.values()))
    lists = {user: [movie for movie in movies if movie in known] for user, movies in lists.items()}
    interactions = _frame(past)
    ranked = _frame(lists)
    ranked[Columns.Rank] = ranked.groupby(Columns.User).cumcount() + 1
    metrics = {}
    for k in CUTOFFS:
        metrics[f"ndcg_at_{k}"] = NDCG(k=k, divide_by_achievable=True)
        metrics[f"recall_at_{k}"] = Recall(k=k)
        metrics[f"precision_at_{k}"] = Precision(k=k)
        # Ours divides by min(k, relevant movies): the larger of these two.
        metrics[f"map_by_relevant_at_{k}"] = MAP(k=k)
        metrics[f"map_by_k_at_{k}"] = MAP(k=k, divide_by_k=True)
        metrics[f"novelty_at_{k}"] = MeanInvUserFreq(k=k)
    per_user = {
        name: (
            metric.calc_per_user(ranked, interactions)
            if isinstance(metric, MeanInvUserFreq)
            else metric.calc_per_user(ranked, _frame(truth))
        )
        .reindex(range(N_USERS))
        .tolist()
        for name, metric in metrics.items()
    }
    coverages = {f"coverage_at_{k}": CatalogCoverage(k=k, normalize=True) for k in CUTOFFS}
    record = {
        "rectools": version("rectools"),
        "past": list(past.values()),
        "truth": list(truth.values()),
        "lists": list(lists.values()),
        "per_user": per_user,
        "coverage": calc_metrics(coverages, ranked, catalog=known),
    }
    path.write_text(json.dumps(record) + "\n")


def _frame(movies: dict[int, list[int]]) -> pd.DataFrame:
    pairs = [(user, movie) for user, rows in movies.items() for movie in rows]
    return pd.DataFrame(pairs, columns=[Columns.User, Columns.Item])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
