"""The ports over gRPC: packed arrays out and in, and nothing unusable gets past here."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import structlog
from grpc import StatusCode, aio
from typing_extensions import override

from gateway.fallback import FallbackReason
from gateway.metrics import CANCELLED, DEFECT, OK, GatewayMetrics
from gateway.ports import (
    NO_LIKES,
    CandidateAnswer,
    CandidateList,
    CandidateProbe,
    CandidateQuery,
    CandidateStage,
    Contribution,
    LikedMovies,
    RankedList,
    RankedProbe,
    RankingAnswer,
    RankingQuery,
    RankingStage,
    RefusedError,
    SimilarAnswer,
    SimilarityMethod,
    SimilarityStage,
    SimilarQuery,
    Stage,
    StageError,
    StageFailure,
    UserVector,
)
from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from movierec.ranking.v1 import ranking_service_pb2 as ranking
from movierec.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from movierec.similarity.v1.similarity_service_pb2_grpc import SimilarityServiceStub
from serving.errors import Reason
from serving.ids import Ids
from serving.rpc.interceptors import REQUEST_ID_HEADER, current_request_id
from serving.rpc.messages import encode_filter, encode_history
from serving.rpc.status import error_info

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

_REASONS: Final[Mapping[tuple[StatusCode, str], FallbackReason]] = MappingProxyType(
    {
        (StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE): FallbackReason.MODEL_UNAVAILABLE,
        (StatusCode.FAILED_PRECONDITION, Reason.BUNDLE_MISMATCH): FallbackReason.BUNDLE_MISMATCH,
        # The gateway only asks about movies that its own bundle knows.
        (StatusCode.NOT_FOUND, Reason.UNKNOWN_MOVIE): FallbackReason.BUNDLE_MISMATCH,
    }
)
_REASONS_OF_CODES: Final[Mapping[StatusCode, FallbackReason]] = MappingProxyType(
    {
        StatusCode.UNAVAILABLE: FallbackReason.DEPENDENCY_UNAVAILABLE,
        StatusCode.CANCELLED: FallbackReason.DEPENDENCY_UNAVAILABLE,  # by the peer: ours never come this way
        StatusCode.DEADLINE_EXCEEDED: FallbackReason.DEPENDENCY_TIMEOUT,
        StatusCode.RESOURCE_EXHAUSTED: FallbackReason.DEPENDENCY_OVERLOADED,
    }
)

_METHODS: Final = MappingProxyType(
    {
        similarity.SIMILARITY_METHOD_ALS_COSINE: SimilarityMethod.ALS_COSINE,
        similarity.SIMILARITY_METHOD_GENRE_JACCARD: SimilarityMethod.GENRE_JACCARD,
    }
)
_USER_VECTORS: Final = MappingProxyType(
    {
        candidate.USER_VECTOR_TRAINED: UserVector.TRAINED,
        candidate.USER_VECTOR_FOLDED_IN: UserVector.FOLDED_IN,
        candidate.USER_VECTOR_NONE: UserVector.NONE,
    }
)

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = TypeVar("Answer")
Message = TypeVar("Message")
Query = TypeVar("Query")
Listed = TypeVar("Listed")


class _RubbishError(Exception):
    """An answer that breaks the API. The message says how, for the log."""


class CandidateClient(CandidateStage):
    """Stage one behind a channel."""

    def __init__(self, channel: aio.Channel, metrics: GatewayMetrics) -> None:
        self._stub = CandidateServiceStub(channel)
        self._metrics = metrics

    @override
    async def generate(self, queries: Sequence[CandidateQuery], *, seconds: float) -> CandidateAnswer:
        request = candidate.GenerateCandidatesRequest(queries=map(_candidate_query, queries))

        def read(response: candidate.GenerateCandidatesResponse) -> CandidateAnswer:
            _require_bundle(response.bundle_id)
            _require(len(response.lists) == len(queries), "one list per query")
            lists = _each(Stage.CANDIDATE, _candidate_list, response.lists, queries)
            return CandidateAnswer(lists, response.bundle_id)

        call = self._stub.GenerateCandidates
        return await _ask(Stage.CANDIDATE, call, request, read, seconds=seconds, metrics=self._metrics)


class RankingClient(RankingStage):
    """Stage two behind a channel."""

    def __init__(self, channel: aio.Channel, metrics: GatewayMetrics) -> None:
        self._stub = RankingServiceStub(channel)
        self._metrics = metrics

    @override
    async def rank(self, queries: Sequence[RankingQuery], *, bundle_id: str, seconds: float) -> RankingAnswer:
        request = ranking.RankMoviesRequest(queries=map(_ranking_query, queries), bundle_id=bundle_id)

        def read(response: ranking.RankMoviesResponse) -> RankingAnswer:
            _require_bundle(response.bundle_id)
            if response.bundle_id != bundle_id:
                raise StageError(
                    Stage.RANKING, FallbackReason.BUNDLE_MISMATCH, "answered from another bundle"
                )
            _require(len(response.lists) == len(queries), "one list per query")
            _require(math.isfinite(response.base_value), "a finite base_value")
            lists = _each(Stage.RANKING, _ranked_list, response.lists, queries)
            return RankingAnswer(lists, response.bundle_id, response.base_value)

        call = self._stub.RankMovies
        return await _ask(Stage.RANKING, call, request, read, seconds=seconds, metrics=self._metrics)


class SimilarityClient(SimilarityStage):
    """The index of neighbours behind a channel."""

    def __init__(self, channel: aio.Channel, metrics: GatewayMetrics) -> None:
        self._stub = SimilarityServiceStub(channel)
        self._metrics = metrics

    @override
    async def find(self, query: SimilarQuery, *, seconds: float) -> SimilarAnswer:
        request = similarity.FindSimilarMoviesRequest(
            movie_id=query.movie_id,
            limit=query.limit,
            filter=encode_filter(query.movie_filter, similarity.MovieFilter) if query.movie_filter else None,
            exclude_movie_ids=query.exclude_movie_ids,
        )

        def read(response: similarity.FindSimilarMoviesResponse) -> SimilarAnswer:
            _require_bundle(response.bundle_id)
            _require(response.method in _METHODS, "a known method")
            movie_ids, scores = _scored(response.movie_ids, response.scores, query.limit)
            _require(_descending(scores), "the best first")
            _require(query.movie_id not in movie_ids, "neighbours other than the movie itself")
            return SimilarAnswer(
                movie_ids, scores.astype(np.float32), _METHODS[response.method], response.bundle_id
            )

        call = self._stub.FindSimilarMovies
        return await _ask(Stage.SIMILARITY, call, request, read, seconds=seconds, metrics=self._metrics)


async def _ask(
    stage: Stage,
    call: aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    read: Callable[[Response], Answer],
    *,
    seconds: float,
    metrics: GatewayMetrics,
) -> Answer:
    """Makes one stage call and reads its answer; times both."""
    outcome: str = OK
    began = time.perf_counter()
    request_id = current_request_id()
    try:
        metadata = ((REQUEST_ID_HEADER, request_id),) if request_id else ()
        response = await call(request, timeout=seconds, metadata=metadata)
        # Whatever its stubs say: grpc gives None for bytes that do not decode.
        _require(response is not None, "a message of the API")
        answer = read(response)
        if _any_unusable(answer):
            outcome = FallbackReason.INVALID_RESPONSE
    except aio.AioRpcError as error:
        reason = _reason(error)
        outcome = reason or DEFECT
        detail = f"{error.code().name}: {error.details()}"
        if reason is None:
            _logger.error("defect", stage=stage, detail=detail)  # noqa: TRY400  # the peer's, not ours
        failure = RefusedError if error.code() is StatusCode.INVALID_ARGUMENT else StageError
        raise failure(stage, reason or FallbackReason.DEPENDENCY_UNAVAILABLE, detail) from error
    except _RubbishError as error:
        outcome = FallbackReason.INVALID_RESPONSE
        raise StageError(stage, FallbackReason.INVALID_RESPONSE, str(error)) from error
    except StageError as error:
        outcome = error.failure.reason
        raise
    except asyncio.CancelledError:
        outcome = CANCELLED
        raise
    else:
        return answer
    finally:
        metrics.stage_seconds.labels(stage, outcome).observe(time.perf_counter() - began)


def _reason(error: aio.AioRpcError) -> FallbackReason | None:
    """Why the list steps down; None for a status that only a defect explains."""
    info = error_info(error)
    known = None if info is None else _REASONS.get((error.code(), info.reason))
    return known or _REASONS_OF_CODES.get(error.code())


def _require(holds: bool | np.bool_, what: str) -> None:  # noqa: FBT001  # reads as a sentence
    if not holds:
        raise _RubbishError(f"expected {what}")


def _each(
    stage: Stage,
    read: Callable[[Message, Query], Listed],
    messages: Iterable[Message],
    queries: Iterable[Query],
) -> tuple[Listed | StageFailure, ...]:
    """The lists of an answer, each checked by itself: rubbish for one user does not touch the others."""

    def one(message: Message, query: Query) -> Listed | StageFailure:
        try:
            return read(message, query)
        except _RubbishError as error:
            return StageFailure(stage, FallbackReason.INVALID_RESPONSE, str(error))

    return tuple(map(one, messages, queries))


def _any_unusable(answer: object) -> bool:
    return isinstance(answer, CandidateAnswer | RankingAnswer) and any(
        isinstance(found, StageFailure) for found in answer.lists
    )


def _require_bundle(bundle_id: str) -> None:
    _require(bool(bundle_id), "a bundle_id")


def _scored(
    movie_ids: Sequence[int], scores: Sequence[float], limit: int
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The parallel arrays of an answer, checked."""
    _require(len(movie_ids) == len(scores), "one score per movie")
    _require(len(movie_ids) <= limit, "no more movies than asked for")  # before arrays of any size are made
    ids = np.array(movie_ids, dtype=np.int64)
    values = np.array(scores, dtype=np.float64)
    _require(_unique(ids), "unique movies")
    _require(np.isfinite(values).all(), "finite scores")
    return ids, values


