"""The client for asyncio."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from movierec_client.channels import (
    DEFAULT_TIMEOUT_SECONDS,
    HEALTH_CHECK_SECONDS,
    HEALTH_PAUSE_SECONDS,
    READY_SECONDS,
    SERVICE,
    Metadata,
    Options,
    channel_options,
)
from movierec_client.errors import MovieError
from movierec_client.retries import Attempts, RetryPolicy

_Answer = TypeVar("_Answer", bound=Message)


class AsyncMovieClient:
    """Calls movierec; to be used within one event loop. A method per rpc: message in, message out.

    Every method takes a `timeout_seconds` for the whole call, retries included, and raises `MovieError`.

    Args:
        target: where the API is, as `movierec.example.com:443`.
        credentials: for TLS, as `grpc.ssl_channel_credentials()`; None: plain text.
        timeout_seconds: of calls that say no other.
        retry: when to try again.
        metadata: sent with every call, as an API key.
        options: of the channel, over our own.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        metadata: Metadata | None = None,
        options: Options | None = None,
    ) -> None:
        arguments = channel_options(options or {})
        self._channel = (
            grpc.aio.insecure_channel(target, arguments)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, arguments)
        )
        self._stub = MovieServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._timeout_seconds = timeout_seconds
        self._retry = retry
        self._metadata = tuple((metadata or {}).items())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def list_popular_movies(
        self, request: pb.ListPopularMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.ListPopularMoviesResponse:
        """Returns the most popular movies."""
        return await self._call(self._stub.ListPopularMovies, request, timeout_seconds)

    async def list_personal_movies(
        self, request: pb.ListPersonalMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.ListPersonalMoviesResponse:
        """Returns movies recommended for one user."""
        return await self._call(self._stub.ListPersonalMovies, request, timeout_seconds)

    async def list_similar_movies(
        self, request: pb.ListSimilarMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.ListSimilarMoviesResponse:
        """Returns movies similar to one movie."""
        return await self._call(self._stub.ListSimilarMovies, request, timeout_seconds)

    async def why_movie(
        self, request: pb.WhyMovieRequest, *, timeout_seconds: float | None = None
    ) -> pb.WhyMovieResponse:
        """Says why a movie is, or is not, in a user's list."""
        return await self._call(self._stub.WhyMovie, request, timeout_seconds)

    async def get_movie(
        self, request: pb.GetMovieRequest, *, timeout_seconds: float | None = None
    ) -> pb.GetMovieResponse:
        """Returns one catalogue entry."""
        return await self._call(self._stub.GetMovie, request, timeout_seconds)

    async def search_movies(
        self, request: pb.SearchMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.SearchMoviesResponse:
        """Finds movies by their titles."""
        return await self._call(self._stub.SearchMovies, request, timeout_seconds)

    async def list_taste_movies(
        self, request: pb.ListTasteMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.ListTasteMoviesResponse:
        """Returns movies to ask a newcomer about."""
        return await self._call(self._stub.ListTasteMovies, request, timeout_seconds)

    async def get_user(
        self, request: pb.GetUserRequest, *, timeout_seconds: float | None = None
    ) -> pb.GetUserResponse:
        """Returns what the bundle knows of a user."""
        return await self._call(self._stub.GetUser, request, timeout_seconds)

    async def get_status(
        self, request: pb.GetStatusRequest, *, timeout_seconds: float | None = None
    ) -> pb.GetStatusResponse:
        """Says what serves and how well."""
        return await self._call(self._stub.GetStatus, request, timeout_seconds)

    async def batch_list_personal_movies(
        self, request: pb.BatchListPersonalMoviesRequest, *, timeout_seconds: float | None = None
    ) -> pb.BatchListPersonalMoviesResponse:
        """Returns recommendations for 1 to 100 users."""
        return await self._call(self._stub.BatchListPersonalMovies, request, timeout_seconds)

    async def is_ready(self) -> bool:
        """Whether the API serves."""
        return await self._serves(HEALTH_CHECK_SECONDS)

    async def _serves(self, seconds: float) -> bool:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            answer = await self._health.Check(
                request, timeout=min(seconds, HEALTH_CHECK_SECONDS), metadata=self._metadata
            )
        except grpc.RpcError:
            return False
        return answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING

    async def wait_until_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Return once the API serves.

        Raises:
            TimeoutError: it did not in that time.
        """
        end = time.monotonic() + timeout_seconds
        while not await self._serves(end - time.monotonic()):
            if time.monotonic() + HEALTH_PAUSE_SECONDS > end:
                raise TimeoutError(f"The API does not serve after {timeout_seconds} s.")
            await asyncio.sleep(HEALTH_PAUSE_SECONDS)

    async def _call(
        self,
        method: Callable[..., Awaitable[_Answer | None]],
        request: Message,
        timeout_seconds: float | None,
    ) -> _Answer:
        attempts = Attempts(
            self._retry, self._timeout_seconds if timeout_seconds is None else timeout_seconds
        )
        while True:
            try:
                answer = await method(request, timeout=attempts.remaining_seconds, metadata=self._metadata)
            except grpc.RpcError as error:
                pause = attempts.pause_after(MovieError.of(error))
            else:
                # Against its own types, grpc.aio gives None for bytes that do not decode.
                if answer is None:
                    status = status_pb2.Status(message="Exception deserializing response!")  # as without aio
                    raise MovieError(grpc.StatusCode.INTERNAL, status)
                return answer
            await asyncio.sleep(pause)
