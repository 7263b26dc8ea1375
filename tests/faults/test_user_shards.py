"""Users in two shards of two replicas behind a real Envoy: they notice nothing, and meet no other shard."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.ports import free_port
from benchmarks.servers import port_once_serving, running, settings_of
from deploy.envoy_config import COMPOSE, Options, Stage
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.bundle.store import BundleStore
from serving.rpc.channels import open_channel
from serving.shards import shard_of
from tests.deploy.edge import CONSOLE, FILES, ROOT, running_envoy
from tests.faults.cluster import train_bundles

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

HOST: Final = "127.0.0.1"
SECONDS: Final = 60.0  # ample: no test is decided by it
SHARDS: Final = 2
EVERYBODY: Final = range(1, 1_001)
USERS: Final = range(1, 51)
"""Of them, where one after another is asked more than once."""
UNKNOWN: Final = 10**6
ASKING: Final = 8
"""Clients at once, during the rolling restart."""
PATIENT: Final = {  # a busy machine is not a fault
    **dict.fromkeys(("request_seconds", "batch_seconds"), "30"),
    **dict.fromkeys(("candidate_seconds", "ranking_seconds", "similarity_seconds"), "10"),
}


@dataclass
class Replica:
    """A server, which a test kills and starts again on its port."""

    server: str
    log: Path
    settings: Mapping[str, str]
    process: Any = None
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Starts the process, and returns at once."""
        module = self.server if self.server == "gateway" else f"{self.server}_service"
        self.process = self.stack.enter_context(
            running((sys.executable, "-m", module), self.log, self.settings)
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return HOST, int(self.settings[f"MOVIEREC_{self.server}_PORT".upper()])

    def wrong_shard_calls(self) -> tuple[float, float]:
        """Calls that it has refused as it does not serve the user, and those that it has answered."""
        port = self.settings[f"MOVIEREC_{self.server}_METRICS_PORT".upper()]
        text = httpx.get(f"http://{HOST}:{port}/metrics", trust_env=False).text
        count = {"FAILED_PRECONDITION": 0.0, "OK": 0.0}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if one.name == "movierec_requests_total" and one.labels["code"] in count:
                    count[one.labels["code"]] += one.value
        return count["FAILED_PRECONDITION"], count["OK"]


@dataclass(frozen=True)
class Systems:
    """One system in shards, and one of single servers that hold all users, which say what is right."""

    sharded: MovieServiceStub
    whole: MovieServiceStub
    replicas: Mapping[str, Sequence[Sequence[Replica]]]
    """By stage and shard."""
    stores: tuple[BundleStore, BundleStore]
    bundles: Sequence[tuple[str, str]]
    """First and second, of both stores."""


def publish_bundles(root: Path, user_shards: int) -> list[str]:
    """Two bundles of other ratings each; the pointer is on the first."""
    ids = train_bundles(root, 1, 2, user_shards=user_shards, n_users=len(EVERYBODY))
    BundleStore(root).point_to(ids[0], published_at=time.time())
    return ids


def replica(server: str, root: Path, directory: Path, name: str, **more: str) -> Replica:
    place = {"host": HOST, "port": str(free_port()), "metrics_port": str(free_port())}
    common = {"bundle_poll_seconds": "0.1", **place, **more}
    if server in {"candidate", "similarity"}:
        common["settle_delay_seconds"] = "0"
    return Replica(server, directory / f"{name}.log", settings_of(server, root, **common))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def systems(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Systems]:
    directory = tmp_path_factory.mktemp("shards")
    roots = directory / "halves", directory / "whole"
    bundles = list(zip(publish_bundles(roots[0], SHARDS), publish_bundles(roots[1], 1), strict=True))
    shards = {
        stage: [
            [
                replica(stage, roots[0], directory, f"{stage}-{index}-{n}", user_shard=f"{index}/{SHARDS}")
                for n in range(2)
            ]
            for index in range(SHARDS)
        ]
        for stage in ("candidate", "ranking")
    }
    similarity = replica("similarity", roots[0], directory, "similarity")
    ports = {stage.name: free_port() for stage in COMPOSE.stages}
    singles = {
        stage: replica(stage, roots[1], directory, f"{stage}-whole")
        for stage in ("candidate", "ranking", "similarity")
    }
    gateways = [
        replica(
            "gateway",
            roots[0],
            directory,
            "gateway",
            user_shards=str(SHARDS),
            **{f"{name}_target": f"{HOST}:{port}" for name, port in ports.items()},
            **PATIENT,
        ),
        replica(
            "gateway",
            roots[1],
            directory,
            "gateway-whole",
            **{f"{name}_target": f"{HOST}:{one.address[1]}" for name, one in singles.items()},
            **PATIENT,
        ),
    ]
    everyone = [
        *(one for of_stage in shards.values() for pair in of_stage for one in pair),
        *(similarity, *singles.values(), *gateways),
    ]

    def placed(stage: Stage) -> Stage:
        found = shards.get(stage.name)
        return replace(
            stage,
            mesh_port=ports[stage.name],
            per_try_seconds=5.0,
            connect_seconds=1.0,
            endpoints=() if found else (similarity.address,),
            shards=tuple(tuple(one.address for one in pair) for pair in found or ()),
        )

    place = replace(
        COMPOSE,
        edge=(HOST, free_port()),
        gateway=(gateways[0].address,),
        files=FILES,
        console=CONSOLE,
        mesh_host=HOST,
        stages=tuple(map(placed, COMPOSE.stages)),
        admin=(HOST, free_port()),
        metrics=(HOST, free_port()),
    )
    with ExitStack() as stack, chdir(ROOT):
        for one in everyone:
            one.start()
            stack.callback(one.stack.close)
        for one in everyone:
            await asyncio.to_thread(port_once_serving, one.process, one.log)
        stack.enter_context(running_envoy(directory, place, Options(deadline_seconds=SECONDS)))
        async with (
            open_channel(f"{HOST}:{gateways[0].address[1]}") as sharded,
            open_channel(f"{HOST}:{gateways[1].address[1]}") as whole,
        ):
            stores = BundleStore(roots[0]), BundleStore(roots[1])
            system = Systems(MovieServiceStub(sharded), MovieServiceStub(whole), shards, stores, bundles)
            await until_well(system.sharded, bundles[0][0])
            yield system


async def until_well(api: MovieServiceStub, bundle_id: str) -> None:
    """Returns once all users in a row are answered by both stages from this bundle."""
    async with asyncio.timeout(SECONDS):
        well = 0
        while well < len(USERS):
            answer = await api.ListPersonalMovies(pb.ListPersonalMoviesRequest(user_id=USERS[well]))
            well = well + 1 if not answer.degraded and answer.bundle_id == bundle_id else 0
            if not well:
                await asyncio.sleep(0.05)


def plain(answer: Message) -> bytes:
    """An answer without what differs from call to call, and from bundle to bundle."""
    for name in ("recommendation_id", "bundle_id"):
        if name in answer.DESCRIPTOR.fields_by_name:
            answer.ClearField(name)
    for of_field, value in answer.ListFields():
        if of_field.message_type is not None and of_field.message_type.file == answer.DESCRIPTOR.file:
            for one in value if of_field.is_repeated else [value]:
                plain(one)
    return answer.SerializeToString(deterministic=True)


async def same(systems: Systems, method: str, request: Message) -> Any:
    """The answer of both systems, which must be the same to the last bit."""
    first = await getattr(systems.sharded, method)(request, timeout=SECONDS)
    second = await getattr(systems.whole, method)(request, timeout=SECONDS)
    kept = type(first).FromString(first.SerializeToString())
    assert plain(first) == plain(second), (method, request)
    return kept


async def test_everybody_gets_what_one_server_for_all_would_say(systems: Systems) -> None:
    rated = [pb.RatedMovie(movie_id=30, rating=5), pb.RatedMovie(movie_id=40, rating=1)]
    for user in (*EVERYBODY, UNKNOWN):
        answer = await same(
            systems,
            "ListPersonalMovies",
            pb.ListPersonalMoviesRequest(user_id=user, limit=100, explain_features=3, because_of=2),
        )
        assert not answer.degraded
        assert answer.model == ("popularity_fallback" if user == UNKNOWN else "two_stage")
    for user in USERS[:5]:
        await same(
            systems, "ListPersonalMovies", pb.ListPersonalMoviesRequest(user_id=user, history=rated, limit=60)
        )
        await same(
            systems,
            "ListPersonalMovies",
            pb.ListPersonalMoviesRequest(user_id=user, include_seen=True, limit=60),
        )
        await same(systems, "WhyMovie", pb.WhyMovieRequest(user_id=user, movie_id=30))
        await same(
            systems,
            "ListPopularMovies",
            pb.ListPopularMoviesRequest(exclude_seen_by_user_id=user, limit=60),
        )
        await same(
            systems,
            "ListSimilarMovies",
            pb.ListSimilarMoviesRequest(movie_id=30, exclude_seen_by_user_id=user, limit=60),
        )


async def test_a_batch_of_both_shards_is_answered_whole_and_nobody_meets_the_wrong_one(
    systems: Systems,
) -> None:
    assert {shard_of(user, SHARDS) for user in USERS} == {0, 1}
    requests = [pb.ListPersonalMoviesRequest(user_id=user) for user in USERS]
    for _ in range(4):
        answer = await same(
            systems, "BatchListPersonalMovies", pb.BatchListPersonalMoviesRequest(requests=requests)
        )
        assert [one.degraded for one in answer.responses] == [False] * len(USERS)
    for of_stage in systems.replicas.values():
        for one in (one for pair in of_stage for one in pair):
            refused, answered = await asyncio.to_thread(one.wrong_shard_calls)
            assert refused == 0
            assert answered > 0, one.log.name


async def test_get_user_says_that_it_is_off(systems: Systems) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await systems.sharded.GetUser(pb.GetUserRequest(user_id=1))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def restart(one: Replica) -> None:
    await asyncio.to_thread(one.process.wait)
    one.start()
    await asyncio.to_thread(port_once_serving, one.process, one.log)


@pytest.mark.parametrize("blow", ["kill", "terminate"])
async def test_one_replica_of_each_shard_is_not_missed(systems: Systems, blow: str) -> None:
    for pair in (pair for of_stage in systems.replicas.values() for pair in of_stage):
        getattr(pair[0].process, blow)()
        for user in USERS[:10]:
            answer = await same(systems, "ListPersonalMovies", pb.ListPersonalMoviesRequest(user_id=user))
            assert not answer.degraded
        await restart(pair[0])
    await until_well(systems.sharded, systems.bundles[0][0])


@pytest.mark.row(34)
async def test_a_rolling_restart_under_load_fails_and_degrades_nothing(
    systems: Systems, record_property: Callable[[str, object], None]
) -> None:
    async def ask(number: int) -> list[bool]:
        degraded: list[bool] = []
        while not rolled.is_set():
            user = EVERYBODY[(number + ASKING * len(degraded)) % len(EVERYBODY)]
            answer = await systems.sharded.ListPersonalMovies(
                pb.ListPersonalMoviesRequest(user_id=user), timeout=SECONDS
            )
            degraded.append(answer.degraded)
        return degraded

    async def roll() -> None:
        for one in (one for of_stage in systems.replicas.values() for pair in of_stage for one in pair):
            one.process.terminate()
            assert await asyncio.to_thread(one.process.wait) == 0
            await restart(one)
            answered = 0.0
            async with asyncio.timeout(SECONDS):
                while not answered:  # the next one goes once Envoy has found this one
                    await asyncio.sleep(0.1)
                    refused, answered = await asyncio.to_thread(one.wrong_shard_calls)
                    assert refused == 0
        rolled.set()

    rolled = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:  # which ends with the first call that fails
        asking = [tasks.create_task(ask(number)) for number in range(ASKING)]
        tasks.create_task(roll())
    degraded = [one for task in asking for one in task.result()]
    record_property("requests", len(degraded))
    record_property("failed", 0)
    record_property("degraded", sum(degraded))
    assert not any(degraded)


async def test_a_shard_that_is_away_is_missed_by_its_own_users_alone(systems: Systems) -> None:
    dead = systems.replicas["candidate"][1]
    for one in dead:
        one.process.kill()
    for _ in range(2):  # the breaker of the dead shard opens, that of the other does not
        for user in USERS:
            answer = await systems.sharded.ListPersonalMovies(
                pb.ListPersonalMoviesRequest(user_id=user), timeout=SECONDS
            )
            away = shard_of(user, SHARDS) == 1
            assert answer.degraded is away
            assert answer.model == ("popularity_fallback" if away else "two_stage")
    of_dead = next(user for user in USERS if shard_of(user, SHARDS) == 1)
    popular = await systems.sharded.ListPopularMovies(
        pb.ListPopularMoviesRequest(exclude_seen_by_user_id=of_dead), timeout=SECONDS
    )
    assert popular.degraded  # nobody can say what the user has seen
    for one in dead:
        await restart(one)
    await until_well(systems.sharded, systems.bundles[0][0])


async def test_a_new_bundle_is_taken_by_all_shards(systems: Systems) -> None:
    second = systems.bundles[1]
    for store, bundle_id, api in zip(systems.stores, second, (systems.sharded, systems.whole), strict=True):
        store.point_to(bundle_id, published_at=time.time())
        await until_well(api, bundle_id)
    for user in USERS:
        answer = await same(systems, "ListPersonalMovies", pb.ListPersonalMoviesRequest(user_id=user))
        assert not answer.degraded
