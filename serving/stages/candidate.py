"""Stage one, retrieval: what the gateway asks the candidate service, and what it answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from itertools import compress
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from movierec.candidate.v1 import candidate_service_pb2 as pb
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import NO_IDS, Ids
from serving.limits import STAGE_LIMITS
from serving.ratings import RatedMovies
from serving.sources import NO_RANKS, Source, SourceRanks
from serving.stages.messages import (
    decode_filter,
    decode_history,
    decode_ranks,
    decode_source_ranks,
    encode_filter,
    encode_history,
    encode_ranks,
    encode_source_ranks,
)
from serving.stages.reading import each, read_scored, require, require_bundle
from serving.stages.stage import StageCodec, StageFailure, StageName

_MOST: Final = int(STAGE_LIMITS["CandidateQuery.limit"].high)
SERVICE: Final = pb.DESCRIPTOR.services_by_name["CandidateService"]


class UserVector(StrEnum):
    """Where a user's vector came from."""

    TRAINED = auto()
    """Learned in training."""
    FOLDED_IN = auto()
    """Computed from the request's history, joined to the training ratings of a known user."""
    NONE = auto()
    """There is none: nothing that is known of the user says what to recommend."""


@dataclass(frozen=True, eq=False)
class CandidateQuery:
    """What to retrieve for one user."""

    user_id: int
    """0: only the history counts."""
    limit: int = 0
    """Most candidates to return; 0: as many as the bundle's ranker learned from."""
    movie_filter: MovieFilter = UNRESTRICTED
    exclude_movie_ids: Ids = field(default_factory=lambda: NO_IDS)
    """Movies to leave out; unknown ones are ignored."""
    include_seen: bool = False
    """Whether movies that the user has rated may come back."""
    history: RatedMovies = field(default_factory=RatedMovies)
    because_of: int = 0
    """How many likes to name with each candidate."""
    probe_movie_ids: tuple[int, ...] = ()
    """Movies to tell of beside the candidates; they change nothing else."""
    return_seen: bool = False
    """Whether to tell what the user has rated."""
    bundle_id: str = ""
    """What to answer from; empty: the current bundle."""


@dataclass(frozen=True)
class CandidateProbe:
    """Where one movie stands with retrieval, whether or not it is a candidate."""

    movie_id: int
    unknown: bool = False
    """The bundle does not hold it, and there is nothing else to say."""
    seen: bool = False
    """The user has rated it."""
    excluded: bool = False
    filtered_out: bool = False
    score: float | None = None
    """Its ALS score, finite; none when ALS has no factors for the movie."""
    rank: int | None = None
    """By ALS score from 1, among all that may be returned: what it has, or would have if it might be."""
    fused_score: float | None = None
    """Finite; none as `score`, and where ALS is the only source."""
    source_ranks: Mapping[Source, int] = field(default_factory=dict)
    """Of the sources that offer it, or would if it might be returned."""

    @property
    def order_score(self) -> float | None:
        """What its place in the list is by."""
        return self.score if self.fused_score is None else self.fused_score


@dataclass(frozen=True)
class LikedMovies:
    """The likes that speak most for each candidate, most first. Shapes (n_candidates, because_of)."""

    movie_ids: Ids
    """0 where fewer speak for the candidate."""
    weights: npt.NDArray[np.float32]
    """What each adds to the candidate's score: positive and finite, 0 beside movie 0."""

    def where(self, shown: npt.NDArray[np.bool_]) -> "LikedMovies":
        """Those of the candidates that `shown`, shape (n_candidates,), keeps."""
        return LikedMovies(self.movie_ids[shown], self.weights[shown]) if self.movie_ids.size else self