def _unique(ids: Ids) -> bool:
    return len(set(ids.tolist())) == ids.size


def _candidate_query(query: CandidateQuery) -> candidate.CandidateQuery:
    return candidate.CandidateQuery(
        user_id=query.user_id,
        limit=query.limit,
        filter=encode_filter(query.movie_filter, candidate.MovieFilter) if query.movie_filter else None,
        exclude_movie_ids=query.exclude_movie_ids,
        include_seen=query.include_seen,
        history=encode_history(query.history, candidate.RatedMovie),
        because_of=query.because_of,
        probe_movie_ids=query.probe_movie_ids,
    )


def _candidate_list(message: candidate.CandidateList, query: CandidateQuery) -> CandidateList:
    movie_ids, scores = _scored(message.movie_ids, message.scores, query.limit)
    _require(_descending(scores), "the best first")
    user_vector = _USER_VECTORS.get(message.user_vector)
    if user_vector is None:
        raise _RubbishError("expected to be told where the user's vector came from")
    _require(user_vector is not UserVector.NONE or not movie_ids.size, "no movies without a vector")
    because_of = _liked_movies(message, query.because_of)
    probed = query.probe_movie_ids if user_vector is not UserVector.NONE else ()
    _require([probe.movie_id for probe in message.probes] == list(probed), "one probe per movie asked for")
    probes = tuple(map(_candidate_probe, message.probes))
    return CandidateList(movie_ids, scores.astype(np.float32), user_vector, because_of, probes)


