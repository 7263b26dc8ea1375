"""What the gateway asks of the stages, in domain types. `gateway.clients` speaks to real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gateway.fallback import FallbackReason
from serving.filters import MovieFilter
from serving.ids import Ids
from serving.ratings import RatedMovies


class Stage(StrEnum):
    """A service that the gateway asks; also its name in metrics and errors."""

    CANDIDATE = auto()
    RANKING = auto()
    SIMILARITY = auto()


@dataclass(frozen=True)
class StageFailure:
    """That a stage gave no usable answer, and why: the list steps down."""

    stage: Stage
    reason: FallbackReason
    detail: str = ""
    """For the log; never shown to clients."""


class StageError(Exception):
    """A stage gave no usable answer."""

    def __init__(self, stage: Stage, reason: FallbackReason, detail: str = "") -> None:
        super().__init__(f"{stage}: {reason}" + (f": {detail}" if detail else ""))
        self.failure = StageFailure(stage, reason, detail)


class RefusedError(StageError):
    """The stage called a query invalid: one defect, which the other queries of the call suffered with."""


Listed = TypeVar("Listed")


def usable(found: Listed | StageFailure) -> Listed:
    """What a stage found for one query.

    Raises:
        StageError: for this query, nothing usable.
    """
    if isinstance(found, StageFailure):
        raise StageError(found.stage, found.reason, found.detail)
    return found


class UserVector(StrEnum):
    """Where a user's vector came from."""

    TRAINED = auto()
    FOLDED_IN = auto()
    NONE = auto()
    """There is none; the list of candidates is empty."""


@dataclass(frozen=True)
class CandidateQuery:
    """What to retrieve for one user."""

    user_id: int
    limit: int
    movie_filter: MovieFilter
    exclude_movie_ids: tuple[int, ...]
    include_seen: bool
    history: RatedMovies
    because_of: int = 0
    """How many liked movies to name with each candidate."""
    probe_movie_ids: tuple[int, ...] = ()
    """Movies to tell of beside the candidates; they change nothing else."""


@dataclass(frozen=True)
class CandidateProbe:
    """Where one movie stands with retrieval, whether or not it is a candidate."""

    movie_id: int
    seen: bool
    excluded: bool
    filtered_out: bool
    score: float | None
    """Finite; none when ALS has no factors for the movie."""
    rank: int | None
    """From 1; that it has, or would have if it might be returned. None without a score."""


@dataclass(frozen=True)
class LikedMovies:
    """The likes that speak most for each candidate, most first. Shapes (n_candidates, because_of)."""

    movie_ids: Ids
    """0 where fewer speak for the candidate."""
    weights: npt.NDArray[np.float32]
    """Finite."""


NO_LIKES: Final = LikedMovies(np.empty((0, 0), np.int64), np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class CandidateList:
    """The candidates of one user, best first; arrays of one length, ids unique, scores finite."""

    movie_ids: Ids
    scores: npt.NDArray[np.float32]
    user_vector: UserVector
    because_of: LikedMovies = NO_LIKES
    """Only when asked for."""
    probes: tuple[CandidateProbe, ...] = ()
    """One per movie asked for, in order; none without a vector."""


@dataclass(frozen=True)
class CandidateAnswer:
    """One list per query, in order, or why that one is unusable."""

    lists: tuple[CandidateList | StageFailure, ...]
    bundle_id: str


class CandidateStage(Protocol):
    """Stage one: retrieval."""

    async def generate(self, queries: Sequence[CandidateQuery], *, seconds: float) -> CandidateAnswer:
        """Retrieves candidates for 1 to 100 users.

        Args:
            queries: one per user.
            seconds: how long the answer is worth waiting for.

        Raises:
            RefusedError: the stage called one of the queries invalid.
            StageError: there is no usable answer.
        """
        ...


@dataclass(frozen=True)
class RankingProbe:
    """A movie to score as if it stood in the list."""

    movie_id: int
    retrieval_score: float
    retrieval_rank: int


@dataclass(frozen=True)
class RankingQuery:
    """What to order for one user."""

    user_id: int
    movie_ids: Ids
    retrieval_scores: npt.NDArray[np.float32]
    limit: int
    """Movies to return."""
    explain_features: int
    diversity: float
    history: RatedMovies
    probes: tuple[RankingProbe, ...] = ()
    """Movies to score beside the list; they never alter it."""


@dataclass(frozen=True)
class Contribution:
    """A feature's additive contribution to a ranking score (SHAP)."""

    feature: str
    value: float | None
    """What the ranker saw; none when it was missing."""
    contribution: float


@dataclass(frozen=True)
class RankedProbe:
    """Where a probe stands in the order of scores."""

    movie_id: int
    score: float
    """Finite."""
    rank: int
    """From 1; that it has, or would have, among all movies of the query."""
    explanation: tuple[Contribution, ...]
    """All contributions."""


@dataclass(frozen=True)
class RankedList:
    """The order for one user, best first; arrays of one length, ids unique, scores finite."""

    movie_ids: Ids
    """Of the query, not necessarily all."""
    scores: npt.NDArray[np.float64]
    """Descending unless diversity was asked for."""
    explanations: tuple[tuple[Contribution, ...], ...]
    """One per movie when explanations were asked for, else empty. Largest contribution first."""
    unknown_movie_ids: Ids
    """Movies of the query that ranking has no features for."""
    probes: tuple[RankedProbe, ...] = ()
    """Those that can be scored, in order."""
    last_explanation: tuple[Contribution, ...] = ()
    """All contributions to the last movie; only with probes."""


@dataclass(frozen=True)
class RankingAnswer:
    """One list per query, in order, or why that one is unusable."""

    lists: tuple[RankedList | StageFailure, ...]
    bundle_id: str
    base_value: float
    """What a movie's score is without any contribution."""


class RankingStage(Protocol):
    """Stage two: re-ordering."""

    async def rank(self, queries: Sequence[RankingQuery], *, bundle_id: str, seconds: float) -> RankingAnswer:
        """Orders the candidates of 1 to 100 users.

        Args:
            queries: one per user.
            bundle_id: where the candidates came from; the answer comes from the same.
            seconds: how long the answer is worth waiting for.

        Raises:
            RefusedError: the stage called one of the queries invalid.
            StageError: there is no usable answer.
        """
        ...


class SimilarityMethod(StrEnum):
    """How similarity was measured."""

    ALS_COSINE = auto()
    GENRE_JACCARD = auto()
    """ALS has no factors for the movie."""


@dataclass(frozen=True)
class SimilarQuery:
    """Which neighbours to find."""

    movie_id: int
    limit: int
    movie_filter: MovieFilter
    exclude_movie_ids: tuple[int, ...]


@dataclass(frozen=True)
class SimilarAnswer:
    """The neighbours, most similar first; arrays of one length, ids unique, scores finite."""

    movie_ids: Ids
    scores: npt.NDArray[np.float32]
    method: SimilarityMethod
    bundle_id: str


class SimilarityStage(Protocol):
    """The index of neighbours."""

    async def find(self, query: SimilarQuery, *, seconds: float) -> SimilarAnswer:
        """Finds the movies nearest to one movie.

        Raises:
            StageError: there is no usable answer; BUNDLE_MISMATCH: the index does not hold the movie.
        """
        ...
