"""The process: loads its part of a bundle, serves without any stage, stops when asked to."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2

from gateway.lists.catalogue import Catalogue
from gateway.lists.users import user_answer
from gateway.requests import UserRequest
from gateway.servicer import SERVICE_NAME
from movierec.gateway.v1 import movie_service_pb2 as public
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.bundle.catalogue import write_movies
from serving.bundle.factors import write_ratings
from serving.bundle.manifest import SERVED_FOLDERS
from serving.bundle.store import BundleStore
from serving.bundle.titles import index_titles, write_titles
from serving.filters import MovieFilter
from serving.rpc.channels import open_channel
from tests.gateway.small_world import catalogue
from tests.serving.test_processes import environment, health, process, wait_for_line
from tests.serving.test_store import manifest_of

SECONDS = 60.0  # ample: no test is decided by it
ALONE = {
    "CANDIDATE_TARGET": "127.0.0.1:1",
    "RANKING_TARGET": "127.0.0.1:1",
    "SIMILARITY_TARGET": "127.0.0.1:1",
    "DRAIN_DELAY_SECONDS": "0",
    "REQUEST_SECONDS": "8",  # ten times those of production, so that a slow machine is not a timeout
    "CANDIDATE_SECONDS": "1.5",
    "SIMILARITY_SECONDS": "1.5",
}
"""Settings of a gateway whose stages are down."""


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A bundle with the gateway's part of the small world, and nothing for the stages."""
    small = catalogue()
    store = BundleStore(tmp_path)
    with store.staging() as staging:
        for name in SERVED_FOLDERS:
            (staging / name).mkdir()
        write_movies(staging / "gateway", small.movies)
        small.content.write(staging / "gateway")
        small.lists.write(staging / "gateway")
        titles = index_titles(small.content.titles, small.movies.years, small.content.popularity_order)
        write_titles(staging / "gateway", titles)
        assert small.ratings is not None
        write_ratings(staging / "gateway", small.ratings)
        manifest = manifest_of(staging)
        store.publish(staging, manifest)
    store.point_to(manifest.bundle_id, published_at=0)
    return store


async def test_a_catalogue_reads_what_was_published(store: BundleStore) -> None:
    bundle_id = store.pointer().bundle_id
    held, small = Catalogue.load(store, bundle_id), catalogue()
    assert held.bundle_id == bundle_id
    assert [held.movie(row) for row in range(8)] == [small.movie(row) for row in range(8)]
    assert held.content.popularity_order.tolist() == small.content.popularity_order.tolist()
    assert held.lists.trending.tolist() == small.lists.trending.tolist()
    assert held.lists.taste_rows.tolist() == small.lists.taste_rows.tolist()
    assert (await held.titles.search("movie 3", np.zeros(8, np.bool_), 1)).tolist() == [2]
    assert held.seen_movie_ids(100).tolist() == [1, 2]
    assert held.ratings is not None
    assert small.ratings is not None
    assert held.ratings.times.tolist() == small.ratings.times.tolist()
    assert held.manifest.dataset_tag == store.manifest(bundle_id).dataset_tag


def test_a_catalogue_without_ratings_still_knows_who_has_seen_what(store: BundleStore) -> None:
    held = Catalogue.load(store, store.pointer().bundle_id, with_ratings=False)
    assert held.ratings is None
    assert held.seen_movie_ids(100).tolist() == [1, 2]


def test_nothing_is_left_for_the_first_request_to_work_out(store: BundleStore) -> None:
    """A sort of a million movies kept the event loop for 122 ms after each change of bundles."""
    held = Catalogue.load(store, store.pointer().bundle_id)
    parts = [held, held.movies, held.content, held.lists, held.ratings]
    loaded = [set(vars(part)) for part in parts]
    blocked = held.blocked(MovieFilter(genres=("drama",)))
    held.most_popular(blocked, 1)
    held.most_popular(blocked, 1, trending=True)
    held.alike_by_genre(0, blocked, 1)
    held.movie(0)
    assert held.movies.used_genres
    assert user_answer(held, UserRequest(user_id=100)).genres
    assert [set(vars(part)) for part in parts] == loaded


async def test_a_gateway_alone(store: BundleStore) -> None:
    bundle_id = store.pointer().bundle_id
    env = environment("gateway", BUNDLE_ROOT=str(store.root), **ALONE)
    with process("-m", "gateway", env=env) as running:
        port = json.loads(wait_for_line(running, '"listening"'))["port"]
        wait_for_line(running, '"serving"')
        async with open_channel(f"127.0.0.1:{port}") as channel:
            assert await health(port, SERVICE_NAME) == health_pb2.HealthCheckResponse.SERVING
            api = MovieServiceStub(channel)
            movie = await api.GetMovie(public.GetMovieRequest(movie_id=1), timeout=SECONDS)
            assert (movie.movie.title, movie.bundle_id) == ("Movie 1", bundle_id)
            personal = await api.ListPersonalMovies(
                public.ListPersonalMoviesRequest(user_id=100), timeout=SECONDS
            )
            assert [item.movie.movie_id for item in personal.movies] == [5, 3, 8, 6, 4, 7]
            assert (personal.model, personal.degraded) == ("popularity_fallback", True)
            assert personal.fallback_reason == public.FALLBACK_REASON_DEPENDENCY_UNAVAILABLE
            similar = await api.ListSimilarMovies(
                public.ListSimilarMoviesRequest(movie_id=1), timeout=SECONDS
            )
            assert [item.movie.movie_id for item in similar.movies] == [5, 2, 3, 8, 7]
            assert (similar.model, similar.degraded) == ("genre_jaccard", True)
        line = json.loads(wait_for_line(running, '"stepped down"'))
        assert (line["level"], line["stage"]) == ("warning", "candidate")
        assert line["method"] == "ListPersonalMovies"
        running.send_signal(signal.SIGTERM)
        assert running.wait(SECONDS) == 0


@pytest.mark.row(8)
async def test_a_gateway_without_a_bundle(tmp_path: Path) -> None:
    env = environment("gateway", BUNDLE_ROOT=str(tmp_path), **ALONE)
    with process("-m", "gateway", env=env) as running:
        port = json.loads(wait_for_line(running, '"listening"'))["port"]
        async with open_channel(f"127.0.0.1:{port}") as channel:
            assert await health(port, SERVICE_NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
            api = MovieServiceStub(channel)
            with pytest.raises(aio.AioRpcError) as caught:
                await api.GetMovie(public.GetMovieRequest(movie_id=1), timeout=SECONDS)
            assert caught.value.code() is StatusCode.UNAVAILABLE
        running.send_signal(signal.SIGTERM)
        assert running.wait(SECONDS) == 0
