"""A full gateway: who is served first, and what becomes of a batch."""

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from gateway.servicer import call_costs
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.limiter import CallCost, Priority
from serving.rpc.metrics import ServerMetrics
from serving.stages.candidate import CandidateList, CandidateQuery
from tests.gateway.served import served
from tests.gateway.small_world import World, candidates
from tests.serving.server_under_test import until
from tests.serving.stage_under_test import failure, reason_of

SECONDS = 20.0  # ample: no test is decided by it


class Full:
    """A gateway with two places, whose users stay at work until they are let go."""

    def __init__(self, world: World) -> None:
        self.metrics = ServerMetrics.create("gateway")
        self._world = world
        self._leave: dict[int, asyncio.Event] = {}
        world.candidates.ask = self._generate  # type: ignore[method-assign]  # stays

    def personal(self, stub: MovieServiceStub, user_id: int) -> asyncio.Future[Any]:
        """Asks for one user."""
        return asyncio.ensure_future(
            stub.ListPersonalMovies(public.ListPersonalMoviesRequest(user_id=user_id), timeout=SECONDS)
        )

    def batch(self, stub: MovieServiceStub, *user_ids: int) -> asyncio.Future[Any]:
        """Asks for many."""
        requests = [public.ListPersonalMoviesRequest(user_id=user_id) for user_id in user_ids]
        return asyncio.ensure_future(
            stub.BatchListPersonalMovies(
                public.BatchListPersonalMoviesRequest(requests=requests), timeout=SECONDS
            )
        )

    async def at_work(self, *user_ids: int) -> None:
        """Returns once the stage has been asked for these, and for no others."""
        await until(lambda: set(self._leave) == set(user_ids))

    async def waiting(self, users: int) -> None:
        """Returns once so many wait."""
        registry = self.metrics.registry
        await until(lambda: registry.get_sample_value("movierec_waiting", {"service": "gateway"}) == users)

    def let_go(self, user_id: int) -> None:
        """Ends the work for a user."""
        self._leave.pop(user_id).set()

    async def _generate(self, query: CandidateQuery, **_seconds: float) -> CandidateList:
        leave = self._leave[query.user_id] = asyncio.Event()
        await leave.wait()
        return candidates(3)


@pytest.fixture
def full(world: World) -> Full:
    return Full(world)


async def test_who_needs_no_stage_is_first_and_a_batch_is_last(world: World, full: Full) -> None:
    async with served(world, full.metrics, max_inflight=2) as stub:
        calls = [full.personal(stub, user) for user in (1, 2)]
        await full.at_work(1, 2)
        calls.append(full.batch(stub, 3))
        await full.waiting(1)
        calls.append(full.personal(stub, 4))
        await full.waiting(2)
        full.let_go(1)
        await full.at_work(2, 4)
        await full.waiting(1)  # the batch, which came before
        movie = asyncio.ensure_future(stub.GetMovie(public.GetMovieRequest(movie_id=1), timeout=SECONDS))
        await full.waiting(2)
        full.let_go(2)
        await movie
        await full.at_work(4, 3)
        full.let_go(3)
        full.let_go(4)
        await asyncio.gather(*calls)


@pytest.mark.row(31)
async def test_the_urgent_take_the_room_of_the_last(world: World, full: Full) -> None:
    async with served(world, full.metrics, max_inflight=2) as stub:
        calls = [full.personal(stub, user) for user in (1, 2)]
        await full.at_work(1, 2)
        batches = []
        for user in (3, 4):
            batches.append(full.batch(stub, user))
            await full.waiting(len(batches))
        movie = asyncio.ensure_future(stub.GetMovie(public.GetMovieRequest(movie_id=1), timeout=SECONDS))
        error = await failure(batches[1])
        assert (error.code(), reason_of(error)) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        full.let_go(1)
        assert (await movie).movie.movie_id == 1
        await full.at_work(2, 3)
        full.let_go(2)
        full.let_go(3)
        await asyncio.gather(*calls, batches[0])


async def test_a_batch_of_more_users_than_places(world: World) -> None:
    async with served(world, max_inflight=2) as stub:
        requests = [public.ListPersonalMoviesRequest(user_id=300)] * 100
        batch = public.BatchListPersonalMoviesRequest(requests=requests)
        answer = await stub.BatchListPersonalMovies(batch, timeout=SECONDS)
        assert len(answer.responses) == 100


def test_what_calls_ask_for() -> None:
    methods = public.DESCRIPTOR.services_by_name["MovieService"].methods_by_name
    asked = call_costs(batch_concurrency=32)
    assert set(asked) <= set(methods)
    batch = asked["BatchListPersonalMovies"]
    assert batch.priority is Priority.LAST
    for users, places in ((1, 1), (32, 32), (100, 32)):
        requests = [public.ListPersonalMoviesRequest()] * users
        assert batch.users(public.BatchListPersonalMoviesRequest(requests=requests)) == places
    reasons = public.ListPersonalMoviesRequest(limit=100, explain_features=100)
    assert asked["ListPersonalMovies"].users(reasons) == 21  # 10,000 contributions, 500 a user
    assert batch.users(public.BatchListPersonalMoviesRequest(requests=[reasons] * 2)) == 42
    assert asked["ListPersonalMovies"].users(public.ListPersonalMoviesRequest(explain_features=3)) == 1
    invalid = public.ListPersonalMoviesRequest(explain_features=2**31 - 1)  # refused, but weighed before
    assert asked["ListPersonalMovies"].users(invalid) <= 3
    many = public.BatchListPersonalMoviesRequest(requests=[invalid] * 100_000)
    assert batch.users(many) <= 32 + 100 * 2
    stageless = {"GetMovie", "ListPopularMovies", "ListSimilarMovies", "SearchMovies"}
    stageless |= {"ListTasteMovies", "GetUser", "GetStatus"}
    assert {name for name, load in asked.items() if load == CallCost(priority=Priority.FIRST)} == stageless
