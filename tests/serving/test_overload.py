"""A full server, over a real channel: what its clients learn, and that it does not look dead."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from movierec.similarity.v1 import similarity_service_pb2 as pb
from serving.limiter import CallCost
from tests.serving.server_under_test import METHOD, SERVICE, ServerUnderTest, running_server, until
from tests.serving.stage_under_test import detail_of, failure, reason_of

SECONDS = 20  # ample: no test is decided by it


def ask(server: ServerUnderTest, *, users: int = 1, seconds: float = SECONDS) -> asyncio.Future[Any]:
    """A call that stays at work, once it is, until `server.servicer.leave`."""
    server.servicer.leave.clear()
    request = pb.FindSimilarMoviesRequest(limit=users)
    return asyncio.ensure_future(server.stub.FindSimilarMovies(request, timeout=seconds))


async def counts(server: ServerUnderTest, *, inflight: int, waiting: int) -> None:
    """Returns once so many are at work and wait."""
    await until(
        lambda: (
            (
                server.value("movierec_inflight", service="test"),
                server.value("movierec_waiting", service="test"),
            )
            == (inflight, waiting)
        )
    )


@pytest.mark.row(31)
async def test_the_next_is_refused_with_a_pause() -> None:
    async with running_server(max_inflight=2) as server:
        calls = [ask(server) for _ in range(4)]
        await counts(server, inflight=2, waiting=2)
        error = await failure(ask(server))
        assert (error.code(), reason_of(error)) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert detail_of(error, error_details_pb2.RetryInfo).retry_delay == Duration(seconds=1)
        assert server.value("movierec_rejected_total", reason="OVERLOADED") == 1
        assert server.value("movierec_requests_total", method=METHOD, code="RESOURCE_EXHAUSTED") == 1
        server.servicer.leave.set()
        assert [answer.bundle_id for answer in await asyncio.gather(*calls)] == ["b"] * 4
        await counts(server, inflight=0, waiting=0)


@pytest.mark.row(31)
async def test_a_full_server_is_not_a_dead_one() -> None:
    async with running_server(max_inflight=1) as server:
        calls = [ask(server) for _ in range(2)]
        await counts(server, inflight=1, waiting=1)
        health: Any = health_pb2_grpc.HealthStub(server.channel)
        check = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=SECONDS)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)  # type: ignore[arg-type]
        stream = reflection.ServerReflectionInfo(timeout=SECONDS)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
        services = (await stream.read()).list_services_response.service
        assert SERVICE in [service.name for service in services]
        stream.cancel()
        server.servicer.leave.set()
        await asyncio.gather(*calls)


async def test_refused_before_it_is_decoded() -> None:
    async with running_server(max_inflight=1) as server:
        calls = [ask(server) for _ in range(2)]
        await counts(server, inflight=1, waiting=1)
        raw: Any = server.channel.unary_unary(f"/{SERVICE}/{METHOD}", None, None)
        error = await failure(raw(b"\xff\xff\xff", timeout=SECONDS))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        server.servicer.leave.set()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("late", [False, True], ids=["cancelled", "out of time"])
async def test_who_no_longer_waits_leaves_the_queue(*, late: bool) -> None:
    worked: list[object] = []
    async with running_server(max_inflight=1) as server:
        server.servicer.behave = worked.append
        at_work = ask(server)
        await counts(server, inflight=1, waiting=0)
        waiting = ask(server, seconds=0.05 if late else SECONDS)
        if late:
            with pytest.raises(aio.AioRpcError) as caught:
                await waiting
            assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
        else:
            await counts(server, inflight=1, waiting=1)
            waiting.cancel()
        await counts(server, inflight=1, waiting=0)
        server.servicer.leave.set()
        await at_work
        assert len(worked) == 1


async def test_a_call_about_many_takes_many_places() -> None:
    call_costs = {METHOD: CallCost(users=lambda request: request.limit)}
    async with running_server(max_inflight=4, call_costs=call_costs) as server:
        alone = ask(server, users=100)
        await counts(server, inflight=4, waiting=0)
        server.servicer.leave.set()
        await alone
        calls = [ask(server, users=3)]
        await counts(server, inflight=3, waiting=0)
        calls.append(ask(server, users=2))
        await counts(server, inflight=3, waiting=2)
        error = await failure(ask(server, users=3))
        assert reason_of(error) == "OVERLOADED"
        server.servicer.leave.set()
        await asyncio.gather(*calls)
