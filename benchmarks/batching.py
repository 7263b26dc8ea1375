"""What it gains that whatever waits for a stage travels as one call: `python -m benchmarks.batching --help`.

Real processes and gRPC: one candidate server, one ranking server, and two gateways before them, of which one
sends a call per request. Both are asked in turn, with 1 to 64 requests in flight.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
import uvloop
from rich.progress import track
from rich.table import Table

from benchmarks.servers import Server, serving, serving_stages, settings_of, targets_of, users_of
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.rpc.channels import open_channel
from training.cli.terminal import Terminal

_IN_FLIGHT: Final = (1, 8, 32, 64)
_PAGE: Final = 20
_ANSWER_SECONDS: Final = 60.0
_WARM_UP_SECONDS: Final = 1.0

_BATCHED: Final = "batched"
_APART: Final = "a call per request"
_GATEWAYS: Final[Mapping[str, Mapping[str, str]]] = {
    _BATCHED: {},
    _APART: {"call_max_queries": "1", "candidate_max_calls": "1000", "ranking_max_calls": "1000"},
}
_PATIENCE: Final = {  # a list that stepped down costs less: here none does, however busy the machine
    "request_seconds": "30",
    "candidate_seconds": "10",
    "ranking_seconds": "10",
}


@dataclass
class Tally:
    """What came of some seconds of load; adds up over rounds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the gateway and both stages."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, one per answer."""
    degraded: int = 0
    """Answers that a fault made weaker, hence cheaper: with any, the figures say little."""

    @property
    def requests_per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def median_ms(self) -> float:
        """Half of the answers took no longer."""
        return float(np.median(self.latencies)) * 1_000

    @property
    def cpu_ms(self) -> float:
        """Processor time of all three servers for one answer."""
        return self.cpu_seconds / len(self.latencies) * 1_000


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")],
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Of load per round, gateway and row.")
    ] = 3.0,
    rounds: Annotated[
        int, typer.Option(min=1, max=1_000, help="How often both gateways take their turn.")
    ] = 3,
) -> None:
    """Measures both gateways and prints them beside each other."""
    console = Terminal()
    users = users_of(bundle_root)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory()))
        stages = serving_stages(stack, bundle_root, logs)
        gateways = {name: _gateway(stack, name, bundle_root, logs, stages) for name in _GATEWAYS}
        for gateway in gateways.values():
            uvloop.run(load(gateway.target, users, in_flight=max(_IN_FLIGHT), seconds=_WARM_UP_SECONDS))
        tallies = {(in_flight, name): Tally() for in_flight in _IN_FLIGHT for name in gateways}
        turns = [key for _ in range(rounds) for key in tallies]
        for in_flight, name in track(turns, "Asking", console=console, transient=True):
            servers = [gateways[name], *stages]
            _measure(tallies[in_flight, name], servers, users, in_flight=in_flight, seconds=seconds)
    console.print(_table(tallies))


def _gateway(stack: ExitStack, name: str, bundle_root: Path, logs: Path, stages: Sequence[Server]) -> Server:
    settings = settings_of("gateway", bundle_root, **_PATIENCE, **targets_of(stages), **_GATEWAYS[name])
    return stack.enter_context(serving("gateway", logs / f"gateway, {name}.log", settings))


def _measure(
    tally: Tally, servers: Sequence[Server], users: Sequence[int], *, in_flight: int, seconds: float
) -> None:
    """Asks the first of the servers, and adds what came of it to the tally."""
    cpu_before = sum(server.cpu_seconds() for server in servers)
    began = time.perf_counter()
    answers = uvloop.run(load(servers[0].target, users, in_flight=in_flight, seconds=seconds))
    tally.seconds += time.perf_counter() - began
    tally.cpu_seconds += sum(server.cpu_seconds() for server in servers) - cpu_before
    tally.latencies += [latency for latency, _ in answers]
    tally.degraded += sum(degraded for _, degraded in answers)


async def load(
    target: str, users: Sequence[int], *, in_flight: int, seconds: float
) -> list[tuple[float, bool]]:
    """Keeps so many requests in flight for some time; gives seconds of each answer, and if it is degraded."""
    answers: list[tuple[float, bool]] = []
    end = time.perf_counter() + seconds
    next_user = cycle(users)
    async with open_channel(target) as channel:
        stub = MovieServiceStub(channel)

        async def ask_on() -> None:
            while (began := time.perf_counter()) < end:
                request = pb.ListPersonalMoviesRequest(user_id=next(next_user), limit=_PAGE)
                answer = await stub.ListPersonalMovies(request, timeout=_ANSWER_SECONDS)
                answers.append((time.perf_counter() - began, answer.degraded))

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(ask_on())
    return answers


def _table(tallies: Mapping[tuple[int, str], Tally]) -> Table:
    table = Table(title="CPU is that of gateway, candidate and ranking together, per answer")
    for heading in ("in flight", "gateway", "answers/s", "p50 ms", "CPU ms", "degraded"):
        table.add_column(heading, justify="right")
    for in_flight in _IN_FLIGHT:
        for cells in _rows(tallies[in_flight, _APART], tallies[in_flight, _BATCHED]):
            table.add_row(str(in_flight), *cells)
        table.add_section()
    return table


def _rows(apart: Tally, batched: Tally) -> Iterator[tuple[str, ...]]:
    for name, tally in ((_APART, apart), (_BATCHED, batched)):
        yield (
            name,
            f"{tally.requests_per_second:.0f}",
            f"{tally.median_ms:.1f}",
            f"{tally.cpu_ms:.2f}",
            str(tally.degraded),
        )
    yield (
        "ratio",
        f"{batched.requests_per_second / apart.requests_per_second:.2f}",
        f"{batched.median_ms / apart.median_ms:.2f}",
        f"{batched.cpu_ms / apart.cpu_ms:.2f}",
        "",
    )


if __name__ == "__main__":
    typer.run(main)
