"""What a client and the servers notice of new bundles: `python -m benchmarks.reloading --help`.

Real processes and gRPC: four servers with one replica each, no Envoy. The pointer goes round three bundles
while lists are asked for at an even pace, and each list is compared with what the bundle that it names gives.
"""

import asyncio
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import grpc
import numpy as np
import typer
import uvloop
from rich.table import Table

from benchmarks.servers import Server, serving, settings_of, users_of
from candidate_service.retrieval import Retriever
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from ranking_service.ranking import Ranker
from serving.bundle.manifest import MANIFEST_NAME, SERVED_FOLDERS
from serving.bundle.store import BundleStore
from serving.rpc.channels import open_channel
from serving.stages.candidate import CandidateQuery
from serving.stages.ranking import RankingQuery
from training.cli.terminal import Terminal

_STAGES: Final = ("candidate", "ranking", "similarity")
_PAGE: Final = 20
_MOST_USERS: Final = 200
_ANSWER_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_PATIENCE: Final = {"request_seconds": "30", "candidate_seconds": "10", "ranking_seconds": "10"}
_FEWEST: Final = 3
_MOST_IN_FLIGHT: Final = 64

Lists = Mapping[str, Mapping[int, Sequence[tuple[int, float]]]]
"""Movies and scores, best first, by bundle and user."""


