"""The messages of the product's servers, recorded for servers that only pass them on."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from benchmarks.servers import Server
from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from movierec.ranking.v1 import ranking_service_pb2 as ranking_pb
from movierec.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from movierec.similarity.v1 import similarity_service_pb2 as similarity_pb
from movierec.similarity.v1.similarity_service_pb2_grpc import SimilarityServiceStub
from serving.rpc.channels import open_channel

CANDIDATES: Final = 300
"""Movies that are ranked for each user: the gateway's default."""
PAGE: Final = 20
"""Movies of every list."""


@dataclass(frozen=True)
class Messages:
    """What the gateway sends and gets for one page of each kind, and what its client gets."""

    candidate_request: candidate_pb.GenerateCandidatesRequest
    candidate_response: candidate_pb.GenerateCandidatesResponse
    ranking_request: ranking_pb.RankMoviesRequest
    ranking_response: ranking_pb.RankMoviesResponse
    similarity_request: similarity_pb.FindSimilarMoviesRequest
    similarity_response: similarity_pb.FindSimilarMoviesResponse
    personal: pb.ListPersonalMoviesResponse
    similar: pb.ListSimilarMoviesResponse
    popular: pb.ListPopularMoviesResponse
    movie: pb.GetMovieResponse

    def write(self, folder: Path) -> None:
        """Writes a file for each."""
        for field in fields(self):
            (folder / field.name).write_bytes(getattr(self, field.name).SerializeToString())

    @classmethod
    def read(cls, folder: Path) -> "Messages":
        """Reads what `write` wrote."""
        messages = {
            field.name: field.type.FromString((folder / field.name).read_bytes())  # type: ignore[union-attr]
            for field in fields(cls)
        }
        return cls(**messages)


def record(servers: Mapping[str, Server], user_id: int) -> Messages:
    """Asks the product's servers, by name, for a user's page and what belongs to it."""
    return asyncio.run(_record(servers, user_id))


async def _record(servers: Mapping[str, Server], user_id: int) -> Messages:
    async with (
        open_channel(servers["gateway"].target) as to_gateway,
        open_channel(servers["candidate"].target) as to_candidate,
        open_channel(servers["ranking"].target) as to_ranking,
        open_channel(servers["similarity"].target) as to_similarity,
    ):
        gateway = MovieServiceStub(to_gateway)
        candidate_request = candidate_pb.GenerateCandidatesRequest(
            queries=[candidate_pb.CandidateQuery(user_id=user_id, limit=CANDIDATES)]
        )
        candidates = await CandidateServiceStub(to_candidate).GenerateCandidates(candidate_request)
        ranking_request = ranking_pb.RankMoviesRequest(
            queries=[
                ranking_pb.RankingQuery(
                    user_id=user_id,
                    movie_ids=candidates.lists[0].movie_ids,
                    retrieval_scores=candidates.lists[0].scores,
                    transitions_ranks=candidates.lists[0].transitions_ranks,
                    popularity_ranks=candidates.lists[0].popularity_ranks,
                    limit=PAGE,
                )
            ],
            bundle_id=candidates.bundle_id,
        )
        personal = await gateway.ListPersonalMovies(pb.ListPersonalMoviesRequest(user_id=user_id, limit=PAGE))
        movie_id = personal.movies[0].movie.movie_id
        similarity_request = similarity_pb.FindSimilarMoviesRequest(movie_id=movie_id, limit=PAGE)
        return Messages(
            candidate_request=candidate_request,
            candidate_response=candidates,
            ranking_request=ranking_request,
            ranking_response=await RankingServiceStub(to_ranking).RankMovies(ranking_request),
            similarity_request=similarity_request,
            similarity_response=await SimilarityServiceStub(to_similarity).FindSimilarMovies(
                similarity_request
            ),
            personal=personal,
            similar=await gateway.ListSimilarMovies(
                pb.ListSimilarMoviesRequest(movie_id=movie_id, limit=PAGE)
            ),
            popular=await gateway.ListPopularMovies(pb.ListPopularMoviesRequest(limit=PAGE)),
            movie=await gateway.GetMovie(pb.GetMovieRequest(movie_id=movie_id)),
        )
