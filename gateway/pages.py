"""A list in the making: what the stages gave, filled up from the ladder's next rungs."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.catalogue import Catalogue, Movie, Scored
from gateway.fallback import LADDER, Denial, FallbackPolicy, FallbackReason, Model, Outcome, fallback_reason
from gateway.ports import Contribution, StageFailure
from serving.errors import NotFoundError, Reason, UnavailableError
from serving.ids import Rows


@dataclass(frozen=True)
class LikedMovie:
    """A movie that the user liked, as a reason for another."""

    movie_id: int
    title: str
    weight: float
    """What it adds to the other's ALS score; positive."""


@dataclass(frozen=True)
class Item:
    """A movie in a list."""

    movie: Movie
    score: float
    """Finite; higher is better; comparable within one source of one answer."""
    source: Model
    explanation: tuple[Contribution, ...] = ()
    because_of: tuple[LikedMovie, ...] = ()
    """The movies that speak most for this one, most first."""


@dataclass(frozen=True)
class ListAnswer:
    """A finished list, best first, and how it came about."""

    items: tuple[Item, ...]
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


Sources: TypeAlias = dict[Model, Callable[[], Scored]]
"""What each model has to give, computed when it is needed."""


class Page:
    """Collects the movies of one answer. Takes none twice, and none that is blocked.

    Args:
        catalogue: where movies are looked up.
        blocked: shape (n_movies,): what must not be taken. The page marks in it what it takes.
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

    def take(self, source: Model, scored: Scored) -> None:
        """Takes movies in order until the page is full; row -1, unknown to the catalogue, never."""
        for place, row in enumerate(scored.movie_rows.tolist()):
            if not self.missing:
                return
            if row < 0 or self.blocked[row]:
                continue
            self.blocked[row] = True
            explanation = scored.explanations[place] if scored.explanations else ()
            item = Item(self.catalogue.movie(row), float(scored.scores[place]), source, explanation)
            self.items.append(item)


@dataclass(frozen=True)
class Course:
    """How it went with the stages, and what the client wants in that case."""

    outcome: Outcome
    policy: FallbackPolicy
    filtered: bool
    """The request has a filter."""
    failure: StageFailure | None = None

    def refuse_if_denied(self, user_id: int = 0) -> None:
        """Raises what a client that denies fallbacks gets, if this outcome calls for an error.

        Raises:
            NotFoundError: the user is unknown.
            UnavailableError: a stage failed.
        """
        if self.policy is not FallbackPolicy.DENY:
            return
        denial = LADDER[self.outcome].denial
        if denial is Denial.NOT_FOUND:
            raise NotFoundError(reason=Reason.UNKNOWN_USER, resource_type="user", resource_id=user_id)
        if denial is Denial.UNAVAILABLE and self.failure is not None:
            raise UnavailableError(
                f"The {self.failure.stage} service gave no usable answer: {self.failure.reason}.",
                reason=Reason.DEPENDENCY_UNAVAILABLE,
                service=self.failure.stage,
                cause=self.failure.reason,
            )


def assemble(
    page: Page,
    course: Course,
    sources: Sources,
    *,
    when_empty: Model,
    base_value: float | None = None,
) -> ListAnswer:
    """Takes what the outcome's rung gives, and fills a short list from the next ones.

    Args:
        page: empty as yet.
        course: how it went.
        sources: at least of the outcome's rung and its fills.
        when_empty: what the ladder ends with when no rung has a movie.
        base_value: of the ranker, if explanations were asked for.
    """
    rung = LADDER[course.outcome]
    fills = () if course.policy is FallbackPolicy.DENY else rung.fills
    scored = sources[rung.model]()
    page.take(rung.model, scored)
    short = page.missing > 0
    for model in fills:
        if page.missing:
            filling = sources[model]()
            scored = scored if page.items else filling
            page.take(model, filling)
    last_rung = rung.model if rung.fills and not fills else when_empty
    strongest = page.items[0].source if page.items else last_rung
    fault = None if course.failure is None else course.failure.reason
    return ListAnswer(
        items=tuple(page.items),
        model=strongest,
        bundle_id=scored.bundle_id,
        recommendation_id=uuid.uuid4().hex,
        reason=fallback_reason(course.outcome, fault=fault, short=short, filtered=course.filtered),
        failure=course.failure,
        base_value=base_value if strongest is Model.TWO_STAGE else None,
    )
