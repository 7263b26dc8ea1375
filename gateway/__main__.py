"""Runs the gateway: `python -m gateway`."""

import os

# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from grpc import aio

from gateway.lists.catalogue import Catalogue
from gateway.lists.recent_lists import RecentLists
from gateway.metrics import GatewayMetrics, Method
from gateway.movie_api import MovieApi
from gateway.servicer import SERVICE_NAME, MovieServicer, call_costs
from gateway.settings import GatewaySettings
from gateway.stages.batch_queue import BatchLimits, BatchQueue
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from gateway.stages.direct import DirectStage
from gateway.stages.monitor import ChannelMonitor, StageMonitor
from gateway.stages.sharded import ShardedStage, ShardsMonitor, UserQuery
from movierec.gateway.v1.movie_service_pb2_grpc import add_MovieServiceServicer_to_server
from serving.bundle.holder import BundleHolder
from serving.logs import configure_logs
from serving.rpc.bundle_server import open_store
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics, exposed
from serving.rpc.server import run, running, serve_until_stopped
from serving.rpc.tls import client_credentials
from serving.rpc.tracing_setup import traced
from serving.settings import load_settings
from serving.shards import UserShard
from serving.stages import candidate, ranking, similarity
from serving.stages.stage import Answer, Query, Stage, StageCodec

QueryOfUser = TypeVar("QueryOfUser", bound=UserQuery)


async def serve(settings: GatewaySettings) -> None:
    """Serves until a signal asks to stop."""
    server_metrics = ServerMetrics.create("gateway")
    metrics = GatewayMetrics.create(server_metrics.registry)
    catalogues = BundleHolder(
        open_store(settings),
        partial(Catalogue.load, with_ratings=settings.why_movie, user_shards=settings.user_shards),
        load_counter=server_metrics.bundle_loads,
        info=server_metrics.bundle_info,
        poll_seconds=settings.bundle_poll_seconds,
        keep_previous=True,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(exposed(server_metrics, settings))
        tracing = stack.enter_context(traced("gateway"))
        await stack.enter_async_context(catalogues.loading())
        tls = client_credentials(settings, "stage")
        monitors: list[StageMonitor] = []

        def one(
            codec: StageCodec[Query, Answer],
            channel: aio.Channel,
            limits: BatchLimits | None,
            user_shard: UserShard | None = None,
        ) -> tuple[Stage[Query, Answer], StageMonitor]:
            """A stage, and who tells its state; without limits, queries share no calls."""
            breaker = Breaker(codec.name, metrics, full_seconds=settings.budgets.full_seconds(codec.name))
            client = StageClient(codec, channel, metrics, user_shard)
            stage: Stage[Query, Answer] = (
                DirectStage(client, breaker)
                if limits is None
                else BatchQueue(client, breaker=breaker, limits=limits, metrics=metrics)
            )
            return stage, ChannelMonitor(client, channel, breaker)

        async def open_stage(
            codec: StageCodec[Query, Answer], target: str, limits: BatchLimits | None = None
        ) -> Stage[Query, Answer]:
            channel = await stack.enter_async_context(open_channel(target, tls, tracing))
            stage, monitor = one(codec, channel, limits)
            monitors.append(monitor)
            return stage

        async def open_stage_of_users(
            codec: StageCodec[QueryOfUser, Answer], target: str, limits: BatchLimits
        ) -> Stage[QueryOfUser, Answer]:
            count = settings.user_shards
            if count == 1:
                return await open_stage(codec, target, limits)
            channel = await stack.enter_async_context(open_channel(target, tls, tracing))
            shards = [one(codec, channel, limits, UserShard(index, count)) for index in range(count)]
            monitors.append(ShardsMonitor([monitor for _, monitor in shards]))
            return ShardedStage([stage for stage, _ in shards])

        api = MovieApi(
            catalogues=catalogues,
            candidates=await open_stage_of_users(
                candidate.CODEC,
                settings.candidate_target,
                settings.batch_limits(settings.candidate_max_calls),
            ),
            ranking=await open_stage_of_users(
                ranking.CODEC, settings.ranking_target, settings.batch_limits(settings.ranking_max_calls)
            ),
            similarity=await open_stage(similarity.CODEC, settings.similarity_target),
            budgets=settings.budgets,
            batch_concurrency=settings.batch_concurrency,
            why_movie=settings.why_movie,
            metrics=metrics,
            recent_lists=RecentLists(server_metrics.request_seconds.labels(Method.PERSONAL)),
            monitors=monitors,
        )
        await serve_until_stopped(
            partial(
                running,
                settings,
                register=partial(add_MovieServiceServicer_to_server, MovieServicer(api)),
                service_names=[SERVICE_NAME],
                metrics=server_metrics,
                ready=catalogues.loaded,
                alive=catalogues.is_alive,
                call_costs=call_costs(settings.batch_concurrency),
                tracing=tracing,
            )
        )


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(GatewaySettings)
    configure_logs("gateway", settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
