"""Invented ratings of any size, with a long tail: what the training job's time and memory are measured on.

Movies, sessions and stars are those of `training.data.generated`, which weighs every movie for every
rating. That is too much for millions: here a movie is drawn from one of some dozens of tastes, or beside the
one before.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv

from training.data.generated import (
    TASTES,
    SampleMovies,
    SampleUsers,
    draw_movies,
    draw_sessions,
    draw_values,
    unit,
    write_movies,
)

_RATINGS_PER_USER: Final = 100
_FEWEST: Final = 20
_MOST: Final = 1_000
"""Ratings of one user; as few at least."""
_USERS_PER_BLOCK: Final = 2_000

_TAIL: Final = 1.8
"""How much farther apart popular and rare movies are than in the sample."""
_ARCHETYPES: Final = 48
_TASTE_PULL: Final = 10.0
_FIRST_ARCHETYPE: Final = 0.7
"""Share of a user's draws from the first of both archetypes."""
_LEAVES_SHELF: Final = 0.6
_SPARE: Final = 8
"""Draws per rating: some movies are not out yet, and nobody rates a movie twice."""
_GAP_DAYS: Final = 600.0
"""Between sessions: so that many users rate before and after any moment."""
_EPOCH_YEAR: Final = 1970
_SECONDS_PER_YEAR: Final = 365.25 * 86_400

