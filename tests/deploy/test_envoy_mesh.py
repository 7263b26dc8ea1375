"""The mesh: what a gateway gets from Envoy when one of two replicas of a stage is not well."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from benchmarks.ports import free_port
from deploy.envoy_config import Options, Stage
from movierec.candidate.v1 import candidate_service_pb2 as candidate_pb
from movierec.candidate.v1 import candidate_service_pb2_grpc as candidate_pb_grpc
from movierec.gateway.v1 import movie_service_pb2 as gateway_pb
from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.errors import Reason, UnavailableError
from serving.rpc.channels import open_channel
from tests.deploy.edge import PATIENCE_SECONDS, Edge, image_place, running_envoy, running_gateway
from tests.serving.server_under_test import SERVICE, ServerUnderTest, running_server, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "127.0.0.1"
REQUEST = pb.FindSimilarMoviesRequest(movie_id=7)


@dataclass(frozen=True)
class Mesh:
    """Two replicas of a stage, and the way to them."""

    replicas: tuple[ServerUnderTest, ...]
    channel: grpc.aio.Channel
    asked: list[int]
    """Which replica got each call; one entry per attempt."""

    async def call(self, count: int = 1) -> None:
        """Makes calls, some at a time; fails if one of them does."""
        stub = pb_grpc.SimilarityServiceStub(self.channel)
        few = asyncio.Semaphore(8)

        async def one() -> None:
            async with few:
                await stub.FindSimilarMovies(REQUEST, timeout=PATIENCE_SECONDS)

        await asyncio.gather(*(one() for _ in range(count)))


@asynccontextmanager
async def running_mesh(directory: Path, replicas: tuple[ServerUnderTest, ...]) -> AsyncIterator[Mesh]:
    """Envoy as compose and Kubernetes run it, before these replicas, while the block runs."""
    port = free_port()
    # A try so long that only a replica that hangs exceeds it.
    stage = Stage("similarity", SERVICE, port, tuple((HOST, r.port) for r in replicas), per_try_seconds=3)
    gateways = [(HOST, free_port())]
    place = image_place(port=free_port(), gateways=gateways, mesh_host=HOST, stages=(stage,))
    with running_envoy(directory, place, Options(deadline_seconds=PATIENCE_SECONDS)):
        async with open_channel(f"{HOST}:{port}") as channel:
            mesh = Mesh(replicas, channel, [])
            for number, replica in enumerate(replicas):
                behave_well(mesh, number, replica)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while set(mesh.asked) != set(range(len(replicas))):
                    try:
                        await mesh.call(8)
                    except grpc.aio.AioRpcError:  # not listening yet
                        await asyncio.sleep(0.05)
            yield mesh


def behave_well(mesh: Mesh, number: int, replica: ServerUnderTest) -> None:
    replica.servicer.leave.set()
    replica.servicer.behave = lambda _context: mesh.asked.append(number)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(running_server()) for _ in range(2)]
        directory = tmp_path_factory.mktemp("mesh")
        yield await stack.enter_async_context(running_mesh(directory, tuple(replicas)))


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(shared_mesh: Mesh) -> AsyncIterator[Mesh]:
    """The module's mesh; afterwards both replicas are well again, and taken for it."""
    shared_mesh.asked.clear()
    yield shared_mesh
    for number, replica in enumerate(shared_mesh.replicas):
        behave_well(shared_mesh, number, replica)
    shared_mesh.asked.clear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while set(shared_mesh.asked) != {0, 1}:
            await shared_mesh.call(8)


async def test_both_replicas_are_asked(mesh: Mesh) -> None:
    await mesh.call(40)
    assert len(mesh.asked) == 40
    assert 10 <= mesh.asked.count(0) <= 30


@pytest.mark.row(13)
async def test_a_replica_that_hangs_is_left(mesh: Mesh) -> None:
    mesh.replicas[0].servicer.leave.clear()
    await mesh.call(40)
    assert mesh.asked.count(1) >= 40


async def test_a_replica_that_is_unavailable_is_left(mesh: Mesh) -> None:
    def refuse(_context: Any) -> None:
        mesh.asked.append(0)
        raise UnavailableError("no model", reason=Reason.MODEL_UNAVAILABLE)

    mesh.replicas[0].servicer.behave = refuse
    await mesh.call(200)
    assert mesh.asked.count(1) == 200
    assert 0 < mesh.asked.count(0) < 60  # it is ejected; without, each second attempt would be its


async def test_other_failures_are_not_repeated(mesh: Mesh) -> None:
    def fail(_context: Any) -> None:
        mesh.asked.append(0)
        raise ValueError

    for replica in mesh.replicas:
        replica.servicer.behave = fail
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.call()
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert len(mesh.asked) == 1


