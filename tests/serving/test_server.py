"""The life of a server: a happy one, a failing start, a failing stop."""

import asyncio
import socket
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.limiter import CallCost
from serving.rpc.channels import open_channel
from serving.rpc.server import LIVENESS
from serving.settings import StartError
from tests.serving.server_under_test import METHOD, SERVICE, at_once, running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(channel: aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(response.status)


async def wait_for(channel: aio.Channel, status: int, service: str = SERVICE) -> None:
    async with asyncio.timeout(5):
        while await health_of(channel, service) != status:  # noqa: ASYNC110  # asked as a caller does
            await asyncio.sleep(0.01)


async def test_health_follows_readiness() -> None:
    ready = asyncio.Event()
    async with running_server(ready=ready.wait) as server:
        for name in ("", SERVICE):
            assert await health_of(server.channel, name) == NOT_SERVING
        assert await health_of(server.channel, LIVENESS) == SERVING
        ready.set()
        await wait_for(server.channel, SERVING)
        assert await health_of(server.channel, "") == SERVING
        with pytest.raises(aio.AioRpcError) as caught:
            await health_of(server.channel, "nobody")
        assert caught.value.code() is StatusCode.NOT_FOUND
        assert server.value("movierec_requests_total", method="Check", code="OK") is None


@pytest.mark.row(37)
async def test_who_no_longer_follows_the_pointer_is_not_alive_but_serves() -> None:
    """Row 37: an orchestrator starts it again; until then it answers from what it holds."""
    alive = [True]
    async with running_server(alive=lambda: alive[0]) as server:
        await wait_for(server.channel, SERVING)
        alive[0] = False
        await wait_for(server.channel, NOT_SERVING, LIVENESS)
        assert await health_of(server.channel, SERVICE) == SERVING
        alive[0] = True
        await wait_for(server.channel, SERVING, LIVENESS)


async def test_counts_begin_at_zero() -> None:
    async with running_server() as server:
        for code in ("OK", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED"):
            assert server.value("movierec_requests_total", method=METHOD, code=code) == 0
        assert server.value("movierec_request_seconds_count", method=METHOD) == 0


@pytest.mark.row(34)
async def test_stopping_lets_calls_in_flight_finish() -> None:
    context = running_server()
    server = await context.__aenter__()
    async with open_channel(f"127.0.0.1:{server.port}") as outside:
        server.servicer.leave.clear()
        stub = pb_grpc.SimilarityServiceStub(outside)
        call = asyncio.ensure_future(stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5))
        await server.servicer.entered.wait()
        asyncio.get_running_loop().call_later(0.2, server.servicer.leave.set)
        await context.__aexit__(None, None, None)
        assert (await call).bundle_id == "b"


async def test_drain_delay_keeps_answering() -> None:
    hurry = asyncio.Event()
    context = running_server(stop_at_once=hurry, drain_delay_seconds=60)
    server = await context.__aenter__()
    async with open_channel(f"127.0.0.1:{server.port}") as outside:
        await wait_for(outside, SERVING)
        closing = asyncio.create_task(context.__aexit__(None, None, None))
        await wait_for(outside, NOT_SERVING)
        assert await health_of(outside, "") == NOT_SERVING
        assert await health_of(outside, LIVENESS) == SERVING  # it is at work: nobody needs to kill it
        hurry.set()
        await closing
        with pytest.raises(aio.AioRpcError) as caught:
            await health_of(outside, "")
        assert caught.value.code() is StatusCode.UNAVAILABLE


@pytest.mark.row(35)
async def test_second_signal_ends_the_drain() -> None:
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running_server(stop_at_once=hurry, drain_delay_seconds=60, drain_seconds=60) as server:
        await wait_for(server.channel, SERVING)
        server.servicer.leave.clear()
        call = asyncio.ensure_future(server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=90))
        await server.servicer.entered.wait()
        loop.call_later(0.1, hurry.set)
        began = loop.time()
    assert loop.time() - began < 5
    with pytest.raises((aio.AioRpcError, asyncio.CancelledError)):
        await call


async def test_a_drain_that_is_cancelled_leaves_no_task() -> None:
    context = running_server(drain_delay_seconds=60)
    server = await context.__aenter__()
    await wait_for(server.channel, SERVING)
    closing = asyncio.create_task(context.__aexit__(None, None, None))
    async with open_channel(f"127.0.0.1:{server.port}") as outside:
        await wait_for(outside, NOT_SERVING)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.sleep(0)  # until what is cancelled has ended
    left = [repr(task.get_coro()) for task in asyncio.all_tasks()]  # some of gRPC's are still among them
    assert not any("running.<locals>" in coroutine for coroutine in left)


async def test_unready_server_stops_without_delay() -> None:
    loop = asyncio.get_running_loop()
    async with running_server(ready=asyncio.Event().wait, drain_delay_seconds=60):
        began = loop.time()
    assert loop.time() - began < 5


async def start_and_stop(**values: Any) -> None:
    async with running_server(**values):
        pass


async def test_taken_port_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"^PORT: cannot listen on 127.0.0.1:{port}: Address already"):
            await start_and_stop(port=port)


async def test_foreign_address_names_the_setting() -> None:
    with pytest.raises(StartError, match=r"^PORT: cannot listen on 192\.0\.2\.1:0"):
        await start_and_stop(host="192.0.2.1")


@pytest.mark.parametrize("where", ["readiness", "block"])
async def test_what_fails_still_stops(where: str) -> None:
    async def fail() -> None:
        raise RuntimeError("not today")

    ports = []

    async def run() -> None:
        async with running_server(fail if where == "readiness" else at_once) as server:
            ports.append(server.port)
            if where == "block":
                await fail()
            assert await health_of(server.channel, SERVICE) == NOT_SERVING

    with pytest.raises(RuntimeError, match="not today"):
        await run()
    socket.create_server(("127.0.0.1", ports[0])).close()  # the port is free again


async def services_by_reflection(channel: aio.Channel) -> set[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]

    async def ask() -> Any:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for answer in stub.ServerReflectionInfo(ask(), timeout=5):
        return {service.name for service in answer.list_services_response.service}
    return set()


@pytest.mark.row(53)
async def test_reflection_is_a_setting() -> None:
    async with running_server() as server:
        assert {SERVICE, "grpc.health.v1.Health"} <= await services_by_reflection(server.channel)
    async with running_server(reflection=False) as server:
        with pytest.raises(aio.AioRpcError) as caught:
            await services_by_reflection(server.channel)
        assert caught.value.code() is StatusCode.UNIMPLEMENTED


@pytest.mark.row(28)
async def test_oversized_request_is_refused() -> None:
    async with running_server(max_request_bytes=2_000) as server:
        with pytest.raises(aio.AioRpcError) as caught:
            await server.stub.FindSimilarMovies(
                pb.FindSimilarMoviesRequest(exclude_movie_ids=[10**9] * 1_000), timeout=5
            )
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_may_be_as_long_as_a_url() -> None:
    async with running_server() as server:
        for _ in range(10):  # the default refuses by chance
            await server.stub.FindSimilarMovies(
                pb.FindSimilarMoviesRequest(),
                metadata=[("x-envoy-original-path", "x" * 60 * 1024)],
                timeout=5,
            )


async def test_costs_of_a_method_that_does_not_exist_are_a_mistake() -> None:
    """A wrong letter made calls about a hundred users pass for calls about one."""
    with pytest.raises(ValueError, match="has: FindSimilarMovie"):
        async with running_server(call_costs={METHOD: CallCost(), "FindSimilarMovie": CallCost()}):
            pass
