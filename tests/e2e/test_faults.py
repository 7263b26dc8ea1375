"""What a client gets while servers are dead or frozen, and after they are back."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from typing_extensions import override

from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from movierec.ranking.v1 import ranking_service_pb2 as ranking
from serving.rpc.channels import open_channel
from tests.e2e.oracle import Oracle, Wish
from tests.e2e.rest import PERSONAL, Rest
from tests.e2e.system import System, eventually

pytestmark = pytest.mark.e2e

USER = 1
UNAVAILABLE = pb.FALLBACK_REASON_DEPENDENCY_UNAVAILABLE
INVALID = pb.FALLBACK_REASON_INVALID_RESPONSE
TIMEOUT = pb.FALLBACK_REASON_DEPENDENCY_TIMEOUT
Figures = Callable[[str, object], None]
DENY = ("fallback_policy", "FALLBACK_POLICY_DENY")


@pytest.fixture(autouse=True)
def whole_again(system: System) -> Iterator[None]:
    """Every test begins with all servers, and proves by its end that they find together again."""
    yield
    system.mend()


def list_of(rest: Rest) -> pb.ListPersonalMoviesResponse:
    answer = rest.personal(("user_id", USER), ("limit", 20))
    assert [item.rank for item in answer.movies] == list(range(1, 21))
    return answer


def course(
    answer: pb.ListPersonalMoviesResponse | pb.ListSimilarMoviesResponse,
) -> tuple[str, bool, "pb.FallbackReason.ValueType"]:
    return answer.model, answer.degraded, answer.fallback_reason


def in_als_order(oracle: Oracle) -> list[int]:
    return [movie for movie, _ in oracle.als(Wish(USER))[:20]]


def fallbacks(system: System, stage: str, reason: str) -> float:
    """Lists so far that are not what was asked for because of a stage."""
    return system.counted("gateway", "fallbacks_total", service=stage, reason=reason)


@pytest.mark.row(1, 4)
def test_stages_die_one_after_another_and_come_back(
    system: System, rest: Rest, oracle: Oracle, record_property: Figures
) -> None:
    counted = [fallbacks(system, stage, "DEPENDENCY_UNAVAILABLE") for stage in ("ranking", "candidate")]
    before = list_of(rest)
    assert course(before) == ("two_stage", False, pb.FALLBACK_REASON_UNSPECIFIED)

    system.kill("ranking")
    answer = list_of(rest)
    assert course(answer) == ("als_only", True, UNAVAILABLE)
    assert [item.movie.movie_id for item in answer.movies] == in_als_order(oracle)
    assert {item.source for item in answer.movies} == {"als_only"}

    system.kill("candidate")
    answer = list_of(rest)
    assert course(answer) == ("popularity_fallback", True, UNAVAILABLE)
    unseen = [movie for movie, _ in oracle.popular() if movie not in oracle.seen(USER)]
    assert [item.movie.movie_id for item in answer.movies] == unseen[:20]

    for stage, count in zip(("ranking", "candidate"), counted, strict=True):
        assert fallbacks(system, stage, "DEPENDENCY_UNAVAILABLE") == count + 1
    record_property("counter", "fallbacks_total + 1 for each")
    system.mend()
    after = list_of(rest)
    assert course(after) == ("two_stage", False, pb.FALLBACK_REASON_UNSPECIFIED)
    assert after.movies == before.movies


@pytest.mark.row(1)
def test_a_dead_stage_is_left_alone_until_it_is_back(
    system: System, rest: Rest, record_property: Figures
) -> None:
    before = system.counted("gateway", "degraded_total", method="ListPersonalMovies")
    system.kill("candidate")
    for _ in range(10):
        assert course(list_of(rest)) == ("popularity_fallback", True, UNAVAILABLE)
    assert system.counted("gateway", "breaker_open", service="candidate") == 1
    degraded = system.counted("gateway", "degraded_total", method="ListPersonalMovies") - before
    record_property("counter", f"degraded_total + {degraded:.0f}, breaker_open 1, then 0")
    assert degraded == 10
    system.mend()
    assert system.counted("gateway", "breaker_open", service="candidate") == 0
    assert course(list_of(rest))[0] == "two_stage"


@pytest.mark.row(1)
@pytest.mark.parametrize("stage", ["candidate", "ranking"])
def test_a_client_that_denies_fallbacks_gets_the_fault(system: System, rest: Rest, stage: str) -> None:
    system.kill(stage)
    failure = rest.failure(PERSONAL, ("user_id", USER), DENY)
    assert (failure.http_status, failure.status.code) == (503, code_pb2.UNAVAILABLE)
    assert (failure.info.reason, failure.info.domain) == ("DEPENDENCY_UNAVAILABLE", "movierec")
    assert dict(failure.info.metadata) == {"service": stage, "cause": "DEPENDENCY_UNAVAILABLE"}
    assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToSeconds() > 0


@pytest.mark.row(5)
def test_frozen_ranking_is_not_waited_for(
    system: System, rest: Rest, oracle: Oracle, record_property: Figures
) -> None:
    before = fallbacks(system, "ranking", "DEPENDENCY_TIMEOUT")
    system.freeze("ranking")
    answer = list_of(rest)
    assert course(answer) == ("als_only", True, TIMEOUT)
    assert [item.movie.movie_id for item in answer.movies] == in_als_order(oracle)
    assert fallbacks(system, "ranking", "DEPENDENCY_TIMEOUT") == before + 1
    record_property("counter", "fallbacks_total + 1")


@pytest.mark.row(2)
def test_frozen_candidates_are_not_waited_for(system: System, rest: Rest, record_property: Figures) -> None:
    before = fallbacks(system, "candidate", "DEPENDENCY_TIMEOUT")
    system.freeze("candidate")
    assert course(list_of(rest)) == ("popularity_fallback", True, TIMEOUT)
    assert fallbacks(system, "candidate", "DEPENDENCY_TIMEOUT") == before + 1
    record_property("counter", "fallbacks_total + 1")


def unusable(stage: str, bundle_id: str) -> list[bytes]:
    """Answers of a stage that no list can be made of."""
    answers = [b"", b"\xff" * 8]
    for movie_ids, scores in (([1], [math.nan]), (range(10**6), [1.0] * 10**6)):
        answer: Message = ranking.RankMoviesResponse(
            lists=[ranking.RankedList(movie_ids=movie_ids, scores=scores)], bundle_id=bundle_id
        )
        if stage == "candidate":
            found = candidate.CandidateList(movie_ids=movie_ids, scores=scores)
            found.user_vector = candidate.USER_VECTOR_TRAINED
            answer = candidate.GenerateCandidatesResponse(lists=[found], bundle_id=bundle_id)
        answers.append(answer.SerializeToString())
    return answers


class StandIn(grpc.GenericRpcHandler):
    """Gives one answer to every call of every method."""

    def __init__(self) -> None:
        self.answer = b""
        self.calls = 0

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._call)

    def _call(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return self.answer


@pytest.mark.row(3)
@pytest.mark.parametrize(("stage", "model"), [("candidate", "popularity_fallback"), ("ranking", "als_only")])
def test_what_cannot_be_used_is_a_fault_like_silence(
    system: System, rest: Rest, stage: str, model: str, record_property: Figures
) -> None:
    """In the place of a stage; the breaker may leave it alone for a second between two answers."""

    def counted() -> float:
        return system.counted("gateway", "fallbacks_total", service=stage)

    before, asked = counted(), 0
    system.kill(stage)
    stand_in = StandIn()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[stand_in])
    assert server.add_insecure_port(f"127.0.0.1:{system.servers[stage].port.number}")
    server.start()
    try:
        for stand_in.answer in unusable(stage, system.manifest.bundle_id):
            calls = stand_in.calls
            while stand_in.calls == calls:
                asked += 1
                answer = list_of(rest)
                assert (answer.model, answer.degraded) == (model, True)
                assert answer.fallback_reason in {INVALID, UNAVAILABLE}
    finally:
        server.stop(0).wait()
    assert counted() - before == asked
    assert fallbacks(system, stage, "INVALID_RESPONSE") > 0
    record_property("requests", asked)
    record_property("degraded", asked)
    record_property("counter", f"fallbacks_total + {asked}, {stage}")


@pytest.mark.row(7)
def test_dead_similarity(system: System, rest: Rest, oracle: Oracle) -> None:
    movie = next(movie for movie, _ in oracle.popular() if rest.movie(movie).movie.genres)
    genres = set(rest.movie(movie).movie.genres)
    system.kill("similarity")
    answer = rest.similar(movie, ("limit", 20))
    assert course(answer) == ("genre_jaccard", True, UNAVAILABLE)
    assert answer.movies
    assert all(genres & set(item.movie.genres) for item in answer.movies)
    assert course(list_of(rest))[0] == "two_stage"


@pytest.mark.row(12)
def test_without_any_stage_the_rest_stays(
    system: System, rest: Rest, oracle: Oracle, record_property: Figures
) -> None:
    before = system.counted("gateway", "fallbacks_total", reason="DEPENDENCY_UNAVAILABLE")
    system.kill("candidate", "ranking", "similarity")
    movie = oracle.popular()[0][0]
    assert rest.status_of("/readyz") == 200
    assert rest.movie(movie).movie.movie_id == movie
    popular = rest.popular(("limit", 20))
    assert (len(popular.movies), popular.degraded) == (20, False)
    (one, other) = rest.batch({"user_id": USER}, {"user_id": 17})
    assert course(one) == course(other) == ("popularity_fallback", True, UNAVAILABLE)
    fallbacks = system.counted("gateway", "fallbacks_total", reason="DEPENDENCY_UNAVAILABLE") - before
    record_property("counter", f"fallbacks_total + {fallbacks:.0f}")
    assert fallbacks == 2


async def test_dead_gateway(system: System, rest: Rest) -> None:
    system.kill("gateway")
    failure = rest.failure(PERSONAL, ("user_id", USER))
    assert (failure.http_status, failure.status.code) == (503, code_pb2.UNAVAILABLE)
    assert (failure.info.reason, failure.info.domain) == ("GATEWAY_UNAVAILABLE", "envoy")
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await MovieServiceStub(channel).GetMovie(pb.GetMovieRequest(movie_id=1), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    eventually(lambda: rest.status_of("/readyz") == 503)
    assert rest.status_of("/healthz") == 200

    system.start("gateway")
    eventually(lambda: rest.status_of("/readyz") == 200)
    system.wait_until_whole()
    assert course(list_of(rest))[0] == "two_stage"
