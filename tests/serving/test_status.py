"""The table of codes, and what a status carries for each kind of failure."""

from typing import Any

import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from serving.errors import (
    DeadlineError,
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    Reason,
    ServiceError,
    UnavailableError,
    UnsupportedError,
)
from serving.rpc.status import STATUS_CODES, error_info, status_of

FAILURES = [
    (
        InvalidArgumentError([FieldViolation("limit", "must be 1 to 1000")]),
        StatusCode.INVALID_ARGUMENT,
        {},
        error_details_pb2.BadRequest,
    ),
    (
        NotFoundError("No such movie.", reason=Reason.UNKNOWN_MOVIE, resource_type="movie", resource_id=7),
        StatusCode.NOT_FOUND,
        {"movie_id": "7"},
        error_details_pb2.ResourceInfo,
    ),
    (
        FailedPreconditionError(
            "Bundle a is not held.", reason=Reason.BUNDLE_MISMATCH, requested="a", held="b"
        ),
        StatusCode.FAILED_PRECONDITION,
        {"requested": "a", "held": "b"},
        None,
    ),
    (
        OverloadedError("Too many calls.", reason=Reason.OVERLOADED),
        StatusCode.RESOURCE_EXHAUSTED,
        {},
        error_details_pb2.RetryInfo,
    ),
    (
        DeadlineError("Too late.", reason=Reason.DEADLINE_TOO_SHORT, remaining_ms="3"),
        StatusCode.DEADLINE_EXCEEDED,
        {"remaining_ms": "3"},
        None,
    ),
    (
        UnavailableError("No bundle is loaded.", reason=Reason.MODEL_UNAVAILABLE),
        StatusCode.UNAVAILABLE,
        {},
        error_details_pb2.RetryInfo,
    ),
    (
        UnsupportedError("WhyMovie"),
        StatusCode.UNIMPLEMENTED,
        {"method": "WhyMovie"},
        None,
    ),
]


def test_the_table_covers_every_kind() -> None:
    assert set(STATUS_CODES) == set(ServiceError.__subclasses__())
    assert {type(error) for error, *_ in FAILURES} == set(STATUS_CODES)


@pytest.mark.parametrize(("error", "code", "metadata", "detail"), FAILURES)
def test_each_kind(
    error: ServiceError, code: StatusCode, metadata: dict[str, str], detail: type[Message] | None
) -> None:
    status = status_of(error)
    assert status.code == code.value[0]
    assert status.message == str(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (error.reason, "movierec", metadata)
    expected = [error_details_pb2.ErrorInfo.DESCRIPTOR.full_name]
    if detail is not None:
        expected.append(detail.DESCRIPTOR.full_name)
    assert [any_.TypeName() for any_ in status.details] == expected  # each type once


def test_details_say_what_and_when() -> None:
    retry, resource = error_details_pb2.RetryInfo(), error_details_pb2.ResourceInfo()
    assert status_of(FAILURES[5][0]).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1
    assert status_of(FAILURES[1][0]).details[1].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("movie", "7")


def test_many_violations_fit_into_headers() -> None:
    violations = [FieldViolation(f"queries[{i}].history[{i}].rating", "must be 0.5 to 5") for i in range(500)]
    status = status_of(InvalidArgumentError(violations))
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert info.metadata["violations"] == "500"
    assert [v.field for v in bad_request.field_violations] == [v.field for v in violations[:30]]
    # Bytes travel as base64, beside the message; gRPC's own limit is 8 KiB.
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message) < 7_000


def unreadable(code: StatusCode, message: str) -> bytes:
    """A status that can be read, with a detail that cannot."""
    info = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    return status_pb2.Status(code=code.value[0], message=message, details=[info]).SerializeToString()


def failed_call(*trailing: tuple[str, Any], code: StatusCode = StatusCode.NOT_FOUND) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailing), "m", None)


@pytest.mark.parametrize(
    "trailing",
    [
        (),
        (("grpc-status-details-bin", b"\xff\xff rubbish"),),
        (("grpc-status-details-bin", b""),),  # says code 0
        (("grpc-status-details-bin", unreadable(StatusCode.NOT_FOUND, "m")),),
        (("grpc-status-details-bin", status_pb2.Status(code=5, message="m").SerializeToString()),),
    ],
)
def test_a_peer_without_details_is_no_error(trailing: tuple[tuple[str, bytes], ...]) -> None:
    assert error_info(failed_call(*trailing)) is None
