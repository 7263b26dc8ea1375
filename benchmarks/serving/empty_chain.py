"""Servers that do nothing but pass messages on: `python -m benchmarks.serving.empty_chain --help`.

They are the least that the product's layout can cost: the same rpcs, the same messages, on grpc.aio and
uvloop, without interceptors, checks, metrics or models. The gateway's two kinds of list that need no model
work are put together movie by movie, as encoding is part of what they are compared with.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from grpc import aio
from typing_extensions import override

from benchmarks.serving.messages import Messages
from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as candidate_grpc
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as gateway_grpc
from movierec.ranking.v1 import ranking_service_pb2 as ranking_pb
from movierec.ranking.v1 import ranking_service_pb2_grpc as ranking_grpc
from movierec.similarity.v1 import similarity_service_pb2 as similarity_pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as similarity_grpc
from serving.rpc.channels import open_channel

_STAGE_SECONDS: Final = 30.0


class EmptyCandidate(candidate_grpc.CandidateServiceServicer):
    """Answers every query with the same candidates."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    @override
    async def GenerateCandidates(
        self, request: candidate_pb.GenerateCandidatesRequest, context: Any
    ) -> candidate_pb.GenerateCandidatesResponse:
        return self._messages.candidate_response


class EmptyRanking(ranking_grpc.RankingServiceServicer):
    """Answers every query with the same order."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    @override
    async def RankMovies(
        self, request: ranking_pb.RankMoviesRequest, context: Any
    ) -> ranking_pb.RankMoviesResponse:
        return self._messages.ranking_response


class EmptySimilarity(similarity_grpc.SimilarityServiceServicer):
    """Answers every query with the same neighbours."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    @override
    async def FindSimilarMovies(
        self, request: similarity_pb.FindSimilarMoviesRequest, context: Any
    ) -> similarity_pb.FindSimilarMoviesResponse:
        return self._messages.similarity_response


class EmptyGateway(gateway_grpc.MovieServiceServicer):
    """Asks the stages as the gateway does, and looks at none of their answers."""

    def __init__(
        self,
        messages: Messages,
        candidate: candidate_grpc.CandidateServiceStub,
        ranking: ranking_grpc.RankingServiceStub,
        similarity: similarity_grpc.SimilarityServiceStub,
    ) -> None:
        self._messages = messages
        self._candidate = candidate
        self._ranking = ranking
        self._similarity = similarity

    @override
    async def ListPersonalMovies(
        self, request: pb.ListPersonalMoviesRequest, context: Any
    ) -> pb.ListPersonalMoviesResponse:
        await self._candidate.GenerateCandidates(self._messages.candidate_request, timeout=_STAGE_SECONDS)
        await self._ranking.RankMovies(self._messages.ranking_request, timeout=_STAGE_SECONDS)
        return self._messages.personal

    @override
    async def ListSimilarMovies(
        self, request: pb.ListSimilarMoviesRequest, context: Any
    ) -> pb.ListSimilarMoviesResponse:
        await self._similarity.FindSimilarMovies(self._messages.similarity_request, timeout=_STAGE_SECONDS)
        page = self._messages.similar
        return pb.ListSimilarMoviesResponse(
            movies=_encoded(page.movies),
            model=page.model,
            bundle_id=page.bundle_id,
            recommendation_id=page.recommendation_id,
        )

    @override
    async def ListPopularMovies(
        self, request: pb.ListPopularMoviesRequest, context: Any
    ) -> pb.ListPopularMoviesResponse:
        page = self._messages.popular
        return pb.ListPopularMoviesResponse(
            movies=_encoded(page.movies),
            model=page.model,
            bundle_id=page.bundle_id,
            recommendation_id=page.recommendation_id,
            total_size=page.total_size,
        )

    @override
    async def GetMovie(self, request: pb.GetMovieRequest, context: Any) -> pb.GetMovieResponse:
        return pb.GetMovieResponse(movie=self._messages.movie.movie, bundle_id=self._messages.movie.bundle_id)


def _encoded(movies: Any) -> list[pb.RecommendedMovie]:
    return [
        pb.RecommendedMovie(movie=item.movie, rank=item.rank, score=item.score, source=item.source)
        for item in movies
    ]


def main(
    role: Annotated[str, typer.Argument(help="candidate, ranking, similarity or gateway.")],
    port: int,
    messages: Annotated[Path, typer.Argument(help="Folder of recorded messages.")],
    *,
    candidate_target: str = "",
    ranking_target: str = "",
    similarity_target: str = "",
) -> None:
    """Serves until it is killed."""
    targets = (candidate_target, ranking_target, similarity_target)
    uvloop.run(_serve(role, port, Messages.read(messages), targets))


async def _serve(role: str, port: int, messages: Messages, targets: tuple[str, str, str]) -> None:
    server = aio.server()
    if role == "candidate":
        candidate_grpc.add_CandidateServiceServicer_to_server(EmptyCandidate(messages), server)
    elif role == "ranking":
        ranking_grpc.add_RankingServiceServicer_to_server(EmptyRanking(messages), server)
    elif role == "similarity":
        similarity_grpc.add_SimilarityServiceServicer_to_server(EmptySimilarity(messages), server)
    else:
        to_candidate, to_ranking, to_similarity = map(open_channel, targets)
        gateway = EmptyGateway(  # type: ignore[abstract]  # nobody asks for the other rpcs
            messages,
            candidate_grpc.CandidateServiceStub(to_candidate),
            ranking_grpc.RankingServiceStub(to_ranking),
            similarity_grpc.SimilarityServiceStub(to_similarity),
        )
        gateway_grpc.add_MovieServiceServicer_to_server(gateway, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    typer.run(main)
