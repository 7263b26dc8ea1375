"""Candidates of more than one source, merged by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).

Scores of different sources do not compare, but ranks do: a movie's fused score is the sum of
`weight / (60 + rank)` over the sources that offer it. How much each source weighs is chosen in training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import cached_property
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.ids import NO_ROWS, Rows
from serving.links import LinkTable
from serving.ratings import History
from serving.retrieval import Candidates, best, inner_products, score_and_rank

_RANK_OFFSET: Final = 60
"""The paper's: with less, the first places of each source would decide alone."""
_NOT_OFFERED: Final = 2**31 - 1
"""A rank behind every depth."""
_LAST: Final = 20
"""Ratings whose transitions are added up."""


class Source(StrEnum):
    """What offers candidates, in the order in which answers name sources."""

    ALS = auto()
    """The highest ALS scores."""
    TRANSITIONS = auto()
    """What is rated most often soon after the last movies that the user rated."""
    POPULARITY = auto()
    """The most popular movies."""


SourceRanks: TypeAlias = Mapping[Source, npt.NDArray[np.int32]]
"""By source, the rank of each movie of a list among what the source offers, from 1; 0: not offered."""
NO_RANKS: Final[SourceRanks] = MappingProxyType({})
"""Those of a list that ALS alone has made."""


@dataclass(frozen=True)
class SourceWeights:
    """How much each source weighs: finite, not negative, one of them positive. At 0, a source is not asked.

    Raises:
        ValueError: the weights are others.
    """

    als: float = 1.0
    transitions: float = 0.0
    popularity: float = 0.0

    def __post_init__(self) -> None:
        values = (self.als, self.transitions, self.popularity)
        if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
            raise ValueError("weights of sources must be finite and not negative, and one must be positive")

    def of(self, source: Source) -> float:
        """The weight of one source."""
        weight: float = getattr(self, source)
        return weight

    @property
    def used(self) -> tuple[Source, ...]:
        """Sources that are asked."""
        return tuple(source for source in Source if self.of(source) > 0)


ALS_ALONE: Final = SourceWeights()


@dataclass(frozen=True)
class FusedCandidates(Candidates):
    """Candidates of one user, the highest fused score first, ties in ascending movie row.

    `scores` are ALS scores, as they are without other sources: of every candidate, offered by ALS or not.
    """

    fused_scores: npt.NDArray[np.floating]
    """Of one length with the others, never rising; the ALS scores where ALS is the only source."""
    source_ranks: SourceRanks = field(default_factory=lambda: NO_RANKS)
    """Of every source that is asked; empty where that is ALS alone."""


@dataclass(frozen=True)
class SourceStanding:
    """Where one movie stands with the sources, whether or not it may be returned."""

    score: float
    """ALS score."""
    rank: int
    """Its ALS score's place, from 1, that it has or would have among all movies that may be returned."""
    source_ranks: Mapping[Source, int]
    """Of the sources that offer it, or would if it might be returned."""
    fused_score: float | None
    """None where ALS is the only source."""


