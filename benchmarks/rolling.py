"""What clients notice of restarts, roll-outs and dead replicas: `python -m benchmarks.rolling --help`.

Needs the containers of `make web`. The load is open: so many requests a second, whatever becomes of them, to
two edges in turn, as a load balancer would send them: an edge whose /readyz fails gets none. Nothing is asked
twice. Meanwhile every container is restarted, another bundle is published and rolled back, and one replica of
each stage is killed. Each answer is then compared with what its bundle gives without any server.
"""

import asyncio
import math
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import httpx
import numpy as np
import typer
import uvloop
from rich.table import Table

from benchmarks.containers import Containers, EngineError
from benchmarks.replicas import SERVERS, STAGES
from gateway.lists.catalogue import Catalogue
from serving.bundle.factors import read_ratings
from serving.bundle.store import BundleStore
from serving.stages.similarity import SimilarQuery
from similarity_service.neighbours import SimilarityIndex
from training.cli.terminal import Terminal
from training.models.recommenders import TwoStageRecommender

PAGE: Final = 10
_MOVIES: Final = 25
_TIMEOUT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
_TOLERANCE: Final = 1e-6
_PATIENCE_SECONDS: Final = 180.0
_RECOVERED_SECONDS: Final = 3.0
_FEW: Final = 0.01
_EDGES: Final = ("http://127.0.0.1:8080", "http://127.0.0.1:8081")

Movies = tuple[tuple[int, float], ...]
"""Movie ids and scores, in order."""


@dataclass(frozen=True)
class Question:
    """What is asked for."""

    path: str
    id: int
    """user_id of a personal list, movie_id of similar movies."""

    @property
    def similar(self) -> bool:
        """Whether it is a list of similar movies."""
        return self.path.endswith("/similar")

    @classmethod
    def personal(cls, user_id: int) -> "Question":
        """A user's list."""
        return cls(f"/api/movies/personal?user_id={user_id}&limit={PAGE}", user_id)

    @classmethod
    def neighbours(cls, movie_id: int) -> "Question":
        """A movie's nearest."""
        return cls(f"/api/movies/{movie_id}/similar", movie_id)


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    phase: str
    at: float
    """Seconds since the load began, when it was sent."""
    seconds: float
    """Until the answer."""
    question: Question
    failure: str | None = None
    """Status or error; None: it was answered."""
    model: str = ""
    degraded: bool = False
    reason: str = ""
    """Why it is degraded."""
    bundle_id: str = ""
    movies: Movies = ()


@dataclass(frozen=True)
class Tally:
    """What became of the requests of one phase."""

    requests: int
    failed: int
    degraded: int
    wrong: int
    """Answers that are not what their bundle gives; degraded ones are not compared."""
    p50_ms: float
    p99_ms: float
    bundles: Mapping[str, int]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], wrong: Callable[[Outcome], bool]) -> "Tally":
        """Counts."""
        answered = [one for one in outcomes if one.failure is None]
        milliseconds = [one.seconds * 1_000 for one in answered] or [math.nan]
        return cls(
            requests=len(outcomes),
            failed=len(outcomes) - len(answered),
            degraded=sum(one.degraded for one in answered),
            wrong=sum(not one.degraded and wrong(one) for one in answered),
            p50_ms=float(np.percentile(milliseconds, 50)),
            p99_ms=float(np.percentile(milliseconds, 99)),
            bundles=Counter(one.bundle_id for one in answered),
        )


@dataclass(frozen=True)
class Expected:
    """What a bundle gives without any server."""

    lists: Mapping[Question, Movies]

    @classmethod
    def of(cls, store: BundleStore, bundle_id: str, questions: Sequence[Question]) -> "Expected":
        """Computes the answers to all questions."""
        recommender = TwoStageRecommender.read(store, bundle_id)
        index = SimilarityIndex.load(store, bundle_id)
        lists: dict[Question, Movies] = {}
        for question in questions:
            if question.similar:
                found = index.similar(SimilarQuery(question.id, limit=PAGE))
                lists[question] = tuple(zip(found.movie_ids.tolist(), found.scores.tolist(), strict=True))
            else:
                items = recommender.recommend(question.id, PAGE)
                lists[question] = tuple((item.movie_id, item.score) for item in items)
        return cls(lists)

    def differs(self, outcome: Outcome) -> bool:
        """Whether an answer is another: model, movies, order or scores."""
        expected = self.lists[outcome.question]
        return (
            outcome.model != ("als_cosine" if outcome.question.similar else "two_stage")
            or [movie for movie, _ in outcome.movies] != [movie for movie, _ in expected]
            or not np.allclose(
                [score for _, score in outcome.movies],
                [score for _, score in expected],
                rtol=_TOLERANCE,
                atol=_TOLERANCE,
            )
        )


