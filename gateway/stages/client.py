"""Calls a stage: messages out and in, its failures as reasons to step down."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from operator import methodcaller
from types import MappingProxyType
from typing import Any, Final, Generic

import structlog
from grpc import StatusCode, aio

from gateway.metrics import CANCELLED, DEFECT, OK, GatewayMetrics
from serving.errors import Reason
from serving.rpc.interceptors import REQUEST_ID_HEADER, current_request_id
from serving.rpc.status import error_info
from serving.shards import USER_SHARD_HEADER, UserShard
from serving.stages.reading import require
from serving.stages.stage import (
    Answer,
    FallbackReason,
    InvalidQueryError,
    InvalidResponseError,
    Query,
    StageCodec,
    StageError,
    StageFailure,
)

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

_REASONS: Final[Mapping[tuple[StatusCode, str], FallbackReason]] = MappingProxyType(
    {
        (StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE): FallbackReason.MODEL_UNAVAILABLE,
        (StatusCode.FAILED_PRECONDITION, Reason.BUNDLE_MISMATCH): FallbackReason.BUNDLE_MISMATCH,
        # The gateway only asks about movies that a bundle it holds knows.
        (StatusCode.NOT_FOUND, Reason.UNKNOWN_MOVIE): FallbackReason.BUNDLE_MISMATCH,
    }
)
_REASONS_OF_CODES: Final[Mapping[StatusCode, FallbackReason]] = MappingProxyType(
    {
        StatusCode.UNAVAILABLE: FallbackReason.DEPENDENCY_UNAVAILABLE,
        StatusCode.CANCELLED: FallbackReason.DEPENDENCY_UNAVAILABLE,  # by the peer: ours never come this way
        StatusCode.DEADLINE_EXCEEDED: FallbackReason.DEPENDENCY_TIMEOUT,
        StatusCode.RESOURCE_EXHAUSTED: FallbackReason.DEPENDENCY_OVERLOADED,
    }
)


class StageClient(Generic[Query, Answer]):
    """A stage behind a channel.

    Args:
        codec: of the stage.
        channel: to the stage, or to the proxy before it.
        metrics: where calls are timed.
        user_shard: to which all users of its calls belong, where they are split over shards.
    """

    def __init__(
        self,
        codec: StageCodec[Query, Answer],
        channel: aio.Channel,
        metrics: GatewayMetrics,
        user_shard: UserShard | None = None,
    ) -> None:
        self.codec: Final = codec
        self.metadata: Final = () if user_shard is None else ((USER_SHARD_HEADER, str(user_shard)),)
        """What every call to the stage carries: where it is to be routed."""
        self.bundle_id = ""
        """Of the last usable response; empty before the first."""
        self._call: aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            codec.method,
            request_serializer=methodcaller("SerializeToString"),
            response_deserializer=codec.response_class.FromString,
        )
        self._seconds = cache(partial(metrics.stage_seconds.labels, codec.name))

    async def call(self, queries: Sequence[Query], *, seconds: float) -> list[Answer | StageFailure]:
        """Asks many queries of one batch key in one call.

        Args:
            queries: as many as the stage takes.
            seconds: how long the answers are worth waiting for.

        Returns:
            One answer per query, in order, or why there is none for that query.

        Raises:
            InvalidQueryError: the stage called one of the queries invalid.
            StageError: no query has a usable answer.
        """
        stage = self.codec.name
        outcome: str = OK
        began = time.perf_counter()
        try:
            answers = await self._answers(queries, seconds)
            failure = next((answer for answer in answers if isinstance(answer, StageFailure)), None)
            if failure is not None:
                outcome = failure.reason
        except aio.AioRpcError as error:
            reason = _reason(error)
            outcome = reason or DEFECT
            detail = f"{error.code().name}: {error.details()}"
            if reason is None:
                _logger.error("defect", stage=stage, detail=detail)  # noqa: TRY400  # the peer's, not ours
            kind = InvalidQueryError if error.code() is StatusCode.INVALID_ARGUMENT else StageError
            raise kind(stage, reason or FallbackReason.DEPENDENCY_UNAVAILABLE, detail) from error
        except InvalidResponseError as error:
            outcome = FallbackReason.INVALID_RESPONSE
            raise StageError(stage, FallbackReason.INVALID_RESPONSE, str(error)) from error
        except StageError as error:
            outcome = error.failure.reason
            raise
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        except Exception:
            outcome = DEFECT
            raise
        else:
            return answers
        finally:
            self._seconds(outcome).observe(time.perf_counter() - began)

    async def _answers(self, queries: Sequence[Query], seconds: float) -> list[Answer | StageFailure]:
        request_id = current_request_id()
        metadata = ((REQUEST_ID_HEADER, request_id), *self.metadata) if request_id else self.metadata
        response = await self._call(self.codec.encode_request(queries), timeout=seconds, metadata=metadata)
        # Against its own types, grpc gives None for bytes that do not decode.
        require(response is not None, "a message of the API")
        answers = self.codec.decode_response(response, queries)
        self.bundle_id = response.bundle_id
        return answers


def _reason(error: aio.AioRpcError) -> FallbackReason | None:
    """Why the list steps down; None for a status that only a defect explains."""
    info = error_info(error)
    known = None if info is None else _REASONS.get((error.code(), info.reason))
    return known or _REASONS_OF_CODES.get(error.code())
