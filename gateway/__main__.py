"""Runs the gateway: `python -m gateway`."""

import os

# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from functools import partial
from typing import TypeVar

from grpc import aio

from gateway.lists.catalogue import Catalogue
from gateway.lists.recent_lists import RecentLists
from gateway.metrics import GatewayMetrics, Method
from gateway.movie_api import MovieApi
from gateway.servicer import SERVICE_NAME, MovieServicer, call_costs
from gateway.settings import GatewaySettings
from gateway.stages.batch_queue import BatchQueue
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
from serving.stages.stage import Answer, Stage, StageCodec, StageName

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
    with exposed(server_metrics, settings), traced("gateway") as tracing:
        tls = client_credentials(settings, "stage")
        async with (
            catalogues.loading(),
            open_channel(settings.candidate_target, tls, tracing) as to_candidate,
            open_channel(settings.ranking_target, tls, tracing) as to_ranking,
            open_channel(settings.similarity_target, tls, tracing) as to_similarity,
        ):
            candidates, candidate_monitor = _stage_of_users(
                candidate.CODEC, to_candidate, settings.candidate_max_calls, settings, metrics
            )
            rankings, ranking_monitor = _stage_of_users(
                ranking.CODEC, to_ranking, settings.ranking_max_calls, settings, metrics
            )
            client = StageClient(similarity.CODEC, to_similarity, metrics)
            breaker = _breaker(StageName.SIMILARITY, settings, metrics)
            api = MovieApi(
                catalogues=catalogues,
                candidates=candidates,
                ranking=rankings,
                similarity=DirectStage(client, breaker),
                budgets=settings.budgets,
                batch_concurrency=settings.batch_concurrency,
                why_movie=settings.why_movie,
                metrics=metrics,
                recent_lists=RecentLists(server_metrics.request_seconds.labels(Method.PERSONAL)),
                monitors=[candidate_monitor, ranking_monitor, ChannelMonitor(client, to_similarity, breaker)],
            )
            await serve_until_stopped(
                lambda at_once: running(
                    settings,
                    register=partial(add_MovieServiceServicer_to_server, MovieServicer(api)),
                    service_names=[SERVICE_NAME],
                    metrics=server_metrics,
                    ready=catalogues.loaded,
                    alive=catalogues.is_alive,
                    call_costs=call_costs(settings.batch_concurrency),
                    tracing=tracing,
                    stop_at_once=at_once,
                )
            )


def _stage_of_users(
    codec: StageCodec[QueryOfUser, Answer],
    channel: aio.Channel,
    max_calls: int,
    settings: GatewaySettings,
    metrics: GatewayMetrics,
) -> tuple[Stage[QueryOfUser, Answer], StageMonitor]:
    """A stage whose queries share calls, and its monitor; a queue and a breaker for each shard of users."""

    def one(user_shard: UserShard | None = None) -> tuple[Stage[QueryOfUser, Answer], StageMonitor]:
        client = StageClient(codec, channel, metrics, user_shard)
        breaker = _breaker(codec.name, settings, metrics)
        limits = settings.batch_limits(max_calls)
        queue = BatchQueue(client, breaker=breaker, limits=limits, metrics=metrics)
        return queue, ChannelMonitor(client, channel, breaker)

    if (count := settings.user_shards) == 1:
        return one()
    stages, monitors = zip(*(one(UserShard(index, count)) for index in range(count)), strict=True)
    return ShardedStage(stages), ShardsMonitor(monitors)


def _breaker(stage: StageName, settings: GatewaySettings, metrics: GatewayMetrics) -> Breaker:
    return Breaker(stage, metrics, full_seconds=settings.budgets.full_seconds(stage))


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(GatewaySettings)
    configure_logs("gateway", settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
