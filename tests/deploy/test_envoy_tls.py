"""TLS at the edge and mutual TLS in the mesh, through a real Envoy: right, none, wrong, expired, replaced."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio

from benchmarks.ports import free_port
from deploy.envoy_config import Options, Stage
from movierec.gateway.v1 import movie_service_pb2 as gateway_pb
from movierec.gateway.v1 import movie_service_pb2_grpc as gateway_pb_grpc
from serving.rpc.tls import server_credentials
from tests.deploy.edge import FILES, PATIENCE_SECONDS, Edge, image_place, running_envoy, running_gateway
from tests.serving.authority import Authority, Identity
from tests.serving.server_under_test import SERVICE, running_server, settings, until
from tests.serving.test_tls import ask, gateway_credentials

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "127.0.0.1"
MOVIE = "/api/movies/7"
OURS = Authority()
THEIRS = Authority()


@dataclass(frozen=True)
class Secured:
    """Envoy with TLS on all sides."""

    edge: Edge
    shown: Identity
    """What the edge shows its clients."""
    stages: dict[str, int]
    """Ports of the mesh, by what is wrong with the stage behind it; `similarity` is well."""

    def client(self, authority: Path) -> httpx.AsyncClient:
        """A client of the edge that trusts an authority."""
        context = ssl.create_default_context(cafile=authority)
        return httpx.AsyncClient(base_url=f"https://{HOST}:{self.edge.port}", verify=context, timeout=30)


def laid_out(directory: Path) -> Path:
    """Envoy's files as in its image, but that certificates are looked for below `directory`."""
    files = Path(shutil.copytree(FILES, directory / "files"))
    for secret in (files / "sds").iterdir():
        secret.write_text(secret.read_text().replace("/etc/movierec/tls", str(directory)))
    return files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    shown = OURS.issue(directory / "edge", HOST)
    OURS.issue(directory / "mesh", HOST)
    servers = {
        "similarity": OURS.issue(directory / "similarity", "similarity"),
        "expired": OURS.issue(directory / "expired", "expired", expired=True),
        "stranger": THEIRS.issue(directory / "stranger", "stranger"),
        "misnamed": OURS.issue(directory / "misnamed", "another"),
    }
    async with AsyncExitStack() as stack:
        edge = Edge(free_port())
        edge.gateway.answer = gateway_pb.GetMovieResponse()
        gateway = OURS.issue(directory / "gateway", "gateway").server_settings()
        credentials = server_credentials(settings(**gateway))
        address = stack.enter_context(running_gateway(edge, credentials))
        stages = []
        for name, identity in servers.items():
            # Each would let Envoy in: it is Envoy that has to refuse.
            trusting = {**identity.server_settings(), "tls_client_ca_file": shown.authority}
            server = await stack.enter_async_context(running_server(**trusting))
            stages.append(Stage(name, SERVICE, free_port(), ((HOST, server.port),), per_try_seconds=10))
        files = laid_out(directory)
        place = image_place(port=edge.port, gateways=[address], files=files, stages=tuple(stages))
        options = Options(edge_tls=True, mesh_tls=True, deadline_seconds=PATIENCE_SECONDS)
        stack.enter_context(running_envoy(directory, place, options))
        secured = Secured(edge, shown, {s.name: s.mesh_port for s in stages})
        async with secured.client(shown.authority) as client, asyncio.timeout(PATIENCE_SECONDS):
            while not await answers(client):
                pass
        yield secured


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:  # not listening yet
        return False


async def test_edge(secured: Secured, tmp_path: Path) -> None:
    async with secured.client(secured.shown.authority) as client:
        response = await client.get(MOVIE)
    assert response.status_code == 200
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://{HOST}:{secured.edge.port}{MOVIE}")
    async with secured.client(THEIRS.issue(tmp_path, HOST).authority) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(MOVIE)


async def test_native_grpc_at_the_edge(secured: Secured) -> None:
    credentials = grpc.ssl_channel_credentials(secured.shown.authority.read_bytes())
    async with grpc.aio.secure_channel(f"{HOST}:{secured.edge.port}", credentials) as channel:
        await gateway_pb_grpc.MovieServiceStub(channel).GetMovie(gateway_pb.GetMovieRequest())


@pytest.mark.row(54)
async def test_who_may_use_the_mesh(secured: Secured, tmp_path: Path) -> None:
    port = secured.stages["similarity"]
    gateway = OURS.issue(tmp_path / "gateway", "gateway")
    late = OURS.issue(tmp_path / "late", "gateway", expired=True)
    stranger = THEIRS.issue(tmp_path / "stranger", "gateway")
    assert await ask(port, gateway_credentials(**gateway.stage_settings())) == grpc.StatusCode.OK
    refused: dict[str, dict[str, Path]] = {
        "plain text": {},
        "no certificate": {"stage_ca_file": gateway.authority},
        "an expired one": late.stage_settings(),
        "one of another authority": {**stranger.stage_settings(), "stage_ca_file": gateway.authority},
    }
    for case, values in refused.items():
        assert await ask(port, gateway_credentials(**values)) == grpc.StatusCode.UNAVAILABLE, case


@pytest.mark.parametrize("stage", ["expired", "stranger", "misnamed"])
async def test_whom_the_mesh_leads_to(secured: Secured, tmp_path: Path, stage: str) -> None:
    gateway = OURS.issue(tmp_path, "gateway")
    code = await ask(secured.stages[stage], gateway_credentials(**gateway.stage_settings()))
    assert code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.row(54)
async def test_replaced_under_load(secured: Secured, tmp_path: Path) -> None:
    successor = THEIRS.issue(tmp_path, HOST)
    both = tmp_path / "both.crt"
    both.write_bytes(secured.shown.authority.read_bytes() + successor.authority.read_bytes())
    codes: list[int] = []
    over = asyncio.Event()

    async def ask_all_the_time() -> None:
        while not over.is_set():
            async with secured.client(both) as client:  # a connection of its own, so that it shakes hands
                codes.append((await client.get(MOVIE)).status_code)

    callers = [asyncio.create_task(ask_all_the_time()) for _ in range(2)]
    for source, target in (
        (successor.certificate, secured.shown.certificate),
        (successor.key, secured.shown.key),
    ):
        shutil.copyfile(source, tmp_path / "aside")
        (tmp_path / "aside").replace(target)
    async with secured.client(successor.authority) as client, asyncio.timeout(PATIENCE_SECONDS):
        while not await answers(client):
            pass
    enough = len(codes) + 5
    await until(lambda: len(codes) >= enough or any(caller.done() for caller in callers))
    over.set()  # not cancelled: a handshake under way would leave its connection open
    await asyncio.gather(*callers)
    assert set(codes) == {200}
