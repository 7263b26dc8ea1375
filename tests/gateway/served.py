"""A gateway over stub stages behind a real port, through the kit's server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gateway.servicer import SERVICE_NAME, MovieServicer, call_costs
from gateway.settings import GatewaySettings
from movierec.gateway.v1.movie_service_pb2_grpc import (
    MovieServiceStub,
    add_MovieServiceServicer_to_server,
)
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics
from serving.rpc.server import running
from tests.gateway.small_world import World


@asynccontextmanager
async def served(
    world: World, metrics: ServerMetrics | None = None, **values: Any
) -> AsyncIterator[MovieServiceStub]:
    """The API over a channel; `values` are settings."""

    async def at_once() -> None:
        pass

    base: dict[str, Any] = {
        "bundle_root": Path("nowhere"),
        "port": 0,
        "metrics_port": 0,
        "drain_delay_seconds": 0,
        "drain_seconds": 5,
    }
    settings = GatewaySettings(**(base | values))
    async with (
        running(
            settings,
            register=partial(add_MovieServiceServicer_to_server, MovieServicer(world.api)),
            service_names=[SERVICE_NAME],
            metrics=metrics or world.server_metrics,
            ready=at_once,
            call_costs=call_costs(settings.batch_concurrency),
        ) as port,
        open_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield MovieServiceStub(channel)
