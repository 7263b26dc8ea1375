"""What a bundle knows of a user: how much they have rated, and what they liked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.lists.catalogue import Catalogue
from gateway.requests import UserRequest
from serving.errors import NotFoundError, Reason, UnsupportedError
from serving.ids import Rows
from serving.ratings import LIKED, Ratings


@dataclass(frozen=True)
class LikedRating:
    """A movie that a user liked."""

    movie_row: int
    rating: float
    """Stars, 4 to 5."""
    rated_at: int | None
    """Unix seconds; none where the data set has no times."""


@dataclass(frozen=True)
class UserAnswer:
    """What is known of a user."""

    rating_count: int
    rating_mean: float | None
    """None without ratings."""
    like_count: int
    likes: Sequence[LikedRating]
    """The latest, latest first."""
    genres: Sequence[tuple[str, int]]
    """Genres of all likes and how many likes have them, most first; ties in the catalogue's order."""
    catalogue: Catalogue
    """Where movies are looked up."""


def ratings_of(catalogue: Catalogue) -> Ratings:
    """The ratings in which users are looked up.

    Raises:
        UnsupportedError: the catalogue was loaded without them.
    """
    if catalogue.ratings is None:
        raise UnsupportedError("GetUser")
    return catalogue.ratings


def user_answer(catalogue: Catalogue, request: UserRequest) -> UserAnswer:
    """What a bundle knows of a user; the answer to a checked request.

    Raises:
        UnsupportedError: the catalogue was loaded without ratings.
        NotFoundError: the bundle does not know the user.
    """
    ratings = ratings_of(catalogue)
    row = ratings.users.row(request.user_id)
    if row < 0:
        raise NotFoundError(
            "This user is not in the training data.",
            reason=Reason.UNKNOWN_USER,
            resource_type="user",
            resource_id=request.user_id,
        )
    history = ratings.of(row)
    liked = np.flatnonzero(history.values >= LIKED)
    latest = liked[::-1][: request.limit]
    times = history.times[latest].tolist() if ratings.is_timed else [None] * latest.size
    return UserAnswer(
        rating_count=len(history),
        rating_mean=float(history.values.mean(dtype=np.float64)) if len(history) else None,
        like_count=liked.size,
        likes=[
            LikedRating(*like)
            for like in zip(
                history.movie_rows[latest].tolist(), history.values[latest].tolist(), times, strict=True
            )
        ],
        genres=_genres(catalogue, history.movie_rows[liked]),
        catalogue=catalogue,
    )


def _genres(catalogue: Catalogue, movie_rows: Rows) -> list[tuple[str, int]]:
    names, bits = catalogue.movies.genres, catalogue.movies.genre_bits[movie_rows]
    counts = [
        (name, int(np.count_nonzero(bits >> np.uint64(place) & np.uint64(1))))
        for place, name in enumerate(names)
        if place  # the first one means none
    ]
    return sorted(((name, count) for name, count in counts if count), key=lambda one: -one[1])
