"""When a failed call is made again."""

import random
import time
from dataclasses import dataclass

import grpc

from movierec_client.errors import MovieError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast. Every method is safe to repeat."""

    max_attempts: int = 3
    """The first one included; 1: no retries."""
    first_pause_seconds: float = 0.05
    """Longest pause before the second attempt; it doubles with each further one."""
    longest_pause_seconds: float = 1.0
    """What it does not grow beyond."""


class Attempts:
    """One call and its retries, all within one deadline.

    Args:
        policy: when to retry.
        timeout_seconds: from now to the deadline.
    """

    def __init__(self, policy: RetryPolicy, timeout_seconds: float) -> None:
        self._policy = policy
        self._deadline = time.monotonic() + timeout_seconds
        self._failed = 0

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline."""
        return max(self._deadline - time.monotonic(), 0.0)

    def pause_after(self, error: MovieError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            MovieError: `error`, when there is to be none: it would not help, or be too late.
        """
        self._failed += 1
        if not _may_pass(error) or self._failed >= self._policy.max_attempts:
            raise error
        # After a thousand failures the doubled pause would be more than a float can hold.
        doubled = self._policy.first_pause_seconds * 2.0 ** min(self._failed - 1, 100)
        longest = min(doubled, self._policy.longest_pause_seconds)
        # At random, so that clients that failed together do not come back together.
        pause = max(error.retry_delay or 0.0, 0.0) + random.uniform(0, longest)  # noqa: S311  # no secret
        if pause >= self.remaining_seconds:
            raise error
        return pause


def _may_pass(error: MovieError) -> bool:
    """Whether the same request may be answered soon.

    RESOURCE_EXHAUSTED without a pause is also what gRPC says of a message that is too large, and a proxy of a
    limit per second, which more attempts would only keep exceeded.
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_delay is not None
    return error.code is grpc.StatusCode.UNAVAILABLE
