"""One Envoy for all tests of a module, whose gateway each test steers afresh."""

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
import pytest_asyncio

from movierec.gateway.v1 import movie_service_pb2 as pb
from tests.deploy.edge import Edge, running_edge


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path_factory.mktemp("envoy")) as edge:
        yield edge


@pytest.fixture
def edge(shared_edge: Edge) -> Edge:
    """The module's edge, with a gateway that knows nothing of the test before."""
    shared_edge.gateway.__init__()  # type: ignore[misc]  # the server holds this very object
    shared_edge.gateway.answer = pb.GetMovieResponse()
    return shared_edge


@pytest_asyncio.fixture(loop_scope="module")
async def client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with edge.client() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def channel(edge: Edge) -> AsyncIterator[grpc.aio.Channel]:
    async with edge.channel() as channel:
        yield channel
