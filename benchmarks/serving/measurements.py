"""What is measured, in short rounds of each system in turn, so that noise meets all alike."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.servers import Server
from benchmarks.serving.load import Answer, Connect, load
from benchmarks.serving.messages import PAGE
from benchmarks.serving.systems import MODEL, OURS, REST, Running, rpc
from movierec.gateway.v1 import movie_service_pb2 as pb

GENERATOR: Final = "generator"
"""Name of this process among those whose processor time is counted."""
BATCH_USERS: Final = 100
EXPLAIN_FEATURES: Final = 3
POPULAR: Final = "popular"
SIMILAR: Final = "similar"
MOVIE: Final = "movie"
LOOK_UPS: Final[Mapping[str, str]] = {
    POPULAR: "ListPopularMovies",
    SIMILAR: "ListSimilarMovies",
    MOVIE: "GetMovie",
}
"""Rpcs that need no model work."""


@dataclass
class Measurement:
    """What came of some seconds of load; adds up over rounds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds, one per answer."""
    cpu_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Processor time by process, the load generator's among them."""
    degraded: int = 0
    """Answers that a fault made weaker, hence cheaper: with any, the figures say little."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls to each stage,"""
    queries: Counter[str] = field(default_factory=Counter)
    """and the queries in them."""

    @property
    def answers_per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """So many percent of the answers took no longer, in milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1_000

    def cpu_ms(self, process: str) -> float:
        """Processor time of a process for one answer, in milliseconds."""
        return self.cpu_seconds[process] / len(self.latencies) * 1_000

    @property
    def servers_cpu_ms(self) -> float:
        """The same of all processes but the load generator."""
        return sum(self.cpu_ms(process) for process in self.cpu_seconds if process != GENERATOR)

    @property
    def batch_sizes(self) -> dict[str, float]:
        """Mean number of queries in a call, by stage."""
        return {stage: self.queries[stage] / calls for stage, calls in self.calls.items() if calls}


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    lists: Mapping[tuple[str, int], Measurement]
    """Personal lists, by system and number in flight."""
    look_ups: Mapping[tuple[str, bool], Measurement]
    """One in flight, by kind and whether the servers were the empty ones."""
    batches: Measurement
    """Answers for `BATCH_USERS` users each, one in flight."""
    explaining_ms: float | None
    """What reasons add to a page at p50, compared for each user; None: not measured."""
    memory_mib: Mapping[tuple[str, str], float]
    """The most that a process held, by system and process."""


def measure(
    up: Running,
    *,
    names: Sequence[str],
    in_flight: Sequence[int],
    seconds: float,
    rounds: int,
    progress: Callable[[Sequence[Callable[[], None]]], Iterable[Callable[[], None]]],
) -> Results:
    """Measures systems in turn.

    Args:
        up: the running systems.
        names: those to measure.
        in_flight: requests to keep in flight, one after the other.
        seconds: length of each turn.
        rounds: how often each takes its turn.
        progress: goes through the turns.
    """
    lists = {(name, many): Measurement() for many in in_flight for name in names}
    kinds = {False: up.product, **({True: up.empty} if up.empty else {})}
    look_ups = {(kind, empty): Measurement() for kind in LOOK_UPS for empty in kinds}
    batches = Measurement()
    differences: list[float] = []

    def lists_turn(name: str, many: int) -> Callable[[], None]:
        return lambda: _measure_lists(lists[name, many], up, name, in_flight=many, seconds=seconds)

    def look_ups_turn(kind: str, *, empty: bool) -> Callable[[], None]:
        return lambda: _measure_look_ups(
            look_ups[kind, empty], kinds[empty], kind, up.movies, seconds=seconds / 2
        )

    others: list[Callable[[], None]] = [
        *(look_ups_turn(kind, empty=empty) for kind, empty in look_ups),
        lambda: _measure_batches(batches, up, seconds=seconds),
        lambda: differences.extend(_explaining(up, seconds=seconds)),
    ]
    turns = [*(lists_turn(name, many) for name, many in lists), *(others if OURS in names else ())]
    for turn in progress(turns * rounds):
        turn()
    return Results(
        lists=lists,
        look_ups=look_ups if OURS in names else {},
        batches=batches,
        explaining_ms=float(np.median(differences)) * 1_000 if differences else None,
        memory_mib=_memory(up, names),
    )


def _measure_lists(into: Measurement, up: Running, name: str, *, in_flight: int, seconds: float) -> None:
    if name == MODEL:
        _measure_model_work(into, up, in_flight=in_flight, seconds=seconds)
        return
    system = up.systems[name]
    requests = [system.request(user_id) for user_id in up.users]
    before = up.stage_calls() if name in (OURS, REST) else {}
    answers = _asked(into, system.connect, requests, system.processes, in_flight=in_flight, seconds=seconds)
    after = up.stage_calls() if name in (OURS, REST) else {}
    into.degraded += sum(system.page(answer.body).get("degraded", False) for answer in answers)
    for stage, (calls, queries) in after.items():
        into.calls[stage] += calls - before[stage][0]
        into.queries[stage] += queries - before[stage][1]


def _measure_model_work(into: Measurement, up: Running, *, in_flight: int, seconds: float) -> None:
    if up.model is None:
        raise RuntimeError("model work was not asked for")
    cpu_before, began = up.model.server.cpu_seconds(), time.perf_counter()
    into.latencies += up.model.work(up.users, in_flight=in_flight, seconds=seconds)
    into.seconds += time.perf_counter() - began
    into.cpu_seconds[MODEL] += up.model.server.cpu_seconds() - cpu_before


def _measure_look_ups(
    into: Measurement, servers: Mapping[str, Server], kind: str, movies: Sequence[int], *, seconds: float
) -> None:
    used = ("gateway", "similarity") if kind == SIMILAR else ("gateway",)
    processes = {name: servers[name] for name in used}
    requests = [look_up_request(kind, movie_id) for movie_id in movies]
    _asked(into, rpc(servers, LOOK_UPS[kind]), requests, processes, in_flight=1, seconds=seconds)


def look_up_request(kind: str, movie_id: int) -> bytes:
    """The request of a kind for one movie; that for popular movies is always the same."""
    if kind == SIMILAR:
        return pb.ListSimilarMoviesRequest(movie_id=movie_id, limit=PAGE).SerializeToString()
    if kind == MOVIE:
        return pb.GetMovieRequest(movie_id=movie_id).SerializeToString()
    return pb.ListPopularMoviesRequest(limit=PAGE).SerializeToString()


def _measure_batches(into: Measurement, up: Running, *, seconds: float) -> None:
    users = [up.users[place % len(up.users)] for place in range(max(len(up.users), BATCH_USERS))]
    requests = [
        pb.BatchListPersonalMoviesRequest(
            requests=[
                pb.ListPersonalMoviesRequest(user_id=user_id, limit=PAGE)
                for user_id in users[start : start + BATCH_USERS]
            ]
        ).SerializeToString()
        for start in range(0, len(users) - BATCH_USERS + 1, BATCH_USERS)
    ]
    processes = {name: up.product[name] for name in ("gateway", "candidate", "ranking")}
    connect = rpc(up.product, "BatchListPersonalMovies")
    _asked(into, connect, requests, processes, in_flight=1, seconds=seconds)


def _explaining(up: Running, *, seconds: float) -> list[float]:
    """How much longer the page took with reasons than the same user's page without, in seconds."""
    requests = [
        pb.ListPersonalMoviesRequest(
            user_id=user_id, limit=PAGE, explain_features=features
        ).SerializeToString()
        for user_id in up.users
        for features in (0, EXPLAIN_FEATURES)
    ]
    answers = load(up.systems[OURS].connect, requests, in_flight=1, seconds=seconds)
    pairs = zip(answers[::2], answers[1::2], strict=False)  # the last may stand alone
    return [explained.seconds - plain.seconds for plain, explained in pairs]


def _asked(
    into: Measurement,
    connect: Connect,
    requests: Sequence[bytes],
    processes: Mapping[str, Server],
    *,
    in_flight: int,
    seconds: float,
) -> list[Answer]:
    cpu_before = {name: server.cpu_seconds() for name, server in processes.items()}
    own_before, began = time.process_time(), time.perf_counter()
    answers = load(connect, requests, in_flight=in_flight, seconds=seconds)
    into.seconds += time.perf_counter() - began
    into.cpu_seconds[GENERATOR] += time.process_time() - own_before
    for name, server in processes.items():
        into.cpu_seconds[name] += server.cpu_seconds() - cpu_before[name]
    into.latencies += [answer.seconds for answer in answers]
    return answers


def _memory(up: Running, names: Sequence[str]) -> dict[tuple[str, str], float]:
    systems: dict[str, Mapping[str, Server]] = {
        name: up.systems[name].processes for name in names if name != MODEL
    }
    if up.model is not None:
        systems[MODEL] = {MODEL: up.model.server}
    return {
        (name, process): server.memory_mib(peak=True)
        for name, processes in systems.items()
        for process, server in processes.items()
    }
