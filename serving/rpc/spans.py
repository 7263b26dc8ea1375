"""Traces by OpenTelemetry. Only imported when they are on: see `serving.rpc.tracing_setup`."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from threading import Thread
from typing import Any, Final

from grpc import StatusCode, aio
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.instrumentation.grpc.filters import negate, service_prefix
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from typing_extensions import override

from serving.rpc.tracing import SHARED_WITH, Tracing
from serving.settings import StartError

FLUSH_SECONDS: Final = 2.0
"""How long a process that ends waits for its last spans to be sent."""

REQUEST_ID_ATTRIBUTE: Final = "guid:x-request-id"
"""Of spans: the request id. Envoy's own name for it, so that one search finds the edge and all behind it."""

_GRPC_CODE: Final = "rpc.grpc.status_code"
_OF_OURS: Final = negate(service_prefix("grpc."))  # neither health nor reflection


@contextmanager
def exported(service: str) -> Iterator[Tracing]:
    """Sends spans to the collector that the environment names, in the background, while the block runs.

    Spans wait in a queue of bounded length. When the collector is down or slow they are dropped, and nobody
    waits for them.

    Args:
        service: name of this process; OTEL_SERVICE_NAME wins over it.

    Raises:
        StartError: a variable of the library's own holds what it cannot read.
    """
    try:
        provider = TracerProvider(resource=resource(service), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:  # the library raises exceptions of its own kinds
        given = sorted(name for name in os.environ if name.startswith("OTEL_"))  # few errors say which
        raise StartError(f"{', '.join(given)}: {error}") from error
    server: Any = aio_server_interceptor  # both are untyped
    client: Any = aio_client_interceptors
    try:
        yield Tracing(
            server_interceptors=[server(provider, filter_=_OF_OURS)],
            client_interceptors=[*client(provider), _StageCalls()],
            joined=_joined,
        )
    finally:
        # The library itself would wait for up to 30 s.
        flush = Thread(target=provider.shutdown, name="flush-spans", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


def resource(service: str) -> Resource:
    """What all spans of a process say of it."""
    attributes = {SERVICE_NAMESPACE: "movierec", SERVICE_VERSION: metadata.version("movierec")}
    if not os.environ.get("OTEL_SERVICE_NAME"):  # what is given here would win over the environment
        attributes[SERVICE_NAME] = f"movierec-{service}"
    return Resource.create(attributes)


@contextmanager
def _joined(request_id: str) -> Iterator[Mapping[str, str]]:
    span = trace.get_current_span()
    span.set_attribute(REQUEST_ID_ATTRIBUTE, request_id)
    try:
        yield {"trace_id": trace.format_trace_id(span.get_span_context().trace_id)}
    except asyncio.CancelledError:
        span.set_attribute(_GRPC_CODE, StatusCode.CANCELLED.value[0])  # the library leaves it at OK
        raise


class _StageCalls(aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg, unused-ignore]  # generic in some stubs only
    """Inside of the library's interceptor and its span: what that one leaves out."""

    @override
    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[aio.UnaryUnaryCall[Any, Any]]],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> aio.UnaryUnaryCall[Any, Any]:
        span = trace.get_current_span()
        for other in SHARED_WITH.get():
            span.add_link(other.run(trace.get_current_span).get_span_context())
        call = await continuation(client_call_details, request)
        try:
            await call.code()
        except asyncio.CancelledError:
            # The library waits for the code, which does not cancel the call: the stage would work on, for
            # nobody, and the span would never end.
            call.cancel()
            span.set_attribute(_GRPC_CODE, StatusCode.CANCELLED.value[0])
            span.end()
            raise
        return call
