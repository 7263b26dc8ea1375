"""A stage call for several requests: the child of the first, with links to the others."""

import asyncio
from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from movierec.candidate.v1 import candidate_service_pb2 as pb
from serving.rpc.tracing_setup import traced
from serving.stages.candidate import CODEC, CandidateQuery
from tests.gateway.scripted_stage import saying, scripted_stage
from tests.gateway.small_world import queue
from tests.serving.collector import collector

SECONDS = 60.0  # ample: no test is decided by it
NOBODY = pb.CandidateList(user_vector=pb.USER_VECTOR_NONE)


@pytest.mark.parametrize("n_requests", [1, 3])
async def test_a_call_is_linked_to_all_its_requests(n_requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    metrics = GatewayMetrics.create(CollectorRegistry())
    with collector() as traces:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.endpoint)
        with traced("gateway") as tracing:
            async with scripted_stage(tracing) as (stage, channel):
                stage.behave = saying(
                    pb.GenerateCandidatesResponse(lists=[NOBODY] * n_requests, bundle_id="b")
                )
                candidates = queue(CODEC, channel, metrics)

                async def ask(user_id: int) -> trace.SpanContext:
                    with requests.start_as_current_span("request") as span:
                        await candidates.ask(CandidateQuery(user_id, 1), seconds=SECONDS)
                        return span.get_span_context()

                asked: Sequence[trace.SpanContext] = await asyncio.gather(*map(ask, range(1, n_requests + 1)))
    first, *others = asked
    (call,) = traces.spans
    assert call.trace_id == trace.format_trace_id(first.trace_id)
    assert int.from_bytes(call.parent) == first.span_id
    assert [int.from_bytes(link) for link in call.links] == [other.span_id for other in others]
