"""A stage that keeps failing is left alone for a while, and the ladder answers at once."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final

import structlog

from gateway.metrics import GatewayMetrics
from serving.stages.stage import (
    Answer,
    FallbackReason,
    InvalidQueryError,
    StageError,
    StageFailure,
    StageName,
)

_WINDOW_SECONDS: Final = 10.0
_MIN_CALLS: Final = 5
_PAUSE_SECONDS: Final = 1.0

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class _Ending(Enum):
    """What the end of a call says of the stage."""

    ANSWERED = auto()
    FAILED = auto()
    SILENT = auto()
    """Nothing: nobody waited for long enough to know."""


class Breaker:
    """Counts the calls to one stage, and refuses them while it is open.

    It opens when, of at least five calls of the last 10 s, half have failed, or the last five: a stage that
    freezes under load has far more than five good calls in its last 10 s. A second later one call may leave
    as a probe; its answer closes the breaker, its failure starts another second.

    Failures are what the next call would very likely meet as well: no answer, no answer in time, an
    unusable one. BUNDLE_MISMATCH and an invalid query are answers. A cancel says nothing, nor does a timeout
    of callers with short deadlines: one impatient client would open it for all.

    Args:
        stage: whom the calls are for.
        metrics: where it shows whether it is open.
        full_seconds: a timeout counts when some caller could wait for so long.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stage: StageName,
        metrics: GatewayMetrics,
        *,
        full_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._gauge = metrics.breaker_open.labels(stage)
        self._full_seconds = full_seconds
        self._clock = clock
        self._ended: deque[tuple[float, bool]] = deque()
        """Calls of the window: when they ended, and if in failure."""
        self._failed = 0
        """Failures among them."""
        self._failed_in_a_row = 0
        self._failure: StageFailure | None = None
        """What opened it; none while it is closed."""
        self._probe_from = 0.0
        """When the next probe may leave, while it is open."""
        self._probing = False
        self._turn = 0
        """Goes up whenever it opens or closes: what left before says nothing of the time after."""

    @property
    def failure(self) -> StageFailure | None:
        """What opened it, or kept it open; none while it is closed."""
        return self._failure

    def refuse_if_open(self) -> None:
        """Raises while the breaker refuses calls.

        Raises:
            StageError: none may. The reason is that of the failure which opened the breaker.
        """
        if self._failure is not None and (self._probing or self._clock() < self._probe_from):
            raise StageError(self._stage, self._failure.reason, "the breaker is open")

    async def call(
        self, send: Callable[[], Awaitable[list[Answer | StageFailure]]], *, patience: float
    ) -> list[Answer | StageFailure]:
        """Makes a call, unless the breaker is open.

        Args:
            send: makes it.
            patience: how long the most patient caller could wait. Seconds.

        Raises:
            StageError: the breaker is open, or the call failed.
        """
        self.refuse_if_open()
        turn = self._turn
        self._probing = self._failure is not None
        ending, failure = _Ending.SILENT, None
        try:
            answers = await send()
            if all(isinstance(answer, StageFailure) for answer in answers):
                failure = next((answer for answer in answers if isinstance(answer, StageFailure)), None)
            ending = _Ending.ANSWERED if failure is None else _Ending.FAILED
        except StageError as error:
            failure = error.failure
            ending = self._ending(error, patience)
            raise
        else:
            return answers
        finally:
            if turn == self._turn:
                self._end(ending, failure)

    def _ending(self, error: StageError, patience: float) -> _Ending:
        reason = error.failure.reason
        if isinstance(error, InvalidQueryError) or reason is FallbackReason.BUNDLE_MISMATCH:
            return _Ending.ANSWERED
        if reason is FallbackReason.DEPENDENCY_TIMEOUT and patience < self._full_seconds:
            return _Ending.SILENT
        return _Ending.FAILED

    def _end(self, ending: _Ending, failure: StageFailure | None) -> None:
        if self._failure is not None:  # this was the probe
            self._probing = False
            if ending is _Ending.ANSWERED:
                self._close()
            elif ending is _Ending.FAILED:
                self._probe_from = self._clock() + _PAUSE_SECONDS
                self._failure = failure
        elif ending is not _Ending.SILENT:
            self._count(failed=ending is _Ending.FAILED)
            if ending is _Ending.FAILED and failure is not None and self._has_enough():
                self._open(failure)

    def _count(self, *, failed: bool) -> None:
        now = self._clock()
        self._ended.append((now, failed))
        self._failed += failed
        self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0
        while self._ended[0][0] <= now - _WINDOW_SECONDS:
            self._failed -= self._ended.popleft()[1]

    def _has_enough(self) -> bool:
        ended = len(self._ended)
        return ended >= _MIN_CALLS and (self._failed * 2 >= ended or self._failed_in_a_row >= _MIN_CALLS)

    def _open(self, failure: StageFailure) -> None:
        _logger.warning(
            "breaker opened",
            stage=self._stage,
            reason=failure.reason,
            detail=failure.detail,
            failed=self._failed,
            calls=len(self._ended),
        )
        self._failure = failure
        self._probe_from = self._clock() + _PAUSE_SECONDS
        self._turn += 1
        self._gauge.inc()  # a stage in shards has one breaker for each

    def _close(self) -> None:
        _logger.info("breaker closed", stage=self._stage)
        self._failure = None
        self._ended.clear()
        self._failed = self._failed_in_a_row = 0
        self._turn += 1
        self._gauge.dec()
