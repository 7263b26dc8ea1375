"""Users with nothing left, and movies that not every server knows: all four servers, over real channels."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from movierec.gateway.v1 import movie_service_pb2 as pb
from serving.bundle.store import BundleStore
from serving.ids import IdMap
from serving.ratings import Ratings
from tests.e2e.oracle import Oracle, Scored, Wish
from tests.faults.cluster import SECONDS, Cluster, running_cluster
from tests.serving.republished import republished
from tests.training.small import HERE, JOB, N_MOVIES, N_USERS, PROGRESS, build_of, table_of, tastes
from training.models.job_context import JobContext
from training.publish.publish import publish

LIMIT: Final = 10
MOVIES: Final = range(10, 10 * N_MOVIES + 1, 10)
N_KNOWN: Final = N_MOVIES - 5
"""Movies that the gateway's catalogue holds, where it lacks the last five."""
WATCHER: Final = N_USERS + 1
"""Has rated every movie."""

Figures = Callable[[str, object], None]


def with_watcher(ratings: Ratings) -> Ratings:
    """The same, and those of one more user, who has rated every movie."""
    return Ratings(
        users=IdMap(range(1, WATCHER + 1)),
        indptr=np.append(ratings.indptr, ratings.indptr[-1] + N_MOVIES),
        movie_rows=np.append(ratings.movie_rows, np.arange(N_MOVIES, dtype=np.int32)),
        values=np.append(ratings.values, np.full(N_MOVIES, 4, np.float32)),
        times=np.append(ratings.times, np.arange(N_MOVIES)),
    )


def of_known_movies(ratings: Ratings) -> Ratings:
    """Those of the movies that the smaller catalogue holds."""
    kept = ratings.movie_rows < N_KNOWN
    return Ratings(
        users=ratings.users,
        indptr=np.append(0, np.cumsum(kept))[ratings.indptr],
        movie_rows=ratings.movie_rows[kept],
        values=ratings.values[kept],
        times=ratings.times[kept],
    )


RATINGS: Final = with_watcher(tastes())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    """Its bundle is of all movies."""
    store = BundleStore(tmp_path_factory.mktemp("all"))
    publish(store.root, build_of(RATINGS), PROGRESS, settle_seconds=0)
    return store


async def personal(cluster: Cluster, user_id: int, **fields: Any) -> pb.ListPersonalMoviesResponse:
    request = pb.ListPersonalMoviesRequest(user_id=user_id, limit=LIMIT, **fields)
    return await cluster.api.ListPersonalMovies(request, timeout=SECONDS)


def scored(answer: pb.ListPersonalMoviesResponse) -> Scored:
    return [(item.movie.movie_id, item.score) for item in answer.movies]


def counted(cluster: Cluster, name: str, **labels: str) -> float:
    return cluster.registry.get_sample_value(f"movierec_{name}", labels) or 0.0


@pytest.mark.row(15)
async def test_with_nothing_left_the_list_is_empty_and_no_fault(
    store: BundleStore, record_property: Figures
) -> None:
    async with running_cluster(store) as cluster:
        answers = [
            await personal(cluster, WATCHER),
            await personal(cluster, 1, exclude_movie_ids=MOVIES),
            await personal(cluster, 0, history=[pb.RatedMovie(movie_id=movie, rating=4) for movie in MOVIES]),
        ]
        fallbacks = counted(cluster, "fallbacks_total", service="candidate", reason="NO_CANDIDATES")
    assert [(list(answer.movies), answer.fallback_reason, answer.degraded) for answer in answers] == [
        ([], pb.FALLBACK_REASON_NO_CANDIDATES, False)
    ] * 3
    assert fallbacks == 3
    record_property("counter", f"fallbacks_total {fallbacks:.0f}")


@pytest.mark.row(18)
async def test_movies_that_the_catalogue_lacks_are_left_out_and_counted(
    store: BundleStore, tmp_path: Path, record_property: Figures
) -> None:
    small, mixed = BundleStore(tmp_path / "small"), BundleStore(tmp_path / "mixed")
    build = build_of(of_known_movies(RATINGS), JobContext(table_of(N_KNOWN), JOB.recipe, PROGRESS, HERE))
    small_id = publish(small.root, build, PROGRESS, settle_seconds=0)

    def with_small_catalogue(staging: Path) -> None:
        shutil.rmtree(staging / "gateway")
        shutil.copytree(small.path(small_id) / "gateway", staging / "gateway")

    mixed_id = republished(store, store.pointer().bundle_id, mixed, with_small_catalogue)
    mixed.point_to(mixed_id, published_at=0)
    oracle = Oracle.load(store.root)
    unknown, n_left_out = MOVIES[N_KNOWN:], 0
    async with running_cluster(mixed) as cluster:
        for user_id in range(1, N_USERS + 1):
            n_left_out += sum(movie in unknown for movie, _ in oracle.als(Wish(user_id)))
            answer = await personal(cluster, user_id)
            assert (answer.model, answer.degraded) == ("two_stage", False)
            assert scored(answer) == oracle.two_stage(Wish(user_id), LIMIT, unknown)
        assert counted(cluster, "unknown_items_total") == n_left_out > 0
    record_property("counter", f"unknown_items_total {n_left_out}")
