"""What clients ask for, in domain types: checked, and with defaults filled in."""

from dataclasses import dataclass, field

from gateway.fallback import FallbackPolicy
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import NO_IDS, Ids
from serving.limits import DEFAULT_COMPARISONS, DEFAULT_LIMIT
from serving.ratings import RatedMovies


@dataclass(frozen=True)
class PopularRequest:
    """Asks for popular movies."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_seen_by_user_id: int | None = None
    trending: bool = False
    """What was rated of late, and well; otherwise what is popular of all time."""


@dataclass(frozen=True, eq=False)
class PersonalRequest:
    """Asks for movies for one user."""

    user_id: int = 0
    """0: only the history counts."""
    limit: int = DEFAULT_LIMIT
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_movie_ids: Ids = field(default_factory=lambda: NO_IDS)
    include_seen: bool = False
    """Also returns movies of the training ratings and of `history`."""
    history: RatedMovies = field(default_factory=RatedMovies)
    diversity: float = 0.0
    """0: relevance only. 1: as different from one another as possible."""
    explain_features: int = 0
    fallback_policy: FallbackPolicy = FallbackPolicy.ALLOW
    because_of: int = 0
    """Liked movies to name with each movie."""
    bundle_id: str = ""
    """What to answer from; empty: the current bundle."""


@dataclass(frozen=True, eq=False)
class WhyRequest:
    """Asks why a movie is in, or not in, a list."""

    movie_id: int
    in_question: PersonalRequest
    """Asks for the list."""
    n_comparisons: int = DEFAULT_COMPARISONS
    """Contributions to compare."""


@dataclass(frozen=True)
class SearchRequest:
    """Asks for movies by their titles."""

    query: str
    limit: int = DEFAULT_LIMIT
    movie_filter: MovieFilter = UNRESTRICTED


@dataclass(frozen=True)
class UserRequest:
    """Asks what is known of a user."""

    user_id: int
    limit: int = DEFAULT_LIMIT
    """Likes to return."""


@dataclass(frozen=True)
class SimilarRequest:
    """Asks for movies like one movie."""

    movie_id: int
    limit: int = DEFAULT_LIMIT
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_seen_by_user_id: int | None = None
    fallback_policy: FallbackPolicy = FallbackPolicy.ALLOW
