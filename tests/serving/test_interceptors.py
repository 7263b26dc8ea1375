"""The one door: what a client learns of each failure, and what is counted."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio

from movierec.similarity.v1 import similarity_service_pb2 as pb
from serving.errors import FieldViolation, InvalidArgumentError, NotFoundError, Reason
from serving.rpc.interceptors import current_request_id
from tests.serving.server_under_test import METHOD, SERVICE, ServerUnderTest, running_server, until
from tests.serving.stage_under_test import detail_of, failure, info_of, reason_of, violations_of


@pytest.fixture
async def server() -> AsyncIterator[ServerUnderTest]:
    async with running_server() as under_test:
        yield under_test


def raising(error: Exception) -> Any:
    def behave(_context: Any) -> None:
        raise error

    return behave


async def test_success_is_counted(server: ServerUnderTest) -> None:
    response = await server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5)
    assert response.bundle_id == "b"
    assert server.value("movierec_requests_total", method=METHOD, code="OK") == 1
    assert server.value("movierec_request_seconds_count", method=METHOD) == 1
    assert server.value("movierec_inflight", service="test") == 0


async def test_service_error_leaves_by_the_table(server: ServerUnderTest) -> None:
    server.servicer.behave = raising(
        NotFoundError("No such movie.", reason=Reason.UNKNOWN_MOVIE, resource_type="movie", resource_id=7)
    )
    error = await failure(server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5))
    assert error.code() is StatusCode.NOT_FOUND
    info = info_of(error)
    assert (info.reason, info.domain, dict(info.metadata)) == ("UNKNOWN_MOVIE", "movierec", {"movie_id": "7"})
    assert server.value("movierec_requests_total", method=METHOD, code="NOT_FOUND") == 1


@pytest.mark.parametrize("letter", ["a", "%", "\u00e9", "\u732b", "\U0001f600"])
async def test_a_refusal_fits_into_headers_whatever_it_quotes(server: ServerUnderTest, letter: str) -> None:
    violations = [
        FieldViolation(f"requests[{place}].filter.exclude_genres[19]", letter * 400) for place in range(30)
    ]
    server.servicer.behave = raising(InvalidArgumentError(violations))
    error = await failure(server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5))
    assert (error.code(), reason_of(error)) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert violations_of(error) == [violation.field for violation in violations]
    assert (error.details() or "").startswith(f"Invalid request: {violations[0].field}: {letter}")


@pytest.mark.row(57)
async def test_defect_tells_the_client_an_id_and_the_log_the_rest(
    logs: io.StringIO, server: ServerUnderTest
) -> None:
    server.servicer.behave = raising(RuntimeError("the secret of line 12"))
    error = await failure(
        server.stub.FindSimilarMovies(
            pb.FindSimilarMoviesRequest(), timeout=5, metadata=(("x-request-id", "r-1"),)
        )
    )
    assert error.code() is StatusCode.INTERNAL
    assert error.details() == "Internal error."
    info = info_of(error)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"request_id": "r-1"})
    assert "secret" not in str(error.trailing_metadata())
    (line,) = [event for event in map(json.loads, logs.getvalue().splitlines()) if event["event"] == "defect"]
    assert line["request_id"] == "r-1"
    assert line["method"] == METHOD
    assert "the secret of line 12" in line["exception"]


@pytest.mark.row(57)
async def test_undecodable_request_is_the_clients_fault(server: ServerUnderTest) -> None:
    call: Any = server.channel.unary_unary(f"/{SERVICE}/{METHOD}", None, None)
    error = await failure(call(b"\xff\xff\xff", timeout=5))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "INVALID_REQUEST"
    assert error.details() == "Invalid request: the request must be a message of the API"
    assert detail_of(error, error_details_pb2.BadRequest).field_violations


async def test_unencodable_answer_is_a_defect(server: ServerUnderTest) -> None:
    server.servicer.answer = "not a message"
    error = await failure(server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5))
    assert error.code() is StatusCode.INTERNAL
    assert error.details() == "Internal error."


async def test_abort_of_a_handler_passes(server: ServerUnderTest) -> None:
    async def abort(context: aio.ServicerContext[Any, Any]) -> None:
        await context.abort(StatusCode.ALREADY_EXISTS, "there")

    server.servicer.behave = abort
    error = await failure(server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5))
    assert (error.code(), error.details()) == (StatusCode.ALREADY_EXISTS, "there")
    await until(lambda: server.value("movierec_requests_total", method=METHOD, code="ALREADY_EXISTS") == 1)


@pytest.mark.row(30)
async def test_cancelled_call_is_counted_and_leaves_nothing_at_work(server: ServerUnderTest) -> None:
    server.servicer.leave.clear()
    call = server.stub.FindSimilarMovies(pb.FindSimilarMoviesRequest(), timeout=5)
    waiting = asyncio.ensure_future(call)
    await server.servicer.entered.wait()
    assert server.value("movierec_inflight", service="test") == 1
    waiting.cancel()
    await until(lambda: server.value("movierec_cancelled_total") == 1)
    assert server.value("movierec_inflight", service="test") == 0
    assert server.value("movierec_requests_total", method=METHOD, code="CANCELLED") == 1


async def test_request_id_is_taken_or_made(server: ServerUnderTest) -> None:
    seen = []
    server.servicer.behave = lambda _context: seen.append(current_request_id())
    request = pb.FindSimilarMoviesRequest()
    await server.stub.FindSimilarMovies(request, timeout=5, metadata=(("x-request-id", "abc"),))
    await server.stub.FindSimilarMovies(request, timeout=5, metadata=(("x-request-id", "x" * 500),))
    await server.stub.FindSimilarMovies(request, timeout=5)
    assert seen[0] == "abc"
    assert seen[1] == "x" * 128
    assert len(seen[2]) == 32
    assert current_request_id() == ""


async def test_unknown_method_is_unimplemented(server: ServerUnderTest) -> None:
    call: Any = server.channel.unary_unary(f"/{SERVICE}/Nothing", None, None)
    error = await failure(call(b"", timeout=5))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