def _liked_movies(message: candidate.CandidateList, most: int) -> LikedMovies:
    expected = len(message.movie_ids) * most
    for values in (message.because_of_movie_ids, message.because_of_weights):
        _require(len(values) == expected, "because_of entries for each candidate, if asked for")
    if not expected:
        return NO_LIKES
    movie_ids = np.array(message.because_of_movie_ids, dtype=np.int64).reshape(-1, most)
    weights = np.array(message.because_of_weights, dtype=np.float32).reshape(-1, most)
    _require(np.isfinite(weights).all(), "finite weights")
    return LikedMovies(movie_ids, weights)


def _candidate_probe(message: candidate.CandidateProbe) -> CandidateProbe:
    scored = message.HasField("score")
    _require(scored == message.HasField("rank"), "a rank with a score")
    _require(math.isfinite(message.score), "finite scores of probes")
    _require(not scored or message.rank >= 1, "ranks of probes from 1")
    return CandidateProbe(
        movie_id=message.movie_id,
        seen=message.seen,
        excluded=message.excluded,
        filtered_out=message.filtered_out,
        score=message.score if scored else None,
        rank=message.rank if scored else None,
    )


def _ranking_query(query: RankingQuery) -> ranking.RankingQuery:
    return ranking.RankingQuery(
        user_id=query.user_id,
        movie_ids=query.movie_ids.tolist(),
        retrieval_scores=query.retrieval_scores.tolist(),
        limit=query.limit,
        explain_features=query.explain_features,
        diversity=query.diversity,
        history=encode_history(query.history, ranking.RatedMovie),
        probes=[
            ranking.RankingProbe(
                movie_id=probe.movie_id,
                retrieval_score=probe.retrieval_score,
                retrieval_rank=probe.retrieval_rank,
            )
            for probe in query.probes
        ],
    )


