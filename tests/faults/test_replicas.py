"""What clients notice while one of two replicas is away, or both are: processes behind a real Envoy."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from benchmarks.replicas import SERVERS, NetworkError, Replica, Replicas, running_replicas
from benchmarks.rolling import Edges, Expected, Load, Outcome, Question, Tally, late_degraded, questions_of
from serving.bundle.store import BundleStore
from tests.deploy.edge import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

RATE: Final = 60.0
AWAY_SECONDS: Final = 4.0
REST_SECONDS: Final = 16.0
"""From one blow to the next."""
REQUESTS: Final = 4_000
"""At the least, of each kind of blow."""
PATIENCE_SECONDS: Final = 60.0
USERS: Final = 50
MEMORY: Final = Path("/sys/fs/cgroup/memory")
"""Control groups of memory, version 1; see cgroups(7)."""
MEMORY_BYTES: Final = 2**24
BLOW: Final = "kill"
"""The phase in which `rolling` counts what is degraded late."""

Figures = Callable[[str, object], None]


@dataclass(frozen=True)
class Served:
    """All replicas, and what one of the bundle's answers must be."""

    replicas: Replicas
    questions: Sequence[Question]
    expected: Expected


@pytest.fixture(scope="module")
def served(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    questions = questions_of(store, bundle_id, USERS)
    expected = Expected.of(store, bundle_id, questions)
    try:
        with chdir(ROOT), running_replicas(bundle_root, tmp_path_factory.mktemp("replicas")) as replicas:
            yield Served(replicas, questions, expected)
    except NetworkError as error:
        pytest.skip(str(error))


@asynccontextmanager
async def loaded(served: Served) -> AsyncIterator[Load]:
    """Asks one edge at an even pace while the block runs, all being well before."""
    async with httpx.AsyncClient(base_url=served.replicas.url, timeout=5, trust_env=False) as client:
        load = Load(Edges([client]), served.questions, RATE, phase=BLOW)
        load.edges.in_rotation.add(0)  # the edge itself is never away
        await until_well(client, served)
        async with load.running():
            yield load


async def until_well(client: httpx.AsyncClient, served: Served) -> None:
    """Returns once every question in a row is answered in full: all replicas have been asked by then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        well = 0
        while well < len(served.questions):
            answer = await client.get(served.questions[well].path)
            well = well + 1 if answer.is_success and not answer.json()["degraded"] else 0


async def term(replica: Replica) -> None:
    """SIGTERM, and another in its place."""
    assert await asyncio.to_thread(replica.terminate) == 0
    replica.start()
    await asyncio.to_thread(replica.wait_until_serving)


async def kill(replica: Replica) -> None:
    """SIGKILL, and another in its place a while later."""
    replica.kill()
    await asyncio.sleep(AWAY_SECONDS)
    replica.start()
    await asyncio.to_thread(replica.wait_until_serving)


async def exhaust(replica: Replica) -> None:
    """The kernel kills it, the largest process where another takes more memory than there is."""
    if not os.access(MEMORY / "memory.limit_in_bytes", os.W_OK):
        pytest.skip("no control groups of memory, version 1, that this process may write")
    group = MEMORY / f"movierec-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(MEMORY_BYTES))
        (group / "cgroup.procs").write_text(str(replica.pid))
        greedy = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -c 'bytearray({4 * MEMORY_BYTES})'"
        await asyncio.to_thread(subprocess.run, ("sh", "-c", greedy), check=False)
        assert await asyncio.to_thread(replica.killed)
    finally:
        replica.kill()  # if it still lives: a group with a process in it stays
        group.rmdir()
    await asyncio.sleep(AWAY_SECONDS)
    replica.start()
    await asyncio.to_thread(replica.wait_until_serving)


async def freeze(replica: Replica) -> None:
    """SIGSTOP, and SIGCONT a while later."""
    replica.freeze()
    await asyncio.sleep(AWAY_SECONDS)
    replica.thaw()


async def cut_off(replica: Replica) -> None:
    """All packets to it are dropped for a while."""
    replica.cut_off()
    await asyncio.sleep(AWAY_SECONDS)
    replica.reconnect()


@pytest.mark.row(13)
@pytest.mark.parametrize(
    ("blow", "few"),
    [
        pytest.param(term, 0.0, id="SIGTERM", marks=pytest.mark.row(34)),
        pytest.param(kill, 0.01, id="SIGKILL", marks=pytest.mark.row(36)),
        pytest.param(exhaust, 0.01, id="memory", marks=pytest.mark.row(36)),
        pytest.param(freeze, 0.01, id="SIGSTOP"),
        pytest.param(cut_off, 0.01, id="cut off"),
    ],
)
async def test_one_of_two_is_not_missed(
    served: Served, blow: Callable[[Replica], Awaitable[None]], few: float, record_property: Figures
) -> None:
    blows = []
    async with loaded(served) as load:
        for server in SERVERS:
            _, replica = served.replicas.all[server]
            blows.append(load.now)
            await asyncio.gather(blow(replica), asyncio.sleep(REST_SECONDS))
        while len(load.outcomes) < REQUESTS:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(1)
    tally = Tally.of(load.outcomes, served.expected.differs)
    late = [one for one in load.outcomes if late_degraded([one], blows)]
    slowest = max(one.seconds for one in load.outcomes)
    record(record_property, tally, late_degraded=len(late), slowest_ms=round(1_000 * slowest))
    assert failures(load.outcomes) == []
    assert [f"{one.at:.1f} s: {one.model}, {one.reason}, after {blows}" for one in late] == []
    assert tally.wrong == 0
    assert tally.degraded <= few * tally.requests


@pytest.mark.parametrize(
    "servers",
    [
        pytest.param(("candidate",), id="candidate", marks=pytest.mark.row(1)),
        pytest.param(("ranking",), id="ranking", marks=pytest.mark.row(4)),
        pytest.param(("candidate", "ranking", "similarity"), id="all stages", marks=pytest.mark.row(12)),
    ],
)
async def test_a_stage_that_is_dead_fails_no_request(
    served: Served, servers: Sequence[str], record_property: Figures
) -> None:
    dead = [replica for server in servers for replica in served.replicas.all[server]]
    async with loaded(served) as load:
        for replica in dead:
            replica.kill()
        await asyncio.sleep(AWAY_SECONDS)
        for replica in dead:
            replica.start()
        await asyncio.gather(*(asyncio.to_thread(replica.wait_until_serving) for replica in dead))
        back = load.now
        await asyncio.sleep(2 * AWAY_SECONDS)
    tally = Tally.of(load.outcomes, served.expected.differs)
    recovered = max(one.at for one in load.outcomes if one.degraded) - back
    record(record_property, tally, recovered_seconds=round(recovered, 1))
    assert failures(load.outcomes) == []
    assert (tally.wrong, recovered < 3) == (0, True)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("candidate", marks=pytest.mark.row(2)),
        pytest.param("ranking", marks=pytest.mark.row(5)),
    ],
)
async def test_a_stage_that_is_frozen_is_not_waited_for(
    served: Served, server: str, record_property: Figures
) -> None:
    async with loaded(served) as load:
        for replica in served.replicas.all[server]:
            replica.freeze()
        await asyncio.sleep(AWAY_SECONDS)
        for replica in served.replicas.all[server]:
            replica.thaw()
        back = load.now
        await asyncio.sleep(2 * AWAY_SECONDS)
    tally = Tally.of(load.outcomes, served.expected.differs)
    recovered = max(one.at for one in load.outcomes if one.degraded) - back
    slowest = max(one.seconds for one in load.outcomes)
    record(record_property, tally, recovered_seconds=round(recovered, 1), slowest_ms=round(1_000 * slowest))
    assert failures(load.outcomes) == []
    assert (tally.wrong, recovered < 3) == (0, True)


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{one.at:.1f} s: {one.question.path}: {one.failure}" for one in outcomes if one.failure is not None
    ]


def record(record_property: Figures, tally: Tally, **more: Any) -> None:
    figures = {
        "requests": tally.requests,
        "failed": tally.failed,
        "degraded": tally.degraded,
        "wrong": tally.wrong,
        "p50_ms": round(tally.p50_ms, 1),
        "p99_ms": round(tally.p99_ms, 1),
    }
    for name, value in {**figures, **more}.items():
        record_property(name, value)