_Rows = npt.NDArray[np.int64]
_SCHEMA: Final = pa.schema(
    {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
)


def n_users_of(n_ratings: int) -> int:
    """Users of a set: 100 ratings each in the mean."""
    return n_ratings // _RATINGS_PER_USER


def n_movies_of(n_ratings: int) -> int:
    """Movies of a set, which grow slower than its users: 6,000 at 1 million ratings, 20,000 at 20 million."""
    return 100 * round(float(200 * (n_ratings / 20e6) ** 0.4))


def write_long_tail(folder: Path, n_ratings: int, *, n_movies: int | None = None) -> None:
    """Writes ratings.csv and movies.csv, laid out as MovieLens does, into an existing folder.

    Args:
        folder: where.
        n_ratings: how many, within some hundredths from a million on; of fewer, up to a tenth is missing.
        n_movies: in the catalogue; `n_movies_of(n_ratings)` when None.
    """
    rng = np.random.default_rng(0)
    movies = draw_movies(rng, n_movies or n_movies_of(n_ratings))
    movies = replace(movies, appeal=_TAIL * movies.appeal)
    write_movies(folder / "movies.csv", movies)
    choices = _Choices.of(rng, movies)
    wanted = _ratings_per_user(rng, n_ratings)
    with csv.CSVWriter(folder / "ratings.csv", _SCHEMA) as writer:
        for start in range(0, wanted.size, _USERS_PER_BLOCK):
            block = wanted[start : start + _USERS_PER_BLOCK]
            writer.write_table(_ratings(rng, movies, choices, block, first_user=start + 1))


def _ratings_per_user(rng: np.random.Generator, n_ratings: int) -> _Rows:
    """Few users rate much: log-normal, and cut at both ends."""
    drawn = rng.lognormal(0, 1, n_users_of(n_ratings))
    mean = 1.01 * _RATINGS_PER_USER  # a few draws come to nothing
    scale = mean
    for _ in range(20):  # cutting moves the mean: scaled until it is right
        scale *= mean / np.clip(scale * drawn, _FEWEST, _MOST).mean()
    wanted: _Rows = np.clip(scale * drawn, _FEWEST, _MOST).round().astype(np.int64)
    return wanted


@dataclass(frozen=True)
class _Choices:
    """What a movie is drawn by: cumulative chances, one range from k to k + 1 for each k."""

    archetypes: npt.NDArray[np.float64]
    """Shape (_ARCHETYPES, TASTES): tastes that users are made of."""
    by_archetype: npt.NDArray[np.float64]
    """Shape (_ARCHETYPES * n_movies,)."""
    by_shelf: npt.NDArray[np.float64]
    """Shape (n_movies,): movies in the order of `shelved`."""
    shelved: _Rows
    """Shape (n_movies,): movie rows, shelf after shelf."""

    @classmethod
    def of(cls, rng: np.random.Generator, movies: SampleMovies) -> "_Choices":
        archetypes = unit(rng.normal(size=(_ARCHETYPES, TASTES)))
        chances = np.exp(movies.appeal + _TASTE_PULL * archetypes @ movies.tastes.T)
        cumulative = np.cumsum(chances, axis=1)
        cumulative /= cumulative[:, -1:]
        shelved = np.argsort(movies.shelves, kind="stable")
        sums = np.cumsum(np.exp(movies.appeal[shelved]))
        shelf = movies.shelves[shelved]
        ends = sums[np.searchsorted(shelf, np.arange(shelf[-1] + 1), side="right") - 1]
        begins = np.concatenate([[0.0], ends[:-1]])
        return cls(
            archetypes=archetypes,
            by_archetype=np.ravel(cumulative + np.arange(_ARCHETYPES, dtype=np.float64)[:, None]),
            by_shelf=shelf + (sums - begins[shelf]) / (ends - begins)[shelf],
            shelved=shelved,
        )

    def movies_of(self, archetypes: _Rows, draws: npt.NDArray[np.float64]) -> _Rows:
        """A movie for each archetype; `draws` are uniform in 0 to 1."""
        n_movies = self.shelved.size
        places = np.searchsorted(self.by_archetype, archetypes + draws, side="right")
        rows: _Rows = np.minimum(places - archetypes * n_movies, n_movies - 1)
        return rows

    def movies_on(self, shelves: _Rows, draws: npt.NDArray[np.float64]) -> _Rows:
        """A movie on each shelf."""
        places = np.searchsorted(self.by_shelf, shelves + draws, side="right")
        return self.shelved[np.minimum(places, self.shelved.size - 1)]


def _ratings(
    rng: np.random.Generator, movies: SampleMovies, choices: _Choices, wanted: _Rows, *, first_user: int
) -> pa.Table:
    """Ratings of some users: by user, then movie, as MovieLens has them."""
    times, _ = draw_sessions(rng, wanted, gap_days=_GAP_DAYS)
    of_user = rng.integers(_ARCHETYPES, size=(wanted.size, 2))
    first, second = choices.archetypes[of_user].swapaxes(0, 1)
    users = SampleUsers(
        tastes=unit(first + 0.5 * second + 0.1 * rng.normal(size=first.shape)),
        mildness=rng.normal(0, 0.35, wanted.size),
        n_ratings=wanted,
    )
    newest = (_EPOCH_YEAR + times[:, 0] / _SECONDS_PER_YEAR).astype(np.int64)
    user_rows, movie_rows = _watched(rng, movies, choices, of_user=of_user, wanted=wanted, newest=newest)
    values = draw_values(rng, movies, users, user_rows, movie_rows)
    places = np.arange(user_rows.size) - np.searchsorted(user_rows, user_rows)
    by_movie = np.lexsort((movie_rows, user_rows))
    columns = (user_rows + first_user, movies.ids[movie_rows], values, times[user_rows, places])
    return pa.table([column[by_movie] for column in columns], schema=_SCHEMA)


def _watched(
    rng: np.random.Generator,
    movies: SampleMovies,
    choices: _Choices,
    *,
    of_user: _Rows,
    wanted: _Rows,
    newest: _Rows,
) -> tuple[_Rows, _Rows]:
    """User and movie rows, shape (n_ratings,), user after user in the order of watching.

    Args:
        rng: draws.
        movies: all.
        choices: by which they are drawn.
        of_user: shape (n_users, 2): the archetypes of each.
        wanted: shape (n_users,): ratings.
        newest: shape (n_users,): the year after which movies are not out yet.
    """
    users = np.repeat(np.arange(wanted.size), _SPARE * wanted)
    leaves = rng.random(users.size) < _LEAVES_SHELF
    leaves[np.flatnonzero(np.diff(users, prepend=-1))] = True
    which = (rng.random(users.size) > _FIRST_ARCHETYPE).astype(np.int64)
    drawn = choices.movies_of(of_user[users, which], rng.random(users.size))
    last_left = np.maximum.accumulate(np.where(leaves, np.arange(users.size), 0))
    beside = choices.movies_on(movies.shelves[drawn[last_left]], rng.random(users.size))
    drawn = np.where(leaves, drawn, beside)
    is_out = movies.years[drawn] <= newest[users]
    users, drawn = users[is_out], drawn[is_out]
    _, firsts = np.unique(users * movies.ids.size + drawn, return_index=True)
    firsts.sort()
    users, drawn = users[firsts], drawn[firsts]
    kept = np.arange(users.size) - np.searchsorted(users, users) < wanted[users]
    return users[kept], drawn[kept]
