"""Runs the candidate service: `python -m candidate_service`."""

import os

# Before numpy is imported. A piece of model work takes 1 to 5 ms: more threads would gain nothing and take
# the cores from other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from functools import partial

from candidate_service.retrieval import Retriever
from candidate_service.servicer import LOADS, SERVICE_NAME, CandidateServicer
from candidate_service.settings import CandidateSettings
from movierec.candidate.v1.candidate_service_pb2_grpc import add_CandidateServiceServicer_to_server
from serving.bundle.holder import BundleHolder
from serving.bundle.store import BundleStore
from serving.logs import configure_logs
from serving.rpc.metrics import ServerMetrics, exposed
from serving.rpc.server import run, serve_until_stopped
from serving.rpc.tracing import traced
from serving.settings import load_settings


async def serve(settings: CandidateSettings) -> None:
    """Serves until a signal asks to stop."""
    metrics = ServerMetrics.create("candidate")
    bundles = BundleHolder(
        BundleStore(settings.bundle_root),
        Retriever.load,
        loads=metrics.bundle_loads,
        info=metrics.bundle_info,
        poll_seconds=settings.bundle_poll_seconds,
        settle_seconds=settings.settle_delay_seconds,
        settle_at_start=settings.settle_at_start,
    )
    with exposed(metrics, settings), traced("candidate") as tracing:
        async with bundles.loading():
            await serve_until_stopped(
                settings,
                register=partial(add_CandidateServiceServicer_to_server, CandidateServicer(bundles)),
                service_names=[SERVICE_NAME],
                metrics=metrics,
                ready=bundles.loaded,
                loads=LOADS,
                tracing=tracing,
            )


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(CandidateSettings)
    configure_logs("candidate", settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
