"""How often a dead stage is asked: `python -m benchmarks.outage --help`.

Real processes and gRPC: Envoy as in compose, as edge and as mesh, two gateways, and two replicas of a
candidate service that are healthy and answer every call with UNAVAILABLE. Clients ask for lists, so many at
once or so many a second; one client takes what there is instead of its list, another denies that.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import httpx
import typer
import uvloop
from grpc import StatusCode, aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table
from typing_extensions import override

from benchmarks.envoy import envoy
from benchmarks.ports import free_port
from benchmarks.servers import serving, settings_of, users_of
from deploy.envoy_config import COMPOSE, CONFIG, CONSOLE, Options, Stage, render
from movierec.candidate.v1 import candidate_service_pb2 as candidate
from movierec.candidate.v1 import candidate_service_pb2_grpc as candidate_grpc
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.bundle.store import BundleStore
from training.cli.terminal import Terminal

_HOST: Final = "127.0.0.1"
_REPLICAS: Final = 2
_IN_FLIGHT: Final = (1, 8, 64)
_A_SECOND: Final = (1, 4)
_PATIENCE_SECONDS: Final = 60.0
"""Of clients and edge: a call that they give up, because the machine stalls, may never reach a gateway."""
_LOOK_SECONDS: Final = 0.05
_WELL: Final = 20
"""Good answers in a row, after which every gateway takes the stage for well."""
_ANY_RATE: Final = 1_000_000
_SERVICE: Final = candidate.DESCRIPTOR.services_by_name["CandidateService"].full_name
_POLICIES: Final = {"falls back": pb.FALLBACK_POLICY_UNSPECIFIED, "denies": pb.FALLBACK_POLICY_DENY}


class Candidates(candidate_grpc.CandidateServiceServicer):
    """A stage that is dead or finds nothing, and counts.

    Args:
        bundle_id: what it answers from: the gateways take any other for a fault.
    """

    def __init__(self, bundle_id: str) -> None:
        self._bundle_id = bundle_id
        self.dead = False
        self.calls = 0

    @override
    async def GenerateCandidates(
        self, request: candidate.GenerateCandidatesRequest, context: aio.ServicerContext[Any, Any]
    ) -> candidate.GenerateCandidatesResponse:
        self.calls += 1
        if self.dead:
            await context.abort(StatusCode.UNAVAILABLE, "told to be")
        nothing = candidate.CandidateList(user_vector=candidate.USER_VECTOR_NONE)
        return candidate.GenerateCandidatesResponse(
            lists=[nothing] * len(request.queries), bundle_id=self._bundle_id
        )


@dataclass
class Outage:
    """The whole, and what becomes of requests while the stage is dead."""

    stage: Candidates
    stub: MovieServiceStub
    metrics: Sequence[str]
    """URLs of the gateways' metrics."""
    users: Iterator[int]
    ends: Counter[str] = field(default_factory=Counter)

    async def begin(self) -> int:
        """Lets the stage be well until the gateways know, and then dead; gives their calls so far."""
        self.stage.dead = False
        well = 0
        while well < _WELL:
            well = well + 1 if await self._ask(pb.FALLBACK_POLICY_UNSPECIFIED) == StatusCode.OK.name else 0
            await asyncio.sleep(_LOOK_SECONDS)
        self.stage.dead, self.stage.calls = True, 0
        self.ends.clear()
        return await self.gateway_calls()

    async def closed(self, policy: "pb.FallbackPolicy.ValueType", *, in_flight: int, requests: int) -> None:
        """So many clients ask, each again as soon as it has its answer."""
        left = iter(range(requests))

        async def ask_on() -> None:
            for _ in left:
                self.ends[await self._ask(policy)] += 1

        await asyncio.gather(*(ask_on() for _ in range(in_flight)))

    async def opened(self, policy: "pb.FallbackPolicy.ValueType", *, a_second: int, requests: int) -> None:
        """So many are asked a second."""
        for _ in range(requests):
            began = time.perf_counter()
            self.ends[await self._ask(policy)] += 1
            await asyncio.sleep(1 / a_second - (time.perf_counter() - began))

    async def gateway_calls(self) -> int:
        """Calls for lists that the gateways have had."""
        calls = 0.0
        async with httpx.AsyncClient(trust_env=False) as client:
            for url in self.metrics:
                text = (await client.get(url)).text
                calls += sum(
                    sample.value
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                    if sample.name == "movierec_requests_total"
                    and sample.labels["method"] == "ListPersonalMovies"
                )
        return round(calls)

    async def _ask(self, policy: "pb.FallbackPolicy.ValueType") -> str:
        request = pb.ListPersonalMoviesRequest(user_id=next(self.users), fallback_policy=policy)
        try:
            answer = await self.stub.ListPersonalMovies(request, timeout=_PATIENCE_SECONDS)
        except aio.AioRpcError as error:
            return error.code().name
        return "DEGRADED" if answer.degraded else StatusCode.OK.name


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")],
    requests: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Of clients that wait for their answers.")
    ] = 1_000,
    seconds: Annotated[
        float, typer.Option(min=1, max=3_600, help="Of clients that ask so many a second.")
    ] = 20.0,
) -> None:
    """Asks while a stage is dead, and prints how often it was asked, and the gateways."""
    table = Table("lists", "client", "requests", "ends", "attempts at the stage", "at gateways")
    uvloop.run(_measure(bundle_root, requests, seconds, table))
    Terminal().print(table)


