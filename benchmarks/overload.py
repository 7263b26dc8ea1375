"""What becomes of a gateway under overload: `python -m benchmarks.overload --help`.

Real processes and gRPC: a candidate and a ranking server, two gateways before them, of which one takes in
whatever comes, and Envoy before the other. First, as many clients as the gateway has places ask for lists,
each again as soon as it has its answer: the peak. Then lists are asked for five times as often, whatever
becomes of them. Beside that, one client looks up movies, and one asks for health.

To ask so often takes most of a core. What that costs the answers, whatever is asked, a second peak shows:
beside it, as many calls go to Envoy as make it five times, for a method that nobody has.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
import typer
import uvloop
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.envoy import edge
from benchmarks.servers import Server, serving, serving_stages, settings_of, targets_of, users_of
from deploy.envoy_config import Options
from gateway.settings import GatewaySettings
from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from training.cli.terminal import Terminal

_PLACES: Final[int] = GatewaySettings.model_fields["max_inflight"].default
_TIMES: Final = 5
_PAGE: Final = 20
_TIMEOUT_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = 0.01
_WARM_UP_SECONDS: Final = 1.0
_CONNECTIONS: Final = 8  # Envoy takes 100 calls at once on each
_ANY_RATE: Final = 1_000_000
_NOBODY: Final = "/movierec.Nobody/Answers"
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["MovieService"].full_name

_ANSWERED: Final = StatusCode.OK.name
_DEGRADED: Final = "DEGRADED"
_REFUSED: Final = {StatusCode.RESOURCE_EXHAUSTED.name, StatusCode.UNAVAILABLE.name}  # the latter is Envoy's

PEAK: Final = "peak"
ACCOMPANIED: Final = "peak, and calls for nobody"
BEHIND_EDGE: Final = "behind Envoy"
_LIMITED: Final = "without Envoy"
_UNLIMITED: Final = "without any limit"
_GATEWAYS: Final[Mapping[str, Mapping[str, str]]] = {_LIMITED: {}, _UNLIMITED: {"max_inflight": "10000"}}

Channels: TypeAlias = Sequence[aio.Channel]


@dataclass
class Tally:
    """What came of some seconds of load; adds up over rounds. Times in seconds."""

    seconds: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    """How calls for lists ended: a code, or `DEGRADED`."""
    answers: list[float] = field(default_factory=list)
    """Times of full answers, of those that came while there was load."""
    refusals: list[float] = field(default_factory=list)
    movies: list[float] = field(default_factory=list)
    """Times of look-ups."""
    movies_refused: int = 0
    health: list[float] = field(default_factory=list)
    """Times of health checks that said SERVING."""
    unhealthy: int = 0
    recovery: list[float] = field(default_factory=list)
    """Times from the end of a load to the next full answer."""

    @property
    def asked(self) -> float:
        """Calls for lists a second."""
        return self.ends.total() / self.seconds

    @property
    def goodput(self) -> float:
        """Full answers a second."""
        return len(self.answers) / self.seconds


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3_600, help="Of each load per round.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1, max=1_000, help="How often every load takes its turn.")] = 3,
) -> None:
    """Loads the gateways in turn, and prints what came of it."""
    console = Terminal()
    console.print(_table(measured(bundle_root, seconds=seconds, rounds=rounds, console=console)))


def measured(
    bundle_root: Path, *, seconds: float, rounds: int, console: Console, edge_alone: bool = False
) -> dict[str, Tally]:
    """Loads the gateways in turn; gives what came of it, by load.

    Args:
        bundle_root: where a published bundle lies.
        seconds: of each load per round.
        rounds: how often every load takes its turn.
        console: shows how far it is.
        edge_alone: leaves out the gateways without Envoy, and keeps the load on the first processor and all
            servers on the others.
    """
    users = cycle(users_of(bundle_root))
    first, *others = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory()))
        if edge_alone:
            stack.enter_context(_kept_on(others))  # which servers inherit
        stages = serving_stages(stack, bundle_root, logs)
        names = (_LIMITED,) if edge_alone else tuple(_GATEWAYS)
        gateways = {name: _gateway(stack, name, bundle_root, logs, stages) for name in names}
        options = Options(requests_per_second=_ANY_RATE)
        targets = {BEHIND_EDGE: stack.enter_context(edge(gateways[_LIMITED], logs, options)).target}
        if edge_alone:
            stack.enter_context(_kept_on([first]))
        else:
            targets |= {name: gateway.target for name, gateway in gateways.items()}
        tallies = {name: Tally() for name in (PEAK, ACCOMPANIED, *targets)}
        for target in targets.values():
            uvloop.run(_Run(Tally(), users, seconds=min(seconds, _WARM_UP_SECONDS)).closed(target))
        for _ in track(range(rounds), "Asking", console=console, transient=True):
            uvloop.run(_Run(tallies[PEAK], users, seconds=seconds).closed(targets[BEHIND_EDGE]))
            rate = _TIMES * tallies[PEAK].goodput
            beside = rate - tallies[PEAK].goodput
            uvloop.run(
                _Run(tallies[ACCOMPANIED], users, seconds=seconds).accompanied(targets[BEHIND_EDGE], beside)
            )
            for name, target in targets.items():
                uvloop.run(_Run(tallies[name], users, seconds=seconds).opened(target, rate))
    return tallies


@contextmanager
def _kept_on(processors: Sequence[int]) -> Iterator[None]:
    """Keeps this process, and what it starts, on some of its processors while the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _gateway(stack: ExitStack, name: str, bundle_root: Path, logs: Path, stages: Sequence[Server]) -> Server:
    settings = settings_of("gateway", bundle_root, **targets_of(stages), **_GATEWAYS[name])
    return stack.enter_context(serving("gateway", logs / f"gateway, {name}.log", settings))


