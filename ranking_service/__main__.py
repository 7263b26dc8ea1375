"""Runs the ranking service: `python -m ranking_service`."""

import os

# Before numpy is imported. A piece of model work takes 1 to 5 ms: more threads would gain nothing and take
# the cores from other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from movierec.ranking.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server
from ranking_service.metrics import RankingMetrics
from ranking_service.ranking import Ranker
from ranking_service.servicer import CALL_COSTS, RankingServicer
from ranking_service.settings import RankingSettings
from serving.bundle.trial import tried_first
from serving.rpc.bundle_server import serve_bundle
from serving.settings import load_settings
from serving.stages.ranking import SERVICE


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(RankingSettings)
    serve_bundle(
        "ranking",
        settings,
        user_shard=settings.user_shard,
        load=tried_first(Ranker.load),  # CatBoost's reader does not stand damaged files
        service=SERVICE,
        register=lambda bundles, metrics, server: add_RankingServiceServicer_to_server(
            RankingServicer(bundles, RankingMetrics(metrics.registry)), server
        ),
        call_costs=lambda _: CALL_COSTS,
        keep_previous=True,
    )


if __name__ == "__main__":
    main()
