"""The similarity service over a real channel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.bundle.holder import BundleHolder
from serving.rpc.metrics import ServerMetrics
from serving.stages.similarity import SERVICE
from similarity_service.neighbours import SimilarityIndex
from similarity_service.servicer import SimilarityServicer
from tests.serving.stage_under_test import failure, reason_of, stage, violations_of
from tests.similarity_service.small import index

Request = pb.FindSimilarMoviesRequest


def register(holder: BundleHolder[SimilarityIndex], server: aio.Server, _metrics: ServerMetrics) -> None:
    pb_grpc.add_SimilarityServiceServicer_to_server(SimilarityServicer(holder), server)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[pb_grpc.SimilarityServiceStub]:
    async with stage(tmp_path, index(), register, SERVICE.full_name) as (channel, _):
        yield pb_grpc.SimilarityServiceStub(channel)


async def test_neighbours(stub: pb_grpc.SimilarityServiceStub) -> None:
    request = Request(movie_id=10, limit=5, filter=pb.MovieFilter(max_year=1993), exclude_movie_ids=[20, 99])
    response = await stub.FindSimilarMovies(request, timeout=5)
    assert list(response.movie_ids) == [30]
    assert list(response.scores) == pytest.approx([0.6])
    assert (response.method, response.bundle_id) == (pb.SIMILARITY_METHOD_ALS_COSINE, "b")


async def test_cold_movie(stub: pb_grpc.SimilarityServiceStub) -> None:
    response = await stub.FindSimilarMovies(Request(movie_id=40, limit=1000), timeout=5)
    assert response.method == pb.SIMILARITY_METHOD_GENRE_JACCARD
    assert list(response.movie_ids) == [10, 20, 30, 50]


async def test_every_broken_rule_is_named(stub: pb_grpc.SimilarityServiceStub) -> None:
    error = await failure(stub.FindSimilarMovies(Request(), timeout=5))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert violations_of(error) == ["movie_id", "limit"]


@pytest.mark.row(7)
async def test_without_an_index_it_is_unavailable(tmp_path: Path) -> None:
    async with stage(tmp_path, None, register, SERVICE.full_name) as (channel, _):
        stub = pb_grpc.SimilarityServiceStub(channel)
        error = await failure(stub.FindSimilarMovies(Request(movie_id=10, limit=1), timeout=5))
    assert error.code() is StatusCode.UNAVAILABLE
    assert reason_of(error) == "MODEL_UNAVAILABLE"
