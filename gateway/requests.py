"""What clients ask for, in domain types. Values are as sent until `gateway.validation` has seen them."""

from dataclasses import dataclass, field

from gateway.fallback import FallbackPolicy
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ratings import RatedMovies


@dataclass(frozen=True)
class PopularRequest:
    """Asks for the most popular movies."""

    limit: int = 0
    offset: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_seen_by_user_id: int | None = None


@dataclass(frozen=True)
class PersonalRequest:
    """Asks for movies for one user."""

    user_id: int = 0
    """0: only the history counts."""
    limit: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_movie_ids: tuple[int, ...] = ()
    include_seen: bool = False
    """Also returns movies of the training ratings and of `history`."""
    history: RatedMovies = field(default_factory=RatedMovies)
    diversity: float = 0.0
    """0: relevance only. 1: as different from one another as possible."""
    explain_features: int = 0
    fallback_policy: FallbackPolicy = FallbackPolicy.ALLOW
    because_of: int = 0
    """Liked movies to name with each movie."""


@dataclass(frozen=True)
class WhyRequest:
    """Asks why a movie is in, or not in, the list of a `PersonalRequest` with the same fields."""

    movie_id: int
    user_id: int
    limit: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_movie_ids: tuple[int, ...] = ()
    include_seen: bool = False
    explain_features: int = 0
    """Contributions to compare."""


@dataclass(frozen=True)
class SimilarRequest:
    """Asks for movies like one movie."""

    movie_id: int
    limit: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_seen_by_user_id: int | None = None
    fallback_policy: FallbackPolicy = FallbackPolicy.ALLOW
