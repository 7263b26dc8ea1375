"""Whom the tour shows, and what they watched: read from the published bundle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_ratings
from serving.bundle.sources import SourcesRecord
from serving.bundle.store import BundleStore
from serving.ids import IdMap
from serving.ratings import LIKED, Ratings

_FIRST_USER: Final = 1
_TELLING: Final = 5
"""Likes from which on a user has a taste that recommendations can be compared with."""
_PLACES: Final = (1 / 3, 2 / 3)
"""Where in the ascending ids the other users are taken from."""


@dataclass(frozen=True)
class Watcher:
    """A user of the training data."""

    user_id: int
    liked: tuple[tuple[int, float], ...]
    """Movie id and stars of what they liked, the latest first."""
    seen: frozenset[int]
    """Every movie id that they rated."""


def read_watchers(root: Path, bundle_id: str) -> list[Watcher]:
    """Return the users to show, as a published bundle knows them."""
    folder = BundleStore(root).folder(bundle_id, "candidate")
    least_history = SourcesRecord.read(folder).least_history
    return choose_watchers(read_ratings(folder), read_movies(folder).ids, least_history)


def choose_watchers(ratings: Ratings, movies: IdMap, least_history: int) -> list[Watcher]:
    """Return user 1, if the models serve them, and two others with a taste; fewer if there are no more.

    Args:
        ratings: of all users.
        movies: ids of the rows that are rated.
        least_history: ratings below which a user gets what is popular.
    """
    likes = np.bincount(ratings.user_rows()[ratings.values >= LIKED], minlength=len(ratings.users))
    served = ratings.counts() >= least_history
    telling = ratings.users.ids[(likes >= _TELLING) & served].tolist()
    first = [_FIRST_USER] if _FIRST_USER in ratings.users.ids[served] else telling[:1]
    others = [user for user in telling if user not in first]
    chosen = {others[int(len(others) * place)] for place in _PLACES if others}
    return [_watcher(user, ratings, movies) for user in (*first, *sorted(chosen))]


def _watcher(user_id: int, ratings: Ratings, movies: IdMap) -> Watcher:
    history = ratings.of(ratings.users.row(user_id))
    movie_ids: list[int] = movies.ids[history.movie_rows].tolist()
    latest_first = reversed(list(zip(movie_ids, history.values.tolist(), strict=True)))
    return Watcher(
        user_id=user_id,
        liked=tuple((movie, stars) for movie, stars in latest_first if stars >= LIKED),
        seen=frozenset(movie_ids),
    )
