"""The lists of the last 15 minutes, on a clock that a test sets."""

from types import SimpleNamespace

import pytest
from prometheus_client import Histogram

from gateway.fallback import Model
from gateway.lists.recent_lists import ModelMix, RecentLists


def personal_seconds() -> Histogram:
    """Calls that took up to one, two, four seconds, and longer."""
    return Histogram("seconds", "Of calls.", registry=None, buckets=(1.0, 2.0, 4.0))


def test_the_mix_of_the_window() -> None:
    clock = SimpleNamespace(now=5.0)
    lists = RecentLists(personal_seconds(), lambda: clock.now)
    assert lists.mix() == ModelMix(counts={}, degraded=0, personal_p95_seconds=None, seconds=0)
    lists.note(Model.TWO_STAGE, degraded=False)
    clock.now = 105.0
    lists.note(Model.ALS_ONLY, degraded=True)
    lists.note(Model.ALS_ONLY, degraded=True)
    mix = lists.mix()
    assert mix.counts == {Model.ALS_ONLY: 2, Model.TWO_STAGE: 1}
    assert list(mix.counts) == [Model.ALS_ONLY, Model.TWO_STAGE]
    assert (mix.degraded, mix.seconds) == (2, 100)
    clock.now = 905.0  # the first list is 15 minutes old
    mix = lists.mix()
    assert mix == ModelMix(counts={Model.ALS_ONLY: 2}, degraded=2, personal_p95_seconds=None, seconds=900)
    clock.now = 10_000.0
    assert lists.mix() == ModelMix(counts={}, degraded=0, personal_p95_seconds=None, seconds=900)


@pytest.mark.parametrize(
    ("took", "p95"),
    [
        pytest.param([], None, id="no call"),
        pytest.param([0.5] * 10, 0.95, id="all in the first bucket"),
        pytest.param([0.5] * 90 + [1.5] * 10, 1.5, id="half of the second bucket"),
        pytest.param([0.5] * 95 + [3.0] * 5, 1.0, id="a whole bucket, and nothing of what follows"),
        pytest.param([0.5] * 80 + [9.0] * 20, 4.0, id="longer than the last bound"),
    ],
)
def test_the_time_of_personal_lists(took: list[float], p95: float | None) -> None:
    clock = SimpleNamespace(now=5.0)
    histogram = personal_seconds()
    lists = RecentLists(histogram, lambda: clock.now)
    histogram.observe(3.0)  # before the window
    lists.note(Model.TWO_STAGE, degraded=False)
    for seconds in took:
        histogram.observe(seconds)
    assert lists.mix().personal_p95_seconds == (p95 if p95 is None else pytest.approx(p95))
    clock.now = 1_000.0
    assert lists.mix().personal_p95_seconds is None
    lists.note(Model.TWO_STAGE, degraded=False)
    histogram.observe(3.0)
    assert lists.mix().personal_p95_seconds == pytest.approx(3.9)
