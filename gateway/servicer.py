"""The public API over gRPC: decodes, delegates, encodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from grpc import aio
from typing_extensions import override

from gateway.encoding import (
    decode_batch,
    decode_personal,
    decode_popular,
    decode_similar,
    decode_why,
    encode_movie,
    encode_personal,
    encode_popular,
    encode_similar,
    encode_why,
)
from gateway.pipeline import Pipeline
from gateway.validation import contributions
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceServicer
from serving.limiter import Load, Priority, users_with_reasons

SERVICE_NAME: Final = public.DESCRIPTOR.services_by_name["MovieService"].full_name


def loads(batch_concurrency: int) -> Mapping[str, Load]:
    """What calls ask of the limiter, by method. What needs no stage goes first; nobody waits for a batch.

    Args:
        batch_concurrency: users of one batch that are at work at once.
    """
    return MappingProxyType(
        {
            "GetMovie": Load(priority=Priority.FIRST),
            "ListPopularMovies": Load(priority=Priority.FIRST),
            "ListSimilarMovies": Load(priority=Priority.FIRST),
            "ListPersonalMovies": Load(users=lambda request: users_with_reasons(1, _contributions(request))),
            "BatchListPersonalMovies": Load(
                users=lambda request: users_with_reasons(
                    min(len(request.requests), batch_concurrency), sum(map(_contributions, request.requests))
                ),
                priority=Priority.LAST,
            ),
        }
    )


def _contributions(request: public.ListPersonalMoviesRequest) -> int:
    return contributions(request.limit, request.explain_features)


class MovieServicer(MovieServiceServicer):
    """Answers from a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    async def ListPopularMovies(
        self, request: public.ListPopularMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.ListPopularMoviesResponse:
        answer = await self._pipeline.popular(decode_popular(request), context.time_remaining())
        return encode_popular(answer)

    @override
    async def ListPersonalMovies(
        self, request: public.ListPersonalMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.ListPersonalMoviesResponse:
        answer = await self._pipeline.personal(decode_personal(request), context.time_remaining())
        return encode_personal(answer)

    @override
    async def ListSimilarMovies(
        self, request: public.ListSimilarMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.ListSimilarMoviesResponse:
        answer = await self._pipeline.similar(decode_similar(request), context.time_remaining())
        return encode_similar(answer)

    @override
    async def WhyMovie(
        self, request: public.WhyMovieRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.WhyMovieResponse:
        return encode_why(await self._pipeline.why(decode_why(request), context.time_remaining()))

    @override
    async def GetMovie(
        self, request: public.GetMovieRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.GetMovieResponse:
        return encode_movie(await self._pipeline.movie(request.movie_id, context.time_remaining()))

    @override
    async def BatchListPersonalMovies(
        self, request: public.BatchListPersonalMoviesRequest, context: aio.ServicerContext[Any, Any]
    ) -> public.BatchListPersonalMoviesResponse:
        answers = await self._pipeline.personal_batch(decode_batch(request), context.time_remaining())
        return public.BatchListPersonalMoviesResponse(responses=map(encode_personal, answers))
