"""The systems that are measured: how each is started, asked, and read."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.envoy import edge
from benchmarks.ports import free_port
from benchmarks.servers import Server, listening, running, serving, settings_of, users_of
from benchmarks.serving.load import Connect, ask_each, grpc_calls, http_requests
from benchmarks.serving.messages import PAGE, record
from deploy.envoy_config import Options
from movierec.gateway.v1 import movie_service_pb2 as pb

OURS: Final = "ours"
REST: Final = "rest"
NUMPY: Final = "numpy"
USUAL: Final = "usual"
EMPTY: Final = "empty"
MODEL: Final = "model"
TITLES: Final[Mapping[str, str]] = {
    OURS: "movierec, gRPC",
    REST: "movierec, REST through Envoy",
    NUMPY: "FastAPI, plain numpy",
    USUAL: "FastAPI, the usual way",
    EMPTY: "three empty hops",
    MODEL: "model work alone, at most 32 users in a call",
}
"""What there is to measure, by the name in options and results."""

STAGES: Final = ("candidate", "ranking", "similarity")
_PERSONAL: Final = ("gateway", "candidate", "ranking")
"""The servers that a personal list needs."""
_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['MovieService'].full_name}/"
_PATIENCE: Final = {  # a list that stepped down costs less: here none does, however busy the machine
    "request_seconds": "30",
    "batch_seconds": "30",
    "candidate_seconds": "10",
    "ranking_seconds": "10",
    "similarity_seconds": "10",
}
_NO_LIMITS: Final = Options(deadline_seconds=60, requests_per_second=1_000_000)
_USERS: Final = 2_000
"""Most users to ask for: enough that no cache holds them all."""
_USERS_AT_ONCE: Final = 16
_COMPARED_USERS: Final = 100
_WARM_UP_SECONDS: Final = 0.2
_MODEL_BATCH: Final = 32
"""Most users in one call of a stage: the gateway's default."""


class DisagreementError(Exception):
    """Two systems that do not recommend the same."""


@dataclass(frozen=True)
class System:
    """Something that gives users their lists over a network."""

    connect: Connect
    request: Callable[[int], bytes]
    """The request for a user's list."""
    page: Callable[[bytes], Mapping[str, Any]]
    """The list in an answer's body, as in the REST API."""
    processes: Mapping[str, Server]
    """Everything that works on an answer, by name."""


@dataclass(frozen=True)
class ModelWork:
    """The process that does model work alone."""

    process: subprocess.Popen[bytes]
    server: Server

    def work(self, user_ids: Sequence[int], *, in_flight: int, seconds: float) -> list[float]:
        """Seconds until each user's list is there, so many of them worked on in one call."""
        users = min(in_flight, _MODEL_BATCH)
        order = {"user_ids": list(user_ids), "users": users, "seconds": seconds}
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        latencies: list[float] = json.loads(self.process.stdout.readline())
        return [latency for latency in latencies for _ in range(users)]


