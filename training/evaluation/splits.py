"""Cutting ratings into a past to learn from and a future to be judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.ratings import LIKED, Ratings

ENOUGH_USERS: Final = 300
"""Judged users below which a measurement says nothing."""

MOST_JUDGED: Final = 20_000
"""Users whom models are judged by: more would cost time, and narrow intervals that are narrow enough."""

_MIN_PAST_UNDER_TIME: Final = 5


class SplitProtocol(StrEnum):
    """How a future is cut off."""

    USER = "user"
    """The last part of each user's ratings."""
    TIME = "time"
    """Everything after one moment; users with at least 5 earlier ratings are judged."""


@dataclass(frozen=True)
class Split:
    """A part to learn from, and what the judged users like later, over the same users and movies."""

    train: Ratings
    """What may be learned from."""
    users: Rows
    """User rows that are judged: with a past to go by and at least one movie in `relevant`."""
    relevant: tuple[Rows, ...]
    """Per judged user, the movie rows of future likes. Only movies rated in the past count: no
    model can know another."""
    eligible: int
    """Users who could be judged; more than are in `users` where those are a sample."""

    @property
    def history_lengths(self) -> npt.NDArray[np.int64]:
        """Ratings of each judged user that may be learned from, shape (n_judged_users,)."""
        return self.train.counts()[self.users]

    def only(self, places: npt.NDArray[np.integer]) -> "Split":
        """The split with the judged users at `places`, in their order."""
        return replace(
            self, users=self.users[places], relevant=tuple(self.relevant[place] for place in places)
        )

    def sample(self, most: int, seed: int = 0) -> "Split":
        """The split with at most `most` judged users, drawn at random."""
        (sampled,) = sample_users([self], most, np.random.default_rng(seed))
        return sampled


def split(
    ratings: Ratings, protocol: SplitProtocol, past_share: float = 0.8, *, liked: float = LIKED
) -> Split:
    """Cuts off the future: the past is a share of each user's ratings (`user`) or of all ratings (`time`).

    Ratings are in canonical order, each user's oldest first. From `liked` stars on they count as likes.
    """
    counts = ratings.counts()
    if protocol is SplitProtocol.USER:
        place = np.arange(len(ratings)) - np.repeat(ratings.indptr[:-1], counts)
        in_past = place < np.repeat(np.floor(past_share * counts), counts)
        min_past = 1
    else:
        in_past = ratings.times <= _moment(ratings.times, past_share)
        min_past = _MIN_PAST_UNDER_TIME
    past, future = ratings.where(in_past), ratings.where(~in_past)
    rated_before = np.zeros(int(ratings.movie_rows.max(initial=-1)) + 1, dtype=np.bool_)
    rated_before[past.movie_rows] = True
    future = future.where((future.values >= liked) & rated_before[future.movie_rows])
    users = np.flatnonzero((past.counts() >= min_past) & (future.counts() > 0)).astype(np.int32)
    return Split(
        train=past,
        users=users,
        relevant=tuple(future.of(int(u)).movie_rows for u in users),
        eligible=users.size,
    )


def judged_split(ratings: Ratings, protocol: SplitProtocol) -> Split:
    """Cuts off the future that models are judged by, with `MOST_JUDGED` users at the most.

    Always the same ones: models, seeds and bundles are compared user by user.
    """
    return split(ratings, protocol).sample(MOST_JUDGED)


def sample_users(cuts: Sequence[Split], most: int, rng: np.random.Generator) -> list[Split]:
    """The splits with at most `most` judged users in all of them together, drawn at random."""
    ends = np.cumsum([cut.users.size for cut in cuts])
    if ends[-1] <= most:
        return list(cuts)
    chosen = np.sort(rng.choice(ends[-1], most, replace=False))
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [cut.only(part - (end - cut.users.size)) for cut, part, end in zip(cuts, parts, ends, strict=True)]


def _moment(times: npt.NDArray[np.int64], past_share: float) -> int:
    """The time of the rating at `past_share` of all; ratings of that second are the past, however many."""
    return int(np.quantile(times, past_share, method="lower"))
