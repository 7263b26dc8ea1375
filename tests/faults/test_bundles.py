"""Bundles come, go, and are damaged while servers answer: each answer is of the one bundle that it names."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.servers import serving, settings_of
from candidate_service.retrieval import Retriever
from gateway.lists.catalogue import Catalogue
from movierec.gateway.v1 import movie_service_pb2 as pb
from ranking_service.ranking import Ranker
from serving.bundle.manifest import MANIFEST_NAME
from serving.bundle.store import BundleStore
from similarity_service.neighbours import SimilarityIndex
from tests.e2e.oracle import Oracle, Scored, Wish
from tests.faults.cluster import (
    SECONDS,
    Cluster,
    Holders,
    copy_of,
    eventually,
    running_cluster,
    train_bundles,
)
from tests.serving.test_store import flip
from tests.training.small import N_MOVIES, N_USERS

SWAPS: Final = int(os.environ.get("MOVIEREC_TEST_SWAPS", "6"))
KILLS: Final = int(os.environ.get("MOVIEREC_TEST_KILLS", "3"))
LIMIT: Final = 10
USERS: Final = range(1, N_USERS + 1)
MOVIES: Final = range(10, 10 * N_MOVIES + 1, 10)
MISMATCH: Final = pb.FALLBACK_REASON_BUNDLE_MISMATCH

Answer = pb.ListPersonalMoviesResponse | pb.ListSimilarMoviesResponse | pb.ListPopularMoviesResponse


@dataclass(frozen=True)
class Bundles:
    """Three bundles of other ratings each, and what they answer."""

    store: BundleStore
    ids: list[str]
    oracles: dict[str, Oracle]


@pytest.fixture(scope="module")
def trained_bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    root = tmp_path_factory.mktemp("three")
    ids = train_bundles(root, 1, 2, 3)
    return Bundles(BundleStore(root), ids, {one: Oracle.load(root, one) for one in ids})


@pytest.fixture
def bundles(trained_bundles: Bundles, tmp_path: Path) -> Bundles:
    """The same in a folder of the test's own, the first being served."""
    store = copy_of(trained_bundles.store, tmp_path / "bundles")
    (store.root / "current").unlink()
    store.point_to(trained_bundles.ids[0], published_at=0)
    return Bundles(store, trained_bundles.ids, trained_bundles.oracles)


@pytest.fixture
async def cluster(bundles: Bundles) -> AsyncIterator[Cluster]:
    async with running_cluster(bundles.store) as cluster:
        yield cluster


async def personal(cluster: Cluster, user_id: int) -> pb.ListPersonalMoviesResponse:
    request = pb.ListPersonalMoviesRequest(user_id=user_id, limit=LIMIT)
    return await cluster.api.ListPersonalMovies(request, timeout=SECONDS)


async def similar(cluster: Cluster, movie_id: int, user_id: int) -> pb.ListSimilarMoviesResponse:
    request = pb.ListSimilarMoviesRequest(movie_id=movie_id, limit=LIMIT, exclude_seen_by_user_id=user_id)
    return await cluster.api.ListSimilarMovies(request, timeout=SECONDS)


def scored(answer: Answer) -> Scored:
    return [(item.movie.movie_id, item.score) for item in answer.movies]


def similar_by(oracle: Oracle, movie_id: int, user_id: int) -> Scored:
    return oracle.similar(movie_id, LIMIT, oracle.seen(user_id))


def course(answer: Answer) -> tuple[str, bool, Any]:
    return answer.model, getattr(answer, "degraded", False), getattr(answer, "fallback_reason", 0)


RANKED = ("two_stage", False, pb.FALLBACK_REASON_UNSPECIFIED)


