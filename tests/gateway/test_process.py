"""The process: loads its part of a bundle, serves without any stage, stops when asked to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

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
from tests.serving.test_store import manifest_of

SECONDS = 60.0  # ample: no test is decided by it


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
    assert held.report.dataset_tag == store.manifest(bundle_id).dataset_tag


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
    held.most_trending(blocked, 1)
    held.alike_by_genre(0, blocked, 1)
    held.movie(0)
    assert held.movies.used_genres
    assert user_answer(held, UserRequest(user_id=100)).genres
    assert [set(vars(part)) for part in parts] == loaded


def environment(**settings: str) -> dict[str, str]:
    """Settings of a gateway on free ports whose stages are down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOVIEREC_")}
    base = {
        "port": "0",
        "metrics_port": "0",
        "candidate_target": "127.0.0.1:1",
        "ranking_target": "127.0.0.1:1",
        "similarity_target": "127.0.0.1:1",
        "drain_delay_seconds": "0",
        "request_seconds": "8",  # ten times those of production, so that a slow machine is not a timeout
        "candidate_seconds": "1.5",
        "similarity_seconds": "1.5",
    }
    ours = {f"MOVIEREC_GATEWAY_{name.upper()}": value for name, value in (base | settings).items()}
    return {**kept, **ours, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def gateway_process(**settings: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next line of the log with this event."""
    assert process.stdout is not None
    for line in process.stdout:
        logged: dict[str, Any] = json.loads(line)
        if logged["event"] == name:
            return logged
    raise AssertionError(name)


async def health(channel: aio.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are those of calls that block
    request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
    status: int = (await stub.Check(request, timeout=SECONDS)).status
    return status


async def test_a_gateway_alone(store: BundleStore) -> None:
    bundle_id = store.pointer().bundle_id
    with gateway_process(bundle_root=str(store.root)) as process:
        port = event(process, "listening")["port"]
        event(process, "serving")
        async with open_channel(f"127.0.0.1:{port}") as channel:
            assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
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
        line = event(process, "stepped down")
        assert (line["level"], line["stage"]) == ("warning", "candidate")
        assert line["method"] == "ListPersonalMovies"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


@pytest.mark.row(8)
async def test_a_gateway_without_a_bundle(tmp_path: Path) -> None:
    with gateway_process(bundle_root=str(tmp_path)) as process:
        port = event(process, "listening")["port"]
        async with open_channel(f"127.0.0.1:{port}") as channel:
            assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
            api = MovieServiceStub(channel)
            with pytest.raises(aio.AioRpcError) as caught:
                await api.GetMovie(public.GetMovieRequest(movie_id=1), timeout=SECONDS)
            assert caught.value.code() is StatusCode.UNAVAILABLE
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_a_bad_setting_is_one_clear_line() -> None:
    with gateway_process(ranking_share="1.5") as process:
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 2
    assert said.count("\n") == 1
    assert "MOVIEREC_GATEWAY_BUNDLE_ROOT: is required" in said
    assert "MOVIEREC_GATEWAY_RANKING_SHARE: " in said
