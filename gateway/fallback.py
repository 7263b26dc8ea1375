"""What a list becomes when a stage fails or has nothing to give: the ladder, as a table.

two_stage -> als_only -> popularity_fallback
als_cosine -> genre_jaccard -> not_available
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final


class Model(StrEnum):
    """What set the order of a list, and the source of each of its movies."""

    TWO_STAGE = auto()
    """ALS candidates, ordered by the ranker."""
    ALS_ONLY = auto()
    """ALS order."""
    POPULARITY_FALLBACK = auto()
    """Popularity: from the gateway's memory alone."""
    ALS_COSINE = auto()
    """Cosine of ALS item factors."""
    GENRE_JACCARD = auto()
    """Shared genres."""
    NOT_AVAILABLE = auto()
    """Nothing: the movie has neither neighbours nor genres."""


class FallbackPolicy(StrEnum):
    """What the client wants when the models asked for cannot answer."""

    ALLOW = auto()
    """A weaker model, and to be told so."""
    DENY = auto()
    """An error for a fault and for an unknown user, fewer movies otherwise."""
    UNDEFINED = auto()
    """A value that the API does not define: refused."""


class FallbackReason(StrEnum):
    """Why a list is not what was asked for; values as in the public enum, without its prefix."""

    UNKNOWN_USER = "UNKNOWN_USER"
    """Expected: not in the training data, and no usable history."""
    COLD_MOVIE = "COLD_MOVIE"
    """Expected: in the catalogue, without ALS factors."""
    NO_CANDIDATES = "NO_CANDIDATES"
    """Expected: the user has seen or excluded every candidate."""
    FILTERED_OUT = "FILTERED_OUT"
    """Expected: the filter left too few."""
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    """Fault: a service could not be reached or answered an error."""
    DEPENDENCY_TIMEOUT = "DEPENDENCY_TIMEOUT"
    """Fault: a service did not answer within its share of the deadline."""
    DEPENDENCY_OVERLOADED = "DEPENDENCY_OVERLOADED"
    """Fault: a service refused because it was overloaded."""
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    """Fault: a service holds no usable model."""
    BUNDLE_MISMATCH = "BUNDLE_MISMATCH"
    """Fault: services hold different bundles."""
    INVALID_RESPONSE = "INVALID_RESPONSE"
    """Fault: a service answered something unusable."""


FAULTS: Final = frozenset(FallbackReason) - {
    FallbackReason.UNKNOWN_USER,
    FallbackReason.COLD_MOVIE,
    FallbackReason.NO_CANDIDATES,
    FallbackReason.FILTERED_OUT,
}
"""The reasons that make an answer `degraded`; the others are normal."""


class Outcome(StrEnum):
    """What the stages made of a request."""

    RANKED = auto()
    RANKING_FAILED = auto()
    NOTHING_TO_RANK = auto()
    """The user is known; seen movies, exclusions and filter leave no candidate."""
    UNKNOWN_USER = auto()
    CANDIDATES_FAILED = auto()
    NEIGHBOURS = auto()
    COLD_MOVIE = auto()
    INDEX_FAILED = auto()


class Denial(StrEnum):
    """What a client that denies fallbacks gets instead of a weaker model."""

    SHORT_LIST = auto()
    """The movies of the model asked for, however few."""
    NOT_FOUND = auto()
    UNAVAILABLE = auto()


@dataclass(frozen=True)
class Rung:
    """Where on the ladder a list begins."""

    model: Model
    """The strongest model left. An empty one hands on to `fills`."""
    fills: tuple[Model, ...]
    """What a short list is filled from, in order."""
    denial: Denial


LADDER: Final[Mapping[Outcome, Rung]] = MappingProxyType(
    {
        Outcome.RANKED: Rung(Model.TWO_STAGE, (Model.ALS_ONLY, Model.POPULARITY_FALLBACK), Denial.SHORT_LIST),
        Outcome.RANKING_FAILED: Rung(Model.ALS_ONLY, (Model.POPULARITY_FALLBACK,), Denial.UNAVAILABLE),
        Outcome.NOTHING_TO_RANK: Rung(Model.TWO_STAGE, (Model.POPULARITY_FALLBACK,), Denial.SHORT_LIST),
        Outcome.UNKNOWN_USER: Rung(Model.POPULARITY_FALLBACK, (), Denial.NOT_FOUND),
        Outcome.CANDIDATES_FAILED: Rung(Model.POPULARITY_FALLBACK, (), Denial.UNAVAILABLE),
        Outcome.NEIGHBOURS: Rung(Model.ALS_COSINE, (Model.GENRE_JACCARD,), Denial.SHORT_LIST),
        Outcome.COLD_MOVIE: Rung(Model.GENRE_JACCARD, (), Denial.SHORT_LIST),
        Outcome.INDEX_FAILED: Rung(Model.GENRE_JACCARD, (), Denial.UNAVAILABLE),
    }
)

_EXPECTED: Final[Mapping[Outcome, FallbackReason]] = MappingProxyType(
    {
        Outcome.NOTHING_TO_RANK: FallbackReason.NO_CANDIDATES,
        Outcome.UNKNOWN_USER: FallbackReason.UNKNOWN_USER,
        Outcome.COLD_MOVIE: FallbackReason.COLD_MOVIE,
    }
)


def fallback_reason(
    outcome: Outcome, *, fault: FallbackReason | None, short: bool, filtered: bool
) -> FallbackReason | None:
    """Why a list is not what was asked for: the one reason that says most.

    Args:
        outcome: what the stages made of the request.
        fault: what went wrong, if anything did: it wins over all that is normal.
        short: the strongest model alone did not fill the page.
        filtered: the request has a filter, which then explains a short list better than anything else.

    Returns:
        None when the list is what was asked for.
    """
    if fault is not None:
        return fault
    if short and filtered:
        return FallbackReason.FILTERED_OUT
    if outcome in _EXPECTED:
        return _EXPECTED[outcome]
    return FallbackReason.NO_CANDIDATES if short else None
