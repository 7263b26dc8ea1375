"""What the log says of lists that faults made weaker: which fault, and how many lists; no line for each."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from gateway.fallback import Model
from serving.stages.stage import FallbackReason, StageFailure, StageName

PAUSE_SECONDS: Final = 60.0
"""Between two lines about one fault."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class StepDownLog:
    """Tells of a fault as soon as a list meets it, and then once a minute while lists go on meeting it.

    A stage that is away weakens every list, and a line for each would cost more than the list.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unlogged: Counter[tuple[StageName, FallbackReason]] = Counter()
        """Lists since the last line, by fault."""
        self._next: dict[tuple[StageName, FallbackReason], float] = {}
        """When the next line about a fault is due."""

    def note(self, failure: StageFailure, model: Model) -> None:
        """Takes note of one list.

        Args:
            failure: what it met.
            model: what it became.
        """
        fault = (failure.stage, failure.reason)
        self._unlogged[fault] += 1
        now = self._clock()
        due = self._next.get(fault, now)
        if now < due:
            return
        if now > due + PAUSE_SECONDS:  # the lists since the last line belong to an outage that is over
            self._unlogged[fault] = 1
        self._next[fault] = now + PAUSE_SECONDS
        _logger.warning(
            "stepped down",
            stage=failure.stage,
            reason=failure.reason,
            detail=failure.detail,
            model=model,
            lists=self._unlogged.pop(fault),
        )
