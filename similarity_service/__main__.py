"""Runs the similarity service: `python -m similarity_service`."""

import os

# Before numpy is imported. A piece of model work takes 1 to 5 ms: more threads would gain nothing and take
# the cores from other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before grpc is imported. Its core writes plain text to stderr, beside a log of JSON; what it says of a call,
# the call's status says too. GRPC_VERBOSITY=INFO brings it back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from movierec.similarity.v1.similarity_service_pb2_grpc import add_SimilarityServiceServicer_to_server
from serving.rpc.bundle_server import serve_bundle
from serving.settings import load_settings
from serving.stages.similarity import SERVICE
from similarity_service.neighbours import SimilarityIndex
from similarity_service.servicer import SimilarityServicer
from similarity_service.settings import SimilaritySettings


def main() -> None:
    """Reads the settings and serves."""
    settings = load_settings(SimilaritySettings)
    serve_bundle(
        "similarity",
        settings,
        load=SimilarityIndex.load,
        service=SERVICE,
        register=lambda bundles, _, server: add_SimilarityServiceServicer_to_server(
            SimilarityServicer(bundles), server
        ),
        settle_seconds=settings.settle_delay_seconds,
        settle_at_start=settings.settle_at_start,
    )


if __name__ == "__main__":
    main()