class _Run:
    """Some seconds of load.

    Args:
        tally: what comes of it.
        users: whose lists are asked for, in turn.
        seconds: how long.
    """

    def __init__(self, tally: Tally, users: Iterator[int], *, seconds: float) -> None:
        self._tally = tally
        self._users = users
        self._seconds = seconds
        self._end = 0.0

    async def closed(self, target: str) -> None:
        """As many clients as there are places ask, each again once it has its answer."""
        await self._go(target, self._ask_in_turn)

    async def accompanied(self, target: str, rate: float) -> None:
        """The same; beside it, so many calls a second are made that only Envoy answers."""

        async def load(channels: Channels) -> None:
            nobody: Iterator[Any] = cycle([channel.unary_unary(_NOBODY) for channel in channels])

            async def ask_nobody() -> None:
                with suppress(aio.AioRpcError):
                    await next(nobody)(b"", timeout=_TIMEOUT_SECONDS)

            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask_in_turn(channels))
                group.create_task(self._repeat(ask_nobody, rate))

        await self._go(target, load)

    async def opened(self, target: str, rate: float) -> None:
        """So many calls a second are made, whatever becomes of them."""

        async def load(channels: Channels) -> None:
            stubs = cycle(list(map(MovieServiceStub, channels)))
            await self._repeat(lambda: self._ask(next(stubs)), rate)

        await self._go(target, load)

    async def _ask_in_turn(self, channels: Channels) -> None:
        async def ask_on(stub: MovieServiceStub) -> None:
            while self._goes_on():
                await self._ask(stub)

        stubs = cycle(list(map(MovieServiceStub, channels)))
        await asyncio.gather(*(ask_on(next(stubs)) for _ in range(_PLACES)))

    async def _repeat(self, ask: Callable[[], Coroutine[Any, Any, None]], rate: float) -> None:
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while self._goes_on():
                group.create_task(ask())
                due += 1 / rate
                await asyncio.sleep(due - time.perf_counter())

    async def _go(self, target: str, load: Callable[[Channels], Coroutine[Any, Any, None]]) -> None:
        async with AsyncExitStack() as stack:
            beside, *channels = [
                await stack.enter_async_context(_connected(target)) for _ in range(_CONNECTIONS + 1)
            ]
            self._end = time.perf_counter() + self._seconds
            self._tally.seconds += self._seconds
            async with asyncio.TaskGroup() as group:
                group.create_task(load(channels))
                group.create_task(self._look_up(MovieServiceStub(beside)))
                group.create_task(self._check_health(beside))
                group.create_task(self._recover(MovieServiceStub(beside)))

    def _goes_on(self) -> bool:
        return time.perf_counter() < self._end

    async def _ask(self, stub: MovieServiceStub) -> None:
        began = time.perf_counter()
        end = await self._end_of_call(stub)
        took = time.perf_counter() - began
        self._tally.ends[end] += 1
        if end in _REFUSED:
            self._tally.refusals.append(took)
        elif end == _ANSWERED and self._goes_on():
            self._tally.answers.append(took)

    async def _end_of_call(self, stub: MovieServiceStub) -> str:
        request = pb.ListPersonalMoviesRequest(user_id=next(self._users), limit=_PAGE)
        try:
            answer = await stub.ListPersonalMovies(request, timeout=_TIMEOUT_SECONDS)
        except aio.AioRpcError as error:
            return error.code().name
        return _DEGRADED if answer.degraded else _ANSWERED

    async def _look_up(self, stub: MovieServiceStub) -> None:
        request = pb.GetMovieRequest(movie_id=1)
        while self._goes_on():
            began = time.perf_counter()
            try:
                await stub.GetMovie(request, timeout=_TIMEOUT_SECONDS)
            except aio.AioRpcError:
                self._tally.movies_refused += 1
            else:
                self._tally.movies.append(time.perf_counter() - began)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _check_health(self, channel: aio.Channel) -> None:
        while self._goes_on():
            began = time.perf_counter()
            if await _serves(channel):
                self._tally.health.append(time.perf_counter() - began)
            else:
                self._tally.unhealthy += 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def _recover(self, stub: MovieServiceStub) -> None:
        await asyncio.sleep(self._end - time.perf_counter())
        while await self._end_of_call(stub) != _ANSWERED:  # noqa: ASYNC110  # asked as a client does
            await asyncio.sleep(_PAUSE_SECONDS)
        self._tally.recovery.append(time.perf_counter() - self._end)


