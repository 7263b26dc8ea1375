"""Judging all models on the same users, with intervals for the differences that matter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.ids import Rows
from training.evaluation.metrics import (
    Counts,
    Hits,
    Values,
    average_precision,
    ceiling_ndcg,
    coverage,
    hits,
    ndcg,
    novelty,
    precision,
    recall,
    self_information,
)
from training.evaluation.splits import Split

CUTOFFS: Final = (5, 10, 20)
BANDS: Final = ("head", "mid", "tail")
"""Movies by popularity, most popular first; each band took a third of all ratings of the past."""
_PER_USER: Final[Mapping[str, Callable[[Hits, Counts, int], Values]]] = MappingProxyType(
    {"ndcg": ndcg, "recall": recall, "precision": precision, "map": average_precision}
)
_RESAMPLES: Final = 2_000
_DRAWN_AT_ONCE: Final = 1_000_000
"""Values: many small samples are drawn in one step, and large ones take no memory to speak of."""


def shown_metrics(n_candidates: int) -> tuple[str, ...]:
    """The metrics that a table of models shows, in its order."""
    return (
        *("ndcg_at_10", "recall_at_10", "precision_at_10", "map_at_10", "coverage_at_10", "novelty_at_10"),
        *(f"recall_at_{n_candidates}", "ceiling_ndcg_at_10"),
    )


@dataclass(frozen=True)
class Quality:
    """How good one model's lists are. Keys are as `ndcg_at_10`."""

    per_user: Mapping[str, npt.NDArray[np.float64]]
    """By metric, shape (n_users,), in the order of the split's users. Besides metrics at the cutoffs:
    recall at the number of candidates, as `recall_at_300`; `ceiling_ndcg_at_10`, what ordering these
    perfectly would reach; and
    `recall_at_10_head`, `_mid`, `_tail`, of the relevant movies of one band: NaN for a user without."""
    coverage: Mapping[str, float]
    """Share of the movies rated in the past that are in anybody's first k."""

    def means(self) -> dict[str, float]:
        """The mean over users of each metric, and coverage; nothing for a metric that no user has."""
        known = {name: values[~np.isnan(values)] for name, values in self.per_user.items()}
        means = {name: float(values.mean()) for name, values in known.items() if values.size}
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
    """Judges each user's list, best first and without seen movies, against what the user liked later.

    Recall is measured at the depth of `candidates` too, where a list is that long.
    """
    shown = max((int(ours.max(initial=-1)) for ours in lists), default=-1) + 1  # maybe behind the last rated
    counts = np.bincount(split.train.movie_rows, minlength=shown)
    rated = int(np.count_nonzero(counts))
    information = self_information(counts, int(np.count_nonzero(split.train.counts())))
    depth = max(candidates, *CUTOFFS)
    pairs = zip(lists, split.relevant, strict=True)
    found = np.array([hits(ours, liked, depth) for ours, liked in pairs]).reshape(-1, depth)
    n_relevant = np.array([liked.size for liked in split.relevant], np.int64)
    per_user = {
        f"{name}_at_{k}": metric(found, n_relevant, k) for name, metric in _PER_USER.items() for k in CUTOFFS
    }
    for k in CUTOFFS:
        per_user[f"novelty_at_{k}"] = np.array([novelty(ours, information, k) for ours in lists])
    per_user[f"recall_at_{candidates}"] = recall(found, n_relevant, candidates)
    per_user["ceiling_ndcg_at_10"] = ceiling_ndcg(found[:, :candidates], n_relevant, 10)
    per_user |= _recall_by_band(lists, split.relevant, found, bands(counts))
    return Quality(
        per_user=per_user, coverage={f"coverage_at_{k}": coverage(lists, rated, k) for k in CUTOFFS}
    )


def mean_ndcg(lists: Sequence[Rows], split: Split) -> float:
    """nDCG@10, mean over the split's judged users, of whom there is at least one."""
    return float(ndcg_at_10(lists, split).mean())


def ndcg_at_10(lists: Sequence[Rows], split: Split) -> Values:
    """nDCG@10 of each of the split's judged users."""
    pairs = zip(lists, split.relevant, strict=True)
    return np.array([ndcg(hits(ours, liked, 10), liked.size, 10) for ours, liked in pairs])


def bands(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """The place of each movie's band in `BANDS`, shape as `counts`, the ratings per movie.

    The most popular movies that took a third of all ratings are the head; the movie on the border is in
    the more popular band, and equally popular ones follow each other by movie row.
    """
    order = np.lexsort((np.arange(counts.size), -counts))
    before = np.cumsum(counts[order]) - counts[order]
    result = np.empty(counts.size, dtype=np.int8)
    result[order] = np.minimum(before * len(BANDS) // max(int(counts.sum()), 1), len(BANDS) - 1)
    return result


def _recall_by_band(
    lists: Sequence[Rows], relevant: Sequence[Rows], found: Hits, band_of: npt.NDArray[np.int8]
) -> dict[str, Values]:
    hit = [ours[:10][own[: min(10, ours.size)] > 0] for ours, own in zip(lists, found, strict=True)]
    n_hit, n_relevant = (
        np.array([np.bincount(band_of[rows], minlength=len(BANDS)) for rows in of]).reshape(-1, len(BANDS))
        for of in (hit, relevant)
    )
    with np.errstate(invalid="ignore"):  # NaN for a user without
        recalls = (n_hit / n_relevant).T
    return {f"recall_at_10_{name}": recalls[band] for band, name in enumerate(BANDS)}


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over users; NaN without any."""
    if not values.size:
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    at_once = max(1, _DRAWN_AT_ONCE // values.size)
    means = [
        values[rng.integers(values.size, size=(min(at_once, _RESAMPLES - done), values.size))].mean(axis=1)
        for done in range(0, _RESAMPLES, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Lift:
    """How much better one model is than another, in nDCG@10 on the same users."""

    model: str
    over: str
    mean: float
    low: float
    high: float
    """`low` to `high` is the paired 95 % bootstrap interval over users; it knows nothing of seeds."""

    @override
    def __str__(self) -> str:
        return f"{self.mean:+.4f}, paired 95 % interval [{self.low:+.4f}, {self.high:+.4f}]"


def lift_of(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], *, model: str, over: str) -> Lift:
    """The lift of one model over another, from each user's nDCG@10; shape (n_users,) each, not empty."""
    gains = ours - theirs
    return Lift(model, over, float(gains.mean()), *interval(gains))


@dataclass(frozen=True)
class Segment:
    """Judged users with histories of about one length."""

    shortest: int
    longest: int
    """Ratings in the past, both included."""
    members: npt.NDArray[np.bool_]
    """Shape (n_users,)."""


def by_history_length(lengths: npt.NDArray[np.int64]) -> list[Segment]:
    """Thirds of the users by ratings in the past, shape (n_users,); fewer parts where many are equal."""
    if not lengths.size:
        return []
    borders = np.quantile(lengths, (1 / 3, 2 / 3), method="lower")
    place = np.searchsorted(borders, lengths)
    return [
        Segment(shortest=int(lengths[members].min()), longest=int(lengths[members].max()), members=members)
        for members in (place == third for third in range(3))
        if members.any()
    ]
