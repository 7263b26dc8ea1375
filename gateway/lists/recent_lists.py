"""What made the latest lists, and how long they took: what an operator wants to see without a query."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client import Histogram

from gateway.fallback import Model

WINDOW_SECONDS: Final = 900
"""How far back it looks."""

_SLOT_SECONDS: Final = 10
_SHARE: Final = 0.95


@dataclass(frozen=True)
class ModelMix:
    """The lists of a span of time."""

    counts: Mapping[Model, int]
    """By the model that set the order, most often first; none that is 0."""
    degraded: int
    """Of all lists, those that a fault made weaker."""
    personal_p95_seconds: float | None
    """What 95 % of the calls for a personal list took at most; none when there were none."""
    seconds: int
    """Length of the span."""


@dataclass(frozen=True)
class _Slot:
    number: int
    calls_before: npt.NDArray[np.float64]
    """Calls for a personal list that had ended when it began, by their time: cumulative."""
    lists: Counter[tuple[Model, bool]] = field(default_factory=Counter)
    """By model and whether they were degraded."""


class RecentLists:
    """Counts the lists of the last 15 minutes, in slots of 10 s.

    Args:
        personal_seconds: how long calls for a personal list took, since the start.
        clock: monotonic seconds.
    """

    def __init__(self, personal_seconds: Histogram, clock: Callable[[], float] = time.monotonic) -> None:
        self._personal_seconds = personal_seconds
        self._clock = clock
        self._began = clock()
        self._slots: deque[_Slot] = deque()

    def note(self, model: Model, *, degraded: bool) -> None:
        """Counts one list."""
        number = int(self._clock() // _SLOT_SECONDS)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number, self._calls()[1]))
            self._forget(number)
        self._slots[-1].lists[model, degraded] += 1

    def mix(self) -> ModelMix:
        """What was counted within the window."""
        now = self._clock()
        self._forget(int(now // _SLOT_SECONDS))
        lists: Counter[tuple[Model, bool]] = sum((slot.lists for slot in self._slots), Counter())
        models: Counter[Model] = Counter()
        for (model, _), count in lists.items():
            models[model] += count
        return ModelMix(
            counts=dict(models.most_common()),
            degraded=sum(count for (_, degraded), count in lists.items() if degraded),
            personal_p95_seconds=self._p95(),
            seconds=min(int(now - self._began), WINDOW_SECONDS),
        )

    def _forget(self, number: int) -> None:
        """Drops what is older than the window."""
        while self._slots and self._slots[0].number <= number - WINDOW_SECONDS // _SLOT_SECONDS:
            self._slots.popleft()

    def _calls(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Bounds of the histogram's buckets, the last one infinite, and calls that took at most as long."""
        (metric,) = self._personal_seconds.collect()
        buckets = [
            (float(sample.labels["le"]), sample.value) for sample in metric.samples if "le" in sample.labels
        ]
        bounds, calls = np.array(buckets).T
        return bounds, calls

    def _p95(self) -> float | None:
        """As histogram_quantile of Prometheus has it: linear in a bucket, and at most the last bound."""
        if not self._slots:
            return None
        bounds, calls = self._calls()
        calls = calls - self._slots[0].calls_before
        rank = _SHARE * calls[-1]
        if not rank:
            return None
        place = int(np.searchsorted(calls, rank))
        if place == len(bounds) - 1:
            return float(bounds[-2])
        low, before = (bounds[place - 1], calls[place - 1]) if place else (0.0, 0.0)
        return float(low + (bounds[place] - low) * (rank - before) / (calls[place] - before))
