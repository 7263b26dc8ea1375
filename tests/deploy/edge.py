"""A real Envoy with the committed configuration, in front of a gateway that a test can steer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from typing_extensions import override

from benchmarks.ports import free_port
from deploy import envoy_config
from deploy.demo.plan import envoy_process
from deploy.demo.processes import Supervisor
from deploy.demo.signals import StopRequest
from movierec.gateway.v1 import movie_service_pb2_grpc as pb_grpc

SERVICE = "movierec.gateway.v1.MovieService"
ROOT = Path(__file__).parents[2]
EDGE_METRIC = "envoy_http_downstream_rq_xx"
FILES = ROOT / envoy_config.CONFIG.parent
CONSOLE = ROOT / envoy_config.CONSOLE
PATIENCE_SECONDS = 60
CALLS_AT_ONCE = 400
"""More than Envoy lets through."""


@dataclass
class Gateway(pb_grpc.MovieServiceServicer):
    """Answers what it is told to, and remembers what it was asked."""

    request: Message | None = None
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    time_remaining: float | None = None
    answer: Message | None = None
    error: grpc.StatusCode | None = None
    error_trailers: tuple[tuple[str, bytes], ...] = ()
    delay_seconds: float = 0
    leave: threading.Event = field(default_factory=threading.Event)
    """Personal lists wait for it; set from the start."""

    def __post_init__(self) -> None:
        self.leave.set()

    def _serve(self, request: Any, context: Any) -> Any:
        self.request = request
        self.metadata = dict(context.invocation_metadata() or ())
        self.time_remaining = context.time_remaining()
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(self.delay_seconds)
        if self.error is not None:
            context.set_trailing_metadata(self.error_trailers)
            context.abort(self.error, "told to fail")
        return self.answer

    ListPopularMovies = ListSimilarMovies = ListTasteMovies = BatchListPersonalMovies = _serve
    GetMovie = GetUser = GetStatus = SearchMovies = WhyMovie = _serve

    @override
    def ListPersonalMovies(self, request: Any, context: Any) -> Any:
        self.leave.wait()
        return self._serve(request, context)


@dataclass(frozen=True)
class Edge:
    """Envoy on a port of its own, and what stands behind it."""

    port: int
    gateway: Gateway = field(default_factory=Gateway)
    health: Any = field(default_factory=health.HealthServicer)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """A client of the edge."""
        options = {"timeout": PATIENCE_SECONDS} | options
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", **options)

    def channel(self, *options: tuple[str, Any]) -> grpc.aio.Channel:
        """A channel to the edge."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options)

    async def wait_for_readiness(self, status: int) -> None:
        """Return once /readyz answers with this status."""
        async with httpx.AsyncClient() as client, asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.port}/readyz")
                except httpx.TransportError:  # not listening yet
                    pass
                else:
                    if answer.status_code == status:
                        return
                await asyncio.sleep(0.05)


def demo_place(*, port: int, gateway_port: int) -> envoy_config.Place:
    """The demo, for an Envoy that is started anywhere."""
    return envoy_config.demo(port=port, gateway_port=gateway_port, files=FILES, console=CONSOLE)


def image_place(*, port: int, gateways: Iterable[tuple[str, int]], **changes: Any) -> envoy_config.Place:
    """Compose's, for an Envoy that is started anywhere."""
    here: dict[str, Any] = {name: ("127.0.0.1", free_port()) for name in ("admin", "metrics")}
    here |= {"edge": ("127.0.0.1", port), "gateway": tuple(gateways), "files": FILES, "console": CONSOLE}
    return replace(envoy_config.COMPOSE, **{**here, **changes})


@contextmanager
def running_envoy(
    directory: Path, place: envoy_config.Place, options: envoy_config.Options | None = None
) -> Iterator[Path]:
    """Run Envoy while the block runs; yields the file with its output."""
    config = directory / "envoy.yaml"
    config.write_text(envoy_config.render(place, options, root=ROOT))
    envoy = envoy_process(config, {})
    supervisor = Supervisor(directory, StopRequest())
    supervisor.start(envoy)
    try:
        yield supervisor.log_path(envoy)
    finally:
        supervisor.stop()


@contextmanager
def running_gateway(
    edge: Edge, credentials: grpc.ServerCredentials | None = None
) -> Iterator[tuple[str, int]]:
    """Run the edge's gateway while the block runs; yields its address.

    On threads of its own: a test's loop stands still now and then, between two tests at the least, and
    Envoy's health checks take a gateway on it for dead.
    """
    server = grpc.server(ThreadPoolExecutor(CALLS_AT_ONCE))
    # Its type says asyncio's server, as the stubs are made for that; it adds to either.
    pb_grpc.add_MovieServiceServicer_to_server(edge.gateway, server)  # type: ignore[arg-type]
    health_pb2_grpc.add_HealthServicer_to_server(edge.health, server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    edge.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    server.start()
    try:
        yield "127.0.0.1", port
    finally:
        server.stop(None).wait()


@asynccontextmanager
async def running_edge(directory: Path, options: envoy_config.Options | None = None) -> AsyncIterator[Edge]:
    """Run the demo's Envoy before a gateway to steer, while the block runs."""
    edge = Edge(free_port())
    with (
        running_gateway(edge) as (_, gateway_port),
        running_envoy(directory, demo_place(port=edge.port, gateway_port=gateway_port), options),
    ):
        await edge.wait_for_readiness(200)
        yield edge
