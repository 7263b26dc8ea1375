"""How much a model's lists are made for each user: popularity, overlap between users, and genres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr
from scipy.stats import rankdata

from serving.ids import Rows
from serving.movies import Movies
from serving.ratings import LIKED, History
from training.evaluation.splits import Split

CUTOFF: Final = 10


@dataclass(frozen=True)
class ListProfile:
    """Of the first ten movies of each judged user's list."""

    popularity_percentile: float
    """Mean share of the rated movies that are rated less often, half of equals included; 0 to 1. 1 is the
    most popular movie for everybody."""
    overlap: float
    """Mean share of the ten that two users have in common; 0 to 1."""
    miscalibration: float
    """Mean Jensen-Shannon divergence, in bits, 0 to 1, of the genres of the ten from those of what the user
    liked, or else rated, in the past (Steck 2018, with a divergence that needs no smoothing)."""


def profile_of(lists: Sequence[Rows], judged: Split, movies: Movies) -> ListProfile:
    """The profile of one model's lists; the split's past says what is popular and what each user liked."""
    shown = [movies_of_list[:CUTOFF] for movies_of_list in lists]
    percentiles = _percentiles(np.bincount(judged.train.movie_rows, minlength=len(movies.ids)))
    shares = movies.genre_flags().astype(np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    divergences = [
        _divergence(shares, own, judged.train.of(int(user_row)))
        for own, user_row in zip(shown, judged.users, strict=True)
        if own.size
    ]
    everything = np.concatenate([*shown, np.empty(0, np.int32)])
    return ListProfile(
        popularity_percentile=float(percentiles[everything].mean()) if everything.size else 0.0,
        overlap=_overlap(everything, len(shown)),
        miscalibration=float(np.mean(divergences)) if divergences else 0.0,
    )


def _percentiles(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Shape (n_movies,); 0 for a movie that nobody rated."""
    rated = counts > 0
    percentiles = np.zeros(counts.size)
    percentiles[rated] = (rankdata(counts[rated]) - 0.5) / max(int(np.count_nonzero(rated)), 1)
    return percentiles


def _overlap(everything: Rows, n_lists: int) -> float:
    """Movies that two of the lists have in common, mean over all pairs, as a share of ten."""
    if n_lists < 2:  # noqa: PLR2004  # of one list there are no pairs
        return 0.0
    lists_with = np.bincount(everything).astype(np.float64)
    pairs = (lists_with * (lists_with - 1)).sum()
    return float(pairs / (n_lists * (n_lists - 1)) / CUTOFF)


def _divergence(shares: npt.NDArray[np.float64], shown: Rows, past: History) -> float:
    liked = past.movie_rows[past.values >= LIKED]
    own = shares[liked if liked.size else past.movie_rows].mean(axis=0)
    other = shares[shown].mean(axis=0)
    middle = (own + other) / 2
    nats = (rel_entr(own, middle).sum() + rel_entr(other, middle).sum()) / 2
    return max(0.0, float(nats / np.log(2)))  # of equals, rounding leaves a little on either side of 0
