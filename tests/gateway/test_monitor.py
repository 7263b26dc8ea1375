"""The state of a stage, asked over a real channel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from gateway.stages.monitor import ChannelMonitor, StageStatus
from movierec.similarity.v1 import similarity_service_pb2 as similarity
from serving.stages.similarity import CODEC, SimilarQuery
from serving.stages.stage import FallbackReason, StageError, StageName
from tests.gateway.scripted_stage import Behaviour, ScriptedStage, failing_with, saying, scripted_stage

SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
NOT_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
ANSWER = similarity.FindSimilarMoviesResponse(
    movie_ids=[2], scores=[0.5], method=similarity.SIMILARITY_METHOD_ALS_COSINE, bundle_id="b1"
)


@asynccontextmanager
async def monitored(
    behaviour: Behaviour | None = None, **options: Any
) -> AsyncIterator[tuple[ScriptedStage, ChannelMonitor, StageClient[Any, Any], Breaker]]:
    """A stage that behaves so, or is silent; its monitor; and what makes calls to it."""
    metrics = GatewayMetrics.create(CollectorRegistry())
    async with scripted_stage() as (stage, channel):
        stage.behave = behaviour or stage.hang
        client = StageClient(CODEC, channel, metrics)
        breaker = Breaker(StageName.SIMILARITY, metrics, full_seconds=0)
        yield stage, ChannelMonitor(client, channel, breaker, **options), client, breaker


@pytest.mark.parametrize(
    ("behaviour", "serving"),
    [
        (saying(SERVING), True),
        (saying(NOT_SERVING), False),
        (saying(b"\xff"), False),
        (failing_with(StatusCode.UNAVAILABLE), False),
        (failing_with(StatusCode.NOT_FOUND), False),
        (None, False),
    ],
    ids=["serving", "not serving", "no message", "unavailable", "unknown service", "silent"],
)
async def test_whether_a_stage_serves(behaviour: Behaviour | None, serving: bool) -> None:  # noqa: FBT001
    async with monitored(behaviour) as (stage, monitor, *_):
        assert await monitor.status() == StageStatus(
            StageName.SIMILARITY, serving=serving, breaker_reason=None, bundle_id=""
        )
        request = health_pb2.HealthCheckRequest.FromString(stage.requests[0])
        assert request.service == "movierec.similarity.v1.SimilarityService"


async def test_all_who_ask_within_a_second_share_one_check() -> None:
    """Each kept a place of the limiter for a quarter of a second while a stage was frozen."""
    now = 1_000.0
    async with monitored(clock=lambda: now) as (stage, monitor, *_):
        leaving, *others = [asyncio.create_task(monitor.status()) for _ in range(3)]
        await asyncio.wait_for(stage.entered.wait(), 5)
        leaving.cancel()
        assert [status.serving for status in await asyncio.gather(*others)] == [False, False]
        now += 0.9
        assert not (await monitor.status()).serving
        assert len(stage.requests) == 1
        stage.behave = saying(SERVING)
        now += 0.1
        assert (await monitor.status()).serving


async def test_the_bundle_of_the_last_answer_and_an_open_breaker() -> None:
    query = SimilarQuery(movie_id=1, limit=1)
    async with monitored(saying(ANSWER)) as (stage, monitor, client, breaker):
        await client.call([query], seconds=20)
        stage.behave = failing_with(StatusCode.UNAVAILABLE)
        for _ in range(5):
            with pytest.raises(StageError):
                await breaker.call(lambda: client.call([query], seconds=20), patience=20)
        assert await monitor.status() == StageStatus(
            StageName.SIMILARITY,
            serving=False,
            breaker_reason=FallbackReason.DEPENDENCY_UNAVAILABLE,
            bundle_id="b1",
        )
