"""Both clients against a scripted server over a real channel, by the same tests."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2

from movierec.gateway.v1 import movie_service_pb2 as pb
from movierec.gateway.v1.error_reason_pb2 import ErrorReason
from movierec_client import AsyncMovieClient, MovieClient, MovieError, RetryPolicy, Violation
from movierec_client.retries import Attempts
from serving.errors import InvalidArgumentError, OverloadedError, Reason, ServiceError
from tests.client.scripted_api import Kind, ScriptedApi, scripted_api
from tests.gateway.scripted_stage import Behaviour, failing_with, saying
from tests.serving.test_status import FAILURES, unreadable

SECONDS = 60.0  # ample: no test is decided by it
METHODS = list(pb.DESCRIPTOR.services_by_name["MovieService"].methods)
REQUEST = pb.GetMovieRequest(movie_id=7)
ANSWER = saying(pb.GetMovieResponse(bundle_id="b"))
SERVING = saying(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING))
NOT_SERVING = saying(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING))
UNAVAILABLE = failing_with(StatusCode.UNAVAILABLE)


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as api:
        yield api


@pytest.fixture(params=Kind)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


async def failure(
    api: ScriptedApi, kind: Kind, *, timeout_seconds: float = SECONDS, **settings: Any
) -> MovieError:
    with pytest.raises(MovieError) as caught:
        await api.ask(kind, "get_movie", REQUEST, timeout_seconds=timeout_seconds, **settings)
    return caught.value


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_rpc_has_a_method(api: ScriptedApi, kind: Kind, method: Any) -> None:
    api.script = [saying(b"")]
    name = re.sub(r"(?<!^)([A-Z])", r"_\1", method.name).lower()
    request = GetMessageClass(method.input_type)()
    answer = await api.ask(kind, name, request, timeout_seconds=SECONDS)
    assert answer == GetMessageClass(method.output_type)()
    assert api.calls == [(f"/{method.containing_service.full_name}/{method.name}", b"")]


async def test_what_travels(api: ScriptedApi, kind: Kind) -> None:
    api.script = [ANSWER]
    answer = await api.ask(kind, "get_movie", REQUEST, timeout_seconds=SECONDS, metadata={"x-api-key": "k"})
    assert answer.bundle_id == "b"
    assert api.calls[0][1] == REQUEST.SerializeToString()
    assert api.metadata["x-api-key"] == "k"
    assert api.time_remaining is not None
    assert 3 < api.time_remaining <= SECONDS + 0.1  # clients round up


@pytest.mark.parametrize("own", [None, 2.0])
async def test_every_call_has_a_deadline(api: ScriptedApi, own: float | None) -> None:
    settings: dict[str, Any] = {} if own is None else {"timeout_seconds": own}
    with_default = own or 3.0
    async with AsyncMovieClient(api.target, **settings) as client:
        await client.get_movie(REQUEST)
    assert api.time_remaining is not None
    assert api.time_remaining <= with_default + 0.1
    with MovieClient(api.target, **settings) as blocking:
        await asyncio.to_thread(blocking.get_movie, REQUEST)
    assert api.time_remaining <= with_default + 0.1


async def test_credentials(kind: Kind) -> None:
    token = grpc.access_token_call_credentials("t")  # travels on secure channels only
    credentials = grpc.composite_channel_credentials(grpc.local_channel_credentials(), token)
    async with scripted_api(grpc.local_server_credentials()) as api:
        await api.ask(kind, "get_movie", REQUEST, timeout_seconds=SECONDS, credentials=credentials)
        assert api.metadata["authorization"] == "Bearer t"


# Errors


@pytest.mark.parametrize(("error", "code", "metadata", "_detail"), FAILURES)
async def test_errors(
    api: ScriptedApi,
    kind: Kind,
    error: ServiceError,
    code: StatusCode,
    metadata: dict[str, str],
    _detail: object,
) -> None:
    api.script = [failing_with(error)]
    caught = await failure(api, kind, retry=RetryPolicy(max_attempts=1))
    assert caught.code is code
    assert caught.reason == ErrorReason.Value(f"ERROR_REASON_{error.reason}")
    assert caught.metadata == metadata
    assert str(caught) == f"{error.reason}: {error}"
    violations = error.violations if isinstance(error, InvalidArgumentError) else ()
    assert caught.violations == tuple(Violation(v.field, v.description) for v in violations)
    assert isinstance(caught.__context__, grpc.RpcError)


async def test_errors_that_are_not_the_gateways(api: ScriptedApi, kind: Kind) -> None:
    api.script = [
        failing_with(StatusCode.UNIMPLEMENTED),
        _with_details(b"\xff"),
        _with_details(unreadable(StatusCode.INTERNAL, "x")),
        _with_reason("NEW", "movierec"),
    ]
    for _ in range(3):
        caught = await failure(api, kind)
        assert caught.reason == ErrorReason.ERROR_REASON_UNSPECIFIED
        assert (caught.metadata, caught.violations, caught.retry_delay) == ({}, (), None)
    caught = await failure(api, kind)
    assert caught.reason == ErrorReason.ERROR_REASON_UNSPECIFIED
    assert str(caught).startswith("NEW: ")
    api.script = [_with_reason("INTERNAL", "envoy")]
    assert (await failure(api, kind)).reason == ErrorReason.ERROR_REASON_UNSPECIFIED


async def test_an_answer_that_is_no_message(api: ScriptedApi, kind: Kind) -> None:
    """Of bytes that do not decode, the asynchronous half made None."""
    api.script = [saying(b"\xff")]
    caught = await failure(api, kind)
    assert (caught.code, str(caught)) == (
        StatusCode.INTERNAL,
        "INTERNAL: Exception deserializing response!",
    )


def _with_details(details: bytes) -> Behaviour:
    async def behave(context: aio.ServicerContext[Any, Any]) -> bytes:
        await context.abort(StatusCode.INTERNAL, "x", (("grpc-status-details-bin", details),))

    return behave


def _with_reason(reason: str, domain: str) -> Behaviour:
    status = status_pb2.Status(code=StatusCode.INTERNAL.value[0], message="x")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    return failing_with(status)


# Retries


async def test_a_passing_failure_is_not_seen(api: ScriptedApi, kind: Kind) -> None:
    api.script = [UNAVAILABLE, UNAVAILABLE, ANSWER]
    answer = await api.ask(kind, "get_movie", REQUEST, timeout_seconds=SECONDS)
    assert (answer.bundle_id, len(api.calls)) == ("b", 3)


async def test_a_lasting_failure_is(api: ScriptedApi, kind: Kind) -> None:
    api.script = [UNAVAILABLE]
    assert (await failure(api, kind)).code is StatusCode.UNAVAILABLE
    assert len(api.calls) == 3
    await failure(api, kind, retry=RetryPolicy(max_attempts=5, first_pause_seconds=0))
    assert len(api.calls) == 8


LASTING = set(StatusCode) - {StatusCode.UNAVAILABLE, StatusCode.OK}
"""RESOURCE_EXHAUSTED among them, where nothing says when to come back: a message is too large."""


@pytest.mark.parametrize("code", sorted(LASTING, key=str))
async def test_other_failures_are_not_retried(api: ScriptedApi, kind: Kind, code: StatusCode) -> None:
    api.script = [failing_with(code)]
    assert (await failure(api, kind)).code is code
    assert len(api.calls) == 1


async def test_a_server_says_when_to_come_back(api: ScriptedApi, kind: Kind) -> None:
    status = status_pb2.Status(code=StatusCode.RESOURCE_EXHAUSTED.value[0])
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=50_000_000)))
    api.script = [failing_with(status), ANSWER]
    await api.ask(kind, "get_movie", REQUEST, timeout_seconds=SECONDS)
    assert len(api.calls) == 2
    api.script = [failing_with(OverloadedError("Full.", reason=Reason.OVERLOADED))]  # wants a pause of 1 s
    caught = await failure(api, kind, timeout_seconds=0.9)
    assert caught.reason == ErrorReason.ERROR_REASON_OVERLOADED  # and not DEADLINE_EXCEEDED, later
    assert len(api.calls) == 3


async def test_the_deadline_holds_for_all_attempts(api: ScriptedApi, kind: Kind) -> None:
    async def hang(_context: aio.ServicerContext[Any, Any]) -> bytes:
        await asyncio.Event().wait()
        return b""

    api.script = [UNAVAILABLE, hang]
    caught = await failure(api, kind, timeout_seconds=0.3, retry=RetryPolicy(first_pause_seconds=0))
    assert caught.code is StatusCode.DEADLINE_EXCEEDED
    assert len(api.calls) == 2
    assert api.time_remaining is not None
    assert api.time_remaining <= 0.35


async def test_a_pause_of_less_than_nothing_is_none(api: ScriptedApi, kind: Kind) -> None:
    """The sync client raised ValueError, of `sleep`."""
    status = status_pb2.Status(code=StatusCode.UNAVAILABLE.value[0])
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=-3)))
    api.script = [failing_with(status), ANSWER]
    await api.ask(kind, "get_movie", REQUEST, timeout_seconds=SECONDS)


def error(retry_delay: float | None = None) -> MovieError:
    status = status_pb2.Status()
    if retry_delay is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_delay * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return MovieError(StatusCode.UNAVAILABLE, status)


def test_pauses_grow_and_are_random() -> None:
    policy = RetryPolicy(max_attempts=100, first_pause_seconds=1, longest_pause_seconds=4)
    pauses = []
    for _ in range(200):
        attempts = Attempts(policy, SECONDS)
        pauses.append([attempts.pause_after(error()) for _ in range(5)])
    for longest, seen in zip((1, 2, 4, 4, 4), zip(*pauses, strict=True), strict=True):
        assert 0.9 * longest < max(seen) <= longest
        assert min(seen) < 0.1 * longest
    assert 1.5 <= Attempts(policy, SECONDS).pause_after(error(1.5)) <= 2.5


def test_pauses_of_very_many_attempts_are_numbers() -> None:
    """The 1025th raised OverflowError: 2 ** 1024 is no float."""
    attempts = Attempts(RetryPolicy(max_attempts=2_000), SECONDS)
    assert max(attempts.pause_after(error()) for _ in range(1_999)) <= RetryPolicy.longest_pause_seconds


def test_no_pause_leads_beyond_the_deadline() -> None:
    with pytest.raises(MovieError):
        Attempts(RetryPolicy(), 1.4).pause_after(error(1.5))


# Health


async def test_waiting_for_a_server(api: ScriptedApi, kind: Kind) -> None:
    api.script = [UNAVAILABLE, saying(b"\xff"), NOT_SERVING, SERVING]
    await api.ask(kind, "wait_until_ready", timeout_seconds=SECONDS)
    assert [path for path, _ in api.calls] == ["/grpc.health.v1.Health/Check"] * 4
    asked = health_pb2.HealthCheckRequest.FromString(api.calls[0][1])
    assert asked.service == METHODS[0].containing_service.full_name


async def test_waiting_in_vain(api: ScriptedApi, kind: Kind) -> None:
    api.script = [NOT_SERVING]
    with pytest.raises(TimeoutError, match=r"does not serve after 0\.3 s"):
        await api.ask(kind, "wait_until_ready", timeout_seconds=0.3)
    assert api.time_remaining is not None
    assert api.time_remaining < 0.5  # of a server that hangs, no check takes longer than the whole may