@asynccontextmanager
async def _connected(target: str) -> AsyncIterator[aio.Channel]:
    """A connection of its own, by which the service says that it serves."""
    alone = (("grpc.use_local_subchannel_pool", 1),)
    async with aio.insecure_channel(target, options=alone) as channel:
        while not await _serves(channel):  # noqa: ASYNC110  # there is nothing else to wait for
            await asyncio.sleep(_LOOK_SECONDS)
        yield channel


async def _serves(channel: aio.Channel) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=_SERVICE)
    try:
        answer = await stub.Check(request, timeout=_TIMEOUT_SECONDS)
    except aio.AioRpcError:
        return False
    serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
    return serving


def _table(tallies: Mapping[str, Tally]) -> Table:
    table = Table(title="Times in ms: p50, p99")
    table.add_column("")
    for name in tallies:
        table.add_column(name, justify="right")
    for heading, cell in rows(tallies[PEAK], tallies[ACCOMPANIED]):
        table.add_row(heading, *map(cell, tallies.values()))
    return table


def rows(peak: Tally, accompanied: Tally) -> Iterator[tuple[str, Callable[[Tally], str]]]:
    """What the table says of each load, by the heading of its row."""
    yield "asked/s", lambda tally: f"{tally.asked:.0f}"
    yield "answers/s", lambda tally: f"{tally.goodput:.0f}"
    yield "of peak", lambda tally: _share(tally, peak)
    yield "of second", lambda tally: _share(tally, accompanied)
    yield "answer", lambda tally: _times(tally.answers)
    yield "refusal", lambda tally: _times(tally.refusals)
    yield "ends", lambda tally: "\n".join(f"{end} {count}" for end, count in tally.ends.most_common())
    yield "look-up", lambda tally: _times(tally.movies)
    yield "refused", lambda tally: f"{tally.movies_refused} of {tally.movies_refused + len(tally.movies)}"
    yield "health check", lambda tally: _times(tally.health)
    yield "failed", lambda tally: f"{tally.unhealthy} of {tally.unhealthy + len(tally.health)}"
    yield "recovered", lambda tally: f"{max(tally.recovery) * 1_000:.0f}"


def _share(part: Tally, whole: Tally) -> str:
    return f"{part.goodput / whole.goodput:.2f}" if whole.answers else "-"


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return ", ".join(f"{value * 1_000:.0f}" for value in np.percentile(seconds, (50, 99)))


if __name__ == "__main__":
    typer.run(main)
