"""Same request, same answer, whatever it travels with: the gateway's batching before real stages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from candidate_service.retrieval import Retriever
from gateway.codec import decode_personal
from gateway.lists.catalogue import Catalogue
from gateway.lists.list_builder import ListAnswer
from gateway.metrics import GatewayMetrics
from gateway.movie_api import MovieApi
from gateway.requests import PersonalRequest
from movierec.gateway.v1 import movie_service_pb2 as public
from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from serving.errors import DeadlineError, InvalidArgumentError
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ratings import NO_TIME, RatedMovies
from serving.rpc.metrics import ServerMetrics
from serving.stages import candidate, ranking
from tests.gateway.small_world import World, queue
from tests.serving.personal_stages import candidate_stage, ranking_stage

SECONDS = 60.0  # ample: no test is decided by it


@dataclass(frozen=True)
class RealStages:
    """A gateway over both stages behind real channels."""

    catalogue: Catalogue

    gateway: MovieApi
    registry: CollectorRegistry
    servers: tuple[ServerMetrics, ServerMetrics]

    def requests(self) -> list[PersonalRequest]:
        """64 different ones: of known users and new ones, with everything that a request may ask for."""
        assert self.catalogue.seen is not None
        users = self.catalogue.seen.users.ids[:48].tolist()
        movies = self.catalogue.movies.ids.ids
        histories = [
            RatedMovies(tuple(movies[place : place + 5].tolist()), (5.0, 4.0, 1.0, 4.5, 3.0), (NO_TIME,) * 5)
            for place in range(16)
        ]
        known = [
            PersonalRequest(
                user_id=user,
                limit=1 + place % 30,
                movie_filter=MovieFilter(exclude_genres=("Comedy",)) if place % 3 == 0 else UNRESTRICTED,
                exclude_movie_ids=movies[place : place + place % 7],
                include_seen=place % 5 == 0,
                explain_features=place % 4,
                diversity=0.3 if place % 6 == 0 else 0.0,
                history=histories[place % 16] if place % 8 == 0 else RatedMovies(),
            )
            for place, user in enumerate(users)
        ]
        return known + [PersonalRequest(user_id=0, limit=10, history=history) for history in histories]

    def in_flight(self) -> list[float | None]:
        """Calls at work in each stage."""
        return [
            server.registry.get_sample_value("movierec_inflight", {"service": server.service})
            for server in self.servers
        ]

    def calls(self, stage_name: str) -> float:
        """Calls that the gateway has made to a stage."""
        labels = {"stage": stage_name}
        return self.registry.get_sample_value("movierec_stage_batch_size_count", labels) or 0.0


@pytest.fixture(scope="module")
def models(bundle_root: Path) -> tuple[Catalogue, Retriever, Ranker]:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    return (Catalogue.load(store, bundle_id), Retriever.load(store, bundle_id), Ranker.load(store, bundle_id))


@pytest.fixture
async def stages(models: tuple[Catalogue, Retriever, Ranker], tmp_path: Path) -> AsyncIterator[RealStages]:
    catalogue, retriever, ranker = models
    registry = CollectorRegistry()
    metrics = GatewayMetrics.create(registry)
    roots = tmp_path / "candidate", tmp_path / "ranking"
    for root in roots:
        root.mkdir()
    async with AsyncExitStack() as running:
        to_candidates, candidate_metrics = await running.enter_async_context(
            candidate_stage(roots[0], retriever)
        )
        to_ranking, ranking_metrics = await running.enter_async_context(ranking_stage(roots[1], ranker))
        gateway = World(catalogue).gateway(
            candidates=queue(candidate.CODEC, to_candidates, metrics),
            ranking=queue(ranking.CODEC, to_ranking, metrics),
        )
        yield RealStages(catalogue, gateway, registry, servers=(candidate_metrics, ranking_metrics))


def content(answer: ListAnswer) -> tuple[Any, ...]:
    """Everything but the answer's own id."""
    return answer.items, answer.model, answer.reason, answer.bundle_id, answer.base_value


async def test_a_batch_is_its_singles(stages: RealStages) -> None:
    requests = stages.requests()
    singles = [await stages.gateway.personal(request, None) for request in requests]
    assert {answer.model for answer in singles} == {"two_stage"}
    calls = stages.calls("candidate")
    batch = await stages.gateway.personal_batch(requests, None)
    assert list(map(content, batch)) == list(map(content, singles))
    assert stages.calls("candidate") == calls + 2


async def test_sixty_four_callers_of_whom_three_have_bad_luck(stages: RealStages) -> None:
    requests = stages.requests()
    alone = [content(await stages.gateway.personal(request, None)) for request in requests]
    gone, hasty, invalid = 7, 20, 40

    async def ask(place: int, request: PersonalRequest) -> ListAnswer:
        if place == invalid:
            request = decode_personal(public.ListPersonalMoviesRequest(user_id=-1))
        return await stages.gateway.personal(request, 0.005 if place == hasty else None)

    callers = [asyncio.create_task(ask(place, request)) for place, request in enumerate(requests)]
    for _ in range(5):  # turns of the loop: by now the callers wait for candidates
        await asyncio.sleep(0)
    callers[gone].cancel()
    async with asyncio.timeout(SECONDS):
        outcomes: list[Any] = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[hasty], DeadlineError)
    assert isinstance(outcomes[invalid], InvalidArgumentError)
    assert isinstance(outcomes[gone], asyncio.CancelledError)
    others = [place for place in range(64) if place not in {gone, hasty, invalid}]
    assert [content(outcomes[place]) for place in others] == [alone[place] for place in others]
    assert stages.in_flight() == [0, 0]
