"""Ratings of users in time order: what was trained on, and what a request brings along."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import IdMap, Rows

NO_TIME: Final = np.iinfo(np.int64).max
"""Time of a rating whose time is unknown: later than all that are known."""

LIKED: Final = 4.0
"""Ratings from here on count as a like: in labels, in metrics and in what "liked" means to a reader."""


@dataclass(frozen=True)
class History:
    """One user's ratings, oldest first, one per movie. Arrays of one length, (n_ratings,)."""

    movie_rows: Rows
    values: npt.NDArray[np.float32]
    """Stars, 0.5 to 5."""
    times: npt.NDArray[np.int64]
    """Unix seconds; `NO_TIME` when unknown."""

    def __len__(self) -> int:
        return self.movie_rows.size

    def newest(self, limit: int) -> "History":
        """The newest `limit` ratings; views, not copies."""
        one = slice(-limit, None)
        return History(self.movie_rows[one], self.values[one], self.times[one])

    def joined_by(self, newer: "History") -> "History":
        """This history with `newer` in it. For a movie in both, `newer` wins; order is by time.

        Ratings of one time, and those of unknown time, keep the order: this history, then `newer`.
        """
        if not newer:
            return self
        kept = ~np.isin(self.movie_rows, newer.movie_rows)
        times = np.concatenate([self.times[kept], newer.times])
        order = np.argsort(times, kind="stable")
        return History(
            movie_rows=np.concatenate([self.movie_rows[kept], newer.movie_rows])[order],
            values=np.concatenate([self.values[kept], newer.values])[order],
            times=times[order],
        )


EMPTY_HISTORY: Final = History(
    movie_rows=np.empty(0, np.int32), values=np.empty(0, np.float32), times=np.empty(0, np.int64)
)


@dataclass(frozen=True)
class Ratings:
    """Ratings of all users, row-compressed: user after user, each user's oldest first.

    A user without ratings has an empty slice. Movie rows are those of the catalogue (`Movies`).
    """

    users: IdMap
    """user_id against user row."""
    indptr: npt.NDArray[np.int64]
    """Shape (n_users + 1,): the ratings of user row u are at indptr[u] to indptr[u + 1]."""
    movie_rows: Rows
    """Shape (n_ratings,)."""
    values: npt.NDArray[np.float32]
    """Shape (n_ratings,); stars, 0.5 to 5."""
    times: npt.NDArray[np.int64]
    """Shape (n_ratings,); Unix seconds, all 0 where the data set has none."""

    def __post_init__(self) -> None:
        n_ratings = self.movie_rows.size
        if (
            self.indptr.shape != (len(self.users) + 1,)
            or self.indptr[0] != 0
            or self.indptr[-1] != n_ratings
            or np.any(np.diff(self.indptr) < 0)
            or self.values.size != n_ratings
            or self.times.size != n_ratings
        ):
            raise ValueError("indptr, movie_rows, values and times do not belong together")

    def __len__(self) -> int:
        return self.movie_rows.size

    def of(self, user_row: int) -> History:
        """Ratings of one user; views, not copies."""
        one = slice(self.indptr[user_row], self.indptr[user_row + 1])
        return History(self.movie_rows[one], self.values[one], self.times[one])

    def known_of(self, user_id: int) -> History:
        """Ratings of one user by id; none of an unknown one."""
        row = self.users.row(user_id)
        return self.of(row) if row >= 0 else EMPTY_HISTORY

    @cached_property
    def is_timed(self) -> bool:
        """Whether the times are known: where none is, all are 0, and a user's ratings have no order."""
        return bool(self.times.any())

    def counts(self) -> npt.NDArray[np.int64]:
        """Shape (n_users,): ratings per user."""
        return np.diff(self.indptr)

    def user_rows(self) -> Rows:
        """Shape (n_ratings,): the user row of each rating."""
        return np.repeat(np.arange(len(self.users), dtype=np.int32), self.counts())

    def of_users(self, user_rows: npt.NDArray[np.integer]) -> "Ratings":
        """The ratings of some users alone; their rows ascend, shape (n,)."""
        counts = self.counts()
        mine = np.zeros(len(self.users), np.bool_)
        mine[user_rows] = True
        kept = np.repeat(mine, counts)
        return Ratings(
            users=IdMap(self.users.ids[user_rows]),
            indptr=np.concatenate([[0], np.cumsum(counts[user_rows])]).astype(np.int64),
            movie_rows=self.movie_rows[kept],
            values=self.values[kept],
            times=self.times[kept],
        )

    @classmethod
    def joined(cls, parts: Sequence["Ratings"]) -> "Ratings":
        """The ratings of all users of parts that share no user."""
        if len(parts) == 1:
            return parts[0]
        user_ids = np.concatenate([part.users.ids for part in parts])
        of_rating = np.concatenate([part.users.ids[part.user_rows()] for part in parts])
        users, order = np.argsort(user_ids), np.argsort(of_rating, kind="stable")
        counts = np.concatenate([part.counts() for part in parts])[users]
        return cls(
            users=IdMap(user_ids[users]),
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            movie_rows=np.concatenate([part.movie_rows for part in parts])[order],
            values=np.concatenate([part.values for part in parts])[order],
            times=np.concatenate([part.times for part in parts])[order],
        )

    def where(self, mask: npt.NDArray[np.bool_]) -> "Ratings":
        """The ratings that `mask`, shape (n_ratings,), keeps; users stay, some with none left."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return Ratings(
            users=self.users,
            indptr=kept[self.indptr].astype(np.int64),
            movie_rows=self.movie_rows[mask],
            values=self.values[mask],
            times=self.times[mask],
        )


@dataclass(frozen=True)
class RatedMovies:
    """What a request says that a user has rated: external ids, in request order. Parallel."""

    movie_ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    """Stars, 0.5 to 5."""
    times: tuple[int, ...] = ()
    """Unix seconds; `NO_TIME` when unknown."""

    def history(self, ids: IdMap) -> History:
        """As a history of the movies that `ids` knows: by time, those without time last."""
        if not self.movie_ids:
            return EMPTY_HISTORY
        rows = ids.rows(self.movie_ids)
        times = np.array(self.times, dtype=np.int64)
        order = np.argsort(times, kind="stable")
        order = order[rows[order] >= 0]
        return History(
            movie_rows=rows[order],
            values=np.array(self.values, dtype=np.float32)[order],
            times=times[order],
        )


NO_HISTORY: Final = RatedMovies()
"""What most requests say."""
