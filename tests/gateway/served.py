"""A gateway over stub stages behind a real port, through the kit's server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from gateway.servicer import SERVICE_NAME, MovieServicer, call_costs
from gateway.settings import GatewaySettings
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub, add_MovieServiceServicer_to_server
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics
from serving.rpc.server import running
from tests.gateway.small_world import World
from tests.serving.server_under_test import ANYWHERE, at_once


@asynccontextmanager
async def served(
    world: World, metrics: ServerMetrics | None = None, **values: Any
) -> AsyncIterator[MovieServiceStub]:
    """The API over a channel; `values` are settings."""
    settings = GatewaySettings(**(ANYWHERE | values))
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
