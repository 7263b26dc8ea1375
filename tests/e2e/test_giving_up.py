"""Clients that give up, at any moment or after a few milliseconds: nothing stays at work for them."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import grpc
import pytest

from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.movie_service_pb2_grpc import MovieServiceStub
from serving.rpc.channels import open_channel
from tests.e2e.rest import Rest
from tests.e2e.system import System, eventually

pytestmark = pytest.mark.e2e

CANCELS: Final = int(os.environ.get("MOVIEREC_TEST_CANCELS", "50"))
AT_ONCE: Final = 10
REQUEST: Final = pb.ListPersonalMoviesRequest(user_id=1, limit=20)
PATIENCE_SECONDS: Final = 60
BEFORE_ANY_STAGE: Final = {1, 5}
"""Deadlines in ms that are less than what the gateway reserves for itself."""

Figures = Callable[[str, object], None]


def nothing_is_at_work(system: System) -> bool:
    return all(system.counted(server, "inflight") == 0 for server in system.servers)


@pytest.mark.row(30)
async def test_who_cancels_leaves_nothing_at_work(
    system: System, rest: Rest, record_property: Figures
) -> None:
    """MOVIEREC_TEST_CANCELS sets how many."""
    before = rest.personal(("user_id", 1), ("limit", 20))
    counted = system.counted("gateway", "cancelled_total")
    logged = {server: len(system.log(server)) for server in system.servers}
    chance = random.Random(0)  # noqa: S311
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        stub = MovieServiceStub(channel)

        async def give_up(seconds: float) -> bool:
            call = stub.ListPersonalMovies(REQUEST, timeout=PATIENCE_SECONDS)
            await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=seconds)
            return call.cancel()

        began = time.perf_counter()
        await stub.ListPersonalMovies(REQUEST, timeout=PATIENCE_SECONDS)
        whole = time.perf_counter() - began
        cancelled = 0
        for _ in range(CANCELS // AT_ONCE):
            moments = [chance.uniform(0, whole) for _ in range(AT_ONCE)]
            cancelled += sum(await asyncio.gather(*map(give_up, moments)))
    eventually(lambda: nothing_is_at_work(system))
    counted = system.counted("gateway", "cancelled_total") - counted
    record_property("requests", CANCELS)
    record_property("failed", 0)
    record_property("counter", f"cancelled_total + {counted:.0f}, inflight 0")
    assert 0 < counted <= cancelled  # some were cancelled before they came to the gateway
    assert [server for server, size in logged.items() if "ERROR" in system.log(server)[size:]] == []
    assert rest.personal(("user_id", 1), ("limit", 20)).movies == before.movies


@pytest.mark.row(29)
@pytest.mark.parametrize("milliseconds", [1, 5, 50])
async def test_a_few_milliseconds_are_enough_or_an_error(
    system: System, milliseconds: int, record_property: Figures
) -> None:
    work = system.counted("candidate", "requests_total", method="GenerateCandidates")
    ends: Counter[str] = Counter()
    async with open_channel(f"127.0.0.1:{system.plan.envoy_port.number}") as channel:
        await channel.channel_ready()
        for _ in range(CANCELS):
            call = MovieServiceStub(channel).ListPersonalMovies(REQUEST, timeout=milliseconds / 1_000)
            ends[(await call.code()).name] += 1
    eventually(lambda: nothing_is_at_work(system))
    work = system.counted("candidate", "requests_total", method="GenerateCandidates") - work
    record_property("requests", CANCELS)
    record_property("counter", f"{dict(ends)}, {work:.0f} calls of candidate")
    assert ends.keys() <= {grpc.StatusCode.OK.name, grpc.StatusCode.DEADLINE_EXCEEDED.name}
    assert work == 0 if milliseconds in BEFORE_ANY_STAGE else work <= CANCELS
