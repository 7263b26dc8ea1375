"""How long things may take: what is left of a request, and each stage's share of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.errors import DeadlineError, Reason
from serving.stages.stage import FallbackReason, StageError, StageName


@dataclass(frozen=True)
class StageBudget:
    """What one stage call may take of a request's time."""

    seconds: float
    """Longest that it may take."""
    share: float
    """Largest part of the time left that it may take, 0 to 1."""


@dataclass(frozen=True)
class Budgets:
    """What requests and their stages may take. Seconds."""

    request: float
    batch: float
    reserve: float
    """Kept back to assemble the answer; with less left on arrival, nothing is begun."""
    stages: Mapping[StageName, StageBudget]

    def full_seconds(self, stage: StageName) -> float:
        """What a stage call is sure to get of a request without a deadline of its own.

        Sure, as half of the request's time may be gone when the call begins.
        """
        budget = self.stages[stage]
        return min(budget.seconds, budget.share * (self.request - self.reserve) / 2)


@dataclass(frozen=True)
class Deadline:
    """When an answer must be there. On the monotonic clock: a set wall clock changes nothing."""

    stages_end: float
    """What comes later is the reserve, which no stage may use."""
    clock: Callable[[], float]

    @classmethod
    def on_arrival(
        cls,
        client_seconds: float | None,
        longest: float,
        *,
        reserve: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Deadline":
        """The deadline of a request that has just arrived.

        Args:
            client_seconds: what the client leaves; none: it did not say.
            longest: what the gateway takes at most.
            reserve: what the gateway needs for itself.
            clock: monotonic seconds.

        Raises:
            DeadlineError: less than the reserve is left.
        """
        seconds = longest if client_seconds is None else min(client_seconds, longest)
        if seconds < reserve:
            remaining_ms = max(0, int(seconds * 1000))
            raise DeadlineError(
                f"{remaining_ms} ms were left on arrival: too few to begin. Set a longer deadline.",
                reason=Reason.DEADLINE_TOO_SHORT,
                remaining_ms=str(remaining_ms),
            )
        return cls(clock() + seconds - reserve, clock)

    def stage_seconds(self, stage: StageName, budgets: Budgets) -> float:
        """Seconds that a call to a stage may take when it begins now.

        Raises:
            StageError: its turn comes too late; asking would only be work for nobody.
        """
        left = self.stages_end - self.clock()
        if left <= 0:
            raise StageError(stage, FallbackReason.DEPENDENCY_TIMEOUT, "no time was left to ask")
        budget = budgets.stages[stage]
        return min(budget.seconds, budget.share * left)
