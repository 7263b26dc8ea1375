"""What the gateway knows of a stage: whether it serves, whether its breaker is open, which bundle it has."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from grpc import aio
from grpc_health.v1 import health_pb2
from typing_extensions import override

from gateway.stages.breaker import Breaker
from gateway.stages.client import StageClient
from serving.stages.stage import FallbackReason, StageName

_METHOD: Final = "/grpc.health.v1.Health/Check"
_SECONDS: Final = 0.25
"""A stage that takes longer to say that it serves misses its share of most deadlines as well."""
_SHARED_SECONDS: Final = 1.0
"""All who ask within this time share one check: each holds a place of the limiter while it waits."""


@dataclass(frozen=True)
class StageStatus:
    """The state of a stage, as the gateway sees it."""

    stage: StageName
    serving: bool
    """It answers a health check, and says that it serves."""
    breaker_reason: FallbackReason | None
    """Why its breaker is open; none while it is closed."""
    bundle_id: str
    """Of its last answer; empty before the first."""


class StageMonitor(Protocol):
    """Tells the state of a stage."""

    async def status(self) -> StageStatus:
        """The state now, but that `serving` may be a second old; takes a quarter of a second at the most."""
        ...


class ChannelMonitor(StageMonitor):
    """Asks the stage behind a channel for its health.

    Args:
        client: of the stage.
        channel: the client's.
        breaker: of the stage.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: StageClient[Any, Any],
        channel: aio.Channel,
        breaker: Breaker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._clock = clock
        self._shared: asyncio.Task[bool] | None = None
        """The latest check, under way or done."""
        self._shared_until = 0.0
        self._check: aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            _METHOD,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    @override
    async def status(self) -> StageStatus:
        failure = self._breaker.failure
        return StageStatus(
            stage=self._client.codec.name,
            serving=await asyncio.shield(self._latest_check()),  # it goes on for others when a caller leaves
            breaker_reason=None if failure is None else failure.reason,
            bundle_id=self._client.bundle_id,
        )

    def _latest_check(self) -> asyncio.Task[bool]:
        now = self._clock()
        if self._shared is None or now >= self._shared_until:
            self._shared = asyncio.create_task(self._serves())
            self._shared_until = now + _SHARED_SECONDS
        return self._shared

    async def _serves(self) -> bool:
        _, service, _ = self._client.codec.method.split("/")
        try:
            answer = await self._check(
                health_pb2.HealthCheckRequest(service=service),
                timeout=_SECONDS,
                metadata=self._client.metadata,
            )
        except aio.AioRpcError:
            return False
        return answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING
