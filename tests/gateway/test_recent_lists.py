"""The mix of models over the last 15 minutes, on a clock that a test sets."""

from types import SimpleNamespace

from gateway.fallback import Model
from gateway.lists.recent_lists import ModelMix, RecentLists


def test_the_mix_of_the_window() -> None:
    clock = SimpleNamespace(now=5.0)
    lists = RecentLists(lambda: clock.now)
    assert lists.mix() == ModelMix(counts={}, degraded=0, seconds=0)
    lists.note(Model.TWO_STAGE, degraded=False)
    clock.now = 105.0
    lists.note(Model.ALS_ONLY, degraded=True)
    lists.note(Model.ALS_ONLY, degraded=True)
    mix = lists.mix()
    assert mix == ModelMix(counts={Model.ALS_ONLY: 2, Model.TWO_STAGE: 1}, degraded=2, seconds=100)
    assert list(mix.counts) == [Model.ALS_ONLY, Model.TWO_STAGE]
    clock.now = 905.0  # the first list is 15 minutes old
    assert lists.mix() == ModelMix(counts={Model.ALS_ONLY: 2}, degraded=2, seconds=900)
    clock.now = 10_000.0
    assert lists.mix() == ModelMix(counts={}, degraded=0, seconds=900)
