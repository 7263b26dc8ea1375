"""All four servers in this process; a test publishes bundles, and says when the settle delay is over."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from grpc import aio

from candidate_service.retrieval import Retriever
from candidate_service.servicer import CandidateServicer
from gateway.lists.catalogue import Catalogue
from gateway.lists.recent_lists import RecentLists
from gateway.metrics import GatewayMetrics, Method
from gateway.movie_api import MovieApi
from gateway.servicer import SERVICE_NAME, MovieServicer
from gateway.settings import GatewaySettings
from gateway.stages.batch_queue import BatchQueue
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from gateway.stages.direct import DirectStage
from movierec.candidate.v1.candidate_service_pb2_grpc import add_CandidateServiceServicer_to_server
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub, add_MovieServiceServicer_to_server
from movierec.ranking.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server
from movierec.similarity.v1.similarity_service_pb2_grpc import add_SimilarityServiceServicer_to_server
from ranking_service.metrics import RankingMetrics
from ranking_service.ranking import Ranker
from ranking_service.servicer import RankingServicer
from serving.bundle.holder import BundleHolder
from serving.bundle.store import BundleStore
from serving.rpc.channels import open_channel
from serving.rpc.metrics import ServerMetrics
from serving.rpc.server import running
from serving.stages import candidate, ranking, similarity
from serving.stages.stage import Answer, Query, StageCodec, StageName
from similarity_service.neighbours import SimilarityIndex
from similarity_service.servicer import SimilarityServicer
from tests.gateway.small_world import BUDGETS
from tests.serving.server_under_test import settings
from tests.training.small import N_USERS, PROGRESS, build_of, tastes
from training.publish.publish import publish

SETTLE: Final = 60.0
SECONDS: Final = 60.0  # ample: no test is decided by it


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what another thread does."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.005)


@dataclass
class Holders:
    """What the four servers hold."""

    store: BundleStore
    metrics: dict[str, ServerMetrics]
    seconds: float = 0.0
    """By how much the settle delay has been shortened."""
    _all: dict[str, BundleHolder[Any]] = field(default_factory=dict)

    def open(self, name: str, load: Callable[[BundleStore, str], Any], **options: Any) -> BundleHolder[Any]:
        """A holder that looks often, and whose clock the test moves."""
        metrics = self.metrics[name] = ServerMetrics.create(name)
        self._all[name] = BundleHolder(
            self.store,
            load,
            load_counter=metrics.bundle_loads,
            info=metrics.bundle_info,
            poll_seconds=0.01,
            clock=lambda: time.monotonic() + self.seconds,
            **options,
        )
        return self._all[name]

    def held(self, name: str) -> list[str]:
        """The bundles that a server answers from, the current one first."""
        return [model.bundle_id for model in self._all[name].held()]

    def failed(self, name: str) -> float:
        """Bundles that a server has refused."""
        labels = {"result": "failed"}
        return self.metrics[name].registry.get_sample_value("movierec_bundle_loads_total", labels) or 0

    async def current(self, bundle_id: str, *names: str) -> None:
        """Waits until a bundle is the current one of these servers."""
        for name in names:
            await eventually(lambda name=name: self.held(name)[0] == bundle_id)  # type: ignore[misc]


@dataclass(frozen=True)
class Cluster:
    """The servers, and a client of the gateway."""

    holders: Holders
    api: MovieServiceStub
    registry: Any
    """The gateway's metrics."""

    async def point(self, bundle_id: str) -> None:
        """Moves the pointer, and waits until those who take the new bundle at once have it."""
        self.holders.store.point_to(bundle_id, published_at=time.time())
        await self.holders.current(bundle_id, "gateway", "ranking")

    async def settle(self, bundle_id: str) -> None:
        """Lets the settle delay pass, and waits until the others have the new bundle."""
        self.holders.seconds += SETTLE
        await self.holders.current(bundle_id, "candidate", "similarity")

    async def roll_out(self, bundle_id: str) -> None:
        """Moves the pointer, and returns when every server has followed."""
        await self.point(bundle_id)
        await self.settle(bundle_id)