@dataclass
class Tally:
    """What came of the load."""

    latencies: list[float] = field(default_factory=list)
    """Seconds, one per answer."""
    failed: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    """Answers that a fault made weaker, by reason."""
    wrong: int = 0
    """Answers that are not those of the bundle that they name."""
    latest: str = ""
    """The bundle that the last answer named."""
    memory_mib: dict[str, list[float]] = field(default_factory=dict)
    """Resident, by server: after each swap."""


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of three published bundles or more.")],
    swaps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Moves of the pointer.")] = 200,
    rate: Annotated[float, typer.Option(min=1.0, max=10_000, help="Requests per second.")] = 200.0,
    settle_seconds: Annotated[
        float, typer.Option(min=0.0, max=3_600, help="The settle delay of the stages.")
    ] = 1.0,
) -> None:
    """Swaps bundles under load, and prints what failed and how much memory was held."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        store, bundle_ids = _copy(bundle_root, directory / "root")
        users = users_of(store.root)[:_MOST_USERS]
        lists = {bundle_id: _lists(store, bundle_id, users) for bundle_id in bundle_ids}
        servers: dict[str, Server] = {}
        for name in (*_STAGES, "gateway"):
            more = {"bundle_poll_seconds": str(_POLL_SECONDS)}
            if name == "gateway":
                more |= {f"{stage}_target": servers[stage].target for stage in servers} | _PATIENCE
            elif name != "ranking":
                more["settle_delay_seconds"] = str(settle_seconds)
            module = name if name == "gateway" else f"{name}_service"
            settings = settings_of(name, store.root, **more)
            servers[name] = stack.enter_context(serving(module, directory / f"{name}.log", settings))
        tally = Tally(memory_mib={name: [] for name in servers})
        began = time.perf_counter()
        uvloop.run(_swap_under_load(store, servers, lists, tally, swaps=swaps, rate=rate))
        seconds = time.perf_counter() - began
    Terminal().print(_table(tally, swaps=swaps, seconds=seconds))


def _copy(bundle_root: Path, root: Path) -> tuple[BundleStore, list[str]]:
    """Everything that is served, in a folder of its own: nothing else moves its pointer."""
    source, copy = BundleStore(bundle_root), BundleStore(root)
    bundle_ids = sorted(path.name for path in (bundle_root / "bundles").iterdir() if path.name[0] != ".")
    if len(bundle_ids) < _FEWEST:
        raise typer.BadParameter(
            f"{bundle_root} holds fewer than {_FEWEST} bundles", param_hint="bundle-root"
        )
    bundle_ids = bundle_ids[:_FEWEST]  # as many as a root keeps
    for bundle_id in bundle_ids:
        with copy.staging() as staging:
            for name in SERVED_FOLDERS:
                shutil.copytree(source.path(bundle_id) / name, staging / name)
            shutil.copy(source.path(bundle_id) / MANIFEST_NAME, staging)
            copy.adopt(staging)
    copy.point_to(bundle_ids[0], published_at=time.time())
    return copy, bundle_ids


def _lists(store: BundleStore, bundle_id: str, users: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
    """What a bundle gives, computed without a server."""
    retriever, ranker = Retriever.load(store, bundle_id), Ranker.load(store, bundle_id)
    lists = {}
    for user_id in users:
        (candidates,) = retriever.retrieve([CandidateQuery(user_id)])
        query = RankingQuery(user_id, candidates.movie_ids, candidates.scores, limit=_PAGE)
        (ranked,) = ranker.rank([query]).lists
        lists[user_id] = list(zip(ranked.movie_ids.tolist(), ranked.scores.tolist(), strict=True))
    return lists


async def _swap_under_load(
    store: BundleStore, servers: Mapping[str, Server], lists: Lists, tally: Tally, *, swaps: int, rate: float
) -> None:
    async with open_channel(servers["gateway"].target) as channel:
        load = asyncio.create_task(_ask_on(MovieServiceStub(channel), lists, tally, rate=rate))
        bundle_ids = itertools.cycle(lists)
        next(bundle_ids)  # which is served
        for bundle_id in itertools.islice(bundle_ids, swaps):
            store.point_to(bundle_id, published_at=time.time())
            while tally.latest != bundle_id and not load.done():  # noqa: ASYNC110  # however long it takes
                await asyncio.sleep(_POLL_SECONDS)
            for name, server in servers.items():
                tally.memory_mib[name].append(server.memory_mib())
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load


async def _ask_on(api: MovieServiceStub, lists: Lists, tally: Tally, *, rate: float) -> None:
    """Asks at an even pace; on a machine that cannot keep it, as fast as answers come."""
    users = itertools.cycle(next(iter(lists.values())))
    places = asyncio.Semaphore(_MOST_IN_FLIGHT)

    async def ask(user_id: int) -> None:
        began = time.perf_counter()
        request = pb.ListPersonalMoviesRequest(user_id=user_id, limit=_PAGE)
        try:
            answer = await api.ListPersonalMovies(request, timeout=_ANSWER_SECONDS)
        except grpc.aio.AioRpcError:
            tally.failed += 1
            return
        finally:
            places.release()
        tally.latencies.append(time.perf_counter() - began)
        tally.latest = answer.bundle_id
        if answer.degraded:
            tally.degraded[pb.FallbackReason.Name(answer.fallback_reason)] += 1
        scored = [(item.movie.movie_id, item.score) for item in answer.movies]
        tally.wrong += not answer.degraded and scored != lists[answer.bundle_id][user_id]

    due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for user_id in users:
            await places.acquire()
            group.create_task(ask(user_id))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


def _table(tally: Tally, *, swaps: int, seconds: float) -> Table:
    p50, p99 = np.percentile(tally.latencies, [50, 99]) * 1_000
    table = Table(
        caption=", ".join(f"{reason}: {count}" for reason, count in tally.degraded.items()),
        title=f"{swaps} swaps in {seconds:.0f} s; {len(tally.latencies):,} answers, {tally.failed} failed, "
        f"{tally.degraded.total()} degraded, {tally.wrong} wrong; "
        f"p50 {p50:.1f} ms, p99 {p99:.0f} ms",
    )
    for heading in ("server", "RSS MiB", "after a quarter", "half", "all swaps", "most"):
        table.add_column(heading, justify="right")
    for name, held in tally.memory_mib.items():
        places = (0, len(held) // 4, len(held) // 2, len(held) - 1)
        table.add_row(name, *(f"{held[place]:.0f}" for place in places), f"{max(held):.0f}")
    return table


if __name__ == "__main__":
    typer.run(main)
