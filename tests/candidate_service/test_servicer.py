"""The candidate service over a real channel."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grpc import StatusCode

from candidate_service.servicer import call_costs
from movierec.candidate.v1 import candidate_service_pb2 as pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as pb_grpc
from serving.fold_in import MAX_RATINGS
from serving.ids import IdMap
from serving.ratings import Ratings
from serving.stages.candidate import SERVICE
from tests.candidate_service.small import retriever
from tests.serving.personal_stages import candidate_stage
from tests.serving.stage_under_test import failure, reason_of, violations_of

Query = pb.CandidateQuery
DRAMA = pb.MovieFilter(genres=["drama"])


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[pb_grpc.CandidateServiceStub]:
    async with candidate_stage(tmp_path, retriever()) as (channel, _):
        yield pb_grpc.CandidateServiceStub(channel)


async def test_answers_in_order(stub: pb_grpc.CandidateServiceStub) -> None:
    response = await stub.GenerateCandidates(
        pb.GenerateCandidatesRequest(
            queries=[
                Query(user_id=1, limit=10),
                Query(user_id=99, limit=10),
                Query(user_id=1, limit=10, history=[pb.RatedMovie(movie_id=30)]),
                Query(user_id=1, limit=10, include_seen=True, exclude_movie_ids=[10], filter=DRAMA),
            ]
        ),
        timeout=5,
    )
    assert response.bundle_id == "b"
    trained, none, folded_in, filtered = response.lists
    assert list(trained.movie_ids) == [10, 50, 30]
    assert list(trained.scores) == [1, 1, 0]
    assert trained.user_vector == pb.USER_VECTOR_TRAINED
    assert (list(none.movie_ids), none.user_vector) == ([], pb.USER_VECTOR_NONE)
    assert folded_in.user_vector == pb.USER_VECTOR_FOLDED_IN
    assert len(folded_in.movie_ids) == len(folded_in.scores) == 2
    assert list(filtered.movie_ids) == [20, 50]


async def test_every_broken_rule_is_named(stub: pb_grpc.CandidateServiceStub) -> None:
    request = pb.GenerateCandidatesRequest(queries=[Query(user_id=-1), Query(limit=-1)])
    error = await failure(stub.GenerateCandidates(request, timeout=5))
    assert (error.code(), reason_of(error)) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert violations_of(error) == ["queries[0].user_id", "queries[1].limit"]


async def test_probes_and_reasons(stub: pb_grpc.CandidateServiceStub) -> None:
    query = Query(user_id=1, limit=1, probe_movie_ids=[20, 40, 99], because_of=2)
    response = await stub.GenerateCandidates(pb.GenerateCandidatesRequest(queries=[query]), timeout=5)
    (answer,) = response.lists
    seen, cold, unknown = answer.probes
    assert seen == pb.CandidateProbe(movie_id=20, seen=True, score=2, rank=1, als_rank=1)
    assert cold == pb.CandidateProbe(movie_id=40)
    assert unknown == pb.CandidateProbe(movie_id=99, unknown=True)
    assert list(answer.because_of_movie_ids) == [20, 0]
    assert answer.because_of_weights[0] > 0
    assert answer.because_of_weights[1] == 0


async def test_from_the_bundle_that_is_named(stub: pb_grpc.CandidateServiceStub) -> None:
    queries = [Query(user_id=1, limit=1)]
    response = await stub.GenerateCandidates(
        pb.GenerateCandidatesRequest(queries=queries, bundle_id="b"), timeout=5
    )
    assert response.bundle_id == "b"
    other = pb.GenerateCandidatesRequest(queries=queries, bundle_id="a")
    error = await failure(stub.GenerateCandidates(other, timeout=5))
    assert (error.code(), reason_of(error)) == (StatusCode.FAILED_PRECONDITION, "BUNDLE_MISMATCH")


async def test_without_a_bundle_it_is_unavailable(tmp_path: Path) -> None:
    async with candidate_stage(tmp_path, None) as (channel, _):
        stub = pb_grpc.CandidateServiceStub(channel)
        request = pb.GenerateCandidatesRequest(queries=[Query(user_id=1, limit=1)])
        error = await failure(stub.GenerateCandidates(request, timeout=5))
    assert error.code() is StatusCode.UNAVAILABLE
    assert reason_of(error) == "MODEL_UNAVAILABLE"


@pytest.mark.row(19)
def test_a_call_takes_a_place_per_query_and_more_for_what_is_solved() -> None:
    held = [retriever(ratings=many_ratings(user_id=1, count=900))]
    holder = SimpleNamespace(get=lambda: held[0])
    costs = call_costs(holder)  # type: ignore[arg-type]  # of which it reads no more
    assert set(costs) == set(SERVICE.methods_by_name)

    def users(*queries: pb.CandidateQuery) -> int:
        return costs["GenerateCandidates"].users(pb.GenerateCandidatesRequest(queries=queries))

    one = pb.RatedMovie(movie_id=30)
    long = Query(user_id=99, history=[one] * 500)
    assert users(*[Query()] * 32) == 32
    assert users(Query(user_id=1)) == 1  # its vector was trained
    assert users(long, long) == 2 + 2 * (500 // 400)
    assert users(Query(user_id=1, history=[one])) == 1 + 901 // 400
    assert users(Query(user_id=1, because_of=1)) == 1 + 900 // 400
    assert users(Query(user_id=1, history=[one], because_of=3)) == 1 + 2 * 901 // 400
    assert users(*[long] * 300) == 300 + 100 * (500 // 400)  # of a call that is too long the rest is not read
    held[0] = retriever(ratings=many_ratings(user_id=1, count=40_000))
    assert users(Query(user_id=1, history=[one])) == 1 + MAX_RATINGS // 400


def many_ratings(*, user_id: int, count: int) -> Ratings:
    """As if a user had rated one movie so many times."""
    return Ratings(
        users=IdMap([user_id]),
        indptr=np.array([0, count]),
        movie_rows=np.zeros(count, dtype=np.int32),
        values=np.full(count, 5, dtype=np.float32),
        times=np.arange(count),
    )
