"""Eight movies, three users, and stages that answer what a test says: small enough to check by eye.

    movie_id    1             2       3      4     5                 6       7             8
    genres      Comedy,Drama  Comedy  Drama  none  Comedy,Drama,War  Horror  Drama,Horror  Comedy
    year        1995          1995    2001   none  1980              2010    2010          1999
    popularity  5             4       3      0     4                 1       0             2

By popularity: 1 2 5 3 8 6 4 7; by what is trending: 5 8 2 6 1 3 4 7. A newcomer
is asked about 1, 6, 3. User 100 has seen 1 and 2, user 200 everything, user 300 nothing. Whoever has
seen a movie gave it 4.5 stars, movies 4 and 8 alone 2.5; a second after the one before.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from grpc import aio
from typing_extensions import override

from gateway.lists.catalogue import Catalogue, Catalogues
from gateway.lists.list_builder import ListAnswer
from gateway.lists.recent_lists import RecentLists
from gateway.metrics import GatewayMetrics, Method
from gateway.movie_api import MovieApi
from gateway.stages.batch_queue import BatchLimits, BatchQueue
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from gateway.stages.deadlines import Budgets, StageBudget
from gateway.stages.monitor import StageMonitor, StageStatus
from serving.bundle.catalogue import CatalogueContent
from serving.bundle.factors import SeenMovies
from serving.bundle.lists import ListsContent
from serving.bundle.manifest import Manifest, QualityRecord
from serving.bundle.titles import TitleIndex, index_titles
from serving.errors import Reason, UnavailableError
from serving.explanations import Contribution
from serving.ids import IdMap
from serving.movies import Movies, genre_bits
from serving.ratings import Ratings
from serving.rpc.metrics import ServerMetrics
from serving.sources import Source
from serving.stages.candidate import CandidateList, CandidateProbe, CandidateQuery, UserVector
from serving.stages.ranking import RankedList, RankedProbe, RankingQuery
from serving.stages.similarity import SimilarityMethod, SimilarMovies, SimilarQuery
from serving.stages.stage import Answer, FallbackReason, Query, Stage, StageCodec, StageError, StageName

BUNDLE = "bundle-1"
OTHER_BUNDLE = "bundle-2"
SEEN = {100: (1, 2), 200: (1, 2, 3, 4, 5, 6, 7, 8), 300: ()}
GENRES = (
    ("Comedy", "Drama"),
    ("Comedy",),
    ("Drama",),
    ("(no genres listed)",),
    ("Comedy", "Drama", "War"),
    ("Horror",),
    ("Drama", "Horror"),
    ("Comedy",),
)
MANIFEST = Manifest.model_construct(
    dataset_tag="small-1",
    recipe={"protocol": "user"},
    metrics={
        "popularity": {"ndcg_at_10": 0.125, "recall_at_10": 0.25, "coverage_at_10": 0.5},
        "two_stage": {"ndcg_at_10": 0.25, "recall_at_10": 0.5, "coverage_at_10": 0.75},
    },
    quality=QualityRecord(judged_users=3, ndcg_at_10={"two_stage": (0.125, 0.375)}, warnings=("Few users.",)),
)
YEARS = (1995, 1995, 2001, 0, 1980, 2010, 2010, 1999)
TRENDING = (0.0, 1.0, 0.0, 0.0, 3.0, 1.0, 0.0, 2.0)
TASTE = (0, 5, 2)
POPULARITY = (5.0, 4.0, 3.0, 0.0, 4.0, 1.0, 0.0, 2.0)

BUDGETS = Budgets(  # ten times those of production: no test may depend on the speed of its machine
    request=8.0,
    batch=18.0,
    reserve=0.02,
    stages={
        StageName.CANDIDATE: StageBudget(1.5, 0.4),
        StageName.RANKING: StageBudget(2.5, 0.8),
        StageName.SIMILARITY: StageBudget(1.5, 0.8),
    },
)


def catalogue(
    bundle_id: str = BUNDLE,
    *,
    seen: Mapping[int, Sequence[int]] | None = None,
    popularity: Sequence[float] = POPULARITY,
) -> Catalogue:
    """The catalogue of the table above, or of its first movies: as many as `popularity` has."""
    seen = SEEN if seen is None else seen
    n_movies = len(popularity)
    ids = IdMap(range(1, n_movies + 1))
    rated = np.array([count > 0 for count in popularity])
    years = np.array(YEARS[:n_movies], np.int16)
    content = CatalogueContent(
        titles=tuple(f"Movie {movie_id}" for movie_id in range(1, n_movies + 1)),
        tmdb_ids=np.array([11, 12, 13, 0, 15, 16, 17, 18][:n_movies], np.int32),
        rating_counts=np.where(rated, 7, 0).astype(np.int32),
        rating_means=np.where(rated, 3.5, np.nan),
        popularity=np.array(popularity),
    )
    order = content.popularity_order
    movie_rows = ids.rows([movie_id for user in sorted(seen) for movie_id in seen[user]])
    ratings = Ratings(
        users=IdMap(sorted(seen)),
        indptr=np.cumsum([0, *(len(seen[user]) for user in sorted(seen))]),
        movie_rows=movie_rows,
        values=np.where(movie_rows % 4 == 3, 2.5, 4.5).astype(np.float32),
        times=1_000 + np.arange(movie_rows.size),
    )
    return Catalogue(
        bundle_id=bundle_id,
        movies=Movies(
            ids=ids,
            years=years,
            genre_bits=np.array([genre_bits(names) for names in GENRES[:n_movies]], np.uint64),
        ),
        content=content,
        lists=ListsContent(
            trending=np.array(TRENDING[:n_movies]),
            taste_rows=np.array([row for row in TASTE if row < n_movies], np.int32),
        ),
        titles=TitleIndex(index_titles(content.titles, years, order), order),
        seen=SeenMovies(ratings.users, ratings.indptr, ratings.movie_rows),
        manifest=MANIFEST,
        ratings=ratings,
    )


@dataclass
class HeldCatalogues(Catalogues):
    """Those that a test puts here, the current one first."""

    catalogues: list[Catalogue] = field(default_factory=list)
    since: float = 1_000.5

    @override
    def get(self) -> Catalogue:
        return self.held()[0]

    @override
    def held(self) -> Sequence[Catalogue]:
        if not self.catalogues:
            raise UnavailableError("No bundle is loaded.", reason=Reason.MODEL_UNAVAILABLE)
        return self.catalogues

    @override
    def find(self, bundle_id: str) -> Catalogue | None:
        return next((one for one in self.catalogues if one.bundle_id == bundle_id), None)

    @override
    def current_since(self) -> float:
        return self.since


async def settle() -> None:
    """Lets tasks go on until all wait for something: in more turns of the loop than that takes."""
    for _ in range(20):
        await asyncio.sleep(0)


def closed_breaker(stage: StageName, metrics: GatewayMetrics) -> Breaker:
    """A breaker that never opens: on its clock, an hour passes between any two moments."""
    return Breaker(stage, metrics, full_seconds=0, clock=count(step=3_600).__next__)


ONE_CALL = BatchLimits(max_calls=1, max_queries=32, hold_seconds=3_600.0)
"""What waits shares the next call, however long the one before takes."""


def queue(
    codec: StageCodec[Query, Answer],
    channel: aio.Channel,
    metrics: GatewayMetrics,
    limits: BatchLimits = ONE_CALL,
) -> BatchQueue[Query, Answer]:
    """A stage behind a channel, with a breaker that never opens."""
    client = StageClient(codec, channel, metrics)
    return BatchQueue(client, breaker=closed_breaker(codec.name, metrics), limits=limits, metrics=metrics)


def failing(stage: StageName, reason: FallbackReason = FallbackReason.DEPENDENCY_UNAVAILABLE) -> StageError:
    """What a stage that fails raises."""
    return StageError(stage, reason, "as the test says")


def candidates(
    *movie_ids: int, user_vector: UserVector = UserVector.TRAINED, bundle_id: str = BUNDLE
) -> CandidateList:
    """Candidates in this order."""
    scores = np.linspace(0.9, 0.1, len(movie_ids), dtype=np.float32)
    return CandidateList(np.array(movie_ids, np.int64), scores, user_vector, bundle_id)


NO_VECTOR = candidates(user_vector=UserVector.NONE)


@dataclass
class StubCandidates(Stage[CandidateQuery, CandidateList]):
    """Stage one as a test wants it."""

    answer: CandidateList | Exception = NO_VECTOR
    cold: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    probe: CandidateProbe | None = None
    """Of every movie that is asked about, in place of what the list says."""
    queries: list[CandidateQuery] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @override
    async def ask(self, query: CandidateQuery, *, seconds: float) -> CandidateList:
        self.queries.append(query)
        self.seconds.append(seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        listed = self.answer
        if listed.user_vector is UserVector.NONE:
            return listed
        return replace(listed, probes=tuple(self._probe(one, listed) for one in query.probe_movie_ids))

    def _probe(self, movie_id: int, listed: CandidateList) -> CandidateProbe:
        """As in the list; a movie that is not in it follows with a score of 0.05."""
        if self.probe is not None:
            return self.probe
        probe = CandidateProbe(movie_id, seen=movie_id in self.seen)
        if movie_id in self.cold:
            return probe
        if movie_id not in listed.movie_ids:
            return replace(probe, score=0.05, rank=listed.movie_ids.size + 1)
        place = listed.movie_ids.tolist().index(movie_id)
        ranks = {Source.ALS: place + 1}
        return replace(probe, score=float(listed.scores[place]), rank=place + 1, source_ranks=ranks)


@dataclass
class StubRanking(Stage[RankingQuery, RankedList]):
    """Stage two: turns the candidates around; the last one scores highest."""

    failure: Exception | None = None
    unknown: tuple[int, ...] = ()
    queries: list[RankingQuery] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @override
    async def ask(self, query: RankingQuery, *, seconds: float) -> RankedList:
        self.queries.append(query)
        self.seconds.append(seconds)
        if self.failure is not None:
            raise self.failure
        known = ~np.isin(query.movie_ids, self.unknown)
        order = query.movie_ids[known][::-1]
        movie_ids = order[: query.limit]
        explanation = (
            Contribution("als_score", 0.5, 0.25, "often rated soon after {movie}", 1),
            Contribution("year", None, -0.125, "of an unknown year"),
        )
        probes = tuple(
            RankedProbe(
                probe.movie_id,
                score=float(movie_ids.size - place),
                rank=place + 1,
                explanation=(
                    Contribution("year", 1999.0, 2.0, "released in 1999"),
                    Contribution("als_score", 0.4, 0.125, "far from {movie}", 999),
                ),
            )
            for probe in query.probes
            for place in [order.tolist().index(probe.movie_id) if probe.movie_id in order else order.size]
            if probe.movie_id not in self.unknown
        )
        shown = explanation[: query.explain_features]
        return RankedList(
            movie_ids=movie_ids,
            scores=np.arange(movie_ids.size, 0, -1, dtype=np.float64),
            bundle_id=query.bundle_id,
            base_value=-2.0,
            explanations=(shown,) * movie_ids.size if shown else (),
            unknown_movie_ids=query.movie_ids[~known],
            probes=probes,
            last_explanation=explanation if query.probes else (),
        )


def neighbours(
    *movie_ids: int, method: SimilarityMethod = SimilarityMethod.ALS_COSINE, bundle_id: str = BUNDLE
) -> SimilarMovies:
    """Neighbours in this order."""
    scores = np.linspace(0.9, 0.1, len(movie_ids), dtype=np.float32)
    return SimilarMovies(np.array(movie_ids, np.int64), scores, method, bundle_id)


@dataclass
class StubSimilarity(Stage[SimilarQuery, SimilarMovies]):
    """The index as a test wants it."""

    answer: SimilarMovies | Exception = field(default_factory=neighbours)
    queries: list[SimilarQuery] = field(default_factory=list)

    @override
    async def ask(self, query: SimilarQuery, *, seconds: float) -> SimilarMovies:
        self.queries.append(query)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class StubMonitor(StageMonitor):
    """Says what a test puts here."""

    says: StageStatus

    @override
    async def status(self) -> StageStatus:
        return self.says


class World:
    """A gateway over stub stages."""

    def __init__(self, *held: Catalogue) -> None:
        self.catalogues = HeldCatalogues(list(held) or [catalogue()])
        self.candidates = StubCandidates()
        self.ranking = StubRanking()
        self.similarity = StubSimilarity()
        self.monitors = [
            StubMonitor(StageStatus(stage, serving=True, breaker_reason=None, bundle_id=""))
            for stage in StageName
        ]
        self.server_metrics = ServerMetrics.create("gateway")
        self.registry = self.server_metrics.registry
        self.metrics = GatewayMetrics.create(self.registry)
        self.api = self.gateway()

    def gateway(self, **changes: Any) -> MovieApi:
        """The API, with some parts changed."""
        parts: dict[str, Any] = {
            "catalogues": self.catalogues,
            "candidates": self.candidates,
            "ranking": self.ranking,
            "similarity": self.similarity,
            "budgets": BUDGETS,
            "batch_concurrency": 32,
            "why_movie": True,
            "metrics": self.metrics,
            "recent_lists": RecentLists(self.server_metrics.request_seconds.labels(Method.PERSONAL)),
            "monitors": self.monitors,
        }
        return MovieApi(**(parts | changes))

    def counted(self, name: str, **labels: str) -> float:
        """A metric's value; 0 when it was never counted."""
        return self.registry.get_sample_value(f"movierec_{name}_total", labels) or 0.0


def ids(answer: ListAnswer) -> list[int]:
    """The movies of an answer, in order."""
    return [int(answer.catalogue.movies.ids.ids[item.movie_row]) for item in answer.items]


def sources(answer: ListAnswer) -> list[str]:
    """What put each movie where it is."""
    return [item.source for item in answer.items]
