"""Runs the candidate service: `python -m candidate_service`."""

import os

# Before numpy is imported. A piece of model work takes 1 to 5 ms: more threads would gain nothing and take
# the cores from other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from candidate_service.retrieval import Retriever
from candidate_service.servicer import CandidateServicer, call_costs
from candidate_service.settings import CandidateSettings
from movierec.candidate.v1.candidate_service_pb2_grpc import add_CandidateServiceServicer_to_server
from serving.rpc.bundle_server import serve_bundle
from serving.settings import load_settings
from serving.stages.candidate import SERVICE


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(CandidateSettings)
    serve_bundle(
        "candidate",
        settings,
        user_shard=settings.user_shard,
        load=Retriever.load,
        service=SERVICE,
        register=lambda bundles, _, server: add_CandidateServiceServicer_to_server(
            CandidateServicer(bundles), server
        ),
        call_costs=call_costs,
        keep_previous=settings.keep_previous,
        settle_seconds=settings.settle_delay_seconds,
        settle_at_start=settings.settle_at_start,
    )


if __name__ == "__main__":
    main()