async def _measure(bundle_root: Path, requests: int, seconds: float, table: Table) -> None:
    async with _running(bundle_root) as outage:
        for name, policy in _POLICIES.items():
            for in_flight in _IN_FLIGHT:
                before = await outage.begin()
                await outage.closed(policy, in_flight=in_flight, requests=requests)
                await _report(table, f"{in_flight} at once", name, outage, before)
            for a_second in _A_SECOND:
                before = await outage.begin()
                await outage.opened(policy, a_second=a_second, requests=round(seconds * a_second))
                await _report(table, f"{a_second} a second", name, outage, before)


async def _report(table: Table, load: str, client: str, outage: Outage, before: int) -> None:
    asked = outage.ends.total()
    table.add_row(
        load,
        client,
        f"{asked}",
        ", ".join(f"{end} {count}" for end, count in outage.ends.most_common()),
        f"{outage.stage.calls / asked:.2f}",
        f"{(await outage.gateway_calls() - before) / asked:.2f}",
    )


@asynccontextmanager
async def _running(bundle_root: Path) -> AsyncIterator[Outage]:
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory()))
        stage = Candidates(BundleStore(bundle_root).pointer().bundle_id)
        replicas = [await stack.enter_async_context(_replica(stage)) for _ in range(_REPLICAS)]
        mesh, edge, admin, *metrics = (free_port() for _ in range(3 + _REPLICAS))
        servers = await asyncio.to_thread(_gateways, stack, bundle_root, logs, mesh, metrics)
        place = replace(
            COMPOSE,
            edge=(_HOST, edge),
            gateway=servers,
            files=CONFIG.parent,
            console=CONSOLE,
            mesh_host=_HOST,
            stages=(Stage("candidate", _SERVICE, mesh, tuple(replicas), per_try_seconds=0.06),),
            admin=(_HOST, admin),
        )
        options = Options(deadline_seconds=_PATIENCE_SECONDS, requests_per_second=_ANY_RATE)
        # In a thread: it listens once it knows that the replicas, which this loop runs, are healthy.
        await asyncio.to_thread(stack.enter_context, envoy(render(place, options), logs, edge))
        channel = await stack.enter_async_context(aio.insecure_channel(f"{_HOST}:{edge}"))
        urls = [f"http://{_HOST}:{port}/metrics" for port in metrics]
        yield Outage(stage, MovieServiceStub(channel), urls, cycle(users_of(bundle_root)))


def _gateways(
    stack: AsyncExitStack, bundle_root: Path, logs: Path, mesh: int, metrics: Sequence[int]
) -> tuple[tuple[str, int], ...]:
    """Runs them until `stack` closes; gives their addresses."""
    addresses = []
    for port in metrics:
        settings = settings_of(
            "gateway", bundle_root, candidate_target=f"{_HOST}:{mesh}", metrics_port=str(port)
        )
        server = stack.enter_context(serving("gateway", logs / f"gateway, {port}.log", settings))
        addresses.append((_HOST, int(server.target.rpartition(":")[2])))
    return tuple(addresses)


@asynccontextmanager
async def _replica(stage: Candidates) -> AsyncIterator[tuple[str, int]]:
    server = aio.server()
    candidate_grpc.add_CandidateServiceServicer_to_server(stage, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set(_SERVICE, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(f"{_HOST}:0")
    await server.start()
    try:
        yield _HOST, port
    finally:
        await server.stop(None)


if __name__ == "__main__":
    typer.run(main)
