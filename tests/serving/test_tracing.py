"""Traces: whole and joined to request ids when they are on; nothing at all when they are off."""

import asyncio
import io
import json
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
import structlog
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

import serving.rpc
from movierec.similarity.v1 import similarity_service_pb2 as pb
from movierec.similarity.v1 import similarity_service_pb2_grpc as pb_grpc
from serving.errors import NotFoundError, Reason
from serving.rpc import spans
from serving.rpc.channels import open_channel
from serving.rpc.interceptors import REQUEST_ID_HEADER
from serving.rpc.tracing import OFF
from serving.rpc.tracing_setup import traced
from serving.settings import StartError
from tests.serving.collector import CODE, REQUEST_ID, Collector, Span, collector
from tests.serving.server_under_test import METHOD, SERVICE, ServerUnderTest, running_server, until

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SECONDS = 60.0  # ample: no test is decided by it


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The collector that the environment names. Spans have reached it once `traced` is left."""
    with collector() as traces:
        monkeypatch.setenv(ENDPOINT, traces.endpoint)
        yield traces


async def ask(server: ServerUnderTest, request_id: str = "r") -> pb.FindSimilarMoviesResponse:
    """Calls the scripted method."""
    return await server.stub.FindSimilarMovies(
        pb.FindSimilarMoviesRequest(), timeout=SECONDS, metadata=((REQUEST_ID_HEADER, request_id),)
    )


def by_kind(traces: Collector) -> dict[str, Span]:
    assert len(traces.spans) == 2
    return {span.kind: span for span in traces.spans}


async def test_a_call_is_two_spans_of_one_trace(traces: Collector) -> None:
    with traced("test") as tracing:
        async with running_server(tracing=tracing) as server:
            await ask(server, "the-id")
    client, server_span = by_kind(traces)["CLIENT"], by_kind(traces)["SERVER"]
    assert client.parent == b""
    assert (server_span.parent, server_span.trace_id) == (client.id, client.trace_id)
    assert server_span.attributes[REQUEST_ID] == "the-id"
    assert client.method == server_span.method == METHOD
    assert client.attributes[CODE] == server_span.attributes[CODE] == 0
    assert server_span.resource["service.name"] == "movierec-test"
    assert server_span.resource["service.namespace"] == "movierec"
    assert server_span.resource["service.version"] == metadata.version("movierec")


async def test_a_caller_may_begin_the_trace(traces: Collector) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with traced("test") as tracing:
        async with (
            running_server(tracing=tracing) as server,
            open_channel(f"127.0.0.1:{server.port}") as untraced,
        ):
            stub = pb_grpc.SimilarityServiceStub(untraced)
            traceparent = ("traceparent", f"00-{trace_id}-{parent}-01")
            await stub.FindSimilarMovies(
                pb.FindSimilarMoviesRequest(), timeout=SECONDS, metadata=(traceparent,)
            )
    (span,) = traces.spans
    assert (span.trace_id, span.parent.hex()) == (trace_id, parent)
    assert span.attributes[REQUEST_ID]  # the server's own, as the caller named none


async def test_refusals_show_their_code(traces: Collector) -> None:
    def refuse(_context: object) -> None:
        raise NotFoundError(
            "No such movie.", reason=Reason.UNKNOWN_MOVIE, resource_type="movie", resource_id=5
        )

    with traced("test") as tracing:
        async with running_server(tracing=tracing) as server:
            server.servicer.behave = refuse
            with pytest.raises(aio.AioRpcError):
                await ask(server)
    assert {span.attributes[CODE] for span in traces.spans} == {StatusCode.NOT_FOUND.value[0]}


async def test_a_cancel_reaches_the_server_and_ends_both_spans(traces: Collector) -> None:
    with traced("test") as tracing:
        async with running_server(tracing=tracing) as server:
            server.servicer.leave.clear()
            call = asyncio.ensure_future(ask(server))
            await server.servicer.entered.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # It is counted, though it was never allowed to answer.
            await until(lambda: server.value("movierec_cancelled_total") == 1)
    assert {span.attributes[CODE] for span in traces.spans} == {StatusCode.CANCELLED.value[0]}
    assert set(by_kind(traces)) == {"CLIENT", "SERVER"}


async def test_health_is_not_traced(traces: Collector) -> None:
    with traced("test") as tracing:
        async with (
            running_server(tracing=tracing) as server,
            open_channel(f"127.0.0.1:{server.port}") as untraced,
        ):
            stub: Any = health_pb2_grpc.HealthStub(untraced)
            await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=SECONDS)
    assert traces.spans == []


async def test_log_lines_name_the_trace(traces: Collector, logs: io.StringIO) -> None:
    def log(_context: object) -> None:
        structlog.get_logger().info("at work")

    with traced("test") as tracing:
        async with running_server(tracing=tracing) as server:
            server.servicer.behave = log
            await ask(server, "the-id")
    (line,) = (json.loads(line) for line in logs.getvalue().splitlines() if "at work" in line)
    assert (line["request_id"], line["trace_id"]) == ("the-id", traces.spans[0].trace_id)


async def test_untraced_log_lines_have_no_trace(logs: io.StringIO) -> None:
    async with running_server() as server:
        server.servicer.behave = lambda _context: structlog.get_logger().info("at work")
        await ask(server)
    (line,) = (json.loads(line) for line in logs.getvalue().splitlines() if "at work" in line)
    assert "trace_id" not in line


@pytest.mark.parametrize("silent", [False, True], ids=["down", "silent"])
async def test_nobody_waits_for_the_collector(
    silent: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spans, "FLUSH_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, and never says a word
        if not silent:
            listener.close()
        port = listener.getsockname()[1] if silent else 1
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # the exporter's thread must end with the test
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
        with traced("test") as tracing:
            async with running_server(tracing=tracing) as server:
                for _ in range(20):  # more than the queue holds
                    assert (await ask(server)).bundle_id == "b"
            began = time.monotonic()
        assert time.monotonic() - began < 30  # the library's own wait


@pytest.mark.parametrize(("name", "value"), [(ENDPOINT, None), (ENDPOINT, ""), ("OTEL_SDK_DISABLED", "true")])
def test_turned_off_by_the_environment(
    traces: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with traced("test") as tracing:
        assert tracing is OFF


def test_a_missing_extra_is_named(traces: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serving.rpc.spans")
    monkeypatch.delattr(serving.rpc, "spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with (
        pytest.raises(StartError, match=rf"^{ENDPOINT}: .*opentelemetry.*movierec\[tracing\]$"),
        traced("test"),
    ):
        pass


def test_another_protocol_is_refused(traces: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with pytest.raises(StartError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL: must be grpc$"), traced("test"):
        pass


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_what_the_library_cannot_read_is_one_line(
    traces: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """It was a traceback, and exit status 1."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartError, match=rf"{variable}.*: ."), traced("test"):
        pass


def test_a_name_from_the_environment_wins(traces: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    resource = TracerProvider(resource=spans.resource("test"), shutdown_on_exit=False).resource.attributes
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("mine", "lab")
