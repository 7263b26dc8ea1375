"""WhyMovie and because_of over real stages and channels on a trained bundle: they agree with the lists."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from candidate_service.retrieval import Retriever
from gateway.fallback import Model
from gateway.lists.catalogue import Catalogue
from gateway.lists.list_builder import Item
from gateway.lists.why import Verdict
from gateway.metrics import GatewayMetrics
from gateway.movie_api import MovieApi
from gateway.requests import PersonalRequest, WhyRequest
from ranking_service.ranking import Ranker
from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.store import BundleStore
from serving.filters import UNRESTRICTED, MovieFilter
from serving.sources import Source
from serving.stages import candidate, ranking
from serving.stages.candidate import CandidateQuery
from tests.gateway.small_world import World, ids, queue
from tests.serving.personal_stages import candidate_stage, ranking_stage

N_CANDIDATES = 100
"""Fewer than the default, so that many movies of the small bundle are not retrieved."""
LIMITS = (1, 10, 100)
AT_ONCE = 10
FILTERS = (
    *[UNRESTRICTED] * 4,
    MovieFilter(genres=("Drama", "Comedy")),
    MovieFilter(exclude_genres=("Comedy",), min_year=1990),
    MovieFilter(genres=("Western",), max_year=1960),
)
UNKNOWN_USER = 10**9
HEALTHY = set(Verdict) - {Verdict.RETRIEVAL_FAILED, Verdict.SHORT_HISTORY, Verdict.NOT_RANKED}
"""What stages without a fault give."""


@dataclass(frozen=True)
class Models:
    """What the stages and the gateway hold."""

    catalogue: Catalogue
    retriever: Retriever
    ranker: Ranker


@pytest.fixture(scope="module")
def models(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("few") / "root"
    shutil.copytree(bundle_root, root)
    store = BundleStore(root)
    bundle_id = store.pointer().bundle_id
    manifest = store.manifest(bundle_id).model_copy(update={"n_candidates": N_CANDIDATES})
    (store.path(bundle_id) / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return Models(
        Catalogue.load(store, bundle_id), Retriever.load(store, bundle_id), Ranker.load(store, bundle_id)
    )


@pytest.fixture
async def gateway(models: Models, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MovieApi]:
    """A gateway over both stages, each behind a port of its own."""
    metrics = GatewayMetrics.create(CollectorRegistry())
    async with (
        candidate_stage(tmp_path_factory.mktemp("candidate"), models.retriever) as (to_candidate, _),
        ranking_stage(tmp_path_factory.mktemp("ranking"), models.ranker) as (to_ranking, _),
    ):
        yield World(models.catalogue).gateway(
            candidates=queue(candidate.CODEC, to_candidate, metrics),
            ranking=queue(ranking.CODEC, to_ranking, metrics),
        )


def questions(models: Models, n_questions: int) -> Iterator[WhyRequest]:
    """Random users, known or not, and movies: half of them any, half near the top of the user's list."""
    generator = np.random.default_rng(20260101)
    movie_ids = models.catalogue.movies.ids.ids
    assert models.catalogue.seen is not None
    users = models.catalogue.seen.users.ids
    for place in range(n_questions):
        user_id = int(generator.choice(users)) if place % 10 else UNKNOWN_USER
        (near,) = models.retriever.retrieve([CandidateQuery(user_id, limit=60, include_seen=True)])
        near_ids = near.movie_ids if place % 2 and near.movie_ids.size else movie_ids
        yield WhyRequest(
            movie_id=int(generator.choice(near_ids)),
            in_question=PersonalRequest(
                user_id=user_id,
                limit=LIMITS[place % len(LIMITS)],
                movie_filter=FILTERS[int(generator.integers(len(FILTERS)))],
                exclude_movie_ids=generator.choice(near_ids, 5),
                include_seen=bool(generator.integers(2)),
            ),
            n_comparisons=100,
        )


def listing(question: WhyRequest) -> PersonalRequest:
    """The request for the list in question; explanations of a hundred movies would only take time."""
    in_question = question.in_question
    return replace(in_question, explain_features=0 if in_question.limit == LIMITS[-1] else 100)