@dataclass(frozen=True)
class Running:
    """Every system, up and warm."""

    systems: Mapping[str, System]
    """Those that were asked for, the product in any case."""
    model: ModelWork | None
    users: Sequence[int]
    """Who is asked for, in an order that says nothing: the ranker has a list for each."""
    movies: Sequence[int]
    """Movies to look up."""
    product: Mapping[str, Server]
    """The product's own servers, by name,"""
    empty: Mapping[str, Server]
    """and the empty ones in their place; none if they were not asked for."""
    metrics_port: int
    """Of the gateway."""

    def stage_calls(self) -> dict[str, tuple[int, int]]:
        """Calls to each stage so far, and the queries in them."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        values = {
            (sample.name, sample.labels["stage"]): int(sample.value)
            for family in text_string_to_metric_families(text)
            if family.name == "movierec_stage_batch_size"
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }
        name = "movierec_stage_batch_size"
        return {
            stage: (values.get((f"{name}_count", stage), 0), values.get((f"{name}_sum", stage), 0))
            for stage in STAGES
        }


@contextmanager
def start(bundle_root: Path, logs: Path, names: Sequence[str]) -> Iterator[Running]:
    """Runs systems while the block runs.

    Args:
        bundle_root: where the current bundle lies.
        logs: an empty folder for what the processes write.
        names: what to run, of `TITLES`; the product runs in any case.

    Raises:
        ServerError: a server does not come up.
        DisagreementError: two systems give a user different lists.
    """
    with ExitStack() as stack:
        metrics_port = free_port()
        product = _product(stack, bundle_root, logs, metrics_port)
        systems = {OURS: _grpc_system(product)}
        if REST in names:
            envoy = stack.enter_context(edge(product["gateway"], logs, _NO_LIMITS))
            systems[REST] = _rest_system({"envoy": envoy, **product})
        for name in (NUMPY, USUAL):
            if name in names:
                systems[name] = _monolith(stack, name, bundle_root, logs)
        users, movies = _users_and_movies(systems[OURS], bundle_root)
        compare(systems, users[:_COMPARED_USERS])
        empty = _empty_chain(stack, product, users[0], logs) if EMPTY in names else {}
        if empty:
            systems[EMPTY] = _grpc_system(empty)
            ask_each(systems[EMPTY].connect, [b""] * _COMPARED_USERS, in_flight=_USERS_AT_ONCE)  # warms up
        model = _model_work(stack, bundle_root, logs, users) if MODEL in names else None
        yield Running(systems, model, users, movies, product, empty, metrics_port)


def rpc(servers: Mapping[str, Server], method: str) -> Connect:
    """Calls of an rpc of the gateway."""
    return partial(grpc_calls, servers["gateway"].target, _SERVICE + method)


def _product(stack: ExitStack, bundle_root: Path, logs: Path, metrics_port: int) -> dict[str, Server]:
    stages = {
        name: stack.enter_context(
            serving(f"{name}_service", logs / f"{name}.log", settings_of(name, bundle_root))
        )
        for name in STAGES
    }
    targets = {f"{name}_target": stage.target for name, stage in stages.items()}
    settings = settings_of("gateway", bundle_root, **_PATIENCE, **targets, metrics_port=str(metrics_port))
    gateway = stack.enter_context(serving("gateway", logs / "gateway.log", settings))
    return {"gateway": gateway, **stages}


def _monolith(stack: ExitStack, name: str, bundle_root: Path, logs: Path) -> System:
    port = free_port()
    command = (sys.executable, "-m", f"benchmarks.serving.monolith_{name}", str(bundle_root), str(port))
    return _rest_system({name: stack.enter_context(listening(command, logs / f"{name}.log", port))})


def _empty_chain(
    stack: ExitStack, product: Mapping[str, Server], user_id: int, logs: Path
) -> dict[str, Server]:
    messages = logs / "messages"
    messages.mkdir()
    record(product, user_id).write(messages)

    def start_one(role: str, *options: str) -> Server:
        port = free_port()
        module = "benchmarks.serving.empty_chain"
        command = (sys.executable, "-m", module, role, str(port), str(messages), *options)
        return stack.enter_context(listening(command, logs / f"empty {role}.log", port))

    stages = {name: start_one(name) for name in STAGES}
    targets = [f"--{name}-target={stage.target}" for name, stage in stages.items()]
    return {"gateway": start_one("gateway", *targets), **stages}


def _model_work(stack: ExitStack, bundle_root: Path, logs: Path, users: Sequence[int]) -> ModelWork:
    command = (sys.executable, "-m", "benchmarks.serving.model_work", str(bundle_root))
    process = stack.enter_context(running(command, logs / "model.log", {}, piped=True))
    model = ModelWork(process, Server(process.pid, ""))
    model.work(users, in_flight=1, seconds=_WARM_UP_SECONDS)  # answers once it has read the bundle
    return model


def _grpc_system(servers: Mapping[str, Server]) -> System:
    return System(
        connect=rpc(servers, "ListPersonalMovies"),
        request=lambda user_id: pb.ListPersonalMoviesRequest(user_id=user_id, limit=PAGE).SerializeToString(),
        page=_page_of_message,
        processes={name: servers[name] for name in _PERSONAL},
    )


def _rest_system(servers: Mapping[str, Server]) -> System:
    """A REST API, which the first of the servers serves."""
    first, *_ = servers.values()
    return System(
        connect=partial(http_requests, first.target),
        request=lambda user_id: (
            f"GET /api/movies/personal?user_id={user_id}&limit={PAGE} HTTP/1.1\r\n"
            f"host: {first.target}\r\n\r\n"
        ).encode(),
        page=orjson.loads,
        processes={name: server for name, server in servers.items() if name != "similarity"},
    )


def _page_of_message(body: bytes) -> dict[str, Any]:
    message = pb.ListPersonalMoviesResponse.FromString(body)
    movies = [{"movie": {"movie_id": item.movie.movie_id}} for item in message.movies]
    return {"movies": movies, "model": message.model, "degraded": message.degraded}


def _users_and_movies(ours: System, bundle_root: Path) -> tuple[list[int], list[int]]:
    """Whom the ranker has a list for, and the movies of these lists; the product is warm after it."""
    known = users_of(bundle_root)
    asked = random.Random(0).sample(known, min(len(known), _USERS))  # noqa: S311  # no secret
    bodies = ask_each(ours.connect, [ours.request(user_id) for user_id in asked], in_flight=_USERS_AT_ONCE)
    pages = dict(zip(asked, map(ours.page, bodies), strict=True))
    users = [user_id for user_id, page in pages.items() if page["model"] == "two_stage"]
    return users, sorted({movie_id for user_id in users for movie_id in _movie_ids(pages[user_id])})


def compare(systems: Mapping[str, System], users: Sequence[int]) -> None:
    """Asks all for the same users' lists.

    Raises:
        DisagreementError: they are not the same, or what is said of their movies differs between the REST
            API and the monolith that answers the same JSON.
    """
    pages = {
        name: [
            system.page(body)
            for body in ask_each(
                system.connect, [system.request(user) for user in users], in_flight=_USERS_AT_ONCE
            )
        ]
        for name, system in systems.items()
    }
    for name, their_pages in pages.items():
        for user, our_page, their_page in zip(users, pages[OURS], their_pages, strict=True):
            ours, theirs = _movie_ids(our_page), _movie_ids(their_page)
            if ours != theirs:
                raise DisagreementError(f"user {user}: {OURS} lists {ours}, {name} lists {theirs}")
    for user, rest, numpy in zip(users, pages.get(REST, ()), pages.get(NUMPY, ()), strict=False):
        for entry, other in zip(rest["movies"], numpy["movies"], strict=True):
            if entry != other:
                raise DisagreementError(f"user {user}: {REST} says {entry}, {NUMPY} says {other}")


def _movie_ids(page: Mapping[str, Any]) -> list[int]:
    return [item["movie"]["movie_id"] for item in page["movies"]]
