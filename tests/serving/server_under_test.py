"""A server with one scripted method, run through the kit as every process is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from grpc import aio
from typing_extensions import override

from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.limiter import CallCost
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics
from serving.rpc.server import running
from serving.rpc.tracing import OFF, Tracing
from serving.settings import ServerSettings

SERVICE = "movierec.similarity.v1.SimilarityService"
METHOD = "FindSimilarMovies"
ANYWHERE: Final[MappingProxyType[str, Any]] = MappingProxyType(
    {
        "bundle_root": Path("nowhere"),
        "port": 0,
        "metrics_port": 0,
        "drain_delay_seconds": 0,
        "drain_seconds": 5,
    }
)
"""Settings of any server: on free ports, without a wait when it stops."""


class ScriptedServicer(pb_grpc.SimilarityServiceServicer):
    """Answers with whatever `behave` does."""

    def __init__(self) -> None:
        self.behave: Callable[[Any], Any] = lambda _context: None
        self.answer: Any = pb.FindSimilarMoviesResponse(bundle_id="b")
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.leave.set()

    @override
    async def FindSimilarMovies(
        self, request: pb.FindSimilarMoviesRequest, context: Any
    ) -> pb.FindSimilarMoviesResponse:
        self.entered.set()
        await self.leave.wait()
        result = self.behave(context)
        if asyncio.iscoroutine(result):
            await result
        response: pb.FindSimilarMoviesResponse = self.answer
        return response


def settings(**values: Any) -> ServerSettings:
    """Settings on free ports that do not wait when they stop, but for what `values` says."""
    return ServerSettings(**(ANYWHERE | values))


async def at_once() -> None:
    """Ready from the start."""


async def until(holds: Callable[[], bool]) -> None:
    """Returns once something that is about to happen `holds`."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what happens has no event to wait for
            await asyncio.sleep(0.01)


@dataclass(frozen=True)
class ServerUnderTest:
    """A running server, and a client of it."""

    servicer: ScriptedServicer
    metrics: ServerMetrics
    channel: aio.Channel
    stub: pb_grpc.SimilarityServiceStub
    port: int

    def value(self, name: str, **labels: str) -> float | None:
        """A metric's value now."""
        return self.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running_server(
    ready: Callable[[], Any] = at_once,
    alive: Callable[[], bool] = lambda: True,
    stop_at_once: asyncio.Event | None = None,
    call_costs: Mapping[str, CallCost] | None = None,
    tracing: Tracing = OFF,
    **values: Any,
) -> AsyncIterator[ServerUnderTest]:
    """A server of the kit on a free port."""
    servicer = ScriptedServicer()
    metrics = ServerMetrics.create("test")
    async with (
        running(
            settings(**values),
            register=partial(pb_grpc.add_SimilarityServiceServicer_to_server, servicer),
            service_names=[SERVICE],
            metrics=metrics,
            ready=ready,
            alive=alive,
            call_costs=call_costs or {},
            stop_at_once=stop_at_once,
            tracing=tracing,
        ) as port,
        open_channel(f"127.0.0.1:{port}", tracing=tracing) as channel,
    ):
        yield ServerUnderTest(servicer, metrics, channel, pb_grpc.SimilarityServiceStub(channel), port)
