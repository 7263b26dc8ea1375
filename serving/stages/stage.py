"""What a stage is, and how it fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message


class StageName(StrEnum):
    """A service that the gateway asks; also its name in metrics and errors."""

    CANDIDATE = auto()
    RANKING = auto()
    SIMILARITY = auto()


class FallbackReason(StrEnum):
    """Why a list is not what was asked for; values as in the public enum, without its prefix."""

    UNKNOWN_USER = "UNKNOWN_USER"
    """Expected: not in the training data, or liked nothing there, and no usable history."""
    SHORT_HISTORY = "SHORT_HISTORY"
    """Expected: rated so little that what is popular serves the user better."""
    COLD_MOVIE = "COLD_MOVIE"
    """Expected: in the catalogue, without ALS factors."""
    NO_CANDIDATES = "NO_CANDIDATES"
    """Expected: the user has seen or excluded every candidate."""
    FILTERED_OUT = "FILTERED_OUT"
    """Expected: the filter left too few."""
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    """Fault: a service could not be reached or answered an error."""
    DEPENDENCY_TIMEOUT = "DEPENDENCY_TIMEOUT"
    """Fault: a service did not answer within its share of the deadline."""
    DEPENDENCY_OVERLOADED = "DEPENDENCY_OVERLOADED"
    """Fault: a service refused because it was overloaded."""
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    """Fault: a service holds no usable model."""
    BUNDLE_MISMATCH = "BUNDLE_MISMATCH"
    """Fault: services hold different bundles."""
    INVALID_RESPONSE = "INVALID_RESPONSE"
    """Fault: a service answered something unusable."""


FAULTS: Final = frozenset(FallbackReason) - {
    FallbackReason.UNKNOWN_USER,
    FallbackReason.SHORT_HISTORY,
    FallbackReason.COLD_MOVIE,
    FallbackReason.NO_CANDIDATES,
    FallbackReason.FILTERED_OUT,
}
"""The reasons that make an answer `degraded`; the others are normal."""


@dataclass(frozen=True)
class StageFailure:
    """That a stage gave no usable answer, and why: the list steps down."""

    stage: StageName
    reason: FallbackReason
    detail: str = ""
    """For the log; never shown to clients."""


class StageError(Exception):
    """A stage gave no usable answer."""

    def __init__(self, stage: StageName, reason: FallbackReason, detail: str = "") -> None:
        super().__init__(f"{stage}: {reason}" + (f": {detail}" if detail else ""))
        self.failure = StageFailure(stage, reason, detail)


class InvalidQueryError(StageError):
    """The stage called a query invalid: one defect, which the other queries of the call suffered with."""


class InvalidResponseError(Exception):
    """A response that breaks the API of its stage. The message says how, for the log."""


Query = TypeVar("Query")
Answer = TypeVar("Answer")
Query_contra = TypeVar("Query_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class Stage(Protocol[Query_contra, Answer_co]):
    """Answers queries, each about one user or one movie."""

    async def ask(self, query: Query_contra, *, seconds: float) -> Answer_co:
        """Answers a query.

        Args:
            query: the query.
            seconds: how long the answer is worth waiting for.

        Raises:
            StageError: there is no usable answer.
        """
        ...


@dataclass(frozen=True)
class StageCodec(Generic[Query, Answer]):
    """How the queries to a stage, and its answers, are encoded and decoded."""

    name: StageName
    method: str
    """Full name of the rpc, `/package.Service/Method`."""
    encode_request: Callable[[Sequence[Query]], Message]
    """One call for many queries of one batch key."""
    response_class: type[Message]
    decode_response: Callable[[Any, Sequence[Query]], list[Answer | StageFailure]]
    """One answer per query, in order, each checked by itself: an invalid one does not touch the others.

    Raises InvalidResponseError, or StageError, when no query has a usable answer.
    """
    batch_key: Callable[[Query], str] = lambda _query: ""
    """Queries with different keys never share a call."""
    contributions: Callable[[Query], int] = lambda _query: 0
    """How many a query asks for: a call may ask for `MAX_CONTRIBUTIONS`."""


def unwrap(answer: Answer | StageFailure) -> Answer:
    """The answer of a stage to one query.

    Raises:
        StageError: for this query, there is no usable one.
    """
    if isinstance(answer, StageFailure):
        raise StageError(answer.stage, answer.reason, answer.detail)
    return answer