@dataclass
class Edges:
    """Two edges, as a load balancer sees them."""

    clients: Sequence[httpx.AsyncClient]
    in_rotation: set[int] = field(default_factory=set)
    """Places of those that are ready."""
    _turn: int = 0

    def next(self) -> httpx.AsyncClient | None:
        """The edge whose turn it is; None while none is ready."""
        for _ in self.clients:
            self._turn = (self._turn + 1) % len(self.clients)
            if self._turn in self.in_rotation:
                return self.clients[self._turn]
        return None

    async def watch(self, place: int) -> None:
        """Takes an edge out and in again, until cancelled."""
        while True:
            try:
                answer = await self.clients[place].get("/readyz", timeout=1.0)
                ready = answer.status_code == httpx.codes.OK
            except httpx.TransportError:
                ready = False
            (self.in_rotation.add if ready else self.in_rotation.discard)(place)
            await asyncio.sleep(_LOOK_SECONDS)

    async def all_ready(self) -> None:
        """Returns once every edge is in rotation."""
        while len(self.in_rotation) < len(self.clients):  # noqa: ASYNC110  # watched by polling as well
            await asyncio.sleep(_LOOK_SECONDS)


@dataclass
class Load:
    """Requests, so many a second, and what became of them."""

    edges: Edges
    questions: Sequence[Question]
    per_second: float
    outcomes: list[Outcome] = field(default_factory=list)
    phase: str = ""
    _began: float = field(default_factory=time.perf_counter)

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sends while the block runs, and waits for the last answers."""
        self._began = time.perf_counter()
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            try:
                for number, question in enumerate(cycle(self.questions)):
                    await asyncio.sleep(max(0.0, number / self.per_second - self.now))
                    group.create_task(self._ask(question, self.phase))
            except asyncio.CancelledError:
                return  # the group waits for what is under way

    async def _ask(self, question: Question, phase: str) -> None:
        at = self.now
        edge = self.edges.next()
        failure, body = "no edge is ready", None
        if edge is not None:
            try:
                answer = await edge.get(question.path)
                failure, body = f"{answer.status_code} {' '.join(answer.text.split())[:200]}", None
                if answer.status_code == httpx.codes.OK:
                    body = answer.json()
            except httpx.TransportError as error:
                failure = repr(error)
        seconds = self.now - at
        if body is None:
            self.outcomes.append(Outcome(phase, at, seconds, question, failure))
        else:
            self.outcomes.append(_answered(phase, at, seconds, question, body))


def _answered(phase: str, at: float, seconds: float, question: Question, body: Mapping[str, Any]) -> Outcome:
    return Outcome(
        phase=phase,
        at=at,
        seconds=seconds,
        question=question,
        model=body["model"],
        degraded=body["degraded"],
        reason=body["fallback_reason"],
        bundle_id=body["bundle_id"],
        movies=tuple((one["movie"]["movie_id"], one["score"]) for one in body["movies"]),
    )


@dataclass(frozen=True)
class Run:
    """What is done to the containers while the load runs."""

    containers: Containers
    load: Load
    console: Terminal
    pause: float
    """Seconds between two blows: until the mesh has taken a replica back."""
    kills: list[float] = field(default_factory=list)
    """When replicas were killed."""

    async def steady(self) -> None:
        """Nothing."""
        await asyncio.sleep(10)

    async def restart_all(self) -> None:
        """Each container in turn, by SIGTERM; the next one when it is back."""
        for service in (f"{server}-{number}" for server in (*SERVERS, "envoy") for number in (1, 2)):
            container = await self.containers.of(service)
            began = self.load.now
            await self.containers.restart(container)
            await self.containers.wait_until_healthy(container)
            await self.load.edges.all_ready()
            await asyncio.sleep(self.pause)
            self.console.print(f"  {service} restarted, {self.load.now - began:.0f} s")

    async def publish(self) -> None:
        """Trains with another seed, into the volume that is served."""
        await self.containers.train("train", "--seed", "1", "--force")
        await self._until_switched()

    async def roll_back(self) -> None:
        """The pointer goes back."""
        await self.containers.train("rollback")
        await self._until_switched()

    async def kill_stages(self) -> None:
        """One replica of each stage, by SIGKILL; it is started again a while later."""
        for stage in STAGES:
            _, container = await self.containers.replicas(stage)
            self.kills.append(self.load.now)
            await self.containers.kill(container)
            await asyncio.sleep(2 * _RECOVERED_SECONDS)
            await self.containers.start(container)
            await self.containers.wait_until_healthy(container)
            await asyncio.sleep(self.pause)
            self.console.print(f"  {stage}-2 killed and back")

    async def _until_switched(self) -> None:
        """Returns once 200 answers in a row name another bundle than before."""
        before = self.load.outcomes[-1].bundle_id
        end = self.load.now + _PATIENCE_SECONDS
        while any(one.bundle_id == before for one in self.load.outcomes[-200:]):
            if self.load.now > end:
                raise EngineError(f"bundle {before} is served on")
            await asyncio.sleep(_LOOK_SECONDS)


def verdict(tallies: Mapping[str, Tally], late: int) -> list[str]:
    """What does not hold of what was promised.

    Args:
        tallies: by phase; `kill` is the one in which replicas die.
        late: degraded answers more than 3 s after a replica was killed.
    """
    broken = []
    for phase, tally in tallies.items():
        allowed = _FEW * tally.requests if phase == "kill" else 0
        if tally.failed:
            broken.append(f"{phase}: {tally.failed} failed")
        if tally.wrong:
            broken.append(f"{phase}: {tally.wrong} are not what their bundle gives")
        if tally.degraded > allowed:
            broken.append(f"{phase}: {tally.degraded} degraded")
    if late:
        broken.append(f"kill: {late} degraded more than {_RECOVERED_SECONDS:.0f} s after the kill")
    return broken


def late_degraded(outcomes: Sequence[Outcome], kills: Sequence[float]) -> int:
    """How many answers are degraded although the last kill before them is longer ago than 3 s."""
    return sum(
        one.degraded
        and one.at - max((kill for kill in kills if kill <= one.at), default=-math.inf) > _RECOVERED_SECONDS
        for one in outcomes
        if one.phase == "kill"
    )


class Phase(StrEnum):
    """What can be done under load."""

    RESTART = "restart"
    PUBLISH = "publish"
    """And roll back."""
    KILL = "kill"


@dataclass(frozen=True)
class Plan:
    """What is asked of the benchmark."""

    edges: Sequence[str]
    """URLs."""
    per_second: float
    users: int
    pause: float
    phases: Sequence[Phase]


def main(
    *,
    edge: Annotated[list[str] | None, typer.Option(help="URL of an edge; may be repeated.")] = None,
    per_second: Annotated[float, typer.Option(min=1, max=10_000, help="Requests.")] = 100.0,
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="Whose lists are asked for.")] = 50,
    pause: Annotated[float, typer.Option(min=0, max=3_600, help="Seconds after each restart.")] = 5.0,
    phase: Annotated[list[Phase] | None, typer.Option(help="Only these; may be repeated.")] = None,
    project: Annotated[str, typer.Option(help="Name of the compose project.")] = "movierec",
    engine: Annotated[str, typer.Option(help="Command of the container engine.")] = "docker",
) -> None:
    """Restart, publish, roll back and kill under load, and say what clients noticed of it."""
    console = Terminal()
    plan = Plan(edge or _EDGES, per_second, users, pause, phase or list(Phase))
    try:
        broken = uvloop.run(_measure(console, plan, Containers(engine, project)))
    except EngineError as error:
        sys.exit(str(error))
    for line in broken:
        console.print(f"BROKEN: {line}", style="bold red")
    sys.exit(bool(broken))


async def _measure(console: Terminal, plan: Plan, containers: Containers) -> list[str]:
    async with AsyncExitStack() as stack:
        store = BundleStore(Path(stack.enter_context(TemporaryDirectory(prefix="movierec-rolling-"))))
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False)
            )
            for url in plan.edges
        ]
        bundle_id = (await clients[0].get("/api/movies/popular")).json()["bundle_id"]
        await containers.copy_bundle(bundle_id, store.root)
        questions = questions_of(store, bundle_id, plan.users)
        load = Load(Edges(clients), questions, plan.per_second)
        run = Run(containers, load, console, plan.pause)
        watchers = [asyncio.create_task(load.edges.watch(place)) for place in range(len(clients))]
        stack.callback(lambda: [watcher.cancel() for watcher in watchers])
        await load.edges.all_ready()
        async with load.running():
            for name, act in _acts(run, plan.phases):
                console.print(name)
                load.phase = name
                await act()
        expected = {}
        for name in {one.bundle_id for one in load.outcomes if one.bundle_id}:
            if name != bundle_id:
                await containers.copy_bundle(name, store.root)
            expected[name] = Expected.of(store, name, questions)
    return _report(console, load.outcomes, expected, run.kills)


def _acts(run: Run, phases: Sequence[Phase]) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
    yield "steady", run.steady
    if Phase.RESTART in phases:
        yield "restart", run.restart_all
    if Phase.PUBLISH in phases:
        yield "publish", run.publish
        yield "roll back", run.roll_back
    if Phase.KILL in phases:
        yield "kill", run.kill_stages


def questions_of(store: BundleStore, bundle_id: str, users: int) -> list[Question]:
    """Lists of users all over the data set and, in between, what resembles the movies most rated."""
    ratings = read_ratings(store.folder(bundle_id, "candidate"))
    movies = Catalogue.load(store, bundle_id).movies.ids.ids
    rows = np.linspace(0, len(ratings.users) - 1, users).astype(int)
    personal = [Question.personal(user) for user in ratings.users.ids[rows].tolist()]
    most_rated = np.argsort(-np.bincount(ratings.movie_rows), kind="stable")[:_MOVIES]
    similar = cycle(Question.neighbours(movie) for movie in movies[most_rated].tolist())
    return [one for user in personal for one in (user, next(similar))]


def _report(
    console: Terminal, outcomes: Sequence[Outcome], expected: Mapping[str, Expected], kills: Sequence[float]
) -> list[str]:
    """Prints a line per phase, and what went wrong; returns what does not hold."""

    def wrong(outcome: Outcome) -> bool:
        return expected[outcome.bundle_id].differs(outcome)

    by_phase: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_phase.setdefault(one.phase, []).append(one)
    tallies = {phase: Tally.of(ones, wrong) for phase, ones in by_phase.items()}
    table = Table("phase", "requests", "failed", "degraded", "wrong", "p50 ms", "p99 ms", "bundles")
    for phase, tally in tallies.items():
        bundles = ", ".join(f"{name} {count:,}" for name, count in tally.bundles.items())
        counts = (f"{count:,}" for count in (tally.requests, tally.failed, tally.degraded, tally.wrong))
        table.add_row(phase, *counts, f"{tally.p50_ms:.1f}", f"{tally.p99_ms:.1f}", bundles)
    console.print(table)
    for (phase, what), times in faults(outcomes).items():
        console.print(f"{phase}, {times[0]:.1f} s to {times[-1]:.1f} s: {len(times)} {what}")
    return verdict(tallies, late_degraded(outcomes, kills))


def faults(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[float]]:
    """When what went wrong, by phase and cause; ascending times."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in sorted(outcomes, key=lambda outcome: outcome.at):
        if one.failure is not None:
            found.setdefault((one.phase, f"failed: {one.failure}"), []).append(one.at)
        elif one.degraded:
            found.setdefault((one.phase, f"degraded: {one.model}, {one.reason}"), []).append(one.at)
    return found


if __name__ == "__main__":
    typer.run(main)