NO_LIKES: Final = LikedMovies(np.empty((0, 0), np.int64), np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class CandidateList:
    """The candidates of one user, best first, ties in ascending movie_id: unique ids, and a score of each."""

    movie_ids: Ids
    scores: npt.NDArray[np.floating]
    """Inner products of the user's and the movies' factors, finite: ALS scores."""
    user_vector: UserVector
    bundle_id: str
    because_of: LikedMovies = NO_LIKES
    """Only when asked for."""
    probes: tuple[CandidateProbe, ...] = ()
    """One per movie asked for, in order; none without a vector."""
    fused_scores: npt.NDArray[np.floating] = field(default_factory=lambda: np.empty(0))
    """What the order is by, never rising, with `source_ranks`; without, it is by `scores`."""
    source_ranks: SourceRanks = field(default_factory=lambda: NO_RANKS)
    """Of all sources that were asked; empty where that is ALS alone."""
    short_history: bool = False
    """The user has rated so little that what is popular serves them better: there are no movies."""
    seen_movie_ids: Ids = field(default_factory=lambda: NO_IDS)
    """All that the user has rated in training; none unless asked for."""

    @property
    def order_scores(self) -> npt.NDArray[np.floating]:
        """What the order is by, never rising."""
        return self.fused_scores if self.source_ranks else self.scores

    def where(self, shown: npt.NDArray[np.bool_]) -> "CandidateList":
        """The list with the candidates that `shown`, shape (n_candidates,), keeps."""
        return replace(
            self,
            movie_ids=self.movie_ids[shown],
            scores=self.scores[shown],
            because_of=self.because_of.where(shown),
            fused_scores=self.fused_scores[shown] if self.source_ranks else self.fused_scores,
            source_ranks={source: ranks[shown] for source, ranks in self.source_ranks.items()},
        )

    def sources_at(self, places: npt.NDArray[np.intp]) -> list[tuple[Source, ...]]:
        """What offered the candidates at some places of the list."""
        if not self.source_ranks:
            return [(Source.ALS,)] * places.size
        ranks = (of_source[places].tolist() for of_source in self.source_ranks.values())
        return [tuple(compress(self.source_ranks, of_one)) for of_one in zip(*ranks, strict=True)]


_USER_VECTORS: Final[Mapping[UserVector, "pb.UserVector.ValueType"]] = MappingProxyType(
    {vector: pb.UserVector.Value(f"USER_VECTOR_{vector.name}") for vector in UserVector}
)
_USER_VECTORS_READ: Final = MappingProxyType({number: vector for vector, number in _USER_VECTORS.items()})


def decode_request(request: pb.GenerateCandidatesRequest) -> list[CandidateQuery]:
    """The queries of a checked request."""
    return [
        CandidateQuery(
            user_id=query.user_id,
            limit=query.limit,
            movie_filter=decode_filter(query.filter),
            exclude_movie_ids=np.asarray(query.exclude_movie_ids, dtype=np.int64),
            include_seen=query.include_seen,
            history=decode_history(query.history),
            because_of=query.because_of,
            probe_movie_ids=tuple(query.probe_movie_ids),
            return_seen=query.return_seen,
            bundle_id=request.bundle_id,
        )
        for query in request.queries
    ]


def encode_response(lists: Sequence[CandidateList], bundle_id: str) -> pb.GenerateCandidatesResponse:
    """The answers to a request, in order."""
    response = pb.GenerateCandidatesResponse(bundle_id=bundle_id)
    for candidates in lists:
        message = response.lists.add(user_vector=_USER_VECTORS[candidates.user_vector])
        message.movie_ids.extend(candidates.movie_ids.tolist())
        message.scores.extend(candidates.scores.tolist())
        message.because_of_movie_ids.extend(candidates.because_of.movie_ids.ravel().tolist())
        message.because_of_weights.extend(candidates.because_of.weights.ravel().tolist())
        message.short_history = candidates.short_history
        if candidates.seen_movie_ids.size:
            message.seen_movie_ids.extend(candidates.seen_movie_ids.tolist())
        if candidates.source_ranks:
            message.fused_scores.extend(candidates.fused_scores.tolist())
        encode_source_ranks(candidates.source_ranks, message)
        for probe in candidates.probes:
            probe_message = message.probes.add(
                movie_id=probe.movie_id,
                unknown=probe.unknown,
                seen=probe.seen,
                excluded=probe.excluded,
                filtered_out=probe.filtered_out,
                score=probe.score,
                rank=probe.rank,
                fused_score=probe.fused_score,
            )
            encode_ranks(probe.source_ranks, probe_message)
    return response


def _encode_request(queries: Sequence[CandidateQuery]) -> pb.GenerateCandidatesRequest:
    request = pb.GenerateCandidatesRequest(bundle_id=queries[0].bundle_id)
    for query in queries:
        message = request.queries.add(
            user_id=query.user_id,
            limit=query.limit,
            include_seen=query.include_seen,
            because_of=query.because_of,
            probe_movie_ids=query.probe_movie_ids,
            return_seen=query.return_seen,
        )
        if query.movie_filter:
            message.filter.CopyFrom(encode_filter(query.movie_filter, pb.MovieFilter))
        message.exclude_movie_ids.extend(query.exclude_movie_ids.tolist())
        message.history.extend(encode_history(query.history, pb.RatedMovie))
    return request


def _decode_response(
    response: pb.GenerateCandidatesResponse, queries: Sequence[CandidateQuery]
) -> list[CandidateList | StageFailure]:
    require_bundle(StageName.CANDIDATE, response.bundle_id, queries[0].bundle_id)

    def read(message: pb.CandidateList, query: CandidateQuery) -> CandidateList:
        source_ranks = decode_source_ranks(message)
        movie_ids, scores = read_scored(
            message.movie_ids, message.scores, query.limit or _MOST, descending=not source_ranks
        )
        for ranks in source_ranks.values():
            require(ranks.size == movie_ids.size, "one rank per movie of each source")
            require(ranks.min(initial=0) >= 0, "ranks from 1, or 0")
        fused_scores = np.asarray(message.fused_scores, np.float64)
        require(fused_scores.size == (movie_ids.size if source_ranks else 0), "fused scores with ranks")
        require(np.isfinite(fused_scores).all(), "finite fused scores")
        require(bool((fused_scores[1:] <= fused_scores[:-1]).all()), "the best first")
        require(message.user_vector in _USER_VECTORS_READ, "to be told where the user's vector came from")
        vector = _USER_VECTORS_READ[message.user_vector]
        require(vector is not UserVector.NONE or not movie_ids.size, "no movies without a vector")
        require(not message.short_history or not movie_ids.size, "no movies of a short history")
        probed = query.probe_movie_ids if vector is not UserVector.NONE else ()
        require(tuple(probe.movie_id for probe in message.probes) == probed, "one probe per movie asked for")
        return CandidateList(
            movie_ids=movie_ids,
            scores=scores,
            user_vector=vector,
            bundle_id=response.bundle_id,
            because_of=_read_likes(message, query.because_of),
            probes=tuple(map(_read_probe, message.probes)),
            fused_scores=fused_scores,
            source_ranks=source_ranks,
            short_history=message.short_history,
            seen_movie_ids=np.asarray(message.seen_movie_ids, np.int64) if query.return_seen else NO_IDS,
        )

    return each(StageName.CANDIDATE, read, response.lists, queries)


def _read_likes(message: pb.CandidateList, most: int) -> LikedMovies:
    expected = len(message.movie_ids) * most
    for values in (message.because_of_movie_ids, message.because_of_weights):
        require(len(values) == expected, "because_of entries for each candidate, if asked for")
    if not expected:
        return NO_LIKES
    movie_ids = np.asarray(message.because_of_movie_ids, dtype=np.int64).reshape(-1, most)
    weights = np.asarray(message.because_of_weights, dtype=np.float32).reshape(-1, most)
    require(np.isfinite(weights).all(), "finite weights")
    return LikedMovies(movie_ids, weights)


def _read_probe(message: pb.CandidateProbe) -> CandidateProbe:
    scored = message.HasField("score")
    require(scored == message.HasField("rank"), "a rank with a score")
    require(math.isfinite(message.score), "finite scores of probes")
    require(not scored or message.rank >= 1, "ranks of probes from 1")
    require(math.isfinite(message.fused_score), "finite fused scores of probes")
    return CandidateProbe(
        movie_id=message.movie_id,
        unknown=message.unknown,
        seen=message.seen,
        excluded=message.excluded,
        filtered_out=message.filtered_out,
        score=message.score if scored else None,
        rank=message.rank if scored else None,
        fused_score=message.fused_score if message.HasField("fused_score") else None,
        source_ranks=decode_ranks(message),
    )


CODEC: Final = StageCodec(
    name=StageName.CANDIDATE,
    method=f"/{SERVICE.full_name}/GenerateCandidates",
    encode_request=_encode_request,
    response_class=pb.GenerateCandidatesResponse,
    decode_response=_decode_response,
    batch_key=lambda query: query.bundle_id,
)
