"""Failures on the wire: one table of codes, one `google.rpc.Status`, and how clients read it."""

from collections.abc import Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Final, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from serving.errors import (
    MAX_VIOLATIONS,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    Reason,
    ServiceError,
    UnavailableError,
    UnsupportedError,
)

DOMAIN: Final = "movierec"
"""`ErrorInfo.domain` of all our errors."""

STATUS_CODES: Final[Mapping[type[ServiceError], StatusCode]] = MappingProxyType(
    {
        InvalidArgumentError: StatusCode.INVALID_ARGUMENT,
        NotFoundError: StatusCode.NOT_FOUND,
        FailedPreconditionError: StatusCode.FAILED_PRECONDITION,
        OverloadedError: StatusCode.RESOURCE_EXHAUSTED,
        DeadlineError: StatusCode.DEADLINE_EXCEEDED,
        UnavailableError: StatusCode.UNAVAILABLE,
        UnsupportedError: StatusCode.UNIMPLEMENTED,
    }
)

_RETRY_DELAY: Final = Duration(seconds=1)

# A status travels as HTTP/2 headers, of which clients accept 8 KiB by default: more than this would reach
# them as RESOURCE_EXHAUSTED.
_MAX_MESSAGE_BYTES: Final = 500
_MAX_RULE_BYTES: Final = 100


def status_of(error: ServiceError) -> status_pb2.Status:
    """The status that tells a client of `error`: one `ErrorInfo`, and what belongs to the kind."""
    metadata = dict(error.metadata)
    details: list[Message] = []
    if isinstance(error, InvalidArgumentError):
        details.append(_bad_request(error))
        if len(error.violations) > MAX_VIOLATIONS:
            metadata["violations"] = str(len(error.violations))
    elif isinstance(error, NotFoundError):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.resource_type, resource_name=str(error.resource_id)
            )
        )
    elif isinstance(error, OverloadedError | UnavailableError):
        details.append(error_details_pb2.RetryInfo(retry_delay=_RETRY_DELAY))
    return _status(STATUS_CODES[type(error)], str(error), error.reason, metadata, details)


def internal_status(request_id: str) -> status_pb2.Status:
    """The status of a defect: nothing but the id to find it in the log by."""
    return _status(StatusCode.INTERNAL, "Internal error.", Reason.INTERNAL, {"request_id": request_id}, [])


def error_info(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """The `ErrorInfo` of a failed call; None when the peer, or whoever answered for it, sent none."""
    info = error_details_pb2.ErrorInfo()
    try:
        # The library types calls that block; an AioRpcError answers the same questions.
        status = rpc_status.from_call(cast("grpc.Call", error))
        if status is not None and any(detail.Unpack(info) for detail in status.details):
            return info
    except (DecodeError, ValueError):  # an invalid status from a peer is no reason to fail in another way
        pass
    return None


def _status(
    code: StatusCode,
    message: str,
    reason: Reason,
    metadata: Mapping[str, str],
    details: list[Message],
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=_shortened(message))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    for detail in (info, *details):
        status.details.add().Pack(detail)
    return status


def _shortened(message: str) -> str:
    """The start of a message that fits on the wire, where it is percent-encoded: an emoji takes 12 bytes."""
    start = message[:_MAX_MESSAGE_BYTES]
    sizes = (1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode()) for letter in start)
    return start[: sum(size <= _MAX_MESSAGE_BYTES for size in accumulate(sizes))]


def _bad_request(error: InvalidArgumentError) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=v.field,
                description=v.description.encode()[:_MAX_RULE_BYTES].decode(errors="ignore"),
            )
            for v in error.violations[:MAX_VIOLATIONS]
        ]
    )