@asynccontextmanager
async def running_cluster(store: BundleStore) -> AsyncIterator[Cluster]:
    """Runs everything while the block runs; ready when all hold a bundle."""
    holders = Holders(store, {})
    async with AsyncExitStack() as stack:

        async def start(
            name: str, holder: BundleHolder[Any], register: Callable[[aio.Server], None], service: str
        ) -> aio.Channel:
            await stack.enter_async_context(holder.loading())
            server = running(
                settings(bundle_root=store.root),
                register=register,
                service_names=[service],
                metrics=holders.metrics[name],
                ready=holder.loaded,
            )
            port = await stack.enter_async_context(server)
            await holder.loaded()
            return await stack.enter_async_context(open_channel(f"127.0.0.1:{port}"))

        retrievers = holders.open("candidate", Retriever.load, settle_seconds=SETTLE)
        rankers = holders.open("ranking", Ranker.load, keep_previous=True)
        indexes = holders.open("similarity", SimilarityIndex.load, settle_seconds=SETTLE)
        catalogues = holders.open("gateway", Catalogue.load, keep_previous=True)
        registry = holders.metrics["gateway"].registry
        metrics = GatewayMetrics.create(registry)
        ranking_metrics = RankingMetrics(holders.metrics["ranking"].registry)
        candidates = await start(
            "candidate",
            retrievers,
            partial(add_CandidateServiceServicer_to_server, CandidateServicer(retrievers)),
            candidate.SERVICE.full_name,
        )
        ranked = await start(
            "ranking",
            rankers,
            partial(add_RankingServiceServicer_to_server, RankingServicer(rankers, ranking_metrics)),
            ranking.SERVICE.full_name,
        )
        alike = await start(
            "similarity",
            indexes,
            partial(add_SimilarityServiceServicer_to_server, SimilarityServicer(indexes)),
            similarity.SERVICE.full_name,
        )
        limits = GatewaySettings(bundle_root=store.root).batch_limits(1)

        def breaker(stage: StageName) -> Breaker:
            return Breaker(stage, metrics, full_seconds=BUDGETS.full_seconds(stage))

        def queue(codec: StageCodec[Query, Answer], channel: aio.Channel) -> BatchQueue[Query, Answer]:
            client = StageClient(codec, channel, metrics)
            return BatchQueue(client, breaker=breaker(codec.name), limits=limits, metrics=metrics)

        movie_api = MovieApi(
            catalogues=catalogues,
            candidates=queue(candidate.CODEC, candidates),
            ranking=queue(ranking.CODEC, ranked),
            similarity=DirectStage(
                StageClient(similarity.CODEC, alike, metrics), breaker(StageName.SIMILARITY)
            ),
            budgets=BUDGETS,
            batch_concurrency=32,
            why_movie=True,
            metrics=metrics,
            recent_lists=RecentLists(holders.metrics["gateway"].request_seconds.labels(Method.PERSONAL)),
        )
        api = await start(
            "gateway",
            catalogues,
            partial(add_MovieServiceServicer_to_server, MovieServicer(movie_api)),
            SERVICE_NAME,
        )
        yield Cluster(holders, MovieServiceStub(api), registry)


def train_bundles(root: Path, *seeds: int, user_shards: int = 1, n_users: int = N_USERS) -> list[str]:
    """Bundles of other ratings each: other histories, other models, the same 60 movies."""
    builds = (
        build_of(
            tastes(seed=seed, n_users=n_users),
            iterations=20,
            dataset_tag=f"tastes {seed}",
            user_shards=user_shards,
        )
        for seed in seeds
    )
    return [publish(root, build, PROGRESS, settle_seconds=0) for build in builds]


def copy_of(store: BundleStore, root: Path) -> BundleStore:
    """A store that a test may damage."""
    return BundleStore(Path(shutil.copytree(store.root, root)))