def shown(items: tuple[Item, ...]) -> list[tuple[int, float, Model]]:
    return [(item.movie_row, item.score, item.source) for item in items]


async def test_the_answers_agree_with_the_lists(models: Models, gateway: MovieApi) -> None:
    verdicts: Counter[Verdict] = Counter()
    asked = list(questions(models, 250))
    pages, answers = [], []
    for start in range(0, len(asked), AT_ONCE):  # pages and questions share calls
        some = asked[start : start + AT_ONCE]
        async with asyncio.TaskGroup() as group:
            pages += [group.create_task(gateway.personal(listing(question), None)) for question in some]
            answers += [group.create_task(gateway.why(question, None)) for question in some]
    for question, page, why in zip(
        asked, (task.result() for task in pages), (task.result() for task in answers), strict=True
    ):
        assert shown(why.answer.items) == shown(page.items)  # a probe does not alter the list
        assert (why.answer.model, why.answer.reason) == (page.model, page.reason)
        listed = ids(page)
        assert (why.verdict is Verdict.LISTED) == (question.movie_id in listed)
        assert why.rank == (listed.index(question.movie_id) + 1 if question.movie_id in listed else None)
        verdicts[why.verdict] += 1
        if why.verdict is Verdict.NOT_RETRIEVED:
            assert why.retrieval is not None
            assert why.retrieval.cut_score is not None
            if Source.ALS not in why.retrieval.source_ranks:  # else others have better ranks over all sources
                assert why.retrieval.rank > N_CANDIDATES
                assert why.retrieval.score <= why.retrieval.cut_score
        if why.last is None or why.ranking is None:
            continue
        last = page.items[why.last_rank - 1]
        assert why.last == last._replace(explanation=())
        # The contributions are exact, and they are those of the list's own explanations.
        for add, score in (
            (sum(c.of_movie.contribution for c in why.ranking.comparisons), why.ranking.score),
            (sum(c.of_last.contribution for c in why.ranking.comparisons), last.score),
        ):
            assert abs(why.ranking.base_value + add - score) < 1e-9
        if last.explanation:
            assert {c.of_last for c in why.ranking.comparisons} == set(last.explanation)
        differences = [abs(c.of_movie.contribution - c.of_last.contribution) for c in why.ranking.comparisons]
        assert differences == sorted(differences, reverse=True)
        assert why.score_gap == last.score - why.ranking.score
        if why.verdict is Verdict.RANKED_BELOW:
            assert why.score_gap >= 0
            assert why.ranking.rank > question.in_question.limit
        if why.rank is not None and page.items[why.rank - 1].source is Model.TWO_STAGE:
            assert (why.ranking.rank, why.ranking.score) == (why.rank, page.items[why.rank - 1].score)
    assert set(verdicts) == HEALTHY, verdicts


async def test_reasons_follow_their_movies(models: Models, gateway: MovieApi) -> None:
    catalogue = models.catalogue
    named = 0
    assert catalogue.seen is not None
    for user_id in catalogue.seen.users.ids[:20].tolist():
        request = PersonalRequest(user_id=user_id, limit=20)
        page = await gateway.personal(replace(request, because_of=3), None)
        assert shown(page.items) == shown((await gateway.personal(request, None)).items)
        (found,) = models.retriever.retrieve([CandidateQuery(user_id, because_of=3)])
        expected = {
            movie_id: [(m, w) for m, w in zip(movies, weights, strict=True) if m]
            for movie_id, movies, weights in zip(
                found.movie_ids.tolist(),
                found.because_of.movie_ids.tolist(),
                found.because_of.weights.tolist(),
                strict=True,
            )
        }
        for movie_id, item in zip(ids(page), page.items, strict=True):
            reasons = [(liked.movie_id, liked.weight) for liked in item.because_of]
            assert reasons == expected.get(movie_id, [])
            assert all(
                liked.title == catalogue.movie(catalogue.row(liked.movie_id)).title
                for liked in item.because_of
            )
            seen = catalogue.seen_movie_ids(user_id)
            assert all(liked.movie_id in seen and liked.weight > 0 for liked in item.because_of)
            named += len(reasons)
    assert named > 0
