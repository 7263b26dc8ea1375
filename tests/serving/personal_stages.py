"""The candidate and ranking services, each with a given model behind a real channel."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from grpc import aio

from candidate_service.retrieval import Retriever
from candidate_service.servicer import CandidateServicer
from movierec.candidate.v1.candidate_service_pb2_grpc import add_CandidateServiceServicer_to_server
from movierec.ranking.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server
from ranking_service.metrics import RankingMetrics
from ranking_service.ranking import Ranker
from ranking_service.servicer import RankingServicer
from serving.bundle.holder import BundleHolder
from serving.rpc.metrics import ServerMetrics
from serving.stages import candidate, ranking
from tests.serving.stage_under_test import stage

Running = AbstractAsyncContextManager[tuple[aio.Channel, ServerMetrics]]


def candidate_stage(root: Path, retriever: Retriever | None) -> Running:
    """As `stage` does it."""

    def register(holder: BundleHolder[Retriever], server: aio.Server, _metrics: ServerMetrics) -> None:
        add_CandidateServiceServicer_to_server(CandidateServicer(holder), server)

    return stage(root, retriever, register, candidate.SERVICE.full_name)


def ranking_stage(root: Path, ranker: Ranker | None) -> Running:
    """As `stage` does it."""

    def register(holder: BundleHolder[Ranker], server: aio.Server, metrics: ServerMetrics) -> None:
        servicer = RankingServicer(holder, RankingMetrics(metrics.registry))
        add_RankingServiceServicer_to_server(servicer, server)

    return stage(root, ranker, register, ranking.SERVICE.full_name)
