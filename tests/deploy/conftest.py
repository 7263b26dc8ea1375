"""One Envoy for all tests of a module, whose gateway each test steers afresh."""

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as pb_grpc
from tests.deploy.edge import SERVICE, Edge, free_port, running_envoy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    edge = Edge(free_port())
    server = grpc.aio.server()
    pb_grpc.add_MovieServiceServicer_to_server(edge.gateway, server)
    health_pb2_grpc.add_HealthServicer_to_server(edge.health, server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    gateway_port = server.add_insecure_port("127.0.0.1:0")
    await edge.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    directory = tmp_path_factory.mktemp("envoy")
    try:
        with running_envoy(directory, port=edge.port, gateway_port=gateway_port):
            await edge.wait_for_readiness(200)
            yield edge
    finally:
        await server.stop(None)


@pytest.fixture
def edge(shared_edge: Edge) -> Edge:
    """The module's edge, with a gateway that knows nothing of the test before."""
    shared_edge.gateway.__init__()  # type: ignore[misc]  # the server holds this very object
    shared_edge.gateway.answer = pb.GetMovieResponse()
    return shared_edge


@pytest_asyncio.fixture(loop_scope="module")
async def client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.port}", timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def channel(edge: Edge) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        yield channel
