"""Servers that do nothing but pass messages on: `python -m benchmarks.serving.empty_chain --help`.

They are the least that the product's layout can cost: the same rpcs, the same messages, on grpc.aio and
uvloop, without interceptors, checks, metrics or models. The gateway's two kinds of list that need no model
work are put together movie by movie, as encoding is part of what they are compared with.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from typing_extensions import override

from benchmarks.serving.messages import Messages
from movierec.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as gateway_grpc
from movierec.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from movierec.similarity.v1.similarity_service_pb2_grpc import SimilarityServiceStub
from serving.rpc.channels import open_channel
from serving.stages import candidate, ranking, similarity

_STAGE_SECONDS: Final = 30.0


def stage(service: ServiceDescriptor, answer: Message) -> grpc.GenericRpcHandler:
    """A stage that answers every call of its only rpc with the same message."""
    (method,) = service.methods

    async def respond(_request: Message, _context: aio.ServicerContext[Any, Any]) -> Message:
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        respond,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=type(answer).SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service.full_name, {method.name: handler})


class EmptyGateway(gateway_grpc.MovieServiceServicer):
    """Asks the stages as the gateway does, and looks at none of their answers."""

    def __init__(
        self,
        messages: Messages,
        to_candidate: CandidateServiceStub,
        to_ranking: RankingServiceStub,
        to_similarity: SimilarityServiceStub,
    ) -> None:
        self._messages = messages
        self._candidate = to_candidate
        self._ranking = to_ranking
        self._similarity = to_similarity

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
    stages = {
        "candidate": (candidate.SERVICE, messages.candidate_response),
        "ranking": (ranking.SERVICE, messages.ranking_response),
        "similarity": (similarity.SERVICE, messages.similarity_response),
    }
    if role in stages:
        server.add_generic_rpc_handlers((stage(*stages[role]),))
    else:
        to_candidate, to_ranking, to_similarity = map(open_channel, targets)
        gateway = EmptyGateway(  # type: ignore[abstract]  # nobody asks for the other rpcs
            messages,
            CandidateServiceStub(to_candidate),
            RankingServiceStub(to_ranking),
            SimilarityServiceStub(to_similarity),
        )
        gateway_grpc.add_MovieServiceServicer_to_server(gateway, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    typer.run(main)
