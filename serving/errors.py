"""Failures that a client is meant to see. Anything else is a defect and leaves as INTERNAL."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a call failed: `ErrorInfo.reason` on the wire, stable, for programs to branch on."""

    INVALID_REQUEST = "INVALID_REQUEST"
    UNKNOWN_MOVIE = "UNKNOWN_MOVIE"
    UNKNOWN_USER = "UNKNOWN_USER"
    OVERLOADED = "OVERLOADED"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    BUNDLE_MISMATCH = "BUNDLE_MISMATCH"
    INTERNAL = "INTERNAL"
    METHOD_DISABLED = "METHOD_DISABLED"
    WRONG_USER_SHARD = "WRONG_USER_SHARD"


@dataclass(frozen=True)
class FieldViolation:
    """One broken rule of a request."""

    field: str
    """Path of the field, as `filter.min_year` or `history[3].rating`."""
    description: str
    """The rule, in words, of up to 100 bytes; never what the client sent, but for a genre's name."""


class ServiceError(Exception):
    """Base of every failure that a client is meant to see.

    Args:
        message: one sentence for a developer; whatever varies in it stands in `metadata` too.
        reason: what programs branch on.
        metadata: the dynamic parts of the message.
    """

    def __init__(self, message: str, *, reason: Reason, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = metadata


MAX_VIOLATIONS: Final = 30
"""Broken rules that a client is told: a message of a million would be work for nobody."""


class InvalidArgumentError(ServiceError):
    """The request breaks rules; asking again gives the same answer. Names every broken rule, up to 30."""

    def __init__(self, violations: Sequence[FieldViolation], **metadata: str) -> None:
        named = (": ".join(filter(None, (v.field, v.description))) for v in violations[:MAX_VIOLATIONS])
        super().__init__(f"Invalid request: {'; '.join(named)}", reason=Reason.INVALID_REQUEST, **metadata)
        self.violations = tuple(violations)


class NotFoundError(ServiceError):
    """The user or movie is not in the bundle; a newer bundle may know it.

    The message has no id of a user, which the details have: proxies write messages into logs and traces.
    """

    def __init__(self, message: str, *, reason: Reason, resource_type: str, resource_id: int) -> None:
        super().__init__(message, reason=reason, **{f"{resource_type}_id": str(resource_id)})
        self.resource_type = resource_type
        self.resource_id = resource_id


class FailedPreconditionError(ServiceError):
    """The server holds other models than the caller asks for."""


class OverloadedError(ServiceError):
    """Too many calls at once; refused before any work. Ask again after a pause."""


class DeadlineError(ServiceError):
    """Too little time was left to begin. Ask again with more."""


class UnsupportedError(ServiceError):
    """The method is turned off here; asking again gives the same answer."""

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} is turned off here.", reason=Reason.METHOD_DISABLED, method=method)


class UnavailableError(ServiceError):
    """No model is loaded, or a dependency failed and the caller denied a fallback."""
