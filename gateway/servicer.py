"""The public API over gRPC: decodes, delegates, encodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from grpc import aio
from typing_extensions import override

from gateway.codec import (
    AnswerEncoder,
    decode_batch,
    decode_movie,
    decode_personal,
    decode_popular,
    decode_search,
    decode_similar,
    decode_taste,
    decode_user,
    decode_why,
)
from gateway.movie_api import MovieApi
from gateway.status_codec import encode_status
from gateway.validation import contributions
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceServicer
from serving.limiter import CallCost, Priority, users_with_reasons
from serving.limits import LIMITS

Context: TypeAlias = aio.ServicerContext[Any, Any]
_MAX_REQUESTS: Final = int(LIMITS["requests"].high)
_WITHOUT_RANKING: Final = (
    *("GetMovie", "ListPopularMovies", "ListSimilarMovies", "SearchMovies", "ListTasteMovies"),
    *("GetUser", "GetStatus"),
)
SERVICE_NAME: Final = public.DESCRIPTOR.services_by_name["MovieService"].full_name


def call_costs(batch_concurrency: int) -> Mapping[str, CallCost]:
    """What calls ask of the limiter, by method. What needs no ranking goes first; nobody waits for a batch.

    Args:
        batch_concurrency: users of one batch that are at work at once.
    """
    return MappingProxyType(
        {
            **dict.fromkeys(_WITHOUT_RANKING, CallCost(priority=Priority.FIRST)),
            "ListPersonalMovies": CallCost(
                users=lambda request: users_with_reasons(1, contributions(request))
            ),
            "BatchListPersonalMovies": CallCost(
                users=lambda request: users_with_reasons(
                    min(len(request.requests), batch_concurrency),
                    sum(map(contributions, request.requests[:_MAX_REQUESTS])),
                ),
                priority=Priority.LAST,
            ),
        }
    )


class MovieServicer(MovieServiceServicer):
    """Answers from the API in the words of the domain."""

    def __init__(self, api: MovieApi) -> None:
        self._api = api
        self._encode = AnswerEncoder()

    @override
    async def ListPopularMovies(
        self, request: public.ListPopularMoviesRequest, context: Context
    ) -> public.ListPopularMoviesResponse:
        answer = await self._api.popular(decode_popular(request), context.time_remaining())
        return self._encode.popular(answer)

    @override
    async def ListPersonalMovies(
        self, request: public.ListPersonalMoviesRequest, context: Context
    ) -> public.ListPersonalMoviesResponse:
        answer = await self._api.personal(decode_personal(request), context.time_remaining())
        return self._encode.personal(answer)

    @override
    async def ListSimilarMovies(
        self, request: public.ListSimilarMoviesRequest, context: Context
    ) -> public.ListSimilarMoviesResponse:
        answer = await self._api.similar(decode_similar(request), context.time_remaining())
        return self._encode.similar(answer)

    @override
    async def WhyMovie(self, request: public.WhyMovieRequest, context: Context) -> public.WhyMovieResponse:
        self._api.require_why()  # first: what is turned off here has no rules
        return self._encode.why(await self._api.why(decode_why(request), context.time_remaining()))

    @override
    async def GetMovie(self, request: public.GetMovieRequest, context: Context) -> public.GetMovieResponse:
        return self._encode.movie(await self._api.movie(decode_movie(request), context.time_remaining()))

    @override
    async def SearchMovies(
        self, request: public.SearchMoviesRequest, context: Context
    ) -> public.SearchMoviesResponse:
        return self._encode.search(await self._api.search(decode_search(request), context.time_remaining()))

    @override
    async def ListTasteMovies(
        self, request: public.ListTasteMoviesRequest, context: Context
    ) -> public.ListTasteMoviesResponse:
        return self._encode.taste(await self._api.taste(decode_taste(request), context.time_remaining()))

    @override
    async def GetUser(self, request: public.GetUserRequest, context: Context) -> public.GetUserResponse:
        self._api.require_user()  # first, as in WhyMovie
        return self._encode.user(await self._api.user(decode_user(request), context.time_remaining()))

    @override
    async def GetStatus(self, request: public.GetStatusRequest, context: Context) -> public.GetStatusResponse:
        return encode_status(await self._api.status(context.time_remaining()))

    @override
    async def BatchListPersonalMovies(
        self, request: public.BatchListPersonalMoviesRequest, context: Context
    ) -> public.BatchListPersonalMoviesResponse:
        answers = await self._api.personal_batch(decode_batch(request), context.time_remaining())
        return public.BatchListPersonalMoviesResponse(responses=map(self._encode.personal, answers))
