"""Failed calls as exceptions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from movierec.gateway.v1.error_reason_pb2 import ErrorReason

_DOMAIN: Final = "movierec"


@dataclass(frozen=True)
class Violation:
    """A rule that the request broke."""

    field: str
    """Path of the field, as `history[3].rating`."""
    description: str
    """The rule, in words."""


class MovieError(Exception):
    """A call that failed, after whatever retries there were.

    Attributes:
        code: of gRPC.
        reason: what to branch on; ERROR_REASON_UNSPECIFIED when the answer did not come from the gateway,
            or from one that is newer than this client.
        metadata: what varies in the message, such as the `movie_id`.
        violations: all rules that the request broke; only with ERROR_REASON_INVALID_REQUEST.
        retry_delay: after how many seconds the server wants to be asked again; None if it did not say.
    """

    def __init__(self, code: grpc.StatusCode, status: status_pb2.Status) -> None:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry_info = error_details_pb2.RetryInfo()
        for detail in status.details:
            _ = detail.Unpack(info) or detail.Unpack(bad_request) or detail.Unpack(retry_info)
        super().__init__(f"{info.reason or code.name}: {status.message}")
        self.code = code
        self.reason = _reason(info)
        self.metadata: Mapping[str, str] = dict(info.metadata)
        self.violations = tuple(Violation(v.field, v.description) for v in bad_request.field_violations)
        has_delay = retry_info.HasField("retry_delay")
        self.retry_delay = retry_info.retry_delay.ToNanoseconds() / 1e9 if has_delay else None

    @classmethod
    def of(cls, error: grpc.RpcError) -> "MovieError":
        """Read the error of a call."""
        call = cast("grpc.Call", error)  # both kinds of client raise what answers a call's questions
        own = status_pb2.Status(message=call.details() or "")
        try:
            return cls(call.code(), rpc_status.from_call(call) or own)
        except (DecodeError, ValueError):  # a proxy may send anything, and the call's own status still counts
            return cls(call.code(), own)


def _reason(info: error_details_pb2.ErrorInfo) -> "ErrorReason.ValueType":
    name = f"ERROR_REASON_{info.reason}"
    known = info.domain == _DOMAIN and name in ErrorReason.keys()  # noqa: SIM118  # it is no dict
    return ErrorReason.Value(name) if known else ErrorReason.ERROR_REASON_UNSPECIFIED
