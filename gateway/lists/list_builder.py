"""Builds a list: what the stages gave, filled up from the ladder's next rungs."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.fallback import LADDER, Denial, FallbackPolicy, Model, Outcome, fallback_reason
from gateway.lists.catalogue import Catalogue, LikedMovie, ScoredMovies
from serving.errors import NotFoundError, Reason, UnavailableError
from serving.explanations import Explanation
from serving.ids import Rows
from serving.sources import Source
from serving.stages.stage import FallbackReason, StageFailure


class Item(NamedTuple):  # a page makes up to a hundred: a frozen dataclass takes three times as long
    """A movie in a list."""

    movie_row: int
    """Of the list's catalogue."""
    score: float
    """Finite; higher is better; comparable within one source of one answer."""
    source: Model
    explanation: Explanation = ()
    because_of: tuple[LikedMovie, ...] = ()
    """The movies that speak most for this one, most first."""
    candidate_sources: tuple[Source, ...] = ()
    """What offered it as a candidate; none for a movie that only fills the list up."""


@dataclass(frozen=True)
class ListAnswer:
    """A finished list, best first, and how it came about."""

    items: tuple[Item, ...]
    catalogue: Catalogue
    """Where its movies are looked up."""
    model: Model
    bundle_id: str
    """Where the order comes from."""
    recommendation_id: str
    reason: FallbackReason | None = None
    """Why it is not what was asked for; none when it is."""
    failure: StageFailure | None = None
    """The fault that made it weaker than asked for, if one did."""
    base_value: float | None = None
    """What a score is without any contribution; only beside explanations."""
    first_rank: int = 1
    total_size: int = 0
    """Matching movies over all pages, for a list that has pages."""

    @property
    def degraded(self) -> bool:
        """Whether a fault, not the user or the request, made it weaker than asked for."""
        return self.failure is not None


Sources: TypeAlias = dict[Model, Callable[[], ScoredMovies]]
"""What each model has to give, computed when it is needed."""


class ListBuilder:
    """Collects the movies of one answer. Takes none twice, and none that is blocked.

    Args:
        catalogue: where movies are looked up.
        blocked: shape (n_movies,): what must not be taken. The builder marks in it what it takes.
        limit: movies to take.
    """

    def __init__(self, catalogue: Catalogue, blocked: npt.NDArray[np.bool_], limit: int) -> None:
        self.catalogue = catalogue
        self.blocked = blocked
        self.items: list[Item] = []
        self._limit = limit

    @property
    def missing(self) -> int:
        """Movies that are still needed."""
        return self._limit - len(self.items)

    def block(self, movie_rows: Rows) -> None:
        """Never takes these movies."""
        self.blocked[movie_rows[movie_rows >= 0]] = True

    def admitted(self, movie_rows: Rows) -> npt.NDArray[np.intp]:
        """Places of the movies that may be taken: never one of row -1, which the catalogue does not know."""
        return np.flatnonzero((movie_rows >= 0) & ~self.blocked[movie_rows])

    def take(self, source: Model, scored: ScoredMovies) -> None:
        """Takes movies in order until the list is full.

        Args:
            source: what ordered them.
            scored: movies, of which none comes twice.
        """
        rows = scored.movie_rows
        places = self.admitted(rows)[: self.missing]
        rows = rows[places]
        self.blocked[rows] = True
        taken = places.tolist()
        details = (scored.explanations, scored.because_of, scored.candidate_sources)
        self.items += map(
            Item,
            rows.tolist(),
            scored.scores[places].tolist(),
            repeat(source),
            *([of_all[place] for place in taken] if of_all else repeat(()) for of_all in details),
        )


@dataclass(frozen=True)
class StageOutcome:
    """Outcome of each stage, and the client's fallback policy."""

    outcome: Outcome
    policy: FallbackPolicy
    filtered: bool
    """The request has a filter."""
    failure: StageFailure | None = None

    def refuse_if_denied(self, user_id: int = 0) -> None:
        """Raises what a client that denies fallbacks gets, if this outcome calls for an error.

        Raises:
            NotFoundError: nothing that is known of the user says what to recommend.
            UnavailableError: a stage failed.
        """
        if self.policy is not FallbackPolicy.DENY:
            return
        denial = LADDER[self.outcome].denial
        if denial is Denial.NOT_FOUND:
            raise NotFoundError(
                "Nothing that is known of this user says what to recommend.",
                reason=Reason.UNKNOWN_USER,
                resource_type="user",
                resource_id=user_id,
            )
        if denial is Denial.UNAVAILABLE and self.failure is not None:
            raise UnavailableError(
                f"The {self.failure.stage} service gave no usable answer: {self.failure.reason}.",
                reason=Reason.DEPENDENCY_UNAVAILABLE,
                service=self.failure.stage,
                cause=self.failure.reason,
            )


def assemble(
    builder: ListBuilder,
    stages: StageOutcome,
    sources: Sources,
    *,
    when_empty: Model,
    base_value: float | None = None,
) -> ListAnswer:
    """Takes what the outcome's rung gives, and fills a short list from the next ones.

    Args:
        builder: empty as yet.
        stages: what they made of the request.
        sources: at least of the outcome's rung and its fills.
        when_empty: what the ladder ends with when no rung has a movie.
        base_value: of the ranker, if explanations were asked for.
    """
    rung = LADDER[stages.outcome]
    fills = () if stages.policy is FallbackPolicy.DENY else rung.fills
    scored = sources[rung.model]()
    builder.take(rung.model, scored)
    short = builder.missing > 0
    for model in fills:
        if builder.missing:
            filling = sources[model]()
            scored = scored if builder.items else filling
            builder.take(model, filling)
    last_rung = rung.model if rung.fills and not fills else when_empty
    strongest = builder.items[0].source if builder.items else last_rung
    fault = None if stages.failure is None else stages.failure.reason
    return ListAnswer(
        items=tuple(builder.items),
        catalogue=builder.catalogue,
        model=strongest,
        bundle_id=scored.bundle_id,
        recommendation_id=secrets.token_hex(16),
        reason=fallback_reason(stages.outcome, fault=fault, short=short, filtered=stages.filtered),
        failure=stages.failure,
        base_value=base_value if strongest is Model.TWO_STAGE else None,
    )
