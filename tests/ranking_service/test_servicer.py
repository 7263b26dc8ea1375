"""The ranking service over a real channel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import StatusCode

from movierec.ranking.v1 import ranking_service_pb2 as pb
from movierec.ranking.v1 import ranking_service_pb2_grpc as pb_grpc
from ranking_service.servicer import CALL_COSTS
from serving.rpc.metrics import ServerMetrics
from serving.stages.ranking import SERVICE
from tests.ranking_service.small import ranker
from tests.serving.personal_stages import ranking_stage
from tests.serving.stage_under_test import failure, info_of, violations_of

Query = pb.RankingQuery


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[pb_grpc.RankingServiceStub, ServerMetrics]]:
    async with ranking_stage(tmp_path, ranker()) as (channel, metrics):
        yield pb_grpc.RankingServiceStub(channel), metrics


@pytest.fixture
def stub(running: tuple[pb_grpc.RankingServiceStub, ServerMetrics]) -> pb_grpc.RankingServiceStub:
    return running[0]


async def test_answers_in_order_and_counts(running: tuple[pb_grpc.RankingServiceStub, ServerMetrics]) -> None:
    stub, metrics = running
    response = await stub.RankMovies(
        pb.RankMoviesRequest(
            bundle_id="b",
            queries=[
                Query(user_id=1, movie_ids=[50, 40, 99], retrieval_scores=[3, 2, 1], explain_features=3),
                Query(
                    movie_ids=[10, 30], retrieval_scores=[2, 1], limit=1, history=[pb.RatedMovie(movie_id=20)]
                ),
            ],
        ),
        timeout=5,
    )
    assert (response.bundle_id, response.base_value) == ("b", 0.25)
    first, second = response.lists
    assert list(first.movie_ids) == [40, 50]
    assert list(first.scores) == [-2, -3]
    assert list(first.unknown_movie_ids) == [99]
    assert [c.feature for c in first.explanations[0].contributions] == [
        "als_score",
        "user_avg_rating",
        "year",
    ]
    year = first.explanations[0].contributions[2]
    assert not year.HasField("value")
    assert year.contribution == -1
    assert (list(second.movie_ids), list(second.explanations)) == ([30], [])
    value = metrics.registry.get_sample_value
    assert value("movierec_missing_features_total", {"feature": "year"}) == 1
    assert value("movierec_unknown_items_total") == 1


async def test_probes(stub: pb_grpc.RankingServiceStub) -> None:
    probes = [
        pb.RankingProbe(movie_id=20, retrieval_score=0.5, retrieval_rank=3),
        pb.RankingProbe(movie_id=99, retrieval_score=0.5, retrieval_rank=3),
    ]
    query = Query(user_id=1, movie_ids=[50, 10], retrieval_scores=[3, 2], limit=1, probes=probes)
    response = await stub.RankMovies(pb.RankMoviesRequest(queries=[query]), timeout=5)
    (answer,) = response.lists
    assert list(answer.movie_ids) == [10]
    (probe,) = answer.probes  # 99 is unknown
    assert (probe.movie_id, probe.score, probe.rank) == (20, -0.5, 1)
    added = sum(c.contribution for c in probe.explanation.contributions)
    assert added == 0.5 - 1 + 1  # as the leaf tables say, not the model
    last = {c.feature: c.value for c in answer.last_explanation.contributions}
    assert last["als_score"] == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(user_id=1, movie_ids=[10], retrieval_scores=[1], diversity=1.1), "diversity"),
        (Query(user_id=1, movie_ids=[10, 20], retrieval_scores=[1]), "retrieval_scores"),
        (Query(user_id=2, movie_ids=[10], retrieval_scores=[1]), "user_id"),  # has rated nothing
    ],
    ids=["of the table", "of the message", "of the bundle"],
)
async def test_every_kind_of_rule(
    stub: pb_grpc.RankingServiceStub, query: pb.RankingQuery, field: str
) -> None:
    good = Query(user_id=1, movie_ids=[10], retrieval_scores=[1])
    error = await failure(stub.RankMovies(pb.RankMoviesRequest(queries=[good, query]), timeout=5))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert violations_of(error) == [f"queries[1].{field}"]


async def test_another_bundle_is_a_mismatch(stub: pb_grpc.RankingServiceStub) -> None:
    request = pb.RankMoviesRequest(
        bundle_id="a", queries=[Query(user_id=1, movie_ids=[10], retrieval_scores=[1])]
    )
    error = await failure(stub.RankMovies(request, timeout=5))
    assert error.code() is StatusCode.FAILED_PRECONDITION
    info = info_of(error)
    assert (info.reason, dict(info.metadata)) == ("BUNDLE_MISMATCH", {"requested": "a", "held": "b"})


def test_a_call_takes_a_place_per_query() -> None:
    assert set(CALL_COSTS) == set(SERVICE.methods_by_name)
    assert CALL_COSTS["RankMovies"].users(pb.RankMoviesRequest(queries=[pb.RankingQuery()] * 32)) == 32


def reasoned(queries: int, **fields: int) -> pb.RankMoviesRequest:
    """Of 100 candidates each."""
    movies = {"movie_ids": range(1, 101), "retrieval_scores": [1.0] * 100}
    return pb.RankMoviesRequest(queries=[Query(user_id=1, **movies, **fields)] * queries)  # type: ignore[arg-type]


def test_reasons_take_places_as_well() -> None:
    places = CALL_COSTS["RankMovies"].users
    assert places(reasoned(1, limit=20, explain_features=3)) == 1
    assert places(reasoned(2, limit=100, explain_features=100)) == 42
    assert places(reasoned(2, explain_features=10)) == 6  # a limit of 0 is all
    assert places(reasoned(1, limit=-1, explain_features=100)) <= 1


async def test_the_contributions_of_a_call_are_bounded_whatever_travels_in_it(
    stub: pb_grpc.RankingServiceStub,
) -> None:
    error = await failure(stub.RankMovies(reasoned(32, limit=100, explain_features=100), timeout=5))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert "queries: must ask for at most 20000 contributions" in (error.details() or "")
    at_most = reasoned(2, limit=100, explain_features=100)
    assert len((await stub.RankMovies(at_most, timeout=5)).lists) == 2
