"""How Envoy stops in its image: two of them under load, one gets SIGTERM, nobody notices."""

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import httpx
import pytest

from benchmarks.ports import free_port
from deploy import envoy_config
from deploy.demo.plan import envoy_process
from deploy.envoy_config import COMPOSE, KUBERNETES, Place, Stage
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1 import movie_service_pb2_grpc as pb_grpc
from movierec.similarity.v1 import similarity_service_pb2 as stage_pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as stage_pb_grpc
from serving.rpc.channels import open_channel
from tests.deploy.edge import CONSOLE, FILES, PATIENCE_SECONDS, ROOT, Edge, running_gateway
from tests.serving.server_under_test import SERVICE, running_server, until

HOST = "127.0.0.1"
ENTRYPOINT = FILES / "entrypoint.sh"
MOVIE = "/api/movies/7"


@dataclass(frozen=True)
class Container:
    """What runs in the image of Envoy."""

    port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    async def run(self, *arguments: str) -> int:
        """Run the entrypoint with other arguments, as `exec` does; its exit status."""
        script = await asyncio.create_subprocess_exec(ENTRYPOINT, *arguments, env=self.environment)
        return await script.wait()

    async def answers(self) -> bool:
        """Whether it is ready for requests."""
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://{HOST}:{self.port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


def start(directory: Path, place: Place) -> Container:
    """Run the image's entrypoint, with pauses that fit a test."""
    port, admin_port = free_port(), free_port()
    config = directory / f"{port}.yaml"
    here = replace(place, edge=(HOST, port), admin=(HOST, admin_port), metrics=(HOST, free_port()))
    here = replace(here, files=FILES, console=CONSOLE)
    config.write_text(envoy_config.render(here, root=ROOT))
    binary, *_ = envoy_process(config, {}).command
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(binary).absolute().parent), os.environ["PATH"]]),
        "ENVOY_ADMIN_PORT": str(admin_port),
        "ENVOY_UNREADY_SECONDS": "1",
        "ENVOY_DRAIN_SECONDS": "1",
    }
    options = ("-c", config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    process = subprocess.Popen([ENTRYPOINT, "run", *options], env=environment, stdout=subprocess.DEVNULL)
    return Container(port, process, environment)


@asynccontextmanager
async def running_container(directory: Path, place: Place) -> AsyncIterator[Container]:
    """Run the image's entrypoint while the block runs."""
    container = start(directory, place)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await container.answers():
                assert container.process.poll() is None
        yield container
    finally:
        while container.process.poll() is None:  # the second signal ends it at once
            container.process.terminate()
            await asyncio.sleep(0.1)


@pytest.mark.row(34)
async def test_sigterm_under_load(tmp_path: Path) -> None:
    edge = Edge(port=0)
    edge.gateway.answer = pb.GetMovieResponse()
    edge.gateway.delay_seconds = 0.04
    answers: Counter[tuple[str, int, object]] = Counter()
    ready: list[Container] = []
    over = asyncio.Event()

    async def balance() -> None:
        """What a load balancer does."""
        while not over.is_set():
            ready[:] = [container for container in containers if await container.answers()]
            await asyncio.sleep(0.1)

    async def ask_rest() -> None:
        async with httpx.AsyncClient() as client:  # keeps its connections
            while not over.is_set():
                if not ready:  # the machine is so busy that neither answers in time
                    await asyncio.sleep(0.1)
                    continue
                container = ready[sum(answers.values()) % len(ready)]
                response = await client.get(f"http://{HOST}:{container.port}{MOVIE}")
                answers["REST", container.port, response.status_code] += 1

    async def ask_grpc(*ports: int) -> None:
        target = "ipv4:" + ",".join(f"{HOST}:{port}" for port in ports)
        async with open_channel(target) as channel:
            stub = pb_grpc.MovieServiceStub(channel)
            while not over.is_set():
                call = stub.GetMovie(pb.GetMovieRequest(movie_id=7))
                answers["gRPC", 0, await call.code()] += 1

    async with AsyncExitStack() as stack:
        place = replace(COMPOSE, gateway=(stack.enter_context(running_gateway(edge)),), stages=())
        containers = [await stack.enter_async_context(running_container(tmp_path, place)) for _ in range(2)]
        leaving, staying = containers
        ready[:] = containers
        tasks = [asyncio.create_task(work) for work in (balance(), *(ask_rest() for _ in range(4)))]
        tasks += [asyncio.create_task(ask_grpc(leaving.port, staying.port)) for _ in range(4)]
        await until(lambda: sum(answers.values()) > 50)
        assert answers["REST", leaving.port, 200] > 0
        leaving.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await asyncio.to_thread(leaving.process.wait)
        served = sum(answers.values())
        await until(lambda: sum(answers.values()) > served + 50)
        over.set()  # not cancelled: a connection that is being made would be left open
        await asyncio.gather(*tasks)
    assert {code for _, _, code in answers} == {200, grpc.StatusCode.OK}
    assert code == 0


async def test_the_mesh_outlives_the_edge(tmp_path: Path) -> None:
    # On Kubernetes: preStop drains the edge, the gateway ends its work, then the sidecar gets SIGTERM.
    edge = Edge(port=0)
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(running_gateway(edge))
        server = await stack.enter_async_context(running_server())
        stage = Stage("similarity", SERVICE, free_port(), ((HOST, server.port),), per_try_seconds=10)
        place = replace(KUBERNETES, gateway=(gateway,), stages=(stage,))
        sidecar = await stack.enter_async_context(running_container(tmp_path, place))
        channel = await stack.enter_async_context(open_channel(f"{HOST}:{stage.mesh_port}"))
        stub = stage_pb_grpc.SimilarityServiceStub(channel)
        assert await sidecar.run("live") == 0
        drained = asyncio.create_task(sidecar.run("drain", "inboundonly"))
        calls = 0
        while not drained.done():
            await stub.FindSimilarMovies(stage_pb.FindSimilarMoviesRequest())
            calls += 1
        assert await drained == 0
        assert await sidecar.run("live") == 0
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(HOST, sidecar.port)
        sidecar.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await asyncio.to_thread(sidecar.process.wait) == 0
        assert await sidecar.run("live") == 1
    assert calls > 10


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    container = start(tmp_path, replace(COMPOSE, stages=()))
    while subprocess.run([ENTRYPOINT, "live"], env=container.environment, check=False).returncode != 0:
        assert container.process.poll() is None
    while container.process.poll() is None:
        container.process.terminate()
        time.sleep(0.1)
    assert container.process.returncode == 137  # as if killed; drained, it would be 0


def test_a_configuration_that_envoy_refuses(tmp_path: Path) -> None:
    container = start(tmp_path, replace(COMPOSE, mesh_host="nonsense"))
    assert container.process.wait(PATIENCE_SECONDS) == 1
