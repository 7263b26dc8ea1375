"""What a list becomes when a stage fails or has nothing to give: the ladder, as a table.

two_stage -> als_only -> popularity_fallback
als_cosine -> genre_jaccard -> not_available
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final

from serving.stages.stage import FallbackReason


class Model(StrEnum):
    """What set the order of a list, and the source of each of its movies."""

    TWO_STAGE = auto()
    """Candidates, ordered by the ranker."""
    ALS_ONLY = auto()
    """Candidates in the order of stage one: ALS scores, merged with the other sources of the bundle."""
    POPULARITY_FALLBACK = auto()
    """Popularity: from the gateway's memory alone."""
    TRENDING = auto()
    """What was rated of late, and well: from the gateway's memory alone. No list steps down to it."""
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


class Outcome(StrEnum):
    """What the stages made of a request."""

    RANKED = auto()
    RANKING_FAILED = auto()
    NOTHING_TO_RANK = auto()
    """The user is known; seen movies, exclusions and filter leave no candidate."""
    UNKNOWN_USER = auto()
    SHORT_HISTORY = auto()
    """The user has rated so little that what is popular serves them better."""
    CANDIDATES_FAILED = auto()
    NEIGHBOURS = auto()
    COLD_MOVIE = auto()
    INDEX_FAILED = auto()


class Denial(StrEnum):
    """What a client that denies fallbacks gets instead of a weaker model."""

    SHORT_LIST = auto()
    """The movies of the rung's own model, however few."""
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
    reason: FallbackReason | None = None
    """Why it begins below the model asked for, where the user or the movie is the reason, and no fault."""


LADDER: Final[Mapping[Outcome, Rung]] = MappingProxyType(
    {
        Outcome.RANKED: Rung(Model.TWO_STAGE, (Model.ALS_ONLY, Model.POPULARITY_FALLBACK), Denial.SHORT_LIST),
        Outcome.RANKING_FAILED: Rung(Model.ALS_ONLY, (Model.POPULARITY_FALLBACK,), Denial.UNAVAILABLE),
        Outcome.NOTHING_TO_RANK: Rung(Model.TWO_STAGE, (Model.POPULARITY_FALLBACK,), Denial.SHORT_LIST),
        Outcome.UNKNOWN_USER: Rung(
            Model.POPULARITY_FALLBACK, (), Denial.NOT_FOUND, FallbackReason.UNKNOWN_USER
        ),
        # Popularity is what the bundle chose for such a user: nothing to deny.
        Outcome.SHORT_HISTORY: Rung(
            Model.POPULARITY_FALLBACK, (), Denial.SHORT_LIST, FallbackReason.SHORT_HISTORY
        ),
        Outcome.CANDIDATES_FAILED: Rung(Model.POPULARITY_FALLBACK, (), Denial.UNAVAILABLE),
        Outcome.NEIGHBOURS: Rung(Model.ALS_COSINE, (Model.GENRE_JACCARD,), Denial.SHORT_LIST),
        Outcome.COLD_MOVIE: Rung(Model.GENRE_JACCARD, (), Denial.SHORT_LIST, FallbackReason.COLD_MOVIE),
        Outcome.INDEX_FAILED: Rung(Model.GENRE_JACCARD, (), Denial.UNAVAILABLE),
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
    return LADDER[outcome].reason or (FallbackReason.NO_CANDIDATES if short else None)