@dataclass(frozen=True)
class CandidateSources:
    """The sources of one bundle. Immutable, and shared by requests."""

    item_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors), finite."""
    weights: SourceWeights = ALS_ALONE
    transitions: LinkTable | None = None
    """Where they are asked."""
    popularity: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Shape (n_movies,), where it is asked: higher is more popular; 0 for a movie that is never offered."""

    def __post_init__(self) -> None:
        used = self.weights.used
        n_movies = self.item_factors.shape[0]
        if Source.TRANSITIONS in used and (
            self.transitions is None or self.transitions.indptr.size != n_movies + 1
        ):
            raise ValueError("transitions are asked for candidates, and there are none of these movies")
        if Source.POPULARITY in used and self.popularity.shape != (n_movies,):
            raise ValueError("popularity is asked for candidates, and there is none of these movies")

    def fuse(
        self,
        als: Candidates,
        user_vector: npt.NDArray[np.float32],
        history: History,
        blocked: npt.NDArray[np.bool_],
        *,
        depth: int,
        limit: int,
    ) -> FusedCandidates:
        """Merges what ALS has retrieved for a user with what the other sources offer.

        Args:
            als: the `depth` best of ALS, or fewer where fewer are left.
            user_vector: shape (n_factors,).
            history: all that is known of the user.
            blocked: shape (n_movies,): what must not be returned, by no source.
            depth: movies that each source offers at the most.
            limit: movies to return; fewer come back when fewer are offered.
        """
        if self.weights.used == (Source.ALS,):
            finite = np.flatnonzero(np.isfinite(als.scores))[:limit]  # finite factors can still overflow
            return FusedCandidates(als.movie_rows[finite], als.scores[finite], als.scores[finite])
        offers = self.offers(als, history, blocked, depth=depth)
        rows, fused_scores = fused(offers, self.weights, limit=limit)
        scores = inner_products(self.item_factors, user_vector, rows)
        finite = np.flatnonzero(np.isfinite(scores))
        rows = rows[finite]
        return FusedCandidates(
            rows,
            scores[finite],
            fused_scores[finite],
            {source: _ranks(offered, rows, blocked.size) for source, offered in offers.items()},
        )

    def standing(
        self,
        user_vector: npt.NDArray[np.float32],
        history: History,
        blocked: npt.NDArray[np.bool_],
        *,
        depth: int,
        movie_row: int,
    ) -> SourceStanding:
        """Where a movie stands, blocked or not; arguments as for `fuse`."""
        score, rank = score_and_rank(self.item_factors, user_vector, blocked, movie_row)
        if self.weights.used == (Source.ALS,):
            return SourceStanding(score, rank, {Source.ALS: rank} if rank <= depth else {}, None)
        all_ranks = {Source.ALS: rank, Source.POPULARITY: _rank(self.popularity, blocked, movie_row)}
        if self.transitions is not None:
            scores = _after(self.transitions, history)
            all_ranks[Source.TRANSITIONS] = _rank(scores, blocked, movie_row)
        ranks = {source: all_ranks[source] for source in self.weights.used if all_ranks[source] <= depth}
        fused_score = sum(self.weights.of(source) / (_RANK_OFFSET + place) for source, place in ranks.items())
        return SourceStanding(score, rank, ranks, float(fused_score))

    def offers(
        self, als: Candidates, history: History, blocked: npt.NDArray[np.bool_], *, depth: int
    ) -> dict[Source, Rows]:
        """What each source that is asked offers, best first; arguments as for `fuse`."""
        offers = {}
        if self.weights.als > 0:
            offers[Source.ALS] = als.movie_rows
        if self.weights.transitions > 0 and self.transitions is not None:
            scores = _after(self.transitions, history)
            rows = np.flatnonzero((scores > 0) & ~blocked).astype(np.int32)
            offers[Source.TRANSITIONS] = rows[best(scores[rows], rows, depth)]
        if self.weights.popularity > 0:
            rows = self._popularity_order[: depth + np.count_nonzero(blocked)]  # at most these are left out
            offers[Source.POPULARITY] = rows[~blocked[rows]][:depth]
        return offers

    @cached_property
    def _popularity_order(self) -> Rows:
        """The movies that are offered at all, the most popular first, ties in ascending row."""
        order = np.argsort(-self.popularity, kind="stable").astype(np.int32)
        return order[: np.count_nonzero(self.popularity > 0)]


def fused(
    offers: Mapping[Source, Rows], weights: SourceWeights, *, limit: int
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The movies with the highest fused scores, best first, and these scores; ties in ascending movie row.

    Args:
        offers: by source, movies of which none comes twice, best first.
        weights: of the sources; an offer of one that weighs nothing is left out.
        limit: movies to return.
    """
    asked = [source for source in offers if weights.of(source) > 0]
    terms = [weights.of(source) / (_RANK_OFFSET + np.arange(1, offers[source].size + 1)) for source in asked]
    offered = np.concatenate([NO_ROWS, *(offers[source] for source in asked)])
    weighted = np.bincount(offered, np.concatenate([np.empty(0), *terms]))
    sums = weighted.astype(np.float64, copy=False)
    rows = np.flatnonzero(sums > 0).astype(np.int32)
    order = best(sums[rows], rows, limit)
    rows = rows[order]
    return rows, sums[rows]


def _after(transitions: LinkTable, history: History) -> npt.NDArray[np.float64]:
    """Shape (n_movies,): the weights after the last 20 movies of the history, added up.

    The order of these 20 does not matter, not even to the last bit.
    """
    links = transitions.links_of(np.sort(history.movie_rows[-_LAST:]))
    sums = np.bincount(links.targets, links.weights, minlength=transitions.indptr.size - 1)
    return sums.astype(np.float64, copy=False)


def _ranks(offered: Rows, rows: Rows, n_movies: int) -> npt.NDArray[np.int32]:
    """Shape as `rows`: the place of each movie in an offer, from 1; 0 where it is not in it."""
    ranks = np.zeros(n_movies, np.int32)
    ranks[offered] = np.arange(1, offered.size + 1)
    return ranks[rows]


def _rank(scores: npt.NDArray[np.float64], blocked: npt.NDArray[np.bool_], movie_row: int) -> int:
    """The place of a movie by scores, from 1, among those that are not blocked; behind all of them at 0."""
    if not scores.size or scores[movie_row] <= 0:
        return _NOT_OFFERED
    ahead = scores > scores[movie_row]
    ahead[:movie_row] |= scores[:movie_row] == scores[movie_row]
    return 1 + int(np.count_nonzero(ahead & ~blocked))