async def test_deadline_and_request_id_pass(mesh: Mesh) -> None:
    contexts: list[Any] = []
    for replica in mesh.replicas:
        replica.servicer.behave = contexts.append
    stub = pb_grpc.SimilarityServiceStub(mesh.channel)
    await stub.FindSimilarMovies(REQUEST, timeout=20, metadata=[("x-request-id", "the edge's")])
    assert contexts[0].time_remaining() <= 21  # clients round up
    assert dict(contexts[0].invocation_metadata())["x-request-id"] == "the edge's"


async def test_a_stages_port_leads_to_that_stage_only(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await candidate_pb_grpc.CandidateServiceStub(mesh.channel).GenerateCandidates(
            candidate_pb.GenerateCandidatesRequest()
        )
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert mesh.asked == []


@asynccontextmanager
async def leaving_mesh(directory: Path, **leaving: Any) -> AsyncIterator[tuple[Mesh, AsyncExitStack]]:
    """A mesh of its own whose second replica, with these settings, goes when its stack is closed."""
    async with AsyncExitStack() as staying, AsyncExitStack() as away:
        stays = await staying.enter_async_context(running_server())
        leaves = await away.enter_async_context(running_server(**leaving))
        yield await staying.enter_async_context(running_mesh(directory, (stays, leaves))), away


@pytest.mark.row(34)
async def test_a_replica_that_drains_is_left_in_time(tmp_path: Path) -> None:
    async with leaving_mesh(tmp_path, drain_delay_seconds=2) as (mesh, away):
        drained = asyncio.create_task(away.aclose())
        await until(mesh.replicas[1].servicer.entered.is_set)
        while not drained.done():
            await mesh.call(8)
        await drained
        mesh.asked.clear()
        await mesh.call(40)
        assert set(mesh.asked) == {0}


@pytest.mark.row(34)
async def test_what_a_replica_that_stops_has_not_begun_another_does(tmp_path: Path) -> None:
    """Calls that have come in by then, and that no handler has begun, are CANCELLED (grpc/grpc#41785)."""
    async with leaving_mesh(tmp_path) as (mesh, away):
        stopped: list[asyncio.Task[None]] = []

        def stop(_context: Any) -> None:
            if not stopped:
                stopped.append(asyncio.create_task(away.aclose()))
                time.sleep(0.5)  # others come in meanwhile: Envoy and gRPC have threads of their own

        mesh.replicas[1].servicer.behave = stop
        await asyncio.gather(mesh.call(8), mesh.call(8))
        await stopped[0]


@pytest.mark.row(13)
async def test_a_replica_that_vanished_is_left(tmp_path: Path) -> None:
    """As one whose machine is gone: packets to its address are dropped, and no connection is refused."""
    async with leaving_mesh(tmp_path, drain_seconds=0) as (mesh, away):
        await away.aclose()
        with silent(mesh.replicas[1].port):
            mesh.asked.clear()
            await mesh.call(40)
        assert mesh.asked == [0] * 40


@contextmanager
def silent(port: int) -> Iterator[None]:
    """A port whose queue of connections is full: Linux drops what else asks for one."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server((HOST, port), backlog=0))
        for _ in range(2):
            one = stack.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(full.getsockname())
        yield


@asynccontextmanager
async def two_gateways(directory: Path) -> AsyncIterator[tuple[list[Edge], httpx.AsyncClient]]:
    """Envoy as in compose before two gateways, and a client of it."""
    edges = [Edge(free_port()) for _ in range(2)]
    for edge in edges:
        edge.gateway.answer = gateway_pb.GetMovieResponse()
    async with AsyncExitStack() as stack:
        gateways = [stack.enter_context(running_gateway(edge)) for edge in edges]
        place = image_place(port=edges[0].port, gateways=gateways, stages=())
        stack.enter_context(running_envoy(directory, place, Options(deadline_seconds=6)))
        await edges[0].wait_for_readiness(200)
        yield edges, await stack.enter_async_context(edges[0].client())


async def test_a_gateway_that_hangs_is_left(tmp_path: Path) -> None:
    async with two_gateways(tmp_path) as (edges, client):
        edges[0].gateway.delay_seconds = PATIENCE_SECONDS
        answers = await asyncio.gather(*(client.get("/api/movies/7") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert edges[0].gateway.request is not None


@pytest.mark.parametrize("path", ["/api/movies/7", "/api/movies/personal?user_id=1"])
async def test_what_a_gateway_says_is_missing_no_other_is_asked_for(tmp_path: Path, path: str) -> None:
    async with two_gateways(tmp_path) as (edges, client):
        for edge in edges:
            edge.gateway.error = grpc.StatusCode.UNAVAILABLE
        assert (await client.get(path)).status_code == 503
    assert sum(edge.gateway.request is not None for edge in edges) == 1


@pytest.mark.row(34)
async def test_what_a_gateway_that_stops_has_not_begun_another_does(tmp_path: Path) -> None:
    async with two_gateways(tmp_path) as (edges, client):
        edges[0].gateway.error = grpc.StatusCode.CANCELLED
        answers = await asyncio.gather(*(client.get("/api/movies/7") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert edges[0].gateway.request is not None