@pytest.mark.row(10)
async def test_swapped_under_load_each_answer_is_of_the_bundle_it_names(
    cluster: Cluster, bundles: Bundles, record_property: Callable[[str, object], None]
) -> None:
    """MOVIEREC_TEST_SWAPS sets how many; `benchmarks.reloading` does it with processes."""
    expected = {
        one: (
            {user: oracle.two_stage(Wish(user), LIMIT) for user in USERS},
            {(movie, user): similar_by(oracle, movie, user) for movie in MOVIES for user in (1, 2, 3)},
        )
        for one, oracle in bundles.oracles.items()
    }
    answered = dict.fromkeys(bundles.ids, 0)
    done = asyncio.Event()

    async def ask_on(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        while not done.is_set():
            user = chance.choice(USERS)
            list_for_user = await personal(cluster, user)
            assert course(list_for_user) == RANKED
            assert scored(list_for_user) == expected[list_for_user.bundle_id][0][user]
            movie, viewer = chance.choice(MOVIES), chance.choice((1, 2, 3))
            list_like_movie = await similar(cluster, movie, viewer)
            if list_like_movie.model == "als_cosine":
                wanted = expected[list_like_movie.bundle_id][1][movie, viewer]
                assert scored(list_like_movie)[: len(wanted)] == wanted
            assert not list_like_movie.degraded
            answered[list_for_user.bundle_id] += 1

    async with asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(ask_on(seed))
        for swap in range(1, SWAPS + 1):
            before = dict(answered)
            bundle_id = bundles.ids[swap % 3]
            await cluster.point(bundle_id)
            await eventually(lambda before=before: answered != before)  # type: ignore[misc]  # from the one before
            await cluster.settle(bundle_id)
            await eventually(lambda: answered[bundle_id] > before[bundle_id])  # noqa: B023
        done.set()
    record_property("requests", 2 * sum(answered.values()))
    record_property("degraded", 0)  # it is asserted of each
    record_property("swaps", SWAPS)
    assert [cluster.holders.failed(name) for name in cluster.holders.metrics] == [0] * 4


async def test_while_a_bundle_settles_lists_come_from_the_one_before(
    cluster: Cluster, bundles: Bundles
) -> None:
    old, new, _ = bundles.ids
    of_old, of_new = bundles.oracles[old], bundles.oracles[new]
    await cluster.point(new)
    for user in USERS:
        answer = await personal(cluster, user)
        assert (course(answer), answer.bundle_id) == (RANKED, old)
        assert scored(answer) == of_old.two_stage(Wish(user), LIMIT)
    changed = [user for user in USERS if of_old.seen(user) != of_new.seen(user)]
    assert changed
    for movie, user in zip(MOVIES, changed, strict=False):
        alike = await similar(cluster, movie, user)
        assert alike.bundle_id == old
        assert not alike.degraded
        wanted = similar_by(of_old, movie, user)
        assert scored(alike)[: len(wanted)] == wanted
    popular = await cluster.api.ListPopularMovies(pb.ListPopularMoviesRequest(limit=LIMIT), timeout=SECONDS)
    assert (scored(popular), popular.bundle_id) == (of_new.popular()[:LIMIT], new)
    batch = pb.BatchListPersonalMoviesRequest(
        requests=[pb.ListPersonalMoviesRequest(user_id=user, limit=LIMIT) for user in USERS]
    )
    answers = (await cluster.api.BatchListPersonalMovies(batch, timeout=SECONDS)).responses
    assert {(answer.model, answer.degraded, answer.bundle_id) for answer in answers} == {
        ("two_stage", False, old)
    }

    await cluster.settle(new)
    answer = await personal(cluster, 1)
    assert (course(answer), answer.bundle_id) == (RANKED, new)
    assert scored(answer) == of_new.two_stage(Wish(1), LIMIT)


async def test_rolled_back_before_it_has_settled(cluster: Cluster, bundles: Bundles) -> None:
    old, new, _ = bundles.ids
    await cluster.point(new)
    await cluster.point(old)
    cluster.holders.seconds += 1_000
    answer = await personal(cluster, 1)
    assert (course(answer), answer.bundle_id) == (RANKED, old)
    assert cluster.holders.held("candidate") == [old]


def point_unverified(store: BundleStore, bundle_id: str) -> None:
    """Moves the pointer past `point_to`, which refuses a damaged bundle: as one that was damaged later."""
    now = store.pointer()
    pointer = now.model_copy(update={"bundle_id": bundle_id, "previous": now.bundle_id})
    (store.root / "aside").write_text(pointer.model_dump_json())
    (store.root / "aside").rename(store.root / "current")


@pytest.mark.row(11)
async def test_candidate_ahead_of_ranking_by_one_bundle_and_by_two(
    cluster: Cluster, bundles: Bundles, record_property: Callable[[str, object], None]
) -> None:
    first, second, third = bundles.ids
    for bundle_id in (second, third):
        (bundles.store.path(bundle_id) / "ranking" / "ranker.cbm").rename(
            bundles.store.path(bundle_id) / "aside"
        )
    for n_refused, bundle_id in enumerate((second, third), 1):
        point_unverified(bundles.store, bundle_id)
        await cluster.holders.current(bundle_id, "gateway", "candidate", "similarity")
        await eventually(lambda n=n_refused: cluster.holders.failed("ranking") == n)  # type: ignore[misc]
        answer = await personal(cluster, 1)
        assert (course(answer), answer.bundle_id) == (("als_only", True, MISMATCH), bundle_id)
        assert scored(answer) == bundles.oracles[bundle_id].als(Wish(1))[:LIMIT]
        assert cluster.holders.held("ranking")[0] == first
        labels = {"service": "ranking", "reason": "BUNDLE_MISMATCH"}
        assert cluster.registry.get_sample_value("movierec_fallbacks_total", labels) == n_refused
    record_property("counter", f"fallbacks_total {n_refused}, bundle_loads_total{{failed}} {n_refused}")
    (bundles.store.path(third) / "aside").rename(bundles.store.path(third) / "ranking" / "ranker.cbm")
    await cluster.holders.current(third, "ranking")
    assert course(await personal(cluster, 1)) == RANKED


@pytest.mark.row(11)
async def test_candidate_and_similarity_ahead_of_the_gateway(cluster: Cluster, bundles: Bundles) -> None:
    first, second, _ = bundles.ids
    (bundles.store.path(second) / "gateway" / "catalogue.json").unlink()
    point_unverified(bundles.store, second)
    await cluster.holders.current(second, "ranking", "candidate", "similarity")
    await eventually(lambda: cluster.holders.failed("gateway") == 1)
    answer = await personal(cluster, 1)
    assert (course(answer), answer.bundle_id) == (("als_only", True, MISMATCH), second)
    alike = await similar(cluster, 20, 1)
    assert (course(alike), alike.bundle_id) == (("genre_jaccard", True, MISMATCH), first)
    movie = await cluster.api.GetMovie(pb.GetMovieRequest(movie_id=10), timeout=SECONDS)
    assert movie.bundle_id == first


# A damaged bundle


LOADERS: Final[dict[str, Callable[[BundleStore, str], Any]]] = {
    "candidate": Retriever.load,
    "gateway": Catalogue.load,
    "ranking": Ranker.load,
    "similarity": SimilarityIndex.load,
}


@pytest.mark.row(6, 8, 51)
@pytest.mark.parametrize("name", LOADERS)
async def test_a_tampered_bundle_is_refused_and_the_old_one_stays(
    bundles: Bundles, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Each file in turn, and the manifest of another bundle."""
    old, new, other = bundles.ids
    store = bundles.store
    holders = Holders(store, {})
    holder = holders.open(name, LOADERS[name])
    files = [path for path in store.manifest(new).files if path.startswith(f"{name}/")]
    assert len(files) >= 3
    async with holder.loading():
        await holder.loaded()
        model = holder.get()
        for n_refused, path in enumerate([*files, MANIFEST_NAME], 1):
            file = store.path(new) / path
            whole = file.read_bytes()
            if path == MANIFEST_NAME:
                shutil.copy(store.path(other) / path, file)
            else:
                flip(file)
            point_unverified(store, new)
            await eventually(lambda n=n_refused: holders.failed(name) == n)  # type: ignore[misc]
            assert holder.get() is model
            store.point_to(old, published_at=0)
            file.write_bytes(whole)
        store.point_to(new, published_at=0)
        await eventually(lambda: holder.get().bundle_id == new)
    assert holders.failed(name) == len(files) + 1
    record_property("counter", f"bundle_loads_total{{failed}} {holders.failed(name):.0f}, {name}")


# A publisher that dies


PUBLISHER: Final = """
import os, shutil, signal, sys
from pathlib import Path
from serving.bundle.manifest import SERVED_FOLDERS, Manifest
from serving.bundle.store import BundleStore

root, source, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
left = moment

def fatal(call):
    def until_then(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return until_then

for name in ("mkdir", "fsync", "rename"):
    setattr(os, name, fatal(getattr(os, name)))
store = BundleStore(root)
with store.staging() as staging:
    for name in SERVED_FOLDERS:
        shutil.copytree(source / name, staging / name)
    manifest = Manifest.model_validate_json((source / "manifest.json").read_bytes())
    store.publish(staging, manifest)
store.point_to(manifest.bundle_id, published_at=0)
print(moment - left)
"""
"""Publishes a bundle as training does, and dies before a system call of its choice."""


def run_publisher(store: BundleStore, bundle: Path, moment: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PUBLISHER, str(store.root), str(bundle), str(moment)]
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.row(9)
async def test_half_a_bundle_is_never_seen(bundles: Bundles) -> None:
    """MOVIEREC_TEST_KILLS sets how often the publisher is killed."""
    first, second, _ = bundles.ids
    source, store = bundles.store.path(second), BundleStore(bundles.store.root.parent / "served")
    with store.staging() as staging:
        shutil.copytree(bundles.store.path(first), staging, dirs_exist_ok=True)
        store.publish(staging, bundles.store.manifest(first))
    store.point_to(first, published_at=0)
    complete = run_publisher(copy_of(store, store.root.parent / "counted"), source, 0)
    n_moments = int(complete.stdout)
    assert n_moments > 30
    moments = sorted({1 + place * (n_moments - 1) // (KILLS - 1) for place in range(KILLS)})
    holders = Holders(store, {})
    async with AsyncExitStack() as stack:
        for name, load in LOADERS.items():
            holder = holders.open(name, load)
            await stack.enter_async_context(holder.loading())
            await holder.loaded()
        for moment in moments:
            ended = await asyncio.to_thread(run_publisher, store, source, moment)
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            served = store.pointer().bundle_id
            assert served == (second if moment == n_moments else first)  # the last call flushes the pointer
            await holders.current(served, *LOADERS)
            store.point_to(first, published_at=0)
            await holders.current(first, *LOADERS)
            shutil.rmtree(store.path(second), ignore_errors=True)  # or there is nothing left to publish
        ended = await asyncio.to_thread(run_publisher, store, source, 0)
        assert ended.returncode == 0, ended.stderr
        await holders.current(second, *LOADERS)
        assert {path.name for path in (store.root / "bundles").iterdir()} == {first, second}
        assert [holders.failed(name) for name in LOADERS] == [0] * len(LOADERS)


# The processes


@pytest.mark.e2e
def test_processes_hold_what_their_settings_say(bundles: Bundles, tmp_path: Path) -> None:
    """Started while a bundle settles: with a delay that no machine is too slow for."""
    old, new, _ = bundles.ids
    bundles.store.point_to(new, published_at=time.time())
    both, first, beside_others = (
        {"current": new, "previous": old},
        {"current": new},
        {"current": old, "next": new},
    )
    delay = {"settle_delay_seconds": "3600"}
    joining = {**delay, "settle_at_start": "true"}
    expected: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("gateway", {}, both),
        ("ranking", {}, both),
        *((name, delay, first) for name in ("candidate", "similarity")),
        *((name, joining, beside_others) for name in ("candidate", "similarity")),
    ]
    with ExitStack() as stack:
        for place, (name, more, _) in enumerate(expected):
            settings = settings_of(name, bundles.store.root, bundle_poll_seconds="0.05", **more)
            module = name if name == "gateway" else f"{name}_service"
            stack.enter_context(serving(module, tmp_path / f"{place}.log", settings))
        for place, (_, _, holds) in enumerate(expected):
            log = tmp_path / f"{place}.log"
            said = ", ".join(f'"{role}": "{bundle_id}"' for role, bundle_id in holds.items())
            end = time.monotonic() + SECONDS
            while f"{said}, " not in log.read_text():
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
