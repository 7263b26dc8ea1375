"""Which models set the order of the latest lists: what an operator wants to see without a query."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.fallback import Model

WINDOW_SECONDS: Final = 900
"""How far back it looks."""

_SLOT_SECONDS: Final = 10


@dataclass(frozen=True)
class ModelMix:
    """The lists of a span of time."""

    counts: Mapping[Model, int]
    """By the model that set the order, most often first; none that is 0."""
    degraded: int
    """Of all lists, those that a fault made weaker."""
    seconds: int
    """Of the span."""


class RecentLists:
    """Counts the lists of the last 15 minutes, in slots of 10 s.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._slots: deque[tuple[int, Counter[tuple[Model, bool]]]] = deque()
        """Number of the slot, and its lists by model and whether they were degraded."""

    def note(self, model: Model, *, degraded: bool) -> None:
        """Counts one list."""
        slot = int(self._clock() // _SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
            self._forget(slot)
        self._slots[-1][1][model, degraded] += 1

    def mix(self) -> ModelMix:
        """What was counted within the window."""
        now = self._clock()
        self._forget(int(now // _SLOT_SECONDS))
        lists: Counter[tuple[Model, bool]] = sum((counts for _, counts in self._slots), Counter())
        models: Counter[Model] = Counter()
        for (model, _), count in lists.items():
            models[model] += count
        return ModelMix(
            counts=dict(models.most_common()),
            degraded=sum(count for (_, degraded), count in lists.items() if degraded),
            seconds=min(int(now - self._began), WINDOW_SECONDS),
        )

    def _forget(self, slot: int) -> None:
        """Drops what is older than the window."""
        while self._slots and self._slots[0][0] <= slot - WINDOW_SECONDS // _SLOT_SECONDS:
            self._slots.popleft()
