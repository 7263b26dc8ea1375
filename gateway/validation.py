"""The rules of requests: one table of limits, and a check that names every rule a request breaks."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.fallback import FallbackPolicy
from gateway.requests import PersonalRequest, PopularRequest, SimilarRequest, WhyRequest
from serving.errors import FieldViolation, InvalidArgumentError
from serving.filters import MovieFilter
from serving.ratings import NO_TIME, RatedMovies

DEFAULT_LIMIT: Final = 10
"""What a limit of 0 stands for."""
DEFAULT_COMPARISONS: Final = 10
"""What explain_features of 0 stands for in WhyMovie, whose answer they are."""
MAX_LIMIT: Final = 100
"""What a higher limit stands for: not an error, as the client cannot know what is too much."""

_MAX_INT32: Final = 2**31 - 1
_MAX_INT64: Final = 2**63 - 1


class Measure(StrEnum):
    """What a limit is about."""

    VALUE = "must be {low:g} to {high:g}"
    ENTRIES = "must have {low:g} to {high:g} entries"
    CHARACTERS = "must be {low:g} to {high:g} characters"
    SECONDS = "must be in the years 1 to 9999, its seconds since 1970"


@dataclass(frozen=True)
class Limits:
    """What a field may hold, both bounds included. NaN is within no limits."""

    low: float
    high: float
    measure: Measure = Measure.VALUE
    unique: bool = False
    """Of entries: all must differ."""
    pattern: str | None = None
    """Of characters: what they must match as a whole, in Python and in ECMAScript."""

    def hold(self, value: float) -> bool:
        """Whether a value, or what is measured of it, is allowed."""
        return self.low <= value <= self.high

    @property
    def rule(self) -> str:
        """The rule, in words."""
        if self.high in {_MAX_INT32, _MAX_INT64}:
            return f"must be at least {self.low:g}"
        return self.measure.format(low=self.low, high=self.high)


_MOVIE_ID: Final = Limits(1, _MAX_INT32)
_USER_ID: Final = Limits(1, _MAX_INT64)
_GENRES: Final = Limits(0, 20, Measure.ENTRIES, unique=True)
_PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_GENRE: Final = Limits(1, 40, Measure.CHARACTERS, pattern=_PRINTABLE)
_YEAR: Final = Limits(1870, 2200)

LIMITS: Final[Mapping[str, Limits]] = MappingProxyType(
    {
        "movie_id": _MOVIE_ID,
        "user_id": _USER_ID,
        "exclude_seen_by_user_id": _USER_ID,
        "limit": Limits(0, _MAX_INT32),
        "offset": Limits(0, 100_000),
        "exclude_movie_ids": Limits(0, 1_000, Measure.ENTRIES),
        "exclude_movie_ids[]": _MOVIE_ID,
        "history": Limits(0, 500, Measure.ENTRIES),
        "history[].movie_id": _MOVIE_ID,
        "history[].rating": Limits(0.5, 5),
        "history[].rate_time": Limits(-62_135_596_800, 253_402_300_799, Measure.SECONDS),  # any Timestamp
        "diversity": Limits(0, 1),
        "explain_features": Limits(0, 100),
        "because_of": Limits(0, 3),
        "filter.genres": _GENRES,
        "filter.genres[]": _GENRE,
        "filter.exclude_genres": _GENRES,
        "filter.exclude_genres[]": _GENRE,
        "filter.min_year": _YEAR,
        "filter.max_year": _YEAR,
        "requests": Limits(1, 100, Measure.ENTRIES),
    }
)
"""By field; `[]` stands for any entry of a list. The API document takes its limits from here."""

UNLESS: Final[Mapping[str, str]] = MappingProxyType({"user_id": "history"})
"""Fields that a request must have, unless it has the other one. Holds where a request knows both."""

MAX_CONTRIBUTIONS: Final = 20_000
"""Of a batch: the sum of limit times explain_features."""


def checked_popular(request: PopularRequest) -> PopularRequest:
    """The request with defaults filled in.

    Raises:
        InvalidArgumentError: it breaks rules.
    """
    check = _Check()
    check.limits("limit", request.limit)
    check.limits("offset", request.offset)
    check.movie_filter(request.movie_filter)
    if request.exclude_seen_by_user_id is not None:
        check.limits("exclude_seen_by_user_id", request.exclude_seen_by_user_id)
    check.raise_any()
    return replace(request, limit=_page_size(request.limit))


def checked_similar(request: SimilarRequest) -> SimilarRequest:
    """The request with defaults filled in.

    Raises:
        InvalidArgumentError: it breaks rules.
    """
    check = _Check()
    check.limits("movie_id", request.movie_id)
    check.limits("limit", request.limit)
    check.movie_filter(request.movie_filter)
    if request.exclude_seen_by_user_id is not None:
        check.limits("exclude_seen_by_user_id", request.exclude_seen_by_user_id)
    check.policy(request.fallback_policy)
    check.raise_any()
    return replace(request, limit=_page_size(request.limit))


def checked_movie_id(movie_id: int) -> int:
    """The id of a movie to look up.

    Raises:
        InvalidArgumentError: it is not one.
    """
    check = _Check()
    check.limits("movie_id", movie_id)
    check.raise_any()
    return movie_id


def checked_personal(request: PersonalRequest) -> PersonalRequest:
    """The request with defaults filled in and repeated exclusions merged.

    Raises:
        InvalidArgumentError: it breaks rules.
    """
    check = _Check()
    check.personal(request)
    check.raise_any()
    return _normal(request)


def checked_why(request: WhyRequest) -> WhyRequest:
    """The request with defaults filled in and repeated exclusions merged.

    Raises:
        InvalidArgumentError: it breaks rules.
    """
    check = _Check()
    check.limits("movie_id", request.movie_id)
    check.limits("user_id", request.user_id)
    check.limits("limit", request.limit)
    check.movie_filter(request.movie_filter)
    check.exclusions(request.exclude_movie_ids)
    check.limits("explain_features", request.explain_features)
    check.raise_any()
    return replace(
        request,
        limit=_page_size(request.limit),
        exclude_movie_ids=_merged(request.exclude_movie_ids),
        explain_features=request.explain_features or DEFAULT_COMPARISONS,
    )


def contributions(limit: int, explain_features: int) -> int:
    """How many a request asks for, whether or not it keeps the rules."""
    return max(_page_size(limit), 0) * max(explain_features, 0)


def checked_batch(requests: Sequence[PersonalRequest]) -> list[PersonalRequest]:
    """The requests of a batch as `checked_personal` returns them: all, or none.

    Raises:
        InvalidArgumentError: one of them, or the batch as a whole, breaks rules.
    """
    batch = _Check()
    batch.limits("requests", len(requests))
    batch.require(
        sum(contributions(r.limit, r.explain_features) for r in requests) <= MAX_CONTRIBUTIONS,
        "requests",
        f"must ask for at most {MAX_CONTRIBUTIONS} contributions: limit times explain_features, summed up",
    )
    violations = list(batch.violations)
    for place, request in enumerate(requests if LIMITS["requests"].hold(len(requests)) else ()):
        check = _Check(prefix=f"requests[{place}].")
        check.personal(request)
        check.require(
            request.fallback_policy is not FallbackPolicy.DENY,
            "fallback_policy",
            "must not be DENY",
        )
        violations += check.violations
    if violations:
        raise InvalidArgumentError(violations)
    return [_normal(request) for request in requests]


def _page_size(limit: int) -> int:
    return min(limit or DEFAULT_LIMIT, MAX_LIMIT)


def _normal(request: PersonalRequest) -> PersonalRequest:
    excluded = _merged(request.exclude_movie_ids)
    return replace(request, limit=_page_size(request.limit), exclude_movie_ids=excluded)


def _merged(movie_ids: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(movie_ids))


class _Check:
    """Collects the rules that one request breaks.

    Args:
        prefix: what stands before the path of each field.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.violations: list[FieldViolation] = []

    def require(self, holds: bool, path: str, rule: str) -> None:  # noqa: FBT001  # reads as a sentence
        if not holds:
            self.refuse(path, rule)

    def refuse(self, path: str, rule: str) -> None:
        self.violations.append(FieldViolation(self._prefix + path, rule))

    def limits(self, field: str, value: float, *, path: str = "") -> bool:
        """Whether a value is within the limits of `field`; `path` names an entry of a list.

        When a list is too long, its entries are not to be looked at: it may hold a million of them.
        """
        limits = LIMITS[field]
        if limits.hold(value):
            return True
        self.refuse(path or field, limits.rule)
        return False

    def raise_any(self) -> None:
        if self.violations:
            raise InvalidArgumentError(self.violations)

    def personal(self, request: PersonalRequest) -> None:
        if request.user_id or not request.history.movie_ids:
            self.require(
                LIMITS["user_id"].hold(request.user_id),
                "user_id",
                "must be at least 1, or unset with a history",
            )
        self.limits("limit", request.limit)
        self.movie_filter(request.movie_filter)
        self.exclusions(request.exclude_movie_ids)
        self.history(request.history)
        self.limits("diversity", request.diversity)
        self.limits("explain_features", request.explain_features)
        self.limits("because_of", request.because_of)
        self.policy(request.fallback_policy)

    def policy(self, policy: FallbackPolicy) -> None:
        self.require(policy is not FallbackPolicy.UNDEFINED, "fallback_policy", "must be a value of the enum")

    def exclusions(self, movie_ids: Sequence[int]) -> None:
        if self.limits("exclude_movie_ids", len(movie_ids)):
            for place, movie_id in enumerate(movie_ids):
                self.limits("exclude_movie_ids[]", movie_id, path=f"exclude_movie_ids[{place}]")

    def movie_filter(self, movie_filter: MovieFilter) -> None:
        self._genres("filter.genres", movie_filter.genres)
        self._genres("filter.exclude_genres", movie_filter.exclude_genres)
        years = {"filter.min_year": movie_filter.min_year, "filter.max_year": movie_filter.max_year}
        for field, year in years.items():
            if year is not None:
                self.limits(field, year)
        if movie_filter.min_year is not None and movie_filter.max_year is not None:
            self.require(
                movie_filter.min_year <= movie_filter.max_year,
                "filter.min_year",
                "must not be after max_year",
            )

    def history(self, history: RatedMovies) -> None:
        if not self.limits("history", len(history.movie_ids)):
            return
        ratings = zip(history.movie_ids, history.values, history.times, strict=True)
        for place, (movie_id, value, time) in enumerate(ratings):
            self.limits("history[].movie_id", movie_id, path=f"history[{place}].movie_id")
            self.limits("history[].rating", value, path=f"history[{place}].rating")
            if time != NO_TIME:
                self.limits("history[].rate_time", time, path=f"history[{place}].rate_time")
        for place in _repeated(history.movie_ids):
            self.refuse(f"history[{place}].movie_id", "must not stand in the history twice")

    def _genres(self, field: str, genres: Sequence[str]) -> None:
        if not self.limits(field, len(genres)):
            return
        for place, genre in enumerate(genres):
            path = f"{field}[{place}]"
            self.limits(f"{field}[]", len(genre), path=path)
            printable = re.fullmatch(_PRINTABLE, genre) is not None
            self.require(printable, path, "must not have control characters")
        for place in _repeated(genres):
            self.refuse(f"{field}[{place}]", "must not stand in the list twice")


def _repeated(values: Iterable[object]) -> list[int]:
    """Places of values that stood earlier in the list."""
    known: set[object] = set()
    places = []
    for place, value in enumerate(values):
        if value in known:
            places.append(place)
        known.add(value)
    return places
