"""Judging all models on the same users, with intervals for the differences that matter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from training.metrics import average_precision, coverage, ndcg, precision, recall
from training.splits import Split

CUTOFFS: Final = (5, 10, 20)
_PER_USER: Final[Mapping[str, Callable[[Rows, Rows, int], float]]] = MappingProxyType(
    {"ndcg": ndcg, "recall": recall, "precision": precision, "map": average_precision}
)
_RESAMPLES: Final = 2_000


@dataclass(frozen=True)
class Quality:
    """How good one model's lists are. Keys are as `ndcg_at_10`."""

    per_user: Mapping[str, npt.NDArray[np.float64]]
    """By metric, shape (n_users,), in the order of the split's users."""
    coverage: Mapping[str, float]
    """Share of the movies rated in the past that are in anybody's first k."""

    def means(self) -> dict[str, float]:
        """The mean over users of each metric, and coverage."""
        means = {name: float(values.mean()) for name, values in self.per_user.items()}
        return means | dict(self.coverage)

    @classmethod
    def mean_of(cls, runs: Sequence["Quality"]) -> "Quality":
        """The mean over runs of each user's metrics: runs with other seeds on the same users."""
        return cls(
            per_user={
                name: np.mean([run.per_user[name] for run in runs], axis=0) for name in runs[0].per_user
            },
            coverage={
                name: float(np.mean([run.coverage[name] for run in runs])) for name in runs[0].coverage
            },
        )


def judge(lists: Sequence[Rows], split: Split, *, candidates: int) -> Quality:
    """Judges lists against what the split's users liked later.

    Args:
        lists: per judged user, best first, seen movies left out.
        split: whose future judges.
        candidates: recall is measured at this depth too, where a list is that long.
    """
    rated = np.unique(split.past.movie_rows).size
    per_user = {
        f"{name}_at_{k}": np.array(
            [metric(ours, liked, k) for ours, liked in zip(lists, split.truth, strict=True)]
        )
        for name, metric in _PER_USER.items()
        for k in CUTOFFS
    }
    per_user[f"recall_at_{candidates}"] = np.array(
        [recall(ours, liked, candidates) for ours, liked in zip(lists, split.truth, strict=True)]
    )
    return Quality(
        per_user=per_user, coverage={f"coverage_at_{k}": coverage(lists, rated, k) for k in CUTOFFS}
    )


def paired_interval(better: npt.NDArray[np.float64], worse: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference over users; the same users on both sides."""
    rng = np.random.default_rng(0)
    differences = better - worse
    means = [rng.choice(differences, differences.size).mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
