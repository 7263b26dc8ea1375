"""What every call passes: bytes in, bytes or a status out, counted and attributable."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from typing_extensions import override

from serving.errors import (
    DeadlineError,
    FieldViolation,
    InvalidArgumentError,
    OverloadedError,
    Reason,
    ServiceError,
)
from serving.limiter import CallCost, Limiter
from serving.logs import CALL_FIELDS
from serving.rpc.metrics import ServerMetrics
from serving.rpc.status import STATUS_CODES, internal_status, status_of
from serving.rpc.tracing import Tracing

REQUEST_ID_HEADER: Final = "x-request-id"
"""Metadata that names a request across processes; the edge sets it."""

ANSWER_CODES: Final = tuple(
    code.name for code in (StatusCode.OK, StatusCode.CANCELLED, StatusCode.INTERNAL, *STATUS_CODES.values())
)
"""How calls end, as a rule: values of the metric label `code`."""

_MAX_REQUEST_ID_CHARACTERS: Final = 128
_INFRASTRUCTURE: Final = "/grpc."  # health and reflection
_ONE_USER: Final = CallCost()
_CODE_NAMES: Final[Mapping[int | None, str]] = {code.value[0]: code.name for code in StatusCode}

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg, unused-ignore]  # generic in some stubs only
    """Limits, decodes, counts and answers unary calls; turns failures into statuses.

    Health and reflection pass unlimited: an overloaded server must not look like a dead one.

    A `ServiceError` leaves by the table of `serving.rpc.status`. Anything else is a defect: it is logged with
    its stack, and the client learns nothing but the request id to ask about.

    Args:
        metrics: where calls are counted.
        limiter: how many users may be at work.
        call_costs: what calls of a method ask of it, by the method's name; one that is not there asks for one
            user.
        tracing: what joins their traces to their request ids.
    """

    def __init__(
        self,
        metrics: ServerMetrics,
        *,
        limiter: Limiter,
        call_costs: Mapping[str, CallCost],
        tracing: Tracing,
    ) -> None:
        self._metrics = metrics
        self._limiter = limiter
        self._call_costs = call_costs
        self._tracing = tracing
        self._requests = cache(metrics.requests.labels)  # looking labels up costs more than counting
        self._request_seconds = cache(metrics.request_seconds.labels)
        self._handlers: dict[str, Any] = {}
        """Those of methods that were called, with all of this around them."""
        metrics.inflight.labels(metrics.service).set_function(lambda: limiter.users_at_work)
        metrics.waiting.labels(metrics.service).set_function(lambda: limiter.users_waiting)

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if (known := self._handlers.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if (
            handler is None  # no such method
            or handler.unary_unary is None
            or method.startswith(_INFRASTRUCTURE)
        ):
            return handler
        name = method.rpartition("/")[2]

        async def call(data: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
            request_id = _request_id(context)
            with self._tracing.joined(request_id) as trace:
                token = CALL_FIELDS.set({"request_id": request_id, "method": name, **trace})
                try:
                    return await self._call(name, handler, data, context)
                finally:
                    CALL_FIELDS.reset(token)

        # Without (de)serialisers: what fails in them would else pass by this interceptor.
        self._handlers[method] = grpc.unary_unary_rpc_method_handler(call)
        return self._handlers[method]

    async def _call(
        self, name: str, handler: Any, data: bytes, context: aio.ServicerContext[Any, Any]
    ) -> bytes:
        code = StatusCode.OK.name
        encoded = b""
        refusal: status_pb2.Status | None = None
        began = time.perf_counter()
        cost = self._call_costs.get(name, _ONE_USER)
        try:
            self._limiter.refuse_if_full(cost.priority)
            request = _decoded(handler, data)
            places = await self._limiter.take(cost.users(request), cost.priority)
            try:
                _refuse_expired(context)
                answer = await handler.unary_unary(request, context)
                encoded = handler.response_serializer(answer)
            finally:
                self._limiter.give_back(places)
        except ServiceError as error:
            refusal = status_of(error)
            code = _CODE_NAMES[refusal.code]
            if isinstance(error, OverloadedError | DeadlineError):
                self._metrics.rejected.labels(error.reason).inc()
        except aio.AbortError:
            code = _code_name(context.code())
            raise
        except asyncio.CancelledError:  # swallowing it would hang the client (grpc/grpc#29248)
            code = StatusCode.CANCELLED.name
            self._metrics.cancelled.inc()
            raise
        except Exception:
            refusal = internal_status(current_request_id())
            code = StatusCode.INTERNAL.name
            _logger.exception("defect")
        finally:
            self._requests(name, code).inc()
            self._request_seconds(name).observe(time.perf_counter() - began)
        if refusal is not None:  # counted by now: whoever sees the answer can see the count
            await _abort(context, refusal)
        return encoded


def current_request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return CALL_FIELDS.get().get("request_id", "")


def _request_id(context: aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_HEADER and isinstance(value, str) and value:
            return value[:_MAX_REQUEST_ID_CHARACTERS]
    return secrets.token_hex(16)


def _refuse_expired(context: aio.ServicerContext[Any, Any]) -> None:
    remaining: float | None = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineError(
            "The deadline passed before the call began.", reason=Reason.DEADLINE_TOO_SHORT, remaining_ms="0"
        )


def _decoded(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError:
        raise InvalidArgumentError([FieldViolation("", "the request must be a message of the API")]) from None


async def _abort(context: aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)


def _code_name(code: StatusCode | int | None) -> str:
    # The context answers with a number where its type says StatusCode.
    number = code.value[0] if isinstance(code, StatusCode) else code
    return _CODE_NAMES.get(number, StatusCode.UNKNOWN.name)
