"""Runs the gateway: `python -m gateway`."""

import os

# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from contextlib import AsyncExitStack
from functools import partial

from gateway.batching import BatchingCandidates, BatchingRanking
from gateway.breaker import Breaker, GuardedSimilarity
from gateway.catalogue import Catalogue
from gateway.clients import CandidateClient, RankingClient, SimilarityClient
from gateway.metrics import GatewayMetrics
from gateway.pipeline import Pipeline
from gateway.ports import Stage
from gateway.servicer import SERVICE_NAME, MovieServicer, loads
from gateway.settings import GatewaySettings
from movierec.gateway.v1.movie_service_pb2_grpc import add_MovieServiceServicer_to_server
from serving.bundle.holder import BundleHolder
from serving.bundle.store import BundleStore
from serving.logs import configure_logs
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics, exposed
from serving.rpc.server import run, serve_until_stopped
from serving.rpc.tls import client_credentials
from serving.rpc.tracing import traced
from serving.settings import load_settings


async def serve(settings: GatewaySettings) -> None:
    """Serves until a signal asks to stop."""
    server_metrics = ServerMetrics.create("gateway")
    metrics = GatewayMetrics.create(server_metrics.registry)
    catalogues = BundleHolder(
        BundleStore(settings.bundle_root),
        Catalogue.load,
        loads=server_metrics.bundle_loads,
        info=server_metrics.bundle_info,
        poll_seconds=settings.bundle_poll_seconds,
        keep_previous=True,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(exposed(server_metrics, settings))
        tracing = stack.enter_context(traced("gateway"))
        await stack.enter_async_context(catalogues.loading())
        tls = client_credentials(settings, "stage")
        candidate = await stack.enter_async_context(open_channel(settings.candidate_target, tls, tracing))
        ranking = await stack.enter_async_context(open_channel(settings.ranking_target, tls, tracing))
        similarity = await stack.enter_async_context(open_channel(settings.similarity_target, tls, tracing))
        breakers = {
            stage: Breaker(stage, metrics, full_seconds=settings.budgets.full_seconds(stage))
            for stage in Stage
        }
        pipeline = Pipeline.create(
            catalogues=catalogues,
            candidates=BatchingCandidates(
                CandidateClient(candidate, metrics),
                breaker=breakers[Stage.CANDIDATE],
                limits=settings.call_limits(settings.candidate_max_calls),
                metrics=metrics,
            ),
            ranking=BatchingRanking(
                RankingClient(ranking, metrics),
                breaker=breakers[Stage.RANKING],
                limits=settings.call_limits(settings.ranking_max_calls),
                metrics=metrics,
            ),
            similarity=GuardedSimilarity(SimilarityClient(similarity, metrics), breakers[Stage.SIMILARITY]),
            budgets=settings.budgets,
            candidates_per_user=settings.candidates_per_user,
            batch_concurrency=settings.batch_concurrency,
            why_movie=settings.why_movie,
            metrics=metrics,
        )
        await serve_until_stopped(
            settings,
            register=partial(add_MovieServiceServicer_to_server, MovieServicer(pipeline)),
            service_names=[SERVICE_NAME],
            metrics=server_metrics,
            ready=catalogues.loaded,
            loads=loads(settings.batch_concurrency),
            tracing=tracing,
        )


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(GatewaySettings)
    configure_logs("gateway", settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
