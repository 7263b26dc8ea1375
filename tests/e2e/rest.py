"""The REST API as a client sees it, decoded into the messages of the gRPC API."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from deploy.demo.answers import AnswerError, Question, ask
from movierec.gateway.v1 import movie_service_pb2 as pb

PERSONAL = "/api/movies/personal"
POPULAR = "/api/movies/popular"

_SECONDS = 60.0  # ample: no test is decided by it
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class Failure:
    """An error answer."""

    http_status: int
    status: status_pb2.Status

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """Its one ErrorInfo."""
        return self.detail(error_details_pb2.ErrorInfo)

    def detail(self, kind: type[_M]) -> _M:
        """Its one detail of a kind."""
        (found,) = (message for detail in self.status.details if detail.Unpack(message := kind()))
        return found


@dataclass(frozen=True)
class Rest:
    """Asks the edge."""

    client: httpx.Client

    @classmethod
    @contextmanager
    def at(cls, url: str) -> Iterator["Rest"]:
        """Speak to an edge while the block runs."""
        with httpx.Client(base_url=url, timeout=_SECONDS, trust_env=False) as client:
            yield cls(client)

    def personal(self, *query: tuple[str, str | int]) -> pb.ListPersonalMoviesResponse:
        """Movies for a user, by GET."""
        return ask(self.client, Question(PERSONAL, query), pb.ListPersonalMoviesResponse)

    def personal_by_post(self, body: dict[str, Any]) -> pb.ListPersonalMoviesResponse:
        """Movies for a user, by POST."""
        return ask(self.client, Question(PERSONAL, body=body), pb.ListPersonalMoviesResponse)

    def batch(self, *bodies: dict[str, Any]) -> list[pb.ListPersonalMoviesResponse]:
        """Movies for several users."""
        question = Question(f"{PERSONAL}:batch", body={"requests": bodies})
        return list(ask(self.client, question, pb.BatchListPersonalMoviesResponse).responses)

    def popular(self, *query: tuple[str, str | int]) -> pb.ListPopularMoviesResponse:
        """Popular movies."""
        return ask(self.client, Question(POPULAR, query), pb.ListPopularMoviesResponse)

    def similar(self, movie_id: int, *query: tuple[str, str | int]) -> pb.ListSimilarMoviesResponse:
        """Movies like one movie."""
        path = f"/api/movies/{movie_id}/similar"
        return ask(self.client, Question(path, query), pb.ListSimilarMoviesResponse)

    def movie(self, movie_id: int) -> pb.GetMovieResponse:
        """One movie."""
        return ask(self.client, Question(f"/api/movies/{movie_id}"), pb.GetMovieResponse)

    def why(self, movie_id: int, *query: tuple[str, str | int]) -> pb.WhyMovieResponse:
        """Why a movie is in a list or not."""
        return ask(self.client, Question(f"/api/movies/{movie_id}/why", query), pb.WhyMovieResponse)

    def failure(
        self, path: str, *query: tuple[str, str | int], body: dict[str, Any] | None = None
    ) -> Failure:
        """The error that a request is answered with."""
        method = "GET" if body is None else "POST"
        response = self.client.request(method, path, params=query or None, json=body)
        assert response.headers["content-type"] == "application/json"
        return Failure(response.status_code, json_format.Parse(response.text, status_pb2.Status()))

    def status_of(self, path: str) -> int:
        """The status of a GET."""
        return self.client.get(path).status_code

    def is_served_by_all(self, *, user_id: int, movie_id: int) -> bool:
        """Whether every server takes part in the answers about a known user and a known movie."""
        try:
            model = self.personal(("user_id", user_id)).model
            return (model, self.similar(movie_id).model) == ("two_stage", "als_cosine")
        except AnswerError:
            return False