def _ranked_list(message: ranking.RankedList, query: RankingQuery) -> RankedList:
    movie_ids, scores = _scored(message.movie_ids, message.scores, query.limit)
    unknown = np.array(message.unknown_movie_ids, dtype=np.int64)
    asked = set(query.movie_ids.tolist())
    _require(asked.issuperset(movie_ids.tolist()), "only movies that were sent")
    _require(asked.issuperset(unknown.tolist()), "only movies that were sent as unknown")
    _require(movie_ids.size > 0, "at least one movie")
    _require(query.diversity > 0 or _descending(scores), "the best first")
    explained = movie_ids.size if query.explain_features else 0
    _require(len(message.explanations) == explained, "one explanation per movie, if asked for")
    explanations = tuple(_contributions(e, query.explain_features) for e in message.explanations)
    probed = [probe.movie_id for probe in message.probes]
    _require(len(set(probed)) == len(probed), "unique probes")
    _require({probe.movie_id for probe in query.probes}.issuperset(probed), "only probes that were sent")
    probes = tuple(map(_ranked_probe, message.probes))
    last_explanation = _contributions(message.last_explanation)
    _require(bool(last_explanation) == bool(query.probes), "an explanation of the last movie beside probes")
    return RankedList(movie_ids, scores, explanations, unknown, probes, last_explanation)


def _ranked_probe(message: ranking.RankedProbe) -> RankedProbe:
    _require(math.isfinite(message.score), "finite scores of probes")
    _require(message.rank >= 1, "ranks of probes from 1")
    return RankedProbe(message.movie_id, message.score, message.rank, _contributions(message.explanation))


def _contributions(message: ranking.Explanation, most: int | None = None) -> tuple[Contribution, ...]:
    _require(most is None or len(message.contributions) <= most, "no more contributions than asked for")
    contributions = tuple(
        Contribution(c.feature, c.value if c.HasField("value") else None, c.contribution)
        for c in message.contributions
    )
    for one in contributions:
        finite = math.isfinite(one.contribution) and (one.value is None or math.isfinite(one.value))
        _require(finite, "finite contributions")
    return contributions


def _descending(scores: npt.NDArray[np.float64]) -> bool:
    return bool((scores[1:] <= scores[:-1]).all())
