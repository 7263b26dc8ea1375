"""A collector of traces: takes what OTLP exporters send, and lets a test look at it."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from typing_extensions import override

PATIENCE_SECONDS = 60
REQUEST_ID = "guid:x-request-id"
CODE = "rpc.grpc.status_code"


@dataclass(frozen=True)
class Span:
    """One span, and who sent it."""

    service: str
    method: str
    kind: str
    """SERVER or CLIENT."""
    id: bytes
    parent: bytes
    """Empty: the trace begins here."""
    trace_id: str
    links: tuple[bytes, ...]
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def name(self) -> tuple[str, str, str]:
        """Enough to tell the spans of one request apart."""
        return self.service, self.kind, self.method


@dataclass
class Collector(TraceServiceServicer):
    """Keeps all that it is sent."""

    spans: list[Span] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    """What exports came with."""
    raw: list[str] = field(default_factory=list)
    """Every export as text."""
    port: int = 0

    @property
    def endpoint(self) -> str:
        """As exporters want it."""
        return f"http://127.0.0.1:{self.port}"

    @override
    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self.metadata |= dict(context.invocation_metadata())
        self.raw.append(str(request))
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans.extend(_span(span, resource) for span in scope.spans)
        return ExportTraceServiceResponse()

    def wait_for(self, found: Callable[[Sequence[Span]], bool]) -> list[Span]:
        """All spans, once some that a test waits for are among them."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not found(tuple(self.spans)):
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.05)
        return list(self.spans)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens while the block runs; in threads, as exporters may block the event loop."""
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = Collector()
    add: Any = add_TraceServiceServicer_to_server  # untyped
    add(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer
    finally:
        server.stop(None).wait()


def _span(span: trace_pb2.Span, resource: dict[str, Any]) -> Span:
    return Span(
        service=resource["service.name"],
        method=span.name.rpartition("/")[2],
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        id=span.span_id,
        parent=span.parent_span_id,
        trace_id=span.trace_id.hex(),
        links=tuple(link.span_id for link in span.links),
        attributes=_values(span.attributes),
        resource=resource,
    )


def _values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in attributes}
