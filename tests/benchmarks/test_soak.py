"""How the soak judges; what it does to replicas needs a network of its own."""

import math

import pytest

from benchmarks.rolling import Tally
from benchmarks.soak import Life, slope, verdict

GOOD = Tally(requests=1_000, failed=0, degraded=10, wrong=0, p50_ms=1, p99_ms=2, bundles={})
MIB = 2**20 / 1e6


def life(began: float, mib: list[float]) -> Life:
    """One that was looked at every half minute."""
    return Life("ranking-1", 1, began, [began + 30 * place for place in range(len(mib))], mib)


def test_a_slope_is_that_of_each_life_after_its_first_minute() -> None:
    grows = life(0, [50, 90, 100, 101, 102, 103])
    higher = life(600, [70, 80, 300, 301, 302])
    assert slope([grows]) == pytest.approx(2 * MIB)
    assert slope([grows, higher]) == pytest.approx(2 * MIB)
    assert slope([life(0, [100, 100, 100, 100, 100])]) == 0


def test_lives_that_end_early_have_no_slope() -> None:
    assert math.isnan(slope([life(0, [50, 60, 70])]))
    assert verdict(GOOD, {"ranking-1": math.nan}) == []


def test_what_does_not_hold_is_named() -> None:
    bad = Tally(requests=1_000, failed=1, degraded=11, wrong=2, p50_ms=1, p99_ms=2, bundles={})
    assert verdict(bad, {"envoy": 0.9, "ranking-1": 1.25}) == [
        "1 failed",
        "2 are not what their bundle gives",
        "11 degraded",
        "ranking-1 grows by 1.2 MB a minute",
    ]
